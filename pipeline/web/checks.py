"""CSVs are read in two threads of their own: no page, health check or takedown waits for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from starlette.exceptions import HTTPException

ResultT = TypeVar("ResultT")

THREADS = 2
# Each has its CSV on the disk: up to PIPELINE_JOB_MAX_BYTES.
WAITING = 16
RETRY_AFTER_S = 10


class Checks:
    """The threads that read CSVs for the page, and the queue before them."""

    def __init__(self) -> None:
        self._limiter = CapacityLimiter(THREADS)
        # Counted here: the limiter counts those that wait only once they do.
        self._taken = 0

    def refuse_if_full(self) -> None:
        """Call it before an upload is received: nobody should send a gigabyte only to be refused.

        Raises:
            HTTPException: 503, as many as allowed are waiting.
        """
        if self._taken >= THREADS + WAITING:
            raise HTTPException(
                503,
                "many CSVs are being checked right now; try again in a moment",
                {"retry-after": str(RETRY_AFTER_S)},
            )

    async def run(self, read: Callable[[], ResultT]) -> ResultT:
        """What ``read`` returns, in one of the threads.

        Raises:
            HTTPException: 503, as many as allowed are waiting.
        """
        self.refuse_if_full()
        self._taken += 1
        try:
            return await to_thread.run_sync(read, limiter=self._limiter)
        finally:
            self._taken -= 1
