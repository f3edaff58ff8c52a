"""Rows found by their keys: exactly these, and through an index."""

import random
from collections.abc import Iterator
from itertools import product

import pytest
import sqlalchemy as sa

from pipeline.database.tracked import FEW, KeyFilter, is_one_of

KEYS = ("source", "path", "recipe")
ALL = list(product(("input", "jobs"), [f"{n}.jpg" for n in range(3 * FEW)], ("half", "thumb")))
TABLE = sa.Table(
    "made", sa.MetaData(), *[sa.Column(name, sa.String, primary_key=True) for name in KEYS]
)
QUERY = sa.select(TABLE).order_by(*TABLE.c)


@pytest.fixture
def con() -> Iterator[sa.Connection]:
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    TABLE.metadata.create_all(engine)
    with engine.connect() as con:
        con.execute(sa.insert(TABLE), [dict(zip(KEYS, row, strict=True)) for row in ALL])
        yield con
    engine.dispose()


def shapes() -> list[list[tuple[str, ...]]]:
    chance = random.Random(1)
    alike = [
        [row for row in ALL if row[0] == "jobs"],
        [row for row in ALL if row[2] == "thumb"],
        [row for row in ALL if row[1] == "1.jpg"],
        [row for row in ALL if row[::2] == ("input", "half")],
    ]
    return [[], *alike, *(chance.sample(ALL, count) for count in (1, 2, 3, 5, 20, len(ALL)))]


@pytest.mark.parametrize("wanted", shapes(), ids=len)
def test_exactly_the_rows_of_these_keys_are_found(
    con: sa.Connection, wanted: list[tuple[str, ...]]
) -> None:
    query = QUERY.where(is_one_of(list(TABLE.c), wanted))
    assert [tuple(row) for row in con.execute(query)] == sorted(wanted)


@pytest.mark.parametrize("wanted", shapes()[1:], ids=len)
def test_rows_are_looked_up_by_a_path_of_their_own(
    con: sa.Connection, wanted: list[tuple[str, ...]]
) -> None:
    query = QUERY.where(is_one_of(list(TABLE.c), wanted)).compile(
        con, compile_kwargs={"render_postcompile": True}
    )
    values = tuple(query.params[name] for name in query.positiontup)
    plan = con.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", values)
    [found] = [row[3] for row in plan if row[3].startswith(("SCAN made", "SEARCH made"))]
    assert found.startswith("SEARCH made ")
    assert "source=? AND path=?" in found


def test_the_first_keys_alone_find_all_of_theirs(con: sa.Connection) -> None:
    wanted = [("jobs", "1.jpg"), ("input", "2.jpg")]
    columns = [TABLE.c.source, TABLE.c.path]
    rows = [tuple(row) for row in con.execute(QUERY.where(is_one_of(columns, wanted)))]
    assert rows == [row for row in sorted(ALL) if row[:2] in wanted]


def test_a_filter_narrows_by_the_columns_that_there_are(con: sa.Connection) -> None:
    wanted = KeyFilter(
        ["other", "path", "source"], [("x", "1.jpg", "jobs"), ("y", "2.jpg", "input")]
    )
    rows = [tuple(row) for row in con.execute(QUERY.where(wanted.among(TABLE.c)))]
    assert rows == [
        row for row in sorted(ALL) if row[:2] in {("jobs", "1.jpg"), ("input", "2.jpg")}
    ]


def test_two_long_lists_are_not_multiplied() -> None:
    wanted = [(str(n), str(n)) for n in range(FEW + 1)]
    text = str(is_one_of([TABLE.c.source, TABLE.c.path], wanted))
    assert "made.source IN" in text
    assert "made.path IN" not in text
