"""Many threads on one database, as in a service that lives long."""

import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from pipeline.tables import connect


def in_threads(count: int, work: Callable[[int], None]) -> None:
    threads = [threading.Thread(target=work, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_no_thread_closes_the_connection_that_another_is_using(tmp_path: Path) -> None:
    connection = connect(f"sqlite:///{tmp_path / 'db.sqlite'}")
    seen: list[object] = []

    def ask(number: int) -> None:
        with connection.reading() as con:
            seen.append(con.execute(sa.text("SELECT 1")).scalar())

    with connection.writing() as con:
        con.execute(sa.text("CREATE TABLE t (n INTEGER)"))
        in_threads(20, ask)
        con.execute(sa.text("INSERT INTO t VALUES (1)"))
    assert seen == [1] * 20
    # Connections of threads that have ended are not kept.
    in_threads(1, ask)
    assert len(connection.con.pool._all_conns) <= 2
    connection.engine.dispose()


def test_transactions_of_two_threads_do_not_mix(tmp_path: Path) -> None:
    connection = connect(f"sqlite:///{tmp_path / 'db.sqlite'}")
    with connection.writing() as con:
        con.execute(sa.text("CREATE TABLE t (n INTEGER)"))
    first_is_in, second_is_in = threading.Event(), threading.Event()

    def first() -> None:
        with connection.writing():
            first_is_in.set()
            assert second_is_in.wait(60)

    def second() -> None:
        assert first_is_in.wait(60)
        with connection.writing():
            second_is_in.set()
            thread.join()
            with connection.writing() as con:
                con.execute(sa.text("INSERT INTO t VALUES (1)"))
            with connection.writing() as con:
                con.execute(sa.text("INSERT INTO t VALUES (2)"))
            raise KeyError

    thread = threading.Thread(target=first)
    thread.start()
    with pytest.raises(KeyError):
        second()
    # Both inserts were one transaction, and the first thread's end has not torn it apart.
    with connection.writing() as con:
        assert con.execute(sa.text("SELECT count(*) FROM t")).scalar() == 0
        con.execute(sa.text("INSERT INTO t VALUES (3)"))
    connection.engine.dispose()


def test_threads_that_come_first_together_each_have_one_transaction(tmp_path: Path) -> None:
    for number in range(20):
        connection = connect(f"sqlite:///{tmp_path / f'{number}.sqlite'}")
        ready = threading.Barrier(4)
        same: list[bool] = []

        def write(_: int, connection=connection, ready=ready, same=same) -> None:
            ready.wait(60)
            with (
                connection.writing(),
                connection.con.begin() as first,
                connection.con.begin() as second,
            ):
                same.append(first is second)

        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            in_threads(4, write)
        finally:
            sys.setswitchinterval(before)
        connection.engine.dispose()
        assert same == [True] * 4
