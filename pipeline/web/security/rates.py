"""How often something may be requested: by one address, and by all together."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable


class Rate:
    """Counts requests in the last seconds; in the thread of the event loop, in constant memory."""

    def __init__(
        self,
        of_one: int,
        of_all: int,
        window_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``clock`` counts seconds."""
        self._of_one = of_one
        self._of_all = of_all
        self._window_s = window_s
        self._clock = clock
        self._recent: deque[tuple[float, str]] = deque()

    def wait_s(self, address: str) -> float:
        """Count a request; returns 0.0, or in how many seconds the next one may be tried.

        One that has to wait is not counted.
        """
        now, recent = self._clock(), self._recent
        while recent and now - recent[0][0] >= self._window_s:
            recent.popleft()
        theirs = [at for at, whose in recent if whose == address]
        first = None
        if len(recent) >= self._of_all:
            first = recent[0][0]
        if len(theirs) >= self._of_one:
            first = max(theirs[0], first or theirs[0])
        if first is not None:
            return first + self._window_s - now
        recent.append((now, address))
        return 0.0
