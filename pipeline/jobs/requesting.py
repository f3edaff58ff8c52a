"""What is requested next: jobs take turns, also those that begin while others are fetched.

All of it is used in the thread that fetches, between two steps of its event loop.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from pipeline.fetch.types import FetchRequest
from pipeline.jobs.store import Job, JobFolders, JobRepository
from pipeline.reasons import Code
from pipeline.states import JobState, UrlState
from pipeline.storage.blobs import blob_path

# How often to look for jobs that are new, were deleted, refreshed, or have used up their time.
LOOK_EVERY_S = 1.0
PAGE_ROWS = 500
# URLs of a job up to which its waiting ones are found by way of the job. Of a larger one they are
# found in the order of all that wait: by way of the job, each page would cost all of its URLs.
SMALL_JOB = 5_000
# URLs that have ended are known up to this number; then all pages are read again.
ENDED_KNOWN = 20_000


@dataclass(eq=False)
class _Turn:
    """One job, and how far its waiting URLs were read."""

    job: Job
    place: int = -1
    page: deque[Any] = field(default_factory=deque)
    # How many URLs had ended when the page was read.
    read_at: int = 0
    is_exhausted: bool = False
    # Its URLs that are being fetched, for this job or for another.
    outstanding: int = 0
    is_told: bool = False

    @property
    def is_done(self) -> bool:
        """Whether no URL waits, as far as was looked."""
        return self.is_exhausted and not self.outstanding


class TimeLimit:
    """Which jobs have used up the time for fetching them, since this process saw them first."""

    def __init__(self, limit_s: float, since: dict[tuple[str, float], float]) -> None:
        """``since`` is kept from run to run, or the time would begin anew with each."""
        self.limit_s = limit_s
        # A refresh changes `changed_ts`, and so restarts the clock.
        self._since = since
        self._over: set[tuple[str, float]] = set()

    def newly_over(self, jobs: list[Job]) -> set[str]:
        """The references of those whose time is over since the last call."""
        now = time.monotonic()
        keys = {(job.reference, job.changed_ts) for job in jobs}
        known = {key: self._since.get(key, now) for key in keys}
        self._since.clear()
        self._since.update(known)
        over = {key for key, since in self._since.items() if now - since >= self.limit_s}
        newly, self._over = over - self._over, over
        return {reference for reference, _ in newly}

    @property
    def over(self) -> set[str]:
        """All whose time was over at the last call."""
        return {reference for reference, _ in self._over}


class Requests:
    """An iterator of requests; ``None`` where there is none at the moment.

    It ends when nothing waits and nothing is being fetched.
    """

    def __init__(
        self,
        repository: JobRepository,
        folders: JobFolders,
        only: str | None,
        pending: int,
        time_limit: TimeLimit,
        flush: Callable[[], None],
    ) -> None:
        """``pending`` URLs of all jobs together are handed out at a time, but one of each job.

        ``flush`` records what has ended.
        """
        self.repository = repository
        self.folders = folders
        self.only = only
        self.pending = pending
        self.time_limit = time_limit
        # Something that is being fetched is no longer wanted by any job.
        self.is_obsolete = False
        # How many images are still to be fetched; not exact, for people who watch.
        self.left = 0
        # Jobs to look at again from their first URL; from any thread.
        self.again: set[str] = set()
        self._flush = flush
        self._turns: deque[_Turn] = deque()
        self._under_way: dict[str, list[_Turn]] = {}
        self._ended: dict[str, int] = {}
        self._ended_count = 0
        self._looked = 0.0
        self._is_last_look = False

    def __iter__(self) -> Iterator[FetchRequest | None]:
        return self

    def __next__(self) -> FetchRequest | None:
        if not self._looked or time.monotonic() - self._looked >= LOOK_EVERY_S:
            self._look()
        share = max(1, self.pending // max(1, len(self._turns)))
        for _ in range(len(self._turns)):
            turn = self._turns[0]
            self._turns.rotate(-1)
            if turn.outstanding < share and (request := self._next_of(turn)) is not None:
                self._is_last_look = False
                return request
        if self._under_way or not all(turn.is_exhausted for turn in self._turns):
            return None
        if self._is_last_look:
            raise StopIteration
        # What a URL waits for again may be another thread's doing: one look at all of them.
        self._is_last_look = True
        self.again.update(turn.job.reference for turn in self._turns)
        self._look()
        return None

    def ended(self, url: str) -> None:
        """The fetch of a URL that was handed out has ended, and is about to be recorded."""
        self._ended_count += 1
        self.left = max(0, self.left - 1)
        self._ended[url] = self._ended_count
        for turn in self._under_way.pop(url, ()):
            turn.outstanding -= 1
        if len(self._ended) > ENDED_KNOWN:
            self._ended.clear()
            for turn in self._turns:
                turn.page.clear()

    def take_done(self) -> set[str]:
        """Jobs of which no URL waits, as far as was looked, each once; all is recorded then."""
        done = [turn for turn in self._turns if turn.is_done and not turn.is_told]
        if done:
            self._flush()
        for turn in done:
            turn.is_told = True
        return {turn.job.reference for turn in done}

    def _look(self) -> None:
        self._looked = time.monotonic()
        # Otherwise what has ended would still be found waiting.
        self._flush()
        refresh(self.repository, self.only)
        jobs = self.repository.in_states({JobState.FETCHING}, self.only)
        self.left = sum(max(0, job.total - job.fetched - job.failed) for job in jobs)
        again: set[str] = set()
        while self.again:
            again.add(self.again.pop())
        newly_over = self.time_limit.newly_over(jobs)
        if newly_over:
            give_up(self.repository, newly_over, self.time_limit)
            again |= newly_over
        known = {turn.job.reference: turn for turn in self._turns}
        turns: deque[_Turn] = deque()
        for job in jobs:
            turn = known.get(job.reference)
            is_new = turn is None or turn.job.changed_ts != job.changed_ts
            turns.append(_Turn(job) if turn is None or is_new or job.reference in again else turn)
        self._turns = turns
        wanted = {job.reference for job in jobs} - newly_over
        self.is_obsolete |= any(
            not any(turn.job.reference in wanted for turn in theirs)
            for theirs in self._under_way.values()
        )

    def _next_of(self, turn: _Turn) -> FetchRequest | None:
        while not turn.is_exhausted:
            if not turn.page:
                self._read_page(turn)
            while turn.page:
                row = turn.page.popleft()
                turn.place = row.place
                if self._ended.get(row.url, 0) > turn.read_at:
                    continue
                turn.outstanding += 1
                if row.url in self._under_way:
                    self._under_way[row.url].append(turn)
                    continue
                self._under_way[row.url] = [turn]
                return self._request(row, turn.job.reference)
        return None

    def _read_page(self, turn: _Turn) -> None:
        self._flush()
        turn.read_at = self._ended_count
        query = _waiting_of(self.repository, turn.job, turn.place).limit(PAGE_ROWS)
        turn.page.extend(self.repository.database.rows(query))
        turn.is_exhausted = not turn.page

    def _request(self, row: Any, reference: str) -> FetchRequest:
        if row.sha256 and blob_path(self.folders.fetched, row.sha256).exists():
            return FetchRequest(row.url, row.etag, row.last_modified, reference)
        return FetchRequest(row.url, group=reference)


def refresh(repository: JobRepository, only: str | None) -> None:
    """Make all URLs of the jobs wait for which a refresh was requested.

    Done here, not by the process that requested it: only the thread that fetches writes to these
    rows while a run goes on.
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
                sa.update(jobs)
                .where(jobs.c.reference == job.reference)
                .values(ask_again=False, fetched=0, failed=0)
            )


