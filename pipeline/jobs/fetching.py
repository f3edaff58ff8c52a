"""Fetching: the waiting URLs of all jobs are requested together, and how each ended is a row.

A fetch that ended goes to the journal at once, and from there to the table in batches
(``pipeline.jobs.recording``): a run that is killed fetches nothing twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from pipeline.database.paging import known_among, pages
from pipeline.engine.context import STOP_POLL_S, Run
from pipeline.engine.recovery import remember_writing
from pipeline.fetch.client import fetch_all
from pipeline.fetch.types import Fetched, FetchLimits, FetchRequest
from pipeline.jobs.context import Jobs
from pipeline.jobs.images import bring_in_step, collect_garbage, image_counts, paths_of, sweep_state
from pipeline.jobs.recording import FLUSH_S, Recorder
from pipeline.jobs.store import JobFolders, JobRepository
from pipeline.states import JobState, Source, UrlState
from pipeline.storage.blobs import blob_path
from pipeline.storage.folder import made
from pipeline.storage.folder_store import FolderStore

PAGE_ROWS = 1_000
# How often to check whether a job was deleted while its images are fetched.
LOOK_EVERY_S = 1.0


def fetch_images(jobs: Jobs, run: Run) -> None:
    """Ask for what waits, and bring the images of the jobs in jobs.

    Raises:
        OutputError: the disk is full, or permissions are missing.
    """
    remember_writing(run)
    repository, folders = jobs.repository, jobs.folders
    FolderStore(made(folders.fetched)).sweep_folder()
    _refresh(repository, run.options.job)
    with contextlib.closing(Recorder(repository, folders, run)) as recorder:
        recorder.replay()
        # A second round if stored files turned out to be lost.
        for _ in range(2):
            while _ask(jobs, run, recorder):
                pass
            if not _settle(jobs, run):
                break


def preview_fetches(jobs: Jobs, run: Run) -> None:
    """Count the URLs that would be requested, and the images that would come of them."""
    repository, expected = jobs.repository, run.expected
    fetches = repository.fetches.c
    # What becomes of the others is noted by the step before.
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
        with contextlib.closing(Recorder(repository, folders, run)) as recorder:
            recorder.replay()
    collect_garbage(repository, folders)
    sweep_state(jobs)


def _refresh(repository: JobRepository, only: str | None) -> None:
    """Make all URLs of the jobs wait for which a refresh was requested.

    Done here, not by the process that requested it: only the run writes to ``fetches``.
    """
    jobs, urls, fetches = repository.jobs, repository.urls, repository.fetches
    for job in repository.in_states({JobState.FETCHING}, only):
        if not job.ask_again:
            continue
        theirs = sa.select(urls.c.url_key).where(urls.c.reference == job.reference)
        with repository.database.writing() as con:
            con.execute(
                sa.update(fetches)
                .where(fetches.c.url_key.in_(theirs))
                .values(state=UrlState.WAITING.value)
            )
            con.execute(
                sa.update(jobs).where(jobs.c.reference == job.reference).values(ask_again=False)
            )


def _settle(jobs: Jobs, run: Run) -> int:
    """Move the jobs on that have no waiting URLs; returns how many stored files were lost."""
    repository, table = jobs.repository, jobs.repository.jobs
    lost_any = 0
    for job in repository.in_states({JobState.FETCHING}):
        with repository.database.reading() as con:
            if con.execute(sa.select(repository.waits_for_urls(job.reference))).scalar_one():
                continue
        lost = bring_in_step(jobs, run, job.reference)
        lost_any += lost
        if lost:
            continue
        # A refresh may have been requested just now: then it stays as it is.
        counts = image_counts(repository, job.reference)
        with repository.database.writing() as con:
            con.execute(
                sa.update(table)
                .where(
                    table.c.reference == job.reference,
                    table.c.state == JobState.FETCHING.value,
                    table.c.ask_again.is_(sa.false()),
                )
                .values(state=JobState.RENDERING.value, changed_ts=time.time(), **counts)
            )
    return lost_any


def _ask(jobs: Jobs, run: Run, recorder: Recorder) -> bool:
    """Fetch all that waits; returns whether a job was deleted meanwhile, so that others are
    left."""
    repository, only = jobs.repository, run.options.job
    waiting = _waiting(repository, only)
    count = sa.select(sa.func.count()).select_from(waiting.subquery())
    with repository.database.reading() as con:
        total = con.execute(count).scalar_one()
    if not total:
        return False
    run.progress.start("images", total)
    requests = _requests(repository, jobs.folders, waiting)
    limits = jobs.settings.fetch
    try:
        folder = jobs.folders.fetched
        return asyncio.run(
            _fetch(requests, limits, folder, recorder, repository, only, run.check_stop)
        )
    finally:
        run.progress.stop()


async def _fetch(
    requests: Iterator[FetchRequest],
    limits: FetchLimits,
    folder: Path,
    recorder: Recorder,
    repository: JobRepository,
    only: str | None,
    check_stop: Callable[[], None],
) -> bool:
    """Fetch until nothing is left, or until one of the jobs is deleted: then True."""
    states = {JobState.FETCHING}
    at_first = {job.reference for job in repository.in_states(states, only)}
    looked = time.monotonic()
    try:
        async with (
            contextlib.aclosing(fetch_all(requests, limits, folder)) as results,
            contextlib.aclosing(_or_none(results, FLUSH_S, check_stop)) as coming,
        ):
            async for fetched in coming:
                if fetched is None:
                    recorder.flush()
                else:
                    recorder.add(fetched)
                if time.monotonic() - looked >= LOOK_EVERY_S:
                    if at_first - {job.reference for job in repository.in_states(states, only)}:
                        return True
                    looked = time.monotonic()
    finally:
        recorder.flush()
    return False


async def _or_none(
    results: AsyncGenerator[Fetched, None], every_s: float, check_stop: Callable[[], None]
) -> AsyncGenerator[Fetched | None, None]:
    """``results``, and None whenever ``every_s`` seconds pass without one.

    Raises:
        StoppedError: the run was told to stop.
    """
    coming = asyncio.ensure_future(anext(results))
    waited_s = 0.0
    try:
        while True:
            done, _ = await asyncio.wait({coming}, timeout=STOP_POLL_S)
            check_stop()
            if not done:
                waited_s += STOP_POLL_S
                if waited_s >= every_s:
                    waited_s = 0.0
                    yield None
                continue
            waited_s = 0.0
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


def _waiting(repository: JobRepository, only: str | None) -> sa.Select[Any]:
    """Waiting URLs of jobs that are to be fetched."""
    fetches = repository.fetches
    columns = ("url", "place", "sha256", "etag", "last_modified")
    return sa.select(*[fetches.c[name] for name in columns]).where(
        fetches.c.state == UrlState.WAITING.value, _wanted_by(repository, only)
    )


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


def _requests(
    repository: JobRepository, folders: JobFolders, waiting: sa.Select[Any]
) -> Iterator[FetchRequest]:
    for rows in pages(repository.database, waiting, (repository.fetches.c.place,), PAGE_ROWS):
        for row in rows:
            if row.sha256 and blob_path(folders.fetched, row.sha256).exists():
                yield FetchRequest(row.url, row.etag, row.last_modified)
            else:
                yield FetchRequest(row.url)
