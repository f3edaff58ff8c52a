"""A run asks and writes in pages: how many statements it sends does not grow with its rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from a_project import Project

from pipeline.database import pool
from pipeline.database.tracked import insert_or_update
from pipeline.engine import publish, rendering
from pipeline.jobs import rounds
from pipeline.tables import connect


@contextmanager
def statements() -> Iterator[Counter[str]]:
    """How often each statement is sent: that for many rows by PostgreSQL's driver for each of them,
    by MySQL's as one."""
    sent: Counter[str] = Counter()

    def note(con: Any, cursor: Any, statement: str, values: Any, context: Any, many: bool) -> None:
        sent[" ".join(statement.split())[:70]] += (
            len(values) if many and con.dialect.name == "postgresql" else 1
        )

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)


def statements_of(project: Project, originals: int) -> Counter[str]:
    """How many a run sends for so many originals, every second of which has a twin, and for as
    many that are gone."""
    with statements() as sent:
        for number in range(originals):
            project.add(f"{originals}/{number}.jpg", seed=number // 2)
        project.run()
        for number in range(originals):
            (project.input / f"{originals}/{number}.jpg").unlink()
        project.run("--allow-removed")
    return sent


def test_a_run_sends_no_more_statements_for_more_rows(
    database_url: str, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Neither a batch that is full of time, not of rows, nor a look at the jobs now and then.
    for module, name in ((publish, "FLUSH_S"), (rendering, "FLUSH_S"), (rounds, "ROUND_S")):
        monkeypatch.setattr(module, name, 3_600.0)
    project.env["PIPELINE_DB"] = database_url
    project.add("kept.jpg", seed=1_000)
    project.run()
    few = statements_of(project, 10)
    assert few.total() < 250
    assert not statements_of(project, 50) - few


def test_connections_are_checked_only_after_they_were_idle(
    server_url: str, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = connect(server_url)
    checks: list[str] = []
    check = type(database.engine.dialect).do_ping
    monkeypatch.setattr(
        type(database.engine.dialect),
        "do_ping",
        lambda self, con: bool(checks.append("checked") or check(self, con)),
    )
    monkeypatch.setattr(pool, "IDLE_S", 3_600.0)
    for _ in range(3):
        assert database.rows(sa.select(sa.literal(1))) == [(1,)]
    assert checks == []
    monkeypatch.setattr(pool, "IDLE_S", -1.0)
    assert database.rows(sa.select(sa.literal(1))) == [(1,)]
    assert checks == ["checked"]
    database.engine.dispose()


def test_a_connection_that_was_closed_while_it_was_idle_is_replaced(
    server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = connect(server_url)
    assert database.rows(sa.select(sa.literal(1))) == [(1,)]
    with database.engine.connect() as con:
        driver = con.connection.driver_connection
    assert driver is not None
    driver.close()
    monkeypatch.setattr(pool, "IDLE_S", -1.0)
    assert database.rows(sa.select(sa.literal(2))) == [(2,)]
    database.engine.dispose()


@pytest.mark.parametrize(
    ("changing", "left"), [(("value", "size", "is_ok"), ("b", 2, True)), ((), ("a", 1, None))]
)
def test_rows_of_one_key_count_in_their_order(
    server_url: str, changing: tuple[str, ...], left: tuple[Any, ...]
) -> None:
    """As where each row is a statement; also quotes, NULLs, and numbers of any size."""
    database = connect(server_url)
    table = sa.Table(
        "things",
        sa.MetaData(),
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("value", sa.String),
        sa.Column("size", sa.BigInteger),
        sa.Column("is_ok", sa.Boolean),
        sa.Column("ts", sa.Float),
    )
    table.create(database.engine)
    names = ["value", "size", "is_ok"]

    def write(*rows: tuple[Any, ...]) -> None:
        named = [dict(zip(["name", *names, "ts"], row, strict=True)) for row in rows]
        insert_or_update(database, table, ["name"], changing, named)

    odd = """it's "{odd}", \\n %s\n\tπ NULL"""
    write(("one", "a", 1, None, None), (odd, odd, 2**62, False, 1795262364.1900001))
    write((" ", None, None, None, None))
    write(("one", "x", 0, False, 0.5), ("one", "b", 2, True, 0.5))
    found = {row.name: tuple(row)[1:] for row in database.rows(sa.select(table))}
    assert found["one"][:3] == left
    assert found[odd] == (odd, 2**62, False, 1795262364.1900001)
    assert found[" "] == (None, None, None, None)
    database.engine.dispose()
