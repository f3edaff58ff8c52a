"""What Lockstep remembers: layout, clock, the input folder, and what is left to look after.

All of it are rows of ``lockstep_state``; a run with no change writes none of them.
"""

from __future__ import annotations

import time

import sqlalchemy as sa
from datapipe.store.database import DBConn

from pipeline.tables import state_table

LAYOUT = "layout"
CLOCK = "clock"
INTERRUPTED = "interrupted"
BOOT = "boot"
# Device and inode of the input folder and of the mount points below it.
INPUT = "input"
# Who wrote to the output folder last: an owner of temporary files.
WRITER = "writer"
# The files of the batch that is taking its place in the output folder.
PUBLISHING = "publishing"
# How often this database has moved forward: see `engine.generation`.
GENERATION = "generation"
# Set while the output folder may hold other files than the rows say: what was found, as JSON; null
# until it was looked for.
UNVERIFIED = "unverified"
# Recipes whose folder was seen gone with all its renditions.
FOLDERS_GONE = "folders_gone"

# The kernel writes dirty pages back after 30 s (vm.dirty_expire_centisecs) plus a flusher period
# of 5 s; two minutes leave room for a slow disk.
WRITTEN_BACK_S = 120.0


class StateBook:
    """The rows of ``lockstep_state``, read once and written through."""

    def __init__(self, connection: DBConn) -> None:
        self._connection = connection
        self._table = state_table(connection.sqla_metadata)
        self._values: dict[str, str] | None = None

    def get(self, name: str) -> str | None:
        """The value of ``name``; ``None`` where it was never set."""
        if self._values is None:
            with self._connection.con.begin() as con:
                rows = con.execute(sa.select(self._table.c.name, self._table.c.value)).all()
            self._values = {row.name: row.value for row in rows}
        return self._values.get(name)

    def set(self, name: str, value: str | None) -> None:
        """Write ``value``, or forget ``name`` for ``None``; nothing happens if it is the same."""
        if self.get(name) == value:
            return
        with self._connection.con.begin() as con:
            con.execute(sa.delete(self._table).where(self._table.c.name == name))
            if value is not None:
                con.execute(sa.insert(self._table).values(name=name, value=value))
        assert self._values is not None
        self._values.pop(name, None)
        if value is not None:
            self._values[name] = value


class Clock:
    """Unix time in seconds that never runs backwards, also from one run to the next.

    A change is found by comparing the time of a write with the time of its processing. Were the
    machine's clock put back between two runs, the change would look old and be missed for ever.
    """

    def __init__(self, book: StateBook) -> None:
        self._book = book
        self.last = float(book.get(CLOCK) or 0.0)
        # Whether this run has written a row that holds a time.
        self.has_written = False

    def now(self) -> float:
        """A time later than every time that was given before."""
        # A microsecond is the least step that a double keeps apart at today's Unix times.
        self.last = max(time.time(), self.last + 1e-6)
        return self.last

    def remember(self) -> None:
        """Write the last time given; call it with every batch of rows that holds one."""
        self.has_written = True
        self._book.set(CLOCK, repr(self.last))
