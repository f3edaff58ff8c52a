"""Fetching: many URLs in, one result for each out, whatever the internet does.

::

    limits = FetchLimits(allow=AllowList.parse("10.1.0.0/16"))
    async with contextlib.aclosing(fetch_all(requests, limits, store)) as results:
        async for fetched in results:
            ...

Nothing raises for one URL. A full disk does: it would fail every URL after it.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import httpx

from pipeline.errors import FetchError
from pipeline.fetch.attempt import Again, Attempts, Ended, Moved, Trace
from pipeline.fetch.resolver import Resolver, system_resolver
from pipeline.fetch.schedule import Schedule
from pipeline.fetch.transport import ValidatedTransport
from pipeline.fetch.types import Fetched, FetchLimits, FetchRequest, FetchStatus
from pipeline.fetch.urls import UrlRefused, checked_url, host_of
from pipeline.imaging.sniff import Sniff, image_problem
from pipeline.reasons import Code
from pipeline.storage.folder_store import FolderStore

# Threads that hash and write. Both release Python's lock, and two keep a disk busy.
FILE_THREADS = 2
# Threads that resolve names; a slow name server holds one for as long as it likes, even if nothing
# waits for it any more. They are made as needed; with few, one CSV of slow names stops the others.
NAME_THREADS = 128
# How soon a list that had nothing at the moment is read again.
ASK_AGAIN_S = 0.2
# An attempt that takes all of its time occupies a place for minutes.
RETRIES_AFTER_TIMEOUT = 1


async def fetch_all(
    requests: Iterable[FetchRequest | None],
    limits: FetchLimits,
    store: FolderStore,
    *,
    sniff: Sniff = image_problem,
    resolve: Resolver | None = None,
    ssl_context: ssl.SSLContext | None = None,
) -> AsyncGenerator[Fetched, None]:
    """Fetch every URL into ``store`` and yield how each ended, in the order in which they end.

    A URL that comes again before it has ended is left out. ``requests`` is read as places come
    free, no further ahead than ``limits.pending`` of the results that the caller took: memory does
    not grow with the list. It may go on as long as it likes: where it gives ``None``, there is
    nothing at the moment, and it is read again a little later. When the caller stops early (close
    the generator, or cancel the task), all fetches end and no temporary file stays.

    Raises:
        OutputError: ``store`` cannot be written, or the disk is full.
    """
    os.makedirs(store.root, exist_ok=True)
    names = ThreadPoolExecutor(NAME_THREADS, "resolve")
    files = ThreadPoolExecutor(FILE_THREADS, "store")
    transport = ValidatedTransport(
        resolve or system_resolver(names),
        limits.allow,
        ssl_context=ssl_context,
        http2=limits.http2,
        proxy_url=limits.proxy_url,
    )
    call = _Call(limits, Attempts(transport, limits, store, sniff, files))
    tasks = [asyncio.create_task(call.feed(requests))]
    tasks += [asyncio.create_task(call.work()) for _ in range(limits.concurrent)]
    for task in tasks:
        task.add_done_callback(call.task_done)
    try:
        async for fetched in call.results():
            yield fetched
    finally:
        call.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await transport.aclose()
        # A write that is under way ends first, and takes its temporary file along.
        files.shutdown(wait=True)
        names.shutdown(wait=False, cancel_futures=True)


@dataclass
class _Job:
    """One URL in progress. ``moved_to`` is where the current attempt continues, at another host."""

    request: FetchRequest
    url: httpx.URL
    moved_to: httpx.URL | None = None
    attempts: int = 0
    timeouts: int = 0
    duration_s: float = 0.0
    trace: Trace = field(default_factory=Trace)


@dataclass
class _HostHistory:
    """How a host behaved in this call."""

    waited_s: float = 0.0
    failures_in_a_row: int = 0


class _Call:
    """The state of one call of :func:`fetch_all`."""

    def __init__(self, limits: FetchLimits, attempts: Attempts) -> None:
        self._limits = limits
        self._attempts = attempts
        rate = limits.rate_per_host_per_s
        self._schedule: Schedule[_Job] = Schedule(
            limits.concurrent_per_host, 1 / rate if rate else 0.0
        )
        self._results: asyncio.Queue[Fetched | BaseException | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(limits.pending)
        self._fed = False
        self._under_way = 0
        self._urls: set[str] = set()
        self._history: dict[str, _HostHistory] = {}
        self._timers: set[asyncio.TimerHandle] = set()

    async def results(self) -> AsyncIterator[Fetched]:
        """What :meth:`work` finished, until nothing is in progress; each frees a place."""
        while (result := await self._results.get()) is not None:
            if isinstance(result, BaseException):
                raise result
            yield result
            self._room.release()

    async def feed(self, requests: Iterable[FetchRequest | None]) -> None:
        """Put the requests into the schedule, as room comes free."""
        for request in requests:
            if request is None:
                await asyncio.sleep(ASK_AGAIN_S)
                continue
            if request.url in self._urls:
                continue
            await self._room.acquire()
            self._urls.add(request.url)
            self._under_way += 1
            try:
                url = checked_url(request.url, self._limits.ports)
            except UrlRefused as error:
                job = _Job(request, httpx.URL())
                self._finish(job, _ended(job, FetchStatus.REFUSED, error))
            else:
                self._schedule.put(host_of(url), _Job(request, url), group=request.group)
        self._fed = True
        self._end_if_done()

    async def work(self) -> None:
        """Attempt one URL after the other."""
        while True:
            host, job = await self._schedule.take()
            history = self._history.get(host)
            if history and history.failures_in_a_row >= self._limits.host_faults_max:
                self._schedule.leave(host)
                reason = f"not requested: {host} was unreachable {history.failures_in_a_row} times"
                unreachable = Ended(FetchStatus.FAILED, Code.NO_CONNECTION, reason)
                self._finish(job, _ended(job, FetchStatus.FAILED, unreachable))
                # A million of these in a row must not block the event loop.
                await asyncio.sleep(0)
                continue
            await self._attempt(job, host)

    async def _attempt(self, job: _Job, host: str) -> None:
        """Begin an attempt, or go on with one where a redirect led to ``host``."""
        url, job.moved_to = job.moved_to, None
        if url is None:
            url = job.url
            job.attempts += 1
            job.trace = Trace()
        started = time.perf_counter()
        try:
            answer = await self._attempts.make(job.request, url, job.trace)
        except Moved as moved:
            job.duration_s += time.perf_counter() - started
            self._it_answered(host)
            # The limits of the host that it leads to hold as well. It queues there like any other
            # URL: were the wait in here, a CSV of redirects to a slow host would stop all others.
            job.moved_to = moved.url
            self._put_first(host_of(moved.url), job)
        except Ended as end:
            job.duration_s += time.perf_counter() - started
            self._it_answered(host)
            self._finish(job, _ended(job, end.status, end))
        except Again as again:
            job.duration_s += time.perf_counter() - started
            self._retry_or_end(job, host, again)
        else:
            job.duration_s += time.perf_counter() - started
            self._it_answered(host)
            self._finish(
                job,
                replace(
                    answer,
                    duration_ms=round(job.duration_s * 1000),
                    attempts=job.attempts,
                    final_url=job.trace.final_url,
                ),
            )
        finally:
            self._schedule.leave(host)

    def _it_answered(self, host: str) -> None:
        # Only hosts that failed are remembered: a CSV may name a million.
        if history := self._history.get(host):
            history.failures_in_a_row = 0

    def _retry_or_end(self, job: _Job, failed_host: str, again: Again) -> None:
        limits = self._limits
        # A redirect may have led to another host than the next attempt begins with.
        host = host_of(job.url)
        history = self._history.setdefault(failed_host, _HostHistory())
        waits = again.retry_after_s is not None
        patient = not waits or history.waited_s < limits.host_wait_max_s
        job.timeouts += again.timed_out
        if job.attempts > limits.retries or job.timeouts > RETRIES_AFTER_TIMEOUT or not patient:
            history.failures_in_a_row = history.failures_in_a_row + 1 if again.connection else 0
            self._finish(job, _ended(job, FetchStatus.FAILED, again))
        elif again.retry_after_s is None:
            self._later(limits.backoff_after_s(job.attempts), host, job)
        else:
            # The server limits all of its URLs: continue with other hosts meanwhile.
            delay_s = min(again.retry_after_s, limits.retry_after_max_s)
            history.waited_s += self._schedule.pause(failed_host, delay_s)
            if failed_host == host:
                self._put_first(host, job)
            else:
                self._later(delay_s, host, job)

    def _put_first(self, host: str, job: _Job) -> None:
        self._schedule.put(host, job, first=True, group=job.request.group)

    def _later(self, delay_s: float, host: str, job: _Job) -> None:
        def put() -> None:
            self._timers.discard(timer)
            self._put_first(host, job)

        timer = asyncio.get_running_loop().call_later(delay_s, put)
        self._timers.add(timer)

    def _finish(self, job: _Job, fetched: Fetched) -> None:
        self._under_way -= 1
        self._urls.discard(job.request.url)
        self._results.put_nowait(fetched)
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._fed and not self._under_way:
            self._results.put_nowait(None)

    def task_done(self, task: asyncio.Task[None]) -> None:
        """Pass on what ended a task: a full disk, an error of the caller's own iterator."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._results.put_nowait(error)

    def stop(self) -> None:
        """Forget the retries that wait for their time."""
        for timer in self._timers:
            timer.cancel()


def _ended(job: _Job, status: FetchStatus, error: FetchError) -> Fetched:
    return Fetched(
        url=job.request.url,
        status=status,
        http_code=job.trace.http_code,
        reason=str(error),
        code=error.code,
        bytes=job.trace.received_bytes,
        duration_ms=round(job.duration_s * 1000),
        attempts=job.attempts,
        final_url=job.trace.final_url or job.request.url,
    )
