"""Scheduling: limits of fetches at once and per second for each host, so that no host blocks
others.

Hosts take turns. Ten thousand URLs of one slow host at the head of a CSV keep six places busy, not
all of them. At one host, the groups of its items take turns. Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from typing import Generic, TypeVar

T = TypeVar("T")


class _Host(Generic[T]):
    __slots__ = ("alarm", "next_at", "queues", "running")

    def __init__(self) -> None:
        # By group, in the order of their turns; none is empty.
        self.queues: OrderedDict[str, deque[T]] = OrderedDict()
        self.running = 0
        self.next_at = 0.0
        self.alarm: asyncio.TimerHandle | None = None

    def put(self, item: T, first: bool, group: str) -> None:
        queue = self.queues.setdefault(group, deque())
        if first:
            queue.appendleft(item)
            self.queues.move_to_end(group, last=False)
        else:
            queue.append(item)

    def next(self) -> T:
        group, queue = next(iter(self.queues.items()))
        item = queue.popleft()
        if queue:
            self.queues.move_to_end(group)
        else:
            del self.queues[group]
        return item


class Schedule(Generic[T]):
    """Items by host, handed out as soon as their host has a place for them.

    To be used within one event loop. ``interval_s`` is the least time between two starts at a host.
    """

    def __init__(self, per_host: int, interval_s: float = 0.0) -> None:
        self._per_host = per_host
        self._interval_s = interval_s
        self._hosts: dict[str, _Host[T]] = {}
        self._ready: dict[str, None] = {}  # in the order of their turns
        self._takers: deque[asyncio.Future[None]] = deque()
        self._loop = asyncio.get_running_loop()

    def put(self, host: str, item: T, first: bool = False, group: str = "") -> None:
        """Queue ``item``; with ``first``, ahead of what is waiting."""
        self._host(host).put(item, first, group)
        self._look(host)

    async def take(self) -> tuple[str, T]:
        """Wait for an item that may start; it occupies a place at its host until :meth:`leave`."""
        while not self._ready:
            taker: asyncio.Future[None] = self._loop.create_future()
            self._takers.append(taker)
            try:
                await taker
            except asyncio.CancelledError:
                if taker in self._takers:
                    self._takers.remove(taker)
                else:
                    self._wake_taker()  # pass our turn on
                raise
        host = next(iter(self._ready))
        del self._ready[host]
        state = self._hosts[host]
        item = state.next()
        self._start(state)
        self._look(host)
        return host, item

    def leave(self, host: str) -> None:
        """Release the place at ``host``."""
        self._hosts[host].running -= 1
        self._look(host)

    def pause(self, host: str, seconds: float) -> float:
        """Start nothing at ``host`` for ``seconds``; a longer pause stays.

        Returns the seconds by which this made the pause longer.
        """
        state = self._host(host)
        now = self._loop.time()
        before = max(state.next_at, now)
        state.next_at = max(before, now + seconds)
        self._ready.pop(host, None)
        if state.alarm is not None:
            state.alarm.cancel()
            state.alarm = None
        longer_s = state.next_at - before
        self._look(host)
        return longer_s

    def _host(self, host: str) -> _Host[T]:
        state = self._hosts.get(host)
        if state is None:
            state = self._hosts[host] = _Host()
        return state

    def _start(self, state: _Host[T]) -> None:
        state.running += 1
        if self._interval_s:
            state.next_at = max(state.next_at, self._loop.time() + self._interval_s)

    def _look(self, host: str) -> None:
        """Check what the host may start now, or when to check again."""
        state = self._hosts[host]
        waits = self._loop.time() < state.next_at
        if state.queues and state.running < self._per_host and not waits:
            self._ready.setdefault(host)
            self._wake_taker()
            return
        self._ready.pop(host, None)
        if waits and (state.queues or not state.running):
            # Also without a queue: a host that is done is forgotten as soon as its time is over.
            if state.alarm is None:
                state.alarm = self._loop.call_at(state.next_at, self._ring, host)
        elif not state.running and not state.queues:
            del self._hosts[host]

    def _ring(self, host: str) -> None:
        state = self._hosts.get(host)
        if state is not None:
            state.alarm = None
            self._look(host)

    def _wake_taker(self) -> None:
        while self._takers and self._ready:
            taker = self._takers.popleft()
            if not taker.done():
                taker.set_result(None)
                return
