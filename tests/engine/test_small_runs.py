"""A run after a few events reads the rows of what changed, whatever the tables hold besides."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from a_project import Project
from sqlalchemy.engine.cursor import CursorFetchStrategy

# Rows of each table that are there besides; a query that reads them all is found by any number.
BESIDES = 3_000
LARGE = r"(originals|renditions|features|render)(_meta)?\b"
# All rows, all of one source, and all of one that come after some path. Only a count with a limit
# may begin so: that of the originals tells whether all are gone.
OPEN = r"\((source=\?|source=\? AND path>\?)\)"
IS_WHOLE = re.compile(rf"SCAN {LARGE}|SEARCH {LARGE}.*{OPEN}|Seq Scan on {LARGE}")


@contextmanager
def noted() -> Iterator[tuple[list[tuple[str, Any]], list[int]]]:
    """Each statement with its values, and how many rows were fetched."""
    sent: list[tuple[str, Any]] = []
    fetched = [0]

    def note(con: Any, cursor: Any, statement: str, values: Any, context: Any, many: bool) -> None:
        sent.append((statement, values[0] if many else values))

    with pytest.MonkeyPatch.context() as patch:
        for name in ("fetchone", "fetchmany", "fetchall"):
            fetch = getattr(CursorFetchStrategy, name)

            def counting(*args: Any, fetch: Any = fetch, **options: Any) -> Any:
                rows = fetch(*args, **options)
                fetched[0] += len(rows) if isinstance(rows, list) else rows is not None
                return rows

            patch.setattr(CursorFetchStrategy, name, counting)
        sa.event.listen(sa.Engine, "before_cursor_execute", note)
        try:
            yield sent, fetched
        finally:
            sa.event.remove(sa.Engine, "before_cursor_execute", note)


def fill(engine: sa.Engine) -> None:
    """Give every table of one original's rows as many more like them, of other paths."""
    with engine.begin() as con:
        for name in sa.inspect(con).get_table_names():
            table = sa.Table(name, sa.MetaData(), autoload_with=con)
            if "path" not in table.c or "source" not in table.c:
                continue
            rows = con.execute(sa.select(table).where(table.c.path == "0.jpg")).mappings().all()
            more = [
                {**row, "path": f"more/{number:05}.jpg"} | _of_its_own(row, number)
                for row in rows
                for number in range(BESIDES)
            ]
            if more:
                con.execute(sa.insert(table), more)


def _of_its_own(row: sa.RowMapping, number: int) -> dict[str, Any]:
    """What differs from original to original, so that an index on it finds few."""
    own: dict[str, Any] = {}
    for name in row.keys() & {"sha256", "file"}:
        own[name] = f"{row[name]}-{number}"
    for name in row.keys() & {"size_bytes", "original_bytes"}:
        own[name] = 10_000 + number
    return own


def whole_tables_of(engine: sa.Engine, sent: list[tuple[str, Any]]) -> list[str]:
    """Which plans of the statements read a large table as a whole."""
    found = []
    with engine.connect() as con:
        is_sqlite = engine.dialect.name == "sqlite"
        if not is_sqlite:
            # Of tables as small as these each would be read whole.
            con.exec_driver_sql("SET enable_seqscan = off")
        for statement, values in {each[0]: each for each in sent}.values():
            if statement.split()[0] not in ("SELECT", "DELETE", "UPDATE", "INSERT"):
                continue
            explain = "EXPLAIN QUERY PLAN " if is_sqlite else "EXPLAIN "
            for row in con.exec_driver_sql(explain + statement, values):
                plan = str(row[-1]).strip()
                if IS_WHOLE.search(plan) and "count(*)" not in statement:
                    found.append(f"{plan}: {statement}")
    return found


def take_down_what_is_besides(project: Project, engine: sa.Engine) -> None:
    """Thousands of takedowns, and a list that blocks as many."""
    assert project.cli("takedown", "9.jpg", "--reason", "flagged").code == 0
    with engine.begin() as con:
        tables = {
            name: sa.Table(name, sa.MetaData(), autoload_with=con)
            for name in ("takedowns", "renditions", "blocked_hashes")
        }
        act = dict(con.execute(sa.select(tables["takedowns"])).mappings().one())
        acts = [
            {**act, "id": number, "sha256": f"{number}", "size_bytes": 10_000 + number}
            for number in range(2, BESIDES)
        ]
        con.execute(sa.insert(tables["takedowns"]), acts)
        renditions = tables["renditions"]
        besides = renditions.c.path.startswith("more/")
        con.execute(sa.update(renditions).where(besides).values(state="taken_down"))
        listed = {"kind": "sha256", "hash": "f" * 64, "source": "list", "added_ts": 0.0}
        con.execute(sa.insert(tables["blocked_hashes"]), listed)


@pytest.mark.parametrize("taken_down", [False, True])
def test_it_reads_the_rows_of_what_changed(
    database_url: str, project: Project, taken_down: bool
) -> None:
    if database_url.startswith("mysql"):
        return  # it tells plans in a way of its own, for which test_mysql.py has a test
    project.env["PIPELINE_DB"] = database_url
    for number in range(12):
        project.add(f"{number}.jpg", seed=number)
    project.run()
    engine = sa.create_engine(database_url)
    fill(engine)
    if taken_down:
        take_down_what_is_besides(project, engine)
    changed = [f"{number}.jpg" for number in range(6)]
    for number, name in enumerate([*changed, "new-1.jpg", "new-2.jpg"]):
        project.add(name, seed=100 + number)
    # One moves, one is gone.
    (project.input / "10.jpg").rename(project.input / "moved.jpg")
    (project.input / "11.jpg").unlink()
    keys = [*changed, "new-1.jpg", "new-2.jpg", "moved.jpg", "10.jpg", "11.jpg"]
    with project._as_if_started_here():
        import app as declared
        from pipeline.engine.context import RunOptions
        from pipeline.engine.run import run_once

        app = declared.app
        steps = [app.load_recipes, app.scan, app.render]
        # What was taken down is compared with the journal once.
        run_once(app.plan, RunOptions(only=frozenset({"9.jpg"})), steps=steps)
        with noted() as (sent, fetched):
            report = run_once(app.plan, RunOptions(only=frozenset(keys)), steps=steps)
    assert (report.rendered, report.reused, report.deleted) == (16, 2, 4)
    assert fetched[0] <= 300
    assert whole_tables_of(engine, sent) == []
    engine.dispose()
