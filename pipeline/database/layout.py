"""Tables: created where they are missing, brought forward or refused where they are of another
layout."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pipeline.database.locks import RUN_LOCK
from pipeline.database.state import LAYOUT, STATE_TABLE, StateRepository
from pipeline.errors import DatabaseError

if TYPE_CHECKING:
    from pipeline.database.connection import Database

# How often, and how long apart, tables are looked for that another process is making.
CREATE_TRIES = 50
CREATE_WAIT_S = 0.1
# What SQLite says of a disk that is full, broken or read-only: waiting does not help.
DISK_PROBLEMS = ("disk is full", "disk I/O error", "readonly database")


# Brings the tables of one layout to the next, inside a transaction.
Migration = Callable[["Database"], None]


def plain_table(declare: Callable[[sa.MetaData], sa.Table]) -> Callable[[sa.MetaData], sa.Table]:
    """Declare a table that is not tracked once in a ``metadata``, as often as it is asked for.

    Its name is that of the function ``declare`` without ``_table``. Declared a second time, a table
    would have its indexes twice; and its columns are not made only to be thrown away.
    """
    name = declare.__name__.removesuffix("_table")

    @functools.wraps(declare)
    def declared(metadata: sa.MetaData) -> sa.Table:
        known = metadata.tables.get(f"{metadata.schema}.{name}" if metadata.schema else name)
        return declare(metadata) if known is None else known

    return declared


def create_missing(
    database: Database, version: int, migrations: Mapping[int, Migration], is_run: bool
) -> None:
    """Create the tables that are missing; bring those of an older layout to ``version``.

    ``is_run``: the caller holds the lock of runs.

    Raises:
        DatabaseError: the tables are of another release, or the database is read-only.
        LockedError: the tables are of an older release, and a run is in progress.
    """
    repository = StateRepository(database)
    try:
        inspector = sa.inspect(database.engine)
        existing = set(inspector.get_table_names(schema=database.schema))
        declared = database.sqla_metadata.tables
        if STATE_TABLE in existing:
            _migrate(database, repository, migrations, is_run)
        if STATE_TABLE not in existing or repository.get(LAYOUT) is None:
            for name in sorted(set(declared) & existing):
                _compare(database, inspector, declared[name])
        if not set(declared) <= existing:
            _create_missing(database, existing)
        found = repository.get(LAYOUT)
        if found is None:
            # Another process may be making the very same tables.
            with contextlib.suppress(sa.exc.IntegrityError):
                repository.set(LAYOUT, str(version))
        elif found != str(version):
            raise DatabaseError(
                f"{database.shown}: its tables have layout {found}, this release of Lockstep "
                f"needs {version}; {database.dialect.start_over()}"
            )
    except sa.exc.SQLAlchemyError as error:
        raise database.explain(error) from None


def _migrate(
    database: Database,
    repository: StateRepository,
    migrations: Mapping[int, Migration],
    is_run: bool,
) -> None:
    if _number(repository.get(LAYOUT)) not in migrations:
        return
    with contextlib.nullcontext() if is_run else database.lock(RUN_LOCK):
        # Another process may have done it meanwhile.
        while (found := _number(repository.fresh(LAYOUT))) in migrations:
            with database.writing():
                repository.set(LAYOUT, str(found + 1))
                migrations[found](database)


def _number(layout: str | None) -> int:
    return int(layout) if layout and layout.isdigit() else 0


def _create_missing(database: Database, existing: set[str]) -> None:
    """Make the tables that are missing, also where other processes do the same at this moment.

    The second process gets an error that a table exists already, and looks again.
    """
    metadata = database.sqla_metadata
    for tries_left in reversed(range(CREATE_TRIES)):
        try:
            with database.engine.begin() as con:
                database.dialect.begin_layout(con)
                metadata.create_all(con)
                # Tables that are older than an index do not get it from the above.
                for name in existing & set(metadata.tables):
                    for index in metadata.tables[name].indexes:
                        index.create(con, checkfirst=True)
            return
        except sa.exc.DBAPIError as error:
            if any(problem in str(error.orig) for problem in DISK_PROBLEMS):
                raise
            there = set(sa.inspect(database.engine).get_table_names(schema=database.schema))
            if set(metadata.tables) <= there:
                return
            if not tries_left:
                raise
            time.sleep(CREATE_WAIT_S)


def _compare(database: Database, inspector: sa.Inspector, table: sa.Table) -> None:
    found = {column["name"] for column in inspector.get_columns(table.name, table.schema)}
    wanted = {column.name for column in table.columns}
    if found != wanted:
        missing = ", ".join(sorted(wanted - found)) or "none"
        unknown = ", ".join(sorted(found - wanted)) or "none"
        raise DatabaseError(
            f"{database.shown}: the table {table.name!r} is of another layout "
            f"(missing columns: {missing}; unknown: {unknown}); {database.dialect.start_over()}"
        )