def give_up(repository: JobRepository, references: set[str], time_limit: TimeLimit) -> None:
    """Fail the URLs of jobs that still wait when the time is over.

    Not those for which a job waits that has time left. Bytes that are there stay, as with a server
    that is down.
    """
    jobs, urls, fetches = repository.jobs, repository.urls, repository.fetches
    reason = f"not fetched within {time_limit.limit_s:g} s"
    there = fetches.c.sha256.is_not(None)
    theirs = sa.select(urls.c.url_key).where(urls.c.reference.in_(references))
    others = urls.alias()
    is_wanted = sa.exists().where(
        others.c.url_key == fetches.c.url_key,
        jobs.c.reference == others.c.reference,
        jobs.c.state == JobState.FETCHING.value,
        jobs.c.reference.not_in(time_limit.over),
    )
    with repository.database.writing() as con:
        con.execute(
            sa.update(fetches)
            .where(
                fetches.c.state == UrlState.WAITING.value,
                fetches.c.url_key.in_(theirs),
                ~is_wanted,
            )
            .values(
                state=sa.case((there, UrlState.FETCHED.value), else_=UrlState.FAILED.value),
                reason=sa.case((there, f"kept as it was: {reason}"), else_=reason),
                code=sa.case((there, None), else_=Code.NOT_FETCHED.value),
            )
        )


def _waiting_of(repository: JobRepository, job: Job, after: int) -> sa.Select[Any]:
    """Waiting URLs of a job, in the order of their places, from the one after ``after`` on."""
    urls, fetches = repository.urls, repository.fetches
    columns = ("url", "place", "sha256", "etag", "last_modified")
    query = (
        sa.select(*[fetches.c[name] for name in columns])
        .where(fetches.c.place > after)
        .order_by(fetches.c.place)
    )
    if job.total > SMALL_JOB:
        is_its = sa.exists().where(
            urls.c.url_key == fetches.c.url_key, urls.c.reference == job.reference
        )
        return query.where(fetches.c.state == UrlState.WAITING.value, is_its)
    theirs = sa.select(urls.c.url_key).where(urls.c.reference == job.reference)
    # Not the column itself: SQLite would go by its index, through the URLs of all other jobs.
    return query.where(
        fetches.c.state + "" == UrlState.WAITING.value, fetches.c.url_key.in_(theirs)
    )
