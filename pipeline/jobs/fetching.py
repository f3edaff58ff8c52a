"""Fetching: a thread requests the waiting URLs of all jobs, and how each ended is a row.

A fetch that ended goes to the journal at once, and from there to the table in batches
(``pipeline.jobs.recording``): a run that is killed fetches nothing twice. While a run goes on, only
this thread writes to rows of ``fetches`` that wait, and it writes no table that is tracked.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import AsyncGenerator
from dataclasses import replace

import sqlalchemy as sa

from pipeline.database.paging import known_among
from pipeline.engine.context import STOP_POLL_S, Run
from pipeline.engine.progress import Growing
from pipeline.fetch.client import fetch_all
from pipeline.fetch.types import Fetched
from pipeline.jobs.context import Jobs
from pipeline.jobs.images import collect_garbage, paths_of, sweep_state
from pipeline.jobs.recording import Recorder
from pipeline.jobs.requesting import Requests, TimeLimit
from pipeline.jobs.store import JobRepository
from pipeline.states import JobState, Lane, Source, UrlState
from pipeline.storage.folder import made


class Fetching:
    """The fetch of one run: a thread that ends when nothing waits, and can be started again.

    Its methods are for the thread of the run.
    """

    def __init__(self, jobs: Jobs, run: Run) -> None:
        self._jobs, self._run = jobs, run
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._requests: Requests | None = None
        self._ready: set[str] = set()
        self._guard = threading.Lock()
        self._time_limit = TimeLimit(jobs.settings.jobs.fetch_s, jobs.fetching_since)
        # Set when there is something new: a job is ready, or the thread has ended.
        self.news = threading.Event()
        # How many images have ended, for people who watch.
        self._ended = 0
        self._shown = Growing(run.progress.lane(Lane.FETCHING), "images")

    @property
    def is_alive(self) -> bool:
        """Whether the thread is still fetching."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Begin to fetch what waits.

        Raises:
            OutputError: the disk is full, or permissions are missing.
        """
        made(self._jobs.folders.fetched)
        self._jobs.folders.fetched_store.sweep_folder()
        self._thread = threading.Thread(target=self._work, name="fetch")
        self._thread.start()

    def check(self) -> None:
        """Raise what ended the thread, if an error did.

        Raises:
            OutputError: the disk is full, or permissions are missing.
        """
        if self._error is not None:
            raise self._error

    def take_ready(self) -> set[str]:
        """The jobs of which nothing waits any more, as far as the thread looked; each once."""
        with self._guard:
            ready, self._ready = self._ready, set()
        return ready

    def look_again(self, reference: str) -> None:
        """Have the thread look again for waiting URLs of a job."""
        if self._requests is not None:
            self._requests.again.add(reference)

    def close(self) -> None:
        """End all fetches; what has ended is recorded, and no temporary file stays."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        jobs = self._jobs
        try:
            recorder = Recorder(jobs.repository, jobs.folders, self._run.report)
            with contextlib.closing(recorder):
                recorder.replay()
                while asyncio.run(self._fetch(recorder)):
                    pass
        except BaseException as error:
            # Whatever it is, the thread of the run has to know, or it would wait forever.
            self._error = error
        finally:
            self._shown.stop()
            self.news.set()

    async def _fetch(self, recorder: Recorder) -> bool:
        """Fetch until nothing is left; True: until something that is being fetched is wanted by
        no job any more, as one was deleted, or has used up its time."""
        jobs, store = self._jobs, self._jobs.folders.fetched_store
        limits = jobs.settings.fetch
        requests = self._requests = Requests(
            jobs.repository,
            jobs.folders,
            self._run.options.job,
            limits.pending,
            self._time_limit,
            recorder.flush,
        )
        # Bounded by the requests themselves: the URLs of one job must not keep out another's.
        limits = replace(limits, pending=sys.maxsize)
        try:
            async with (
                contextlib.aclosing(fetch_all(requests, limits, store)) as results,
                contextlib.aclosing(_or_none(results, STOP_POLL_S)) as coming,
            ):
                async for fetched in coming:
                    if self._stop.is_set():
                        return False
                    if fetched is not None:
                        recorder.add(fetched)
                        requests.ended(fetched.url)
                        self._ended += 1
                    else:
                        recorder.flush_if_due()
                    self._shown.show(self._ended, self._ended + requests.left)
                    self._tell(requests)
                    if requests.is_obsolete:
                        return True
        finally:
            recorder.flush()
        self._tell(requests)
        return False

    def _tell(self, requests: Requests) -> None:
        """Hand the jobs that are done over to the thread of the run."""
        if done := requests.take_done():
            with self._guard:
                self._ready |= done
            self.news.set()


def preview_fetches(jobs: Jobs, run: Run) -> None:
    """Count the URLs that would be requested, and the images that would result."""
    repository, expected = jobs.repository, run.expected
    fetches = repository.fetches.c
    # The step before has counted the others.
    others = {reference for reference, _ in expected.csvs} | expected.jobs_gone
    fetching = repository.in_states({JobState.FETCHING}, run.options.job)
    ours = [job for job in fetching if job.reference not in others]
    references = [job.reference for job in ours]
    wanted = _wanted_by(
        repository,
        run.options.job,
        sa.or_(fetches.state == UrlState.WAITING.value, repository.jobs.c.ask_again.is_(sa.true())),
        repository.jobs.c.reference.in_(references),
    )
    coming = sum(job.total - job.failed for job in ours)
    with repository.database.reading() as con:
        count = con.execute(sa.select(sa.func.count(fetches.url_key)).where(wanted)).scalar_one()
        for reference in references:
            there = sa.select(sa.func.count()).select_from(paths_of(jobs, reference).subquery())
            coming -= con.execute(there).scalar_one()
    expected.originals[Source.JOBS].coming += max(0, coming)
    known = known_among(repository.database, fetches.url_key, expected.urls, wanted)
    run.report.jobs.requested = count + len(expected.urls) - len(known)


def recover_fetches(jobs: Jobs, run: Run) -> None:
    """After an interrupted run: record what it fetched, and remove files without a row."""
    repository, folders = jobs.repository, jobs.folders
    if folders.fetched.is_dir():
        with contextlib.closing(Recorder(repository, folders, run.report)) as recorder:
            recorder.replay()
    collect_garbage(repository, folders)
    sweep_state(jobs)


async def _or_none(
    results: AsyncGenerator[Fetched, None], every_s: float
) -> AsyncGenerator[Fetched | None, None]:
    """``results``, and None whenever ``every_s`` seconds pass without one."""
    coming = asyncio.ensure_future(anext(results))
    try:
        while True:
            done, _ = await asyncio.wait({coming}, timeout=every_s)
            if not done:
                yield None
                continue
            try:
                fetched = coming.result()
            except StopAsyncIteration:
                return
            yield fetched
            coming = asyncio.ensure_future(anext(results))
    finally:
        if not coming.done():
            coming.cancel()
            await asyncio.wait({coming})


def _wanted_by(
    repository: JobRepository, only: str | None, *conditions: sa.ColumnElement[bool]
) -> sa.ColumnElement[bool]:
    """The condition on a URL that it is in a job that is to be fetched."""
    urls, jobs = repository.urls, repository.jobs
    return sa.exists().where(
        urls.c.url_key == repository.fetches.c.url_key,
        jobs.c.reference == urls.c.reference,
        jobs.c.state == JobState.FETCHING.value,
        sa.true() if only is None else jobs.c.reference == only,
        *conditions,
    )
