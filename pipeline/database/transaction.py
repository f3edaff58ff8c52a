"""One transaction, and the time that its rows have."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any, NamedTuple

import sqlalchemy as sa

from pipeline.database.state import CLOCK, StateRepository

# A microsecond is the smallest step that a double can represent at today's Unix times.
STEP_S = 1e-6


class Clock:
    """Unix time in seconds that never runs backwards, also from one process to the next.

    A change is found by comparing the time of a write with the time of its processing. Were the
    machine's clock put back between two runs, the change would look old and be missed forever.
    """

    def __init__(self, repository: StateRepository) -> None:
        self._repository = repository
        self._lock = threading.Lock()
        self._last = 0.0
        # The last time that was written into a row by this process; 0.0 before the first.
        self.written_ts = 0.0

    def start(self) -> float:
        """Take over what other processes wrote; returns the time of the last write of all, or
        0.0."""
        stored = float(self._repository.fresh(CLOCK) or 0.0)
        with self._lock:
            self._last = max(self._last, stored)
        return stored

    def now(self) -> float:
        """A time later than any returned before."""
        with self._lock:
            self._last = max(time.time(), self._last + STEP_S)
            return self._last

    def remember(self, now: float) -> None:
        """Write a time that rows of this transaction have."""
        self.written_ts = now
        self._repository.set(CLOCK, repr(now))


class Write:
    """What ``Database.writing()`` gives: its connection, and the one time of all its rows."""

    def __init__(self, con: sa.Connection, clock: Clock) -> None:
        self.con = con
        self._clock = clock
        self._now: float | None = None

    @property
    def now(self) -> float:
        """The time of this transaction; once used, it is stored with the rows."""
        if self._now is None:
            self._now = self._clock.now()
        return self._now

    def execute(self, statement: Any, values: Any = None) -> sa.CursorResult[Any]:
        """Execute one statement, as :meth:`sqlalchemy.Connection.execute` does."""
        return self.con.execute(statement, values)

    def remember(self) -> None:
        """Keep the clock value, if rows have it; called at the end of the block."""
        if self._now is not None:
            self._clock.remember(self._now)


class Inside(NamedTuple):
    """Replaces an engine while its thread is in a transaction: any new one joins it."""

    con: sa.Connection

    def begin(self) -> contextlib.AbstractContextManager[sa.Connection]:
        """The current transaction, which somebody else ends."""
        return contextlib.nullcontext(self.con)
