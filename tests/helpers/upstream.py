"""The source of parts of datapipe-core, for which parts of ours stand in."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from pipeline.database.connection import Database


def digest(part: object) -> str:
    """Changes with the source of a part."""
    source = inspect.getsource(part)  # type: ignore[arg-type]
    return hashlib.sha256(source.encode()).hexdigest()[:16]


def upstream_rows(database: Database, query: sa.Select[Any]) -> Sequence[sa.RowMapping]:
    """The rows of a query of upstream's; in a copy on SQLite where MySQL cannot run it."""
    if database.dialect.name != "mysql":
        with database.reading() as con:
            return con.execute(query).mappings().all()
    copy = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    metadata = sa.MetaData()
    with copy.begin() as there:
        for table in database.sqla_metadata.tables.values():
            columns = [sa.Column(column.name, column.type) for column in table.c]
            sa.Table(table.name, metadata, *columns).create(there)
            rows = [dict(row._mapping) for row in database.rows(sa.select(table))]
            if rows:
                there.execute(sa.insert(metadata.tables[table.name]), rows)
        found = there.execute(query).mappings().all()
    copy.dispose()
    return found
