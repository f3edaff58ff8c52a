"""The query for pending records gives what datapipe-core's own gives, at a linear cost."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from datapipe.compute import ComputeInput, ComputeOutput
from datapipe.meta.sql_meta import SQLTransformMeta
from upstream import upstream_rows

from pipeline.database.connection import Database
from pipeline.database.dialects import Key
from pipeline.database.forgetting import forget_passed
from pipeline.database.records import LIVE
from pipeline.database.tracked import TrackedTable
from pipeline.database.tracking import LinearTransformMeta, data_store
from pipeline.tables import connect, make_tables

# The keys of each input, those of the records, and which inputs are required.
SHAPES: dict[str, tuple[tuple[str, ...], str, tuple[int, ...]]] = {
    "one input": (("a b",), "a b", ()),
    "two of the same keys": (("a b", "a b"), "a b", ()),
    "two of the same keys, one required": (("a b", "a b"), "a b", (1,)),
    "one that many records share": (("a b", "a"), "a b", ()),
    "one that many records share, required": (("a b", "b"), "a b", (1,)),
    "many rows of a record": (("a b",), "a", ()),
    "many rows of a record, and one": (("a b", "a"), "a", ()),
    "combinations": (("a", "b"), "a b", ()),
}


def greatest(*columns: Any) -> Any:
    first, *others = columns
    for other in others:
        first = sa.case((sa.or_(other.is_(None), first > other), first), else_=other)
    return first


class Step:
    """A step of some inputs, and random writes to them."""

    def __init__(self, database: Database, shape: str) -> None:
        inputs, keys, required = SHAPES[shape]
        self.database, self.keys = database, keys.split()
        self.store = data_store(database)
        self.now = 1_000.0
        # Upstream takes a NULL for the greatest on SQLite, and misses changes of one input alone.
        database.func_greatest = greatest
        database.clock.now = lambda: self.now  # type: ignore[method-assign]
        self.tables = []
        for number, names in enumerate(inputs):
            columns = [sa.Column(name, Key, primary_key=True) for name in names.split()]
            columns.append(sa.Column("value", sa.String))
            table = TrackedTable(database, f"input{number}", columns)
            self.tables.append(self.store.create_table(f"input{number}", table))
        out = [sa.Column(name, Key, primary_key=True) for name in self.keys]
        made = self.store.create_table("made", TrackedTable(database, "made", out))
        self.meta: LinearTransformMeta = self.store.meta_plane.create_transform_meta(  # type: ignore[assignment]
            name="step_meta",
            input_dts=[
                ComputeInput(table, "inner" if number in required else "full")
                for number, table in enumerate(self.tables)
            ],
            output_dts=[ComputeOutput(made)],
            transform_keys=self.keys,
        )
        self.meta.is_own = True
        make_tables(database)

    def pending(self) -> dict[tuple[str, ...], int]:
        """The pending records, and whether each is still there."""
        query = self.meta.records_sql()
        assert query is not None
        with self.database.reading() as con:
            rows = con.execute(query).mappings().all()
        found = {tuple(row[key] for key in self.keys): row[LIVE] for row in rows}
        assert len(found) == len(rows)
        return found

    def upstream(self) -> set[tuple[str, ...]]:
        query = SQLTransformMeta._build_changed_idx_sql(self.meta, ds=self.store)
        rows = upstream_rows(self.database, query)
        found = {tuple(row[key] for key in self.keys) for row in rows}
        return {keys for keys in found if None not in keys}

    def known(self) -> set[tuple[str, ...]]:
        with self.database.reading() as con:
            return {
                tuple(row)[: len(self.keys)] for row in con.execute(sa.select(self.meta.sql_table))
            }

    def write(self, chance: random.Random) -> None:
        self.now += 1
        table = chance.choice(self.tables)
        rows = pd.DataFrame(
            {key: [f"{key}{chance.randrange(3)}" for _ in range(3)] for key in table.primary_keys}
        ).drop_duplicates()
        if chance.random() < 0.6:
            table.store_chunk(rows.assign(value=str(chance.random())))
        else:
            table.delete_by_idx(table.meta.get_existing_idx(rows))  # type: ignore[arg-type]

    def settle(self, records: Sequence[tuple[str, ...]]) -> None:
        self.now += 1
        if records:
            idx: Any = pd.DataFrame(records, columns=self.keys)
            self.meta.mark_rows_processed_success(idx, process_ts=self.now)


def compare(step: Step, chance: random.Random) -> None:
    for _ in range(25):
        step.write(chance)
        pending, known = step.pending(), step.known()
        # What is gone before anything was made of it is nothing to us.
        gone = {keys for keys in step.upstream() - set(pending) if keys not in known}
        assert set(pending) | gone == step.upstream()
        assert not any(pending.get(keys) for keys in gone)
        step.settle(chance.sample(sorted(pending), chance.randint(0, len(pending))))
    step.settle(sorted(step.pending()))
    assert step.pending() == {}
    forget_passed(step.database, step.tables, [step.meta], {})
    assert step.pending() == {}
    for table in step.tables:
        assert table.meta.get_metadata_size(include_deleted=True) == table.get_size()
    # The marks of records that are gone go with them: what comes again is new.
    step.now += 1
    for table in step.tables:
        table.delete_by_idx(table.meta.get_existing_idx())
    step.settle(sorted(step.pending()))
    forget_passed(step.database, step.tables, [step.meta], {})
    assert step.known() == set()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_random_history_gives_the_same_records_as_upstream(tmp_path: Path, shape: str) -> None:
    database = connect(f"sqlite:///{tmp_path / 'db.sqlite'}")
    compare(Step(database, shape), random.Random(shape))
    database.engine.dispose()


@pytest.mark.parametrize("shape", ["two of the same keys, one required", "many rows of a record"])
def test_on_a_server_the_records_are_the_same_as_well(server_url: str, shape: str) -> None:
    database = connect(server_url)
    compare(Step(database, shape), random.Random(shape))
    database.engine.dispose()


@pytest.mark.parametrize("shape", SHAPES)
def test_marks_are_found_by_their_keys(tmp_path: Path, shape: str) -> None:
    """A plan that reads all marks for each record would take a quadratic time."""
    database = connect(f"sqlite:///{tmp_path / 'db.sqlite'}")
    step = Step(database, shape)
    query = step.meta.records_sql()
    assert query is not None
    text = str(query.compile(database.engine, compile_kwargs={"literal_binds": True}))
    with database.reading() as con:
        plan = [row[3] for row in con.execute(sa.text(f"EXPLAIN QUERY PLAN {text}"))]
    assert any(line.startswith("SEARCH step_meta USING") for line in plan), plan
    database.engine.dispose()


def test_an_error_that_was_told_is_not_tried_again_until_something_changes(tmp_path: Path) -> None:
    database = connect(f"sqlite:///{tmp_path / 'db.sqlite'}")
    step = Step(database, "one input")
    rows: Any = pd.DataFrame({"a": ["a1"], "b": ["b1"]})
    step.tables[0].store_chunk(rows.assign(value="1"))
    step.now += 1
    step.meta.mark_rows_processed_error(rows, step.now, "ValueError: no")
    assert step.pending() == {}
    step.now += 1
    step.tables[0].store_chunk(rows.assign(value="2"))
    assert step.pending() == {("a1", "b1"): 1}
    database.engine.dispose()
