"""Opening the database, and making sure that its tables are of the layout this release knows."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import sqlalchemy as sa
from datapipe.store.database import DBConn

from pipeline.engine.pool import keep_by_thread
from pipeline.engine.state import LAYOUT, StateBook
from pipeline.errors import DatabaseError
from pipeline.tables import (
    LAYOUT_VERSION,
    csv_urls_table,
    fetches_table,
    jobs_table,
    runs_table,
    state_table,
    takedown_files_table,
    takedowns_table,
)

# How often, and how long apart, tables are looked for that another process is making.
CREATE_TRIES = 50
CREATE_WAIT_S = 0.1
# What SQLite says of a disk that is full, broken or read-only: waiting does not help.
DISK_FAULTS = ("disk is full", "disk I/O error", "readonly database")

# Two threads that both found an engine as it was would each wrap it, and the first would go on in
# a transaction that nothing joins.
_joining = threading.Lock()


def connect(url: str) -> DBConn:
    """Open the database of ``PIPELINE_DB``.

    Raises:
        DatabaseError: it cannot be reached or opened.
    """
    try:
        connection = DBConn(url)
        with connection.con.connect():
            pass
    except (sa.exc.SQLAlchemyError, ImportError) as error:
        raise DatabaseError(f"PIPELINE_DB={_shown(url)!r}: {_cause(error)}") from None
    if connection.con.dialect.name == "sqlite":
        sa.event.listen(connection.con, "connect", _tune_sqlite)
        connection.con.dispose()
        keep_by_thread(connection.con)
    jobs = (jobs_table, csv_urls_table, fetches_table)
    for untracked in (state_table, runs_table, *jobs, takedowns_table, takedown_files_table):
        untracked(connection.sqla_metadata)
    return connection


@contextlib.contextmanager
def one_transaction(connection: DBConn) -> Iterator[None]:
    """Make all that this thread writes in a ``with`` block one transaction.

    datapipe-core writes a row and then what it remembers of the row, each in a transaction of its
    own. Killed between the two, a change would be lost for ever: the scan finds the row up to
    date, and the change query does not know of it.
    """
    engine = connection.con
    with _joining:
        if not hasattr(engine, "joined"):
            _let_threads_join(engine)
    joined = engine.joined  # type: ignore[attr-defined]
    outer = getattr(joined, "con", None)
    with engine.begin() as con:
        joined.con = con
        try:
            yield
        finally:
            joined.con = outer


def _let_threads_join(engine: sa.Engine) -> None:
    """Have ``engine.begin`` join the transaction that its own thread is in, if it is in one."""
    begin, joined = engine.begin, threading.local()

    def join_or_begin() -> contextlib.AbstractContextManager[sa.Connection]:
        con = getattr(joined, "con", None)
        return begin() if con is None else contextlib.nullcontext(con)

    engine.joined = joined  # type: ignore[attr-defined]
    engine.begin = join_or_begin  # type: ignore[assignment, method-assign]


def make_tables(connection: DBConn, book: StateBook) -> None:
    """Make the tables that are missing; refuse those of another layout.

    Raises:
        DatabaseError: the tables are of an older or newer release, or the database is read-only.
    """
    try:
        inspector = sa.inspect(connection.con)
        existing = set(inspector.get_table_names(schema=connection.schema))
        declared = connection.sqla_metadata.tables
        if not set(declared) <= existing:
            _create_missing(connection)
        version = book.get(LAYOUT)
        if version is None:
            for name in sorted(set(declared) & existing):
                _compare(connection, inspector, declared[name])
            # Another process may be making the very same tables.
            with contextlib.suppress(sa.exc.IntegrityError):
                book.set(LAYOUT, str(LAYOUT_VERSION))
        elif version != str(LAYOUT_VERSION):
            raise DatabaseError(
                f"{_shown(connection.connstr)}: its tables have layout {version}, this release of "
                f"Lockstep needs {LAYOUT_VERSION}; {_remedy(connection)}"
            )
    except sa.exc.SQLAlchemyError as error:
        raise DatabaseError(f"{_shown(connection.connstr)}: {_cause(error)}") from None


def _create_missing(connection: DBConn) -> None:
    """Make the tables that are missing, also where other processes do the same at this moment.

    Whoever comes second is told that a table is there already, and looks again.
    """
    metadata = connection.sqla_metadata
    for tries_left in reversed(range(CREATE_TRIES)):
        try:
            metadata.create_all(connection.con)
            # Tables that were there before an index was thought of do not get it by the above.
            for table in metadata.tables.values():
                for index in table.indexes:
                    index.create(connection.con, checkfirst=True)
            return
        except sa.exc.DBAPIError as error:
            if any(fault in str(error.orig) for fault in DISK_FAULTS):
                raise
            there = set(sa.inspect(connection.con).get_table_names(schema=connection.schema))
            if set(metadata.tables) <= there:
                return
            if not tries_left:
                raise
            time.sleep(CREATE_WAIT_S)


def explain_database_error(error: sa.exc.SQLAlchemyError, connection: DBConn) -> DatabaseError:
    """The error of a statement, in the words of the person who runs Lockstep."""
    return DatabaseError(f"{_shown(connection.connstr)}: {_cause(error)}")


def _compare(connection: DBConn, inspector: sa.Inspector, table: sa.Table) -> None:
    found = {column["name"] for column in inspector.get_columns(table.name, table.schema)}
    wanted = {column.name for column in table.columns}
    if found != wanted:
        missing = ", ".join(sorted(wanted - found)) or "none"
        unknown = ", ".join(sorted(found - wanted)) or "none"
        raise DatabaseError(
            f"{_shown(connection.connstr)}: the table {table.name!r} is of another layout "
            f"(missing columns: {missing}; unknown: {unknown}); {_remedy(connection)}"
        )


def _remedy(connection: DBConn) -> str:
    url = sa.make_url(connection.connstr)
    if connection.con.dialect.name == "sqlite":
        return f"move {url.database} away and run again: the renditions are then made anew"
    return "name an empty database in PIPELINE_DB: the renditions are then made anew"


def _tune_sqlite(connection: object, record: object) -> None:
    # Readers (status, a web page) and the run share the file; the default gives up after 5 s.
    connection.execute("PRAGMA busy_timeout = 30000")  # type: ignore[attr-defined]
    # 8 MB of pages instead of 2. More gains nothing here, and every connection would keep it.
    connection.execute("PRAGMA cache_size = -8192")  # type: ignore[attr-defined]


def _cause(error: Exception) -> str:
    cause = str(getattr(error, "orig", None) or error).strip().splitlines()
    text = cause[0] if cause else type(error).__name__
    remedies = {
        "unable to open database file": "make its folder, and let it be written",
        "readonly database": "let the file and its folder be written",
        "file is not a database": "PIPELINE_DB names something else; name another file",
        "disk is full": "make room and run again: nothing that was done is lost",
        "disk I/O error": "make room if the disk is full, or repair it, and run again: "
        "nothing that was done is lost",
        "locked": "another program holds it open for writing; run again when it is done",
        "malformed": "move the file away and run again: the renditions are then made anew",
        "No module named": "install the driver that the address names, or leave `+driver` out",
    }
    for fault, remedy in remedies.items():
        if fault in text:
            return f"{text}; {remedy}"
    return f"{text}; is the server up, and are the name and the password right?"


def _shown(url: str) -> str:
    return sa.make_url(url).render_as_string(hide_password=True)
