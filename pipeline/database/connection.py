"""The database: reading, writing in one transaction, and locks.

:class:`Database` is datapipe-core's own connection, so that its tables and steps work on it as they
are. Two things are different. A thread that is inside :meth:`Database.writing` has everything that
datapipe-core writes meanwhile join that one transaction. And what differs between SQLite and
PostgreSQL is decided by its :class:`~pipeline.database.dialects.Dialect`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from datapipe.store.database import DBConn

from pipeline.database.dialects import Dialect, dialect_of
from pipeline.database.locks import RUN
from pipeline.database.transaction import Clock, Inside, Write
from pipeline.errors import DatabaseError

# What a driver says, and what a person does about it.
_REMEDIES = {
    "unable to open database file": "create the folder and make it writable",
    "readonly database": "make the file and its folder writable",
    "file is not a database": "PIPELINE_DB names something else; name another file",
    "disk is full": "free some space and run again: no finished work is lost",
    "disk I/O error": "free some space if the disk is full, or repair it, and run again: "
    "no finished work is lost",
    "locked": "another program has it open for writing; run again when it is done",
    "malformed": "move the file away and run again: all renditions are then made again",
    "No module named": "install the driver that the address names, or leave `+driver` out",
}


class Database(DBConn):
    """One database, shared by all threads of a process.

    Raises, when it is made:
        sqlalchemy.exc.SQLAlchemyError: it cannot be opened. :func:`open_database` explains it.
    """

    dialect: Dialect
    clock: Clock

    def _init(self, connstr: str, *args: Any, **options: Any) -> None:
        self._here = threading.local()
        self.dialect = dialect_of(sa.make_url(connstr))
        self.dialect.prepare()
        try:
            super()._init(self.dialect.address, *args, **options)
        except BaseException:
            if "engine" in vars(self):
                self.engine.dispose()
            raise
        self.connstr = connstr
        self.insert = self.dialect.insert or self.insert
        self.dialect.tune(self.engine, self.sqla_metadata)
        self._reader = self.dialect.reader(self.engine)
        self.clock = Clock(self)

    @property
    def con(self) -> Any:
        """What datapipe-core gets connections from: the engine, or the transaction of this thread.

        datapipe-core writes a row and then what it remembers of the row, each in a transaction of
        its own. Killed between the two, a change would be lost forever: the scan finds the row up
        to date, and the change query does not know of it.
        """
        write = self._write
        return self.engine if write is None else Inside(write.con)

    @con.setter
    def con(self, engine: sa.Engine) -> None:
        self.engine = engine

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection for queries; inside :meth:`writing` it sees what was written so far."""
        write = self._write
        with (self._reader if write is None else Inside(write.con)).begin() as con:
            yield con

    def rows(self, query: sa.Executable) -> Sequence[sa.Row[Any]]:
        """All rows of a query."""
        with self.reading() as con:
            return con.execute(query).all()

    def first(self, query: sa.Executable) -> sa.Row[Any] | None:
        """The first row of a query, if it has any."""
        with self.reading() as con:
            return con.execute(query).first()

    def column(self, query: sa.Executable) -> list[Any]:
        """The first value of each row of a query."""
        return [row[0] for row in self.rows(query)]

    @contextlib.contextmanager
    def writing(self) -> Iterator[Write]:
        """One transaction for all that this thread writes in the block, with one clock value.

        Committed at the end, rolled back by an exception. A block inside another one joins it.
        """
        outer = self._write
        if outer is not None:
            yield outer
            return
        with self.engine.begin() as con:
            self._here.write = write = Write(con, self.clock)
            try:
                yield write
            finally:
                self._here.write = None

    def lock(
        self, name: str, wait: bool = False, holder: str = RUN
    ) -> contextlib.AbstractContextManager[None]:
        """Hold one of the locks of :mod:`pipeline.database.locks` for the length of a block.

        ``holder`` is who holds it, for those who find it held.

        Raises:
            LockedError: another process holds it and ``wait`` is false.
            DatabaseError: the lock cannot be taken at all.
        """
        return self.dialect.locks.hold(self.engine, name, wait, holder)

    def holder(self) -> str | None:
        """Who else holds the lock of runs, as ``process 12 on shop, since ...``, if anybody does.

        Takes no lock, not even for a moment: that would turn away a run from cron.
        """
        return self.dialect.locks.holder(self.engine)

    def is_wanted(self) -> bool:
        """Whether a run waits for the lock of runs, which a watcher is to give up then."""
        return self.dialect.locks.is_wanted(self.engine)

    def explain(self, error: Exception) -> DatabaseError:
        """The error of a statement, in the words of the person who runs Lockstep."""
        return DatabaseError(f"{self.shown}: {_cause(error)}")

    @property
    def shown(self) -> str:
        """The address without its password."""
        return _shown(self.connstr)

    @property
    def _write(self) -> Write | None:
        return getattr(self._here, "write", None)


def open_database(
    url: str, setting: str = "PIPELINE_DB", options: Mapping[str, str] | None = None
) -> Database:
    """Open the database of a ``setting``, with ``options`` for its driver besides those of its
    address.

    Raises:
        DatabaseError: it cannot be reached or opened.
    """
    try:
        database = Database(with_options(url, options or {}))
        with database.engine.connect():
            return database
    except (sa.exc.SQLAlchemyError, ImportError) as error:
        raise DatabaseError(f"{setting}={_shown(url)!r}: {_cause(error)}") from None


def with_options(url: str, options: Mapping[str, str]) -> str:
    """An address with those ``options`` of its driver that it does not set itself."""
    if not options:
        return url
    made = sa.make_url(url)
    return made.update_query_dict({**options, **made.query}).render_as_string(hide_password=False)


def _cause(error: Exception) -> str:
    cause = str(getattr(error, "orig", None) or error).strip().splitlines()
    text = cause[0] if cause else type(error).__name__
    for problem, remedy in _REMEDIES.items():
        if problem in text:
            return f"{text}; {remedy}"
    return f"{text}; is the server up, and are the name and the password right?"


def _shown(url: str) -> str:
    return sa.make_url(url).render_as_string(hide_password=True)
