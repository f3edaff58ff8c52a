"""Fetching: the URLs that wait are asked, all jobs' together, and how each ended is a row.

A fetch that ended goes to the journal at once, and from there to the table in batches
(``pipeline.jobs.recording``): a run that is killed asks for nothing twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from pipeline.database.paging import pages
from pipeline.engine.context import STOP_POLL_S, Run
from pipeline.engine.recovery import remember_writing
from pipeline.fetch.client import fetch_all
from pipeline.fetch.types import Fetched, FetchLimits, FetchRequest
from pipeline.jobs.context import Jobs
from pipeline.jobs.images import bring_in_step, collect_garbage, image_counts, sweep
from pipeline.jobs.recording import FLUSH_S, Recorder
from pipeline.jobs.store import JobBook, JobFolders
from pipeline.states import JobState, UrlState
from pipeline.storage.blobs import blob_path, remove_leftovers
from pipeline.storage.folder import made

PAGE_ROWS = 1_000
# A job may be deleted while its images are fetched; how often that is looked for.
LOOK_EVERY_S = 1.0


def fetch_images(jobs: Jobs, run: Run) -> None:
    """Ask for what waits, and bring the images of the jobs in jobs.

    Raises:
        OutputError: the disk is full, or rights are missing.
    """
    remember_writing(run)
    book, folders = jobs.book, jobs.folders
    remove_leftovers(made(folders.fetched))
    _refresh(book, run.options.job)
    with contextlib.closing(Recorder(book, folders, run)) as recorder:
        recorder.replay()
        # A second round where stored files were found to be lost.
        for _ in range(2):
            while _ask(jobs, run, recorder):
                pass
            if not _settle(jobs, run):
                break


def recover_fetches(jobs: Jobs, run: Run) -> None:
    """After a run that was cut off: record what it fetched, and remove what no row knows."""
    book, folders = jobs.book, jobs.folders
    if folders.fetched.is_dir():
        with contextlib.closing(Recorder(book, folders, run)) as recorder:
            recorder.replay()
    collect_garbage(book, folders)
    sweep(book, folders, jobs.images)


def _refresh(book: JobBook, only: str | None) -> None:
    """Have all URLs of those jobs wait for which somebody asked to ask again.

    Done here and not by who asked for it: no process but the run writes to ``fetches``.
    """
    jobs, urls, fetches = book.jobs, book.urls, book.fetches
    for job in book.in_states({JobState.FETCHING}, only):
        if not job.ask_again:
            continue
        theirs = sa.select(urls.c.url_key).where(urls.c.reference == job.reference)
        with book.database.writing() as con:
            con.execute(
                sa.update(fetches)
                .where(fetches.c.url_key.in_(theirs))
                .values(state=UrlState.WAITING.value)
            )
            con.execute(
                sa.update(jobs).where(jobs.c.reference == job.reference).values(ask_again=False)
            )


def _settle(jobs: Jobs, run: Run) -> int:
    """Bring the jobs on of which no URL waits; how many stored files were found to be lost."""
    book, table = jobs.book, jobs.book.jobs
    lost_any = 0
    for job in book.in_states({JobState.FETCHING}):
        with book.database.reading() as con:
            if con.execute(sa.select(book.waits_for_urls(job.reference))).scalar_one():
                continue
        lost = bring_in_step(book, jobs.folders, jobs.images, run, job.reference)
        lost_any += lost
        if lost:
            continue
        # Somebody may have asked for a refresh just now: then it stays as it is.
        counts = image_counts(book, job.reference)
        with book.database.writing() as con:
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
    """Ask for all that waits; whether a job was deleted meanwhile, so that others are left."""
    book, only = jobs.book, run.options.job
    waiting = _waiting(book, only)
    count = sa.select(sa.func.count()).select_from(waiting.subquery())
    with book.database.reading() as con:
        total = con.execute(count).scalar_one()
    if not total:
        return False
    run.progress.start("images", total)
    requests = _requests(book, jobs.folders, waiting)
    limits = jobs.settings.fetch
    try:
        folder = jobs.folders.fetched
        return asyncio.run(_fetch(requests, limits, folder, recorder, book, only, run.check_stop))
    finally:
        run.progress.stop()


async def _fetch(
    requests: Iterator[FetchRequest],
    limits: FetchLimits,
    folder: Path,
    recorder: Recorder,
    book: JobBook,
    only: str | None,
    check_stop: Callable[[], None],
) -> bool:
    """Fetch until nothing is left, or one of the jobs is no longer to be fetched: then True."""
    states = {JobState.FETCHING}
    at_first = {job.reference for job in book.in_states(states, only)}
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
                    if at_first - {job.reference for job in book.in_states(states, only)}:
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
        StoppedError: the run was asked to stop.
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


def _waiting(book: JobBook, only: str | None) -> sa.Select[Any]:
    """URLs that wait, of jobs that are to be fetched."""
    urls, fetches, jobs = book.urls, book.fetches, book.jobs
    wanted_by = sa.exists().where(
        urls.c.url_key == fetches.c.url_key,
        jobs.c.reference == urls.c.reference,
        jobs.c.state == JobState.FETCHING.value,
        sa.true() if only is None else jobs.c.reference == only,
    )
    columns = ("url", "place", "sha256", "etag", "last_modified")
    return sa.select(*[fetches.c[name] for name in columns]).where(
        fetches.c.state == UrlState.WAITING.value, wanted_by
    )


def _requests(
    book: JobBook, folders: JobFolders, waiting: sa.Select[Any]
) -> Iterator[FetchRequest]:
    for rows in pages(book.database, waiting, (book.fetches.c.place,), PAGE_ROWS):
        for row in rows:
            if row.sha256 and blob_path(folders.fetched, row.sha256).exists():
                yield FetchRequest(row.url, row.etag, row.last_modified)
            else:
                yield FetchRequest(row.url)
