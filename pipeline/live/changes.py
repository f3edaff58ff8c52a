"""What has changed since the last run, and when it may be looked at. Times are in seconds."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

# Under constant change nothing is ever quiet: files that are complete are looked at by then.
LATEST_S = 2.0
# More paths than these cost more, one by one, than a look at the whole folder.
MANY = 2_000


@dataclass(frozen=True)
class Work:
    """What one run is to look at: some keys, or the whole folder except files still being
    written."""

    whole: bool
    only: frozenset[str] = frozenset()
    leave: frozenset[str] = frozenset()


@dataclass
class Changes:
    """Gathers changes until nothing changes any more. ``now`` is always ``time.monotonic()``.

    One thread adds them, while another takes them.
    """

    settle_s: float
    _last: dict[str, float] = field(default_factory=dict)
    _whole_at: float | None = None
    # When the oldest change that no run has looked at came, and the youngest.
    _since: float | None = None
    _latest: float = 0.0
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def add(self, keys: Iterable[str], now: float) -> None:
        """These files or folders changed at ``now``; the key ``""`` is the whole folder."""
        with self._lock:
            for key in keys:
                if key:
                    self._last[key] = now
                else:
                    self._whole_at = now
                self._since = now if self._since is None else self._since
                self._latest = max(self._latest, now)

    def is_due(self, now: float) -> bool:
        """Whether a run has to start: all is quiet, or has not been for too long."""
        with self._lock:
            if self._since is None:
                return False
            return now - self._latest >= self.settle_s or now - self._since >= LATEST_S

    @property
    def is_whole(self) -> bool:
        """Whether the whole folder is to be looked at."""
        with self._lock:
            return self._whole_at is not None or len(self._last) > MANY

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to look at."""
        return self._since is None

    def take(self, now: float) -> Work:
        """What is complete; the rest stays for the next time."""
        with self._lock:
            moving = {key: at for key, at in self._last.items() if now - at < self.settle_s}
            still = frozenset(self._last.keys() - moving.keys())
            whole = self._whole_at is not None or len(still) > MANY
            self._last = moving
            self._whole_at = None
            self._since = now if moving else None
            if not moving:
                self._latest = 0.0
            return Work(whole, still, frozenset(moving))

    def put_back(self, work: Work, now: float) -> None:
        """A run could not look at it: it waits for the next one."""
        long_ago = now - LATEST_S
        with self._lock:
            for key in work.only:
                self._last.setdefault(key, long_ago)
            if work.whole:
                self._whole_at = long_ago
            if work.whole or work.only:
                self._since = long_ago
