"""Tables: created where they are missing, refused where they are of another layout."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pipeline.database.state import LAYOUT, StateRepository
from pipeline.errors import DatabaseError

if TYPE_CHECKING:
    from pipeline.database.connection import Database

# How often, and how long apart, tables are looked for that another process is making.
CREATE_TRIES = 50
CREATE_WAIT_S = 0.1
# What SQLite says of a disk that is full, broken or read-only: waiting does not help.
DISK_PROBLEMS = ("disk is full", "disk I/O error", "readonly database")


def create_missing(database: Database, version: int) -> None:
    """Create the tables that are missing; refuse those of another layout than ``version``.

    Raises:
        DatabaseError: the tables are of an older or newer release, or the database is read-only.
    """
    repository = StateRepository(database)
    try:
        inspector = sa.inspect(database.engine)
        existing = set(inspector.get_table_names(schema=database.schema))
        declared = database.sqla_metadata.tables
        if not set(declared) <= existing:
            _create_missing(database)
        found = repository.get(LAYOUT)
        if found is None:
            for name in sorted(set(declared) & existing):
                _compare(database, inspector, declared[name])
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


def _create_missing(database: Database) -> None:
    """Make the tables that are missing, also where other processes do the same at this moment.

    The second process gets an error that a table exists already, and looks again.
    """
    metadata = database.sqla_metadata
    for tries_left in reversed(range(CREATE_TRIES)):
        try:
            metadata.create_all(database.engine)
            # Tables that are older than an index do not get it from the above.
            for table in metadata.tables.values():
                for index in table.indexes:
                    index.create(database.engine, checkfirst=True)
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
