"""Open pages: they are notified that something changed, all by one poll of the tables.

Runs of other processes notify nobody. However many pages are open, one task reads the clock of the
tables every two seconds, and none does while no page is open.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterator

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

log = logging.getLogger("lockstep.web")

# Each keeps a connection; the server has a limit on those, too.
STREAMS = 100
LOOK_EVERY_S = 2.0
# A page that polls asks every ten seconds; after this long, it has been closed.
POLLED_S = 30.0


class Listeners:
    """Open pages that are notified when something has changed.

    ``moves`` goes up whenever something has; another process never begins with the same.
    """

    def __init__(
        self,
        clock: Callable[[], object],
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """``clock`` reads a value from the tables that changes whenever a run writes rows."""
        self.loop: asyncio.AbstractEventLoop | None = None
        self.closing = False
        self.moves = time.time_ns() // 1_000_000
        self._clock = clock
        self._pause = pause
        self._known: object = None
        self._events: set[asyncio.Event] = set()
        self._looking: asyncio.Task[None] | None = None
        self._polled_s = -POLLED_S

    @property
    def is_full(self) -> bool:
        """Whether no further page may keep a stream: it has to poll."""
        return len(self._events) >= STREAMS

    def notify(self) -> None:
        """Wake them all; from any thread."""
        if self.loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self.loop.call_soon_threadsafe(self._wake)

    def close(self) -> None:
        """End all of them."""
        self.closing = True
        self.notify()

    @contextlib.contextmanager
    def one(self) -> Iterator[asyncio.Event]:
        """An event that is set whenever something has moved; in the thread of the loop."""
        event = asyncio.Event()
        self._events.add(event)
        self._keep_looking()
        try:
            yield event
        finally:
            self._events.discard(event)

    def polled(self) -> int:
        """``moves``, for a page that polls; in the thread of the loop."""
        self._polled_s = asyncio.get_running_loop().time()
        self._keep_looking()
        return self.moves

    def _wake(self) -> None:
        self.moves += 1
        for event in self._events:
            event.set()

    def _keep_looking(self) -> None:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look())

    async def _look(self) -> None:
        loop, is_failing = asyncio.get_running_loop(), False
        while not self.closing and (self._events or loop.time() - self._polled_s < POLLED_S):
            try:
                clock = await run_in_threadpool(self._clock)
            except SQLAlchemyError:
                # Once, and not every two seconds until the database is back.
                if not is_failing:
                    log.exception("open pages are not updated: the tables cannot be read")
                is_failing = True
            else:
                is_failing = False
                if self._known not in (None, clock):
                    self._wake()
                self._known = clock
            await self._pause(LOOK_EVERY_S)
