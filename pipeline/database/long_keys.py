"""Keys that are too long for an index of MySQL, in full: stored, and found again by what is stored.

They are written by the statement that writes the rows, so with them or not at all, and never
removed: a row is true for ever.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from pipeline.database.keys import MARK, known, take_named
from pipeline.errors import DatabaseError

TABLE = "lockstep_long_keys"


def long_keys_table(metadata: sa.MetaData) -> sa.Table:
    """``lockstep_long_keys``: what is stored of each long key, and all of it."""
    return sa.Table(
        TABLE,
        metadata,
        sa.Column("stored", sa.String, primary_key=True),
        sa.Column("whole", sa.String, nullable=False),
    )


class LongKeys:
    """The long keys of one database."""

    def __init__(self, engine: sa.Engine, metadata: sa.MetaData) -> None:
        self._engine = engine
        self._table = long_keys_table(metadata)
        sa.event.listen(engine, "before_cursor_execute", self._write)

    def _write(self, con: Any, cursor: Any, *rest: Any) -> None:
        named, context = take_named(), rest[2]
        if named and context is not None and (context.isinsert or context.isupdate):
            # Where several write the same ones, in one order: none waits for the other.
            cursor.executemany(
                f"INSERT IGNORE INTO {TABLE} (stored, whole) VALUES (%s, %s)",
                sorted(named.items()),
            )

    def decoded(self, data: str | bytes) -> str:
        """A text that a connection got, or a key, which comes as bytes; it is in full then."""
        if isinstance(data, str):
            return data
        text = data.decode()
        return self._whole(text) if MARK in text else text

    def _whole(self, stored: str) -> str:
        whole = known.get(stored)
        if whole is None:
            query = sa.select(self._table.c.whole).where(self._table.c.stored == stored)
            with self._engine.connect() as con:
                whole = con.execute(query).scalar()
            if whole is None:
                beginning = stored.partition(MARK)[0]
                raise DatabaseError(
                    f"the table {TABLE} lacks the key that begins with {beginning[:200]!r}; "
                    "restore it from a backup, or start over in an empty database"
                )
            known[stored] = whole
        return whole
