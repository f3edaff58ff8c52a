"""The deadline of one transfer, which moves on with the bytes that come."""

from __future__ import annotations

import math

import anyio

from pipeline.fetch.types import FetchLimits


class Watch:
    """The deadline of a transfer: it moves on with the bytes that come.

    It is the earliest of three: the attempt's own, so long after the last bytes, and the end of a
    period in which too few came.
    """

    def __init__(self, limits: FetchLimits, scope: anyio.CancelScope) -> None:
        self._limits = limits
        self._scope = scope
        self._ends_at = scope.deadline
        self._needed_bytes = limits.slow_bytes_per_s * limits.slow_for_s
        self._received_bytes = 0
        self._mark_bytes = 0
        self._slow_at = self._stalled_at = math.inf

    def start(self) -> None:
        """Count from now, also after a pause of our own."""
        now = anyio.current_time()
        self._mark_bytes = self._received_bytes
        self._slow_at = now + self._limits.slow_for_s
        self._stalled_at = now + self._limits.stall_timeout_s
        self._scope.deadline = min(self._ends_at, self._slow_at, self._stalled_at)

    def came(self, size_bytes: int) -> None:
        """Bytes came in."""
        now = anyio.current_time()
        self._received_bytes += size_bytes
        self._stalled_at = now + self._limits.stall_timeout_s
        if self._received_bytes - self._mark_bytes >= self._needed_bytes:
            self._mark_bytes = self._received_bytes
            self._slow_at = now + self._limits.slow_for_s
        self._scope.deadline = min(self._ends_at, self._slow_at, self._stalled_at)

    def pause(self) -> None:
        """Stop the clock: our own disk takes time now, not the server."""
        self._scope.deadline = math.inf

    def reason(self) -> str:
        """Which of the three deadlines passed."""
        limits = self._limits
        first = min(self._ends_at, self._slow_at, self._stalled_at)
        if first == self._stalled_at:
            return f"no bytes for {limits.stall_timeout_s:g} s"
        if first == self._slow_at:
            return f"under {limits.slow_bytes_per_s:,} bytes/s for {limits.slow_for_s:g} s"
        return f"not done within {limits.total_timeout_s:g} s"
