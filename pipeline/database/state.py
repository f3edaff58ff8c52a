"""What Lockstep remembers: layout, clock, the input folder, and unfinished work.

All of it are rows of ``lockstep_state``; a run with no change writes none of them.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

import sqlalchemy as sa

LAYOUT = "layout"
CLOCK = "clock"
INTERRUPTED = "interrupted"
BOOT = "boot"
# Device and inode of the input folder and of the mount points below it.
INPUT = "input"
# The folders that this database belongs to: see `engine.known_folders`.
FOLDERS = "folders"
# How many originals were known before a scan that was refused.
KNOWN_BEFORE = "known_before"
# CSVs below the input folder that start no job, with the stat of each, as JSON.
CSVS_LEFT = "csvs_left"
# The last writer of the output folder: an owner of temporary files.
WRITER = "writer"
# The files of the batch that is being published.
PUBLISHING = "publishing"
# How often this database has moved forward: see `engine.generation`.
GENERATION = "generation"
# Set while the output folder may hold other files than the rows say: what was found, as JSON; null
# until it was looked for.
UNVERIFIED = "unverified"
# What the last run said on stderr where nobody watched, as JSON: see `cli.quiet`.
SAID = "said"
# Recipes whose folder was found missing with all its renditions.
FOLDERS_GONE = "folders_gone"
# Sessions of the page that were logged out, as JSON.
ENDED_SESSIONS = "ended_sessions"
# Another number whenever a picture was blocked or unblocked.
BLOCKED_PICTURES = "blocked_pictures"


# What changes with `blocked_hashes`; and the last value that renditions were compared with.
BLOCKED_HASHES = "blocked_hashes"
BLOCKED_HASHES_FOLLOWED = "blocked_hashes_followed"
# Since when the webhook of moderation is told what happened.
NOTICES_SINCE = "notices_since"
# Before the name of a list that is being imported: who imports it.
IMPORTING = "importing "
# Which shared blocklist this database follows, and how far it has read it, as JSON; since when that
# one cannot be reached, and why, as JSON.
SHARED = "shared"
SHARED_FAILING = "shared_failing"
# Before the name of a list that the shared blocklist lacks, or a part of it.
UNSENT = "unsent "


STATE_TABLE = "lockstep_state"


def state_table(metadata: sa.MetaData) -> sa.Table:
    """``lockstep_state``: layout version, clock, and what an interrupted run left unfinished."""
    name = f"{metadata.schema}.{STATE_TABLE}" if metadata.schema else STATE_TABLE
    known = metadata.tables.get(name)
    if known is not None:
        return known
    return sa.Table(
        STATE_TABLE,
        metadata,
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("value", sa.String, nullable=False),
    )


class _Writes(Protocol):
    def execute(self, statement: Any, values: Any = None) -> sa.CursorResult[Any]: ...


class Transactions(Protocol):
    """What a :class:`StateRepository` needs of a ``Database``, which has one itself for its
    clock."""

    sqla_metadata: sa.MetaData

    def reading(self) -> AbstractContextManager[sa.Connection]: ...

    def writing(self) -> AbstractContextManager[_Writes]: ...


class StateRepository:
    """The rows of ``lockstep_state``, read once and written through."""

    def __init__(self, database: Transactions) -> None:
        self._database = database
        self._table = state_table(database.sqla_metadata)
        self._values: dict[str, str] | None = None

    def get(self, name: str) -> str | None:
        """The value of ``name``; ``None`` where it was never set."""
        if self._values is None:
            with self._database.reading() as con:
                rows = con.execute(sa.select(self._table.c.name, self._table.c.value)).all()
            self._values = {row.name: row.value for row in rows}
        return self._values.get(name)

    def fresh(self, name: str) -> str | None:
        """Like :meth:`get`, but reads again what other processes may have written."""
        self._values = None
        return self.get(name)

    def set(self, name: str, value: str | None) -> None:
        """Write ``value``, or forget ``name`` for ``None``; nothing happens if it is the same."""
        if self.get(name) == value:
            return
        with self._database.writing() as con:
            con.execute(sa.delete(self._table).where(self._table.c.name == name))
            if value is not None:
                con.execute(sa.insert(self._table).values(name=name, value=value))
        # Another thread may be reading all of them again.
        if self._values is not None:
            self._values.pop(name, None)
            if value is not None:
                self._values[name] = value
