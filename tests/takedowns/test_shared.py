"""The database of the blocklist that instances share: numbers, pages, and what fails."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from a_shared_blocklist import url

from pipeline.errors import SharedDatabaseError
from pipeline.takedowns.shared import SharedBlocklist, SharedHash

# A fixture that these tests share with those of whole instances.
__all__ = ["url"]


def test_a_reader_misses_no_change_that_is_committed_after_a_later_one_began(url: str) -> None:
    one, two, reader = (SharedBlocklist(url, name) for name in ("one", "two", "reader"))
    start = reader.head().number
    with one._database() as database, one._appending(database) as (con, number):
        thread = threading.Thread(target=two.send_hashes, args=([listed("b" * 64)],))
        thread.start()
        table = database.sqla_metadata.tables["shared_hashes"]
        one._write_hashes(con, table, [(True, listed("a" * 64))], number)
        # The second has begun, and may not overtake the first.
        thread.join(0.3)
        assert thread.is_alive()
        assert reader.head().number == start
    thread.join()
    found, until = reader.hashes(start, start + 1)
    assert ([each.hash for each in found], until) == (["a" * 64], start + 1)
    found, until = reader.hashes(until, reader.head().number)
    assert ([each.hash for each in found], until) == (["b" * 64], start + 2)
    for each in (one, two, reader):
        each.close()


def listed(digest: str) -> SharedHash:
    return SharedHash("sha256", digest, "list", None, 1.0)


def test_a_long_list_is_read_in_pages_of_whole_numbers(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.takedowns import shared as module

    monkeypatch.setattr(module, "ROWS_OF_A_NUMBER", 4)
    monkeypatch.setattr(module, "ROWS_READ", 10)
    shared = SharedBlocklist(url, "one")
    shared.send_hashes([listed(f"{number:064x}") for number in range(30)])
    mark, read = 0, []
    while mark < shared.head().number:
        page, mark = shared.hashes(mark, shared.head().number)
        assert 0 < len(page) <= 10
        read += [each.hash for each in page]
    assert sorted(read) == [f"{number:064x}" for number in range(30)]
    assert shared.remove_source("list") == 30
    shared.close()


def test_after_a_failure_nobody_waits_for_the_shared_database_again(tmp_path: Path) -> None:
    (tmp_path / "none").write_bytes(b"no database" * 100)
    shared = SharedBlocklist(f"sqlite:///{tmp_path / 'none'}", "one")
    with pytest.raises(SharedDatabaseError, match="PIPELINE_BLOCKLIST_DB"):
        shared.head()
    (tmp_path / "none").unlink()
    with pytest.raises(SharedDatabaseError):
        shared.head()
    assert not (tmp_path / "none").exists()
    shared.try_again()
    assert shared.head().number == 0
    shared.close()


def test_the_shared_tables_can_be_declared_for_every_database() -> None:
    from sqlalchemy.dialects import mysql, postgresql, sqlite

    from pipeline.takedowns import shared

    metadata = sa.MetaData()
    names = ("clock", "takedowns", "hashes")
    for table in (getattr(shared, f"shared_{name}_table")(metadata) for name in names):
        for dialect in (mysql.dialect(), postgresql.dialect(), sqlite.dialect()):
            assert "CREATE TABLE" in str(sa.schema.CreateTable(table).compile(dialect=dialect))
