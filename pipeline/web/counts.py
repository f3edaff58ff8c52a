"""The counts of Home: counted again when a table has changed, but never too often.

Counting two million renditions takes seconds. So the page shows the last counts at once, with their
time, and new ones are counted in the background.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from pipeline.app import Lockstep
from pipeline.operations.status import status
from pipeline.text import iso

log = logging.getLogger("lockstep.web")

# Counting may take no more than this part of one processor's time.
AT_MOST = 0.1
# How long a request waits: a small project always sees the latest counts.
AT_ONCE_S = 0.05
# A retry request does not move the clock; no counts are older than this.
OLD_S = 5.0


class LatestCounts:
    """The last counts, and when they were taken."""

    def __init__(self, app: Lockstep, moved: Callable[[], None]) -> None:
        self.app = app
        self.moved = moved
        self._counted: dict[str, Any] | None = None
        self._clock: float | None = None
        self._cost_s = 0.0
        self._ended = 0.0
        self._counting = threading.Lock()

    def get(self) -> dict[str, Any] | None:
        """What ``datapipe status`` prints, and ``counted``; ``None`` before the first count."""
        if self._counted is None or self._is_stale():
            may_wait = self._counted is not None and self._cost_s <= AT_ONCE_S
            if may_wait or self._counted is None:
                thread = self._count_beside()
                if thread is not None:
                    thread.join(AT_ONCE_S * 4)
            else:
                # Not before its time, but then without being asked: no page waits for a second run.
                self._count_beside(self._ended + self._cost_s / AT_MOST - time.monotonic())
        return self._counted

    def forget(self) -> None:
        """Count again on the next request: something changed outside of a run."""
        self._clock = None

    def clock(self) -> float:
        """A number that changes whenever a run writes rows, in whatever process."""
        return self.app.database.clock.committed_ts()

    def _is_stale(self) -> bool:
        return self._clock != self.clock() or time.monotonic() - self._ended > max(
            OLD_S, self._cost_s / AT_MOST
        )

    def _count_beside(self, wait_s: float = 0.0) -> threading.Thread | None:
        if not self._counting.acquire(blocking=False):
            return None
        thread = threading.Thread(target=self._count, args=(wait_s,), name="count", daemon=True)
        thread.start()
        return thread

    def _count(self, wait_s: float) -> None:
        try:
            time.sleep(max(0.0, wait_s))
            began, clock = time.monotonic(), self.clock()
            counted = status(self.app)
            before, self._counted = self._counted, counted | {"counted": iso(time.time())}
            self._clock, self._ended = clock, time.monotonic()
            self._cost_s = self._ended - began
        except sa.exc.SQLAlchemyError:
            log.exception("counting failed")
            return
        finally:
            self._counting.release()
        if before is None or {**before, "counted": ""} != {**counted, "counted": ""}:
            self.moved()
