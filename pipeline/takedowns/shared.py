"""The blocklist that instances share: its database, which no instance keeps anything else in.

``shared_clock``      one row: which blocklist this is, and how often it was changed
``shared_takedowns``  a row per takedown, as its line in the journal, without files
``shared_hashes``     a row per hash of a list; a removed one stays, so that others learn of it

Each transaction that writes takes the next number, and gives it to the rows that it writes. It
locks the row of the clock until it ends, so numbers are committed in their order: a reader that has
read all rows up to a number has missed none of them.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import sqlalchemy as sa

from pipeline.database.connection import Database, open_database
from pipeline.database.layout import plain_table
from pipeline.database.paging import chunks
from pipeline.errors import DatabaseError, SharedDatabaseError

# Rows that one number is given to at most, and that are read at once: an instance that takes over
# a long list looks for takedowns after each page.
ROWS_OF_A_NUMBER, ROWS_READ = 2_000, 10_000
TAKEDOWNS_AT_ONCE = 200
# After a failure, nobody waits for another attempt before so many seconds have passed.
BACK_OFF_S = 5.0
CREATE_TRIES, CREATE_WAIT_S = 20, 0.1
# A server that does not answer must not hold up a takedown here.
_OPTIONS = {
    "postgresql": {
        "connect_timeout": "3",
        "tcp_user_timeout": "10000",
        "options": "-c statement_timeout=10000",
    },
    "mysql": {"connect_timeout": "3", "read_timeout": "10", "write_timeout": "10"},
}
_OPTIONS["mariadb"] = _OPTIONS["mysql"]

# Completes what is known of a takedown, or makes it, by what the instance of this name says.
Merge: TypeAlias = "Callable[[Mapping[str, Any] | None, Mapping[str, Any], str], dict[str, Any]]"

# Bounded, as every database can have them in a key, and compared byte by byte.
_NAME = sa.String(200).with_variant(sa.String(200, collation="C"), "postgresql")
_NAME = _NAME.with_variant(sa.String(200, collation="utf8mb4_bin"), "mysql", "mariadb")


class Head(NamedTuple):
    """Which blocklist it is, and the number of its last change."""

    id: str
    number: int


class SharedHash(NamedTuple):
    """One row of a list, and whether it was removed. ``added_ts`` is Unix time in seconds."""

    kind: str
    hash: str
    source: str
    reason: str | None
    added_ts: float
    is_removed: bool = False

    @property
    def key(self) -> tuple[str, str, str]:
        """What it is about."""
        return self.kind, self.hash, self.source


@plain_table
def shared_clock_table(metadata: sa.MetaData) -> sa.Table:
    """``shared_clock``: one row."""
    return sa.Table(
        "shared_clock",
        metadata,
        sa.Column("one", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
    )


@plain_table
def shared_takedowns_table(metadata: sa.MetaData) -> sa.Table:
    """``shared_takedowns``: ``entry`` is JSON; ``instance`` is who wrote it last."""
    return sa.Table(
        "shared_takedowns",
        metadata,
        sa.Column("identity", sa.String(32), primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False, index=True),
        sa.Column("instance", sa.String(200), nullable=False),
        sa.Column("entry", sa.Text, nullable=False),
    )


@plain_table
def shared_hashes_table(metadata: sa.MetaData) -> sa.Table:
    """``shared_hashes``: as ``blocked_hashes``, of lists alone; ``instance`` is who wrote it
    last."""
    return sa.Table(
        "shared_hashes",
        metadata,
        sa.Column("kind", sa.String(16), primary_key=True),
        sa.Column("hash", sa.String(64), primary_key=True),
        sa.Column("source", _NAME, primary_key=True, index=True),
        sa.Column("number", sa.BigInteger, nullable=False, index=True),
        sa.Column("reason", sa.Text, nullable=True),
        sa.Column("added_ts", sa.Double, nullable=False),
        sa.Column("is_removed", sa.Boolean, nullable=False),
        sa.Column("instance", sa.String(200), nullable=False),
    )


class SharedBlocklist:
    """The shared blocklist, as one instance reads and writes it. Connects when it is first used.

    Each method raises :class:`~pipeline.errors.SharedDatabaseError` where the database cannot be
    reached or used; for some seconds after that, at once.
    """

    def __init__(self, url: str, instance: str) -> None:
        self.instance = instance
        self._url = url
        self._lock = threading.Lock()
        self._opened: Database | None = None
        self._failed_at: float | None = None
        self._failure = ""

    def close(self) -> None:
        """Let go of the connections; the next use opens them again."""
        with self._lock:
            opened, self._opened = self._opened, None
        if opened is not None:
            opened.engine.dispose()

    def try_again(self) -> None:
        """Forget that it could not be reached."""
        self._failed_at = None

    def head(self) -> Head:
        """How far it is: one row."""
        with self._database() as database:
            clock = shared_clock_table(database.sqla_metadata)
            row = database.first(sa.select(clock.c.id, clock.c.number))
            assert row is not None
            return Head(row.id, row.number)

    def takedowns(self, after: int, until: int) -> tuple[list[dict[str, Any]], int]:
        """Takedowns that were changed after one number, up to another, some thousands; and up to
        which number."""
        with self._database() as database:
            table = shared_takedowns_table(database.sqla_metadata)
            rows, read = _page(database, table, [table.c.entry], after, until)
        return [json.loads(row.entry) for row in rows], read

    def hashes(self, after: int, until: int) -> tuple[list[SharedHash], int]:
        """The same of hashes."""
        with self._database() as database:
            table = shared_hashes_table(database.sqla_metadata)
            columns = [table.c[name] for name in SharedHash._fields]
            rows, read = _page(database, table, columns, after, until)
        return [SharedHash(*row[:-1]) for row in rows], read

    def send_takedowns(self, entries: Mapping[str, Mapping[str, Any]], merge: Merge) -> None:
        """Add takedowns, by identity; those that are known are merged with what is known of
        them."""
        with self._database() as database:
            table = shared_takedowns_table(database.sqla_metadata)
            known = sa.select(table.c.identity, table.c.entry).where(
                table.c.identity.in_(list(entries))
            )
            if not self._changed(database.rows(known), entries, merge):
                return
            with self._appending(database) as (con, number):
                changed = self._changed(con.execute(known).all(), entries, merge)
                for name, (is_new, entry) in changed.items():
                    values = {"number": number, "instance": self.instance, "entry": entry}
                    if is_new:
                        con.execute(sa.insert(table).values(identity=name, **values))
                    else:
                        its = table.c.identity == name
                        con.execute(sa.update(table).where(its).values(**values))

    def send_hashes(self, rows: Sequence[SharedHash]) -> None:
        """Add hashes to lists; those that are there with the same reason stay as they are."""
        for page in chunks(rows, ROWS_OF_A_NUMBER):
            with self._database() as database:
                table = shared_hashes_table(database.sqla_metadata)
                with database.reading() as con:
                    if not self._missing(con, table, page):
                        continue
                with self._appending(database) as (con, number):
                    self._write_hashes(con, table, self._missing(con, table, page), number)

    def remove_source(self, source: str) -> int:
        """Remove a list for all instances; how many hashes it had."""
        count = 0
        with self._database() as database:
            table = shared_hashes_table(database.sqla_metadata)
            there = sa.and_(table.c.source == source, table.c.is_removed.is_(sa.false()))
            some = sa.select(table.c.kind, table.c.hash).where(there).limit(ROWS_OF_A_NUMBER)
            while True:
                with self._appending(database) as (con, number):
                    rows = con.execute(some).all()
                    gone = {"is_removed": True, "number": number, "instance": self.instance}
                    for kind in sorted({row.kind for row in rows}):
                        hashes = [row.hash for row in rows if row.kind == kind]
                        its = sa.and_(there, table.c.kind == kind, table.c.hash.in_(hashes))
                        con.execute(sa.update(table).where(its).values(**gone))
                count += len(rows)
                if len(rows) < ROWS_OF_A_NUMBER:
                    return count

    @contextlib.contextmanager
    def _appending(self, database: Database) -> Iterator[tuple[sa.Connection, int]]:
        """A transaction that writes, and its number; it waits for the one before to end."""
        clock = shared_clock_table(database.sqla_metadata)
        with database.writing() as write:
            write.execute(sa.update(clock).values(number=clock.c.number + 1))
            yield write.con, int(write.con.execute(sa.select(clock.c.number)).scalar_one())

    def _changed(
        self,
        rows: Sequence[sa.Row[Any]],
        entries: Mapping[str, Mapping[str, Any]],
        merge: Merge,
    ) -> dict[str, tuple[bool, str]]:
        """The entries to write, by identity, and whether they are new."""
        known = {row.identity: json.loads(row.entry) for row in rows}
        found = {}
        for name, entry in entries.items():
            merged = merge(known.get(name), entry, self.instance)
            if merged != known.get(name):
                found[name] = (name not in known, json.dumps(merged, ensure_ascii=False))
        return found

    @staticmethod
    def _missing(
        con: sa.Connection, table: sa.Table, rows: Sequence[SharedHash]
    ) -> list[tuple[bool, SharedHash]]:
        """Those of ``rows`` that are to be written, and whether they are new."""
        known: dict[tuple[str, str, str], tuple[str | None, bool]] = {}
        for kind, source in sorted({(row.kind, row.source) for row in rows}):
            hashes = [row.hash for row in rows if (row.kind, row.source) == (kind, source)]
            query = sa.select(table.c.hash, table.c.reason, table.c.is_removed).where(
                table.c.kind == kind, table.c.source == source, table.c.hash.in_(hashes)
            )
            for row in con.execute(query):
                known[kind, row.hash, source] = (row.reason, row.is_removed)
        return [
            (row.key not in known, row)
            for row in rows
            if known.get(row.key, (None, True)) != (row.reason, False)
        ]

    def _write_hashes(
        self,
        con: sa.Connection,
        table: sa.Table,
        rows: Sequence[tuple[bool, SharedHash]],
        number: int,
    ) -> None:
        both = {"number": number, "instance": self.instance}
        if new := [row._asdict() | both for is_new, row in rows if is_new]:
            con.execute(sa.insert(table), new)
        old = [row for is_new, row in rows if not is_new]
        for row in old:
            its = zip(("kind", "hash", "source"), row.key, strict=True)
            con.execute(
                sa.update(table)
                .where(*[table.c[name] == value for name, value in its])
                .values(reason=row.reason, added_ts=row.added_ts, is_removed=False, **both)
            )

    @contextlib.contextmanager
    def _database(self) -> Iterator[Database]:
        """The database while it is used; what goes wrong is an error that names the setting."""
        with self._lock:
            if self._failed_at is not None and time.monotonic() - self._failed_at < BACK_OFF_S:
                raise SharedDatabaseError(self._failure)
        try:
            with self._lock:
                if self._opened is None:
                    self._opened = self._open()
                database = self._opened
            yield database
        except (sa.exc.SQLAlchemyError, DatabaseError) as error:
            explained = error
            if not isinstance(error, DatabaseError):
                explained = database.explain(error)
            setting = "PIPELINE_BLOCKLIST_DB"
            said = f"{explained}" if setting in f"{explained}" else f"{setting}: {explained}"
            self._failure, self._failed_at = said, time.monotonic()
            self.close()
            raise SharedDatabaseError(said) from error
        self._failed_at = None

    def _open(self) -> Database:
        kind = sa.make_url(self._url).get_backend_name()
        database = open_database(self._url, "PIPELINE_BLOCKLIST_DB", _OPTIONS.get(kind))
        metadata = database.sqla_metadata
        clock = shared_clock_table(metadata)
        for declare in (shared_takedowns_table, shared_hashes_table):
            declare(metadata)
        try:
            there = set(sa.inspect(database.engine).get_table_names())
            if "takedowns" in there:
                raise SharedDatabaseError(
                    "PIPELINE_BLOCKLIST_DB names the database of an instance; the blocklist that "
                    "instances share needs a database of its own"
                )
            if not set(metadata.tables) <= there or database.first(sa.select(clock)) is None:
                self._make(database, clock)
        except BaseException:
            database.engine.dispose()
            raise
        return database

    def _make(self, database: Database, clock: sa.Table) -> None:
        """Make the tables, also where other instances do the same at this moment."""
        for tries_left in reversed(range(CREATE_TRIES)):
            try:
                database.sqla_metadata.create_all(database.engine)
                with database.writing() as write:
                    if write.con.execute(sa.select(clock)).first() is None:
                        row = {"one": 1, "id": uuid.uuid4().hex, "number": 0}
                        write.execute(sa.insert(clock), row)
                return
            except sa.exc.DBAPIError:
                if not tries_left:
                    raise
                time.sleep(CREATE_WAIT_S)


def _page(
    database: Database,
    table: sa.Table,
    columns: Sequence[sa.Column[Any]],
    after: int,
    until: int,
) -> tuple[list[sa.Row[Any]], int]:
    """Rows that were changed after one number, up to another; and up to which they are whole."""
    changed = sa.and_(table.c.number > after, table.c.number <= until)
    query = sa.select(*columns, table.c.number).where(changed).order_by(table.c.number)
    rows = list(database.rows(query.limit(ROWS_READ)))
    if len(rows) < ROWS_READ:
        return rows, until
    # Of the last number there may be more; no number has as many rows as a page.
    last = rows[-1].number
    return [row for row in rows if row.number < last], last - 1
