"""What differs between databases; nothing else checks which one it is."""

from __future__ import annotations

import contextlib
import os
import shlex
import sqlite3
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa

from pipeline.database.keys import Key as Key
from pipeline.database.locks import AdvisoryLocks, FileLocks, Locks
from pipeline.database.pool import keep_by_thread
from pipeline.errors import SettingsError

# Key values of one statement. With three columns each they stay below SQLite's limit of 32,766
# variables, which is the lowest of all.
VALUES_AT_ONCE = 2_000


class Dialect(Protocol):
    """One kind of database."""

    name: str
    locks: Locks
    # The files of this machine that hold what the tables hold.
    files: tuple[Path, ...]
    # What datapipe-core and SQLAlchemy connect to.
    address: str
    # Stands in for the INSERT that datapipe-core chooses, if it is not ``None``.
    insert: Any

    def prepare(self) -> None:
        """What has to be done before the first connection."""

    def tune(self, engine: sa.Engine, metadata: sa.MetaData) -> None:
        """Set up an engine before its first use, and declare tables that it needs itself."""

    def settle(self, engine: sa.Engine) -> None:
        """Make sure that a copy of the database's files, taken from now on, holds all that was
        written."""

    def stop(self, engine: sa.Engine, driver: Any) -> None:
        """End the statement that a driver's connection waits for in another thread."""

    def copy(self, engine: sa.Engine, target: Path, name: Path) -> None:
        """Copy the whole database to a file, as it is at one moment.

        ``name`` is the one that a person gave the file.

        Raises:
            SettingsError: it is on a server, which has a program for that.
            sqlite3.Error: a file cannot be read or written.
        """

    def start_over(self) -> str:
        """How a person starts with empty tables."""

    def where(self, condition: str) -> dict[str, Any]:
        """The option of ``sa.Index`` that makes it a partial index, where there are any."""


class SQLite:
    """A database in one file of this machine."""

    name = "sqlite"
    insert = None

    def __init__(self, url: sa.URL) -> None:
        self.address = url.render_as_string(hide_password=False)
        assert url.database is not None
        self._file = Path(url.database)
        self.locks: Locks = FileLocks(self._file)
        beside = (f"{self._file.name}{end}" for end in ("-wal", "-shm"))
        self.files = (self._file, *map(self._file.with_name, beside))

    def prepare(self) -> None:
        # Created here, for its owner only: SQLite would let everybody read it, and gives the files
        # beside it the mode that it has. A link may lead to a file that is still to be made.
        if str(self._file) == ":memory:" or str(self._file).startswith("file:"):
            return
        with contextlib.suppress(OSError):  # it is there; SQLite says what else is wrong
            new = os.O_CREAT | os.O_EXCL | os.O_WRONLY
            os.close(os.open(os.path.realpath(self._file), new, 0o600))

    def tune(self, engine: sa.Engine, metadata: sa.MetaData) -> None:
        sa.event.listen(engine, "connect", _set_pragmas)
        engine.dispose()
        keep_by_thread(engine)

    def settle(self, engine: sa.Engine) -> None:
        # Otherwise much of it is in the -wal file, which a copy of the database file alone lacks.
        # Passive: does not wait for readers.
        with engine.connect() as con:
            con.execute(sa.text("PRAGMA wal_checkpoint(PASSIVE)"))

    def stop(self, engine: sa.Engine, driver: Any) -> None:
        driver.interrupt()

    def copy(self, engine: sa.Engine, target: Path, name: Path) -> None:
        # All at once: page by page, each write in between would begin it anew. Writers go on, as
        # the database has a write-ahead log.
        with engine.connect() as con, contextlib.closing(sqlite3.connect(target)) as there:
            source = con.connection.driver_connection
            assert source is not None
            source.backup(there)

    def start_over(self) -> str:
        return f"move {self._file} away and run again: the renditions are then made again"

    def where(self, condition: str) -> dict[str, Any]:
        return {"sqlite_where": sa.text(condition)}


class PostgreSQL:
    """A server, which several machines may use at once."""

    name = "postgresql"
    files: tuple[Path, ...] = ()
    insert = None

    def __init__(self, url: sa.URL) -> None:
        self.address = url.render_as_string(hide_password=False)
        self.locks: Locks = AdvisoryLocks()
        # As its own programs take it: without a driver; a password is better not in a command.
        self._address = url.set(drivername=self.name, password=None).render_as_string()

    def prepare(self) -> None:
        return

    def tune(self, engine: sa.Engine, metadata: sa.MetaData) -> None:
        return

    def settle(self, engine: sa.Engine) -> None:
        return

    def stop(self, engine: sa.Engine, driver: Any) -> None:
        driver.cancel()

    def copy(self, engine: sa.Engine, target: Path, name: Path) -> None:
        raise SettingsError(
            "PIPELINE_DB is a PostgreSQL server, which has a program for backups: "
            f"pg_dump --format=custom --file={shlex.quote(str(name))} "
            f"{shlex.quote(self._address)}"
        )

    def start_over(self) -> str:
        return "name an empty database in PIPELINE_DB: the renditions are then made again"

    def where(self, condition: str) -> dict[str, Any]:
        # Naming another dialect as well would load all of it, at every start.
        return {"postgresql_where": sa.text(condition)}


def dialect_of(url: sa.URL) -> Dialect:
    """The dialect that an address names.

    Raises:
        DatabaseError: no driver for it is installed.
    """
    kind = url.get_backend_name()
    if kind in ("mysql", "mariadb"):
        # Imported here: other databases do without it, and it costs 30 ms.
        from pipeline.database.mysql import MySQL

        return MySQL(url)
    return SQLite(url) if kind == SQLite.name else PostgreSQL(url)


def _set_pragmas(connection: Any, record: object) -> None:
    # Readers (status, a web page) and the run share the file; the default gives up after 5 s.
    connection.execute("PRAGMA busy_timeout = 30000")
    # 8 MB of pages instead of 2. More gains nothing here, and each connection would hold it.
    connection.execute("PRAGMA cache_size = -8192")
