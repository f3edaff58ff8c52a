"""How long renditions took: a histogram, which a run fills and its report carries."""

from __future__ import annotations

import threading
from bisect import bisect_left
from dataclasses import dataclass, field

BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass
class Timings:
    """Renditions by the seconds that a worker took for each, from any thread.

    ``counts`` are those up to each of ``BOUNDS_S`` and above the one before; the last, of the rest.
    """

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    seconds: float = 0.0
    _guard: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, seconds: float, renditions: int) -> None:
        """Count ``renditions`` that took ``seconds`` together; nothing happens for none."""
        if not renditions:
            return
        with self._guard:
            self.counts[bisect_left(BOUNDS_S, seconds / renditions)] += renditions
            self.seconds += seconds

    def add_all(self, other: Timings) -> None:
        """Count what ``other`` has counted."""
        with other._guard:
            counts, seconds = list(other.counts), other.seconds
        with self._guard:
            self.counts = [a + b for a, b in zip(self.counts, counts, strict=True)]
            self.seconds += seconds

    def buckets(self) -> tuple[list[tuple[str, float]], float]:
        """As Prometheus wants them: how many took at most so long; and the seconds of all."""
        with self._guard:
            counts, seconds = list(self.counts), self.seconds
        found, total = [], 0
        for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), counts, strict=True):
            total += count
            found.append((bound, float(total)))
        return found, seconds
