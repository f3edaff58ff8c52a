"""One transaction, and the time that its rows have."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any, NamedTuple

import sqlalchemy as sa

from pipeline.database.state import CLOCK, Transactions, state_table

# A microsecond is the smallest step that a double can represent at today's Unix times.
STEP_S = 1e-6


class Clock:
    """Unix time in seconds that never runs backwards, also from one process to the next.

    A change is found by comparing the time of a write with the time as of which it was processed.
    Were the machine's clock put back between two runs, the change would look old and be missed
    forever. So it would where a transaction took its time, and was not committed before another
    one read the rows and took a later time: so times are taken in the order of the commits
    (:meth:`tick`), and work is done as of the last one that was committed when its rows were read
    (:attr:`committed`).
    """

    def __init__(self, database: Transactions) -> None:
        self._database = database
        self._table = state_table(database.sqla_metadata)
        self._row = self._table.c.name == CLOCK
        self._lock = threading.Lock()
        self._last = 0.0
        # The last time that was written into a row by this process; 0.0 before the first.
        self.written_ts = 0.0

    def start(self) -> float:
        """Take over what other processes wrote; returns the time of the last write of all, or
        0.0."""
        stored = self.committed_ts()
        with self._lock:
            self._last = max(self._last, stored)
        return stored

    def committed_ts(self) -> float:
        """The time of the last transaction that is committed; 0.0 without one."""
        with self._database.reading() as con:
            return float(con.execute(sa.select(self.committed)).scalar() or 0.0)

    @property
    def committed(self) -> sa.ScalarSelect[str]:
        """The time of the last transaction that is committed, as a column of a query, in text.

        In the very statement that reads the rows: whatever it does not see yet has a later time.
        """
        return sa.select(self._table.c.value).where(self._row).scalar_subquery()

    def now(self) -> float:
        """A time later than any returned before."""
        with self._lock:
            self._last = max(time.time(), self._last + STEP_S)
            return self._last

    def tick(self, con: sa.Connection) -> float:
        """The time of the rows that a transaction is about to write.

        Until that ends, no other transaction gets one: the row of the clock is locked.
        """
        lock = sa.update(self._table).where(self._row).values(value=self._table.c.value)
        if not con.execute(lock).rowcount:
            # Two processes may both find a new database.
            with contextlib.suppress(sa.exc.IntegrityError), con.begin_nested():
                con.execute(sa.insert(self._table).values(name=CLOCK, value="0.0"))
            con.execute(lock)
        stored = float(con.execute(sa.select(self.committed)).scalar_one())
        with self._lock:
            self._last = max(self._last, stored)
        now = self.written_ts = self.now()
        con.execute(sa.update(self._table).where(self._row).values(value=repr(now)))
        return now


class Write:
    """What ``Database.writing()`` gives: its connection, and the one time of all its rows."""

    def __init__(self, con: sa.Connection, clock: Clock) -> None:
        self.con = con
        self._clock = clock
        self._now: float | None = None

    @property
    def now(self) -> float:
        """The time of this transaction. Use it before anything else is written."""
        if self._now is None:
            self._now = self._clock.tick(self.con)
        return self._now

    def execute(self, statement: Any, values: Any = None) -> sa.CursorResult[Any]:
        """Execute one statement, as :meth:`sqlalchemy.Connection.execute` does."""
        return self.con.execute(statement, values)


class Inside(NamedTuple):
    """Replaces an engine while its thread is in a transaction: any new one joins it."""

    con: sa.Connection

    def begin(self) -> contextlib.AbstractContextManager[sa.Connection]:
        """The current transaction, which somebody else ends."""
        return contextlib.nullcontext(self.con)
