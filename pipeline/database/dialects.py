"""What differs between databases; nothing else checks which one it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa

from pipeline.database.locks import AdvisoryLocks, FileLocks, Locks
from pipeline.database.pool import keep_by_thread

# Keys are compared byte by byte on every database: the scan walks the folder in this very order.
Key = sa.String().with_variant(sa.String(collation="C"), "postgresql")

# Key values of one statement. With three columns each they stay below SQLite's limit of 32,766
# variables, which is the lowest of all.
VALUES_AT_ONCE = 2_000


class Dialect(Protocol):
    """One kind of database."""

    name: str
    locks: Locks

    def tune(self, engine: sa.Engine) -> None:
        """Set up an engine before its first use."""

    def settle(self, engine: sa.Engine) -> None:
        """Make sure that a copy of the database's files, taken from now on, holds all that was
        written."""

    def start_over(self) -> str:
        """How a person starts with empty tables."""


class SQLite:
    """A database in one file of this machine."""

    name = "sqlite"

    def __init__(self, url: sa.URL) -> None:
        assert url.database is not None
        self._file = Path(url.database)
        self.locks: Locks = FileLocks(self._file)

    def tune(self, engine: sa.Engine) -> None:
        sa.event.listen(engine, "connect", _set_pragmas)
        engine.dispose()
        keep_by_thread(engine)

    def settle(self, engine: sa.Engine) -> None:
        # Otherwise much of it is in the -wal file, which a copy of the database file alone lacks.
        # Passive: does not wait for readers.
        with engine.connect() as con:
            con.execute(sa.text("PRAGMA wal_checkpoint(PASSIVE)"))

    def start_over(self) -> str:
        return f"move {self._file} away and run again: the renditions are then made again"


class PostgreSQL:
    """A server, which several machines may use at once."""

    name = "postgresql"

    def __init__(self, url: sa.URL) -> None:
        self.locks: Locks = AdvisoryLocks()

    def tune(self, engine: sa.Engine) -> None:
        return

    def settle(self, engine: sa.Engine) -> None:
        return

    def start_over(self) -> str:
        return "name an empty database in PIPELINE_DB: the renditions are then made again"


def dialect_of(url: sa.URL) -> Dialect:
    """The dialect that an address names."""
    return SQLite(url) if url.get_backend_name() == SQLite.name else PostgreSQL(url)


def where_option(dialect: Dialect, condition: str) -> dict[str, Any]:
    """The option of ``sa.Index`` that makes it a partial index."""
    # Naming another dialect would load all of it, at every start.
    return {f"{dialect.name}_where": sa.text(condition)}


def _set_pragmas(connection: Any, record: object) -> None:
    # Readers (status, a web page) and the run share the file; the default gives up after 5 s.
    connection.execute("PRAGMA busy_timeout = 30000")
    # 8 MB of pages instead of 2. More gains nothing here, and each connection would hold it.
    connection.execute("PRAGMA cache_size = -8192")
