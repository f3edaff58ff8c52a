"""The rows of jobs: created, moved from state to state, and read. Everything here is plain SQL."""

from __future__ import annotations

import datetime
import hashlib
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from pipeline.database.connection import Database
from pipeline.jobs.names import reference as reference_of
from pipeline.names import FETCHED_FOLDER, NAME_MAX_BYTES, name_of, shortened_name
from pipeline.states import JobState, UrlState
from pipeline.storage.folder_store import FolderStore
from pipeline.tables import csv_urls_table, fetches_table, jobs_table

# The source of a job whose CSV was submitted by a command or the page; all others are files.
SUBMITTED = "submitted"

# Ended with a result.
ENDED = frozenset((JobState.COMPLETED, JobState.COMPLETED_WITH_ERRORS))
ACTIVE = frozenset(
    (
        JobState.RECEIVED,
        JobState.CHECKING,
        JobState.FETCHING,
        JobState.RENDERING,
        JobState.WRITING,
    )
)
# The stat of a dropped CSV that is still to be read, or is gone.
UNREAD: dict[str, None] = dict.fromkeys(("size_bytes", "mtime_ns", "ctime_ns", "inode"))
NOT_DELETED = frozenset(JobState) - {JobState.DELETED}
# The time to the second; what follows is the running number.
SECOND_DIGITS = 14
TRIES = 10_000


@dataclass(frozen=True)
class Job:
    """One row of ``jobs``; see :func:`pipeline.tables.jobs_table`."""

    reference: str
    source: str
    filename: str
    state: JobState
    reason: str | None
    created_ts: float
    started_ts: float | None
    changed_ts: float
    ended_ts: float | None
    rows: int
    total: int
    fetched: int
    done: int
    failed: int
    faults: str | None
    csv_sha256: str | None
    size_bytes: int | None
    mtime_ns: int | None
    ctime_ns: int | None
    inode: int | None
    made_for: str | None
    answer: str | None
    webhook: str | None
    webhook_state: str | None
    webhook_reason: str | None
    ask_again: bool
    cleared: bool
    options: str | None
    without_images: int | None
    webhook_secret: str | None = field(repr=False)

    @property
    def stat(self) -> tuple[int | None, ...]:
        """The ``stat`` of a dropped CSV when it was last read; all None if it never was."""
        return self.size_bytes, self.mtime_ns, self.ctime_ns, self.inode

    @property
    def was_submitted(self) -> bool:
        """Whether the CSV was submitted, not dropped below ``input/``."""
        return self.source == SUBMITTED

    def answer_name(self, is_workbook: bool = False) -> str:
        """The key of the result below ``output/``."""
        is_tsv = self.filename.lower().endswith(".tsv")
        suffix = ".xlsx" if is_workbook else ".tsv" if is_tsv else ".csv"
        # The name of a result stays, unless its file became the other kind.
        there = self.answer or ""
        return there if there.endswith(suffix) else self._name(suffix)

    @property
    def problems_name(self) -> str:
        """The key of the list of problems below ``output/``."""
        return self._name(".errors.csv")

    def _name(self, suffix: str) -> str:
        if self.was_submitted:
            return self.reference + suffix
        stem = self.source.rpartition("/")[2].rpartition(".")[0]
        tail = f"-{self.reference}{suffix}"
        if len(name_of(stem + tail).encode("utf-8", "surrogateescape")) > NAME_MAX_BYTES:
            return shortened_name(stem, tail)
        return stem + tail


class JobRepository:
    """Reads and writes ``jobs``. State changes are made only from the states that allow them."""

    def __init__(self, database: Database) -> None:
        self.database = database
        metadata = database.sqla_metadata
        self.jobs = jobs_table(metadata)
        self.urls = csv_urls_table(metadata)
        self.fetches = fetches_table(metadata)

    def get(self, reference: str) -> Job | None:
        """The job of that reference."""
        found = self._select(self.jobs.c.reference == reference)
        return found[0] if found else None

    def any(self) -> bool:
        """Whether there is any job, deleted or not."""
        return self.database.first(sa.select(self.jobs.c.reference).limit(1)) is not None

    def dropped(self) -> list[Job]:
        """Every job whose CSV was dropped below ``input/``, the oldest first."""
        return self._select(self.jobs.c.source != SUBMITTED)

    def newest(self, limit: int, before: Job | None = None) -> list[Job]:
        """Jobs, newest first; only those created before ``before``."""
        order = (self.jobs.c.created_ts, self.jobs.c.reference)
        query = sa.select(self.jobs).order_by(*[column.desc() for column in order]).limit(limit)
        if before is not None:
            last = (sa.literal(before.created_ts), sa.literal(before.reference))
            query = query.where(sa.tuple_(*order) < sa.tuple_(*last))
        with self.database.reading() as con:
            return [_job(row) for row in con.execute(query).mappings()]

    def in_states(self, states: Collection[JobState], only: str | None = None) -> list[Job]:
        """The jobs in one of ``states``, oldest first; of those ``only`` this one."""
        wanted: sa.ColumnElement[bool] = self.jobs.c.state.in_([state.value for state in states])
        if only is not None:
            wanted = sa.and_(wanted, self.jobs.c.reference == only)
        return self._select(wanted)

    def to_clear(self) -> list[Job]:
        """Deleted jobs of which something is left."""
        return self._select(
            sa.and_(
                self.jobs.c.state == JobState.DELETED.value, self.jobs.c.cleared.is_(sa.false())
            )
        )

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        state = self.jobs.c.state
        rows = self.database.rows(sa.select(state, sa.func.count()).group_by(state))
        return {row[0]: row[1] for row in rows}

    def create(
        self,
        source: str,
        filename: str,
        put_csv: Callable[[str], object] | None = None,
        **values: Any,
    ) -> str:
        """Create a job in the state ``received``; returns its reference.

        ``put_csv`` is called with the reference before the row can be seen: no run ever finds a
        job without its CSV.
        """
        for _ in range(TRIES):
            now = datetime.datetime.now()
            reference = reference_of(now, self._running(f"{now:%Y%m%d%H%M%S}"))
            try:
                with self.database.writing() as con:
                    con.execute(
                        sa.insert(self.jobs).values(
                            reference=reference,
                            source=source,
                            filename=filename,
                            state=JobState.RECEIVED.value,
                            created_ts=time.time(),
                            changed_ts=time.time(),
                            **values,
                        )
                    )
                    if put_csv is not None:
                        put_csv(reference)
                return reference
            except sa.exc.IntegrityError:
                continue  # another process got this number a moment ago
        raise AssertionError(f"no free reference within {TRIES} tries")

    def move(
        self, reference: str, before: Collection[JobState], after: JobState, **values: Any
    ) -> bool:
        """Move a job to the state ``after``; False if it is in none of ``before`` any more."""
        jobs = self.jobs
        with self.database.writing() as con:
            done = con.execute(
                sa.update(jobs)
                .where(
                    jobs.c.reference == reference,
                    jobs.c.state.in_([state.value for state in before]),
                )
                .values(state=after.value, changed_ts=time.time(), **values)
            )
        return done.rowcount == 1

    def update(self, reference: str, **values: Any) -> None:
        """Write columns of a job, whatever state it is in."""
        with self.database.writing() as con:
            con.execute(
                sa.update(self.jobs).where(self.jobs.c.reference == reference).values(**values)
            )

    def waits_for_urls(self, reference: str | sa.Column[str]) -> sa.ColumnElement[bool]:
        """The condition that a URL of the job is still to be fetched."""
        urls, fetches = self.urls, self.fetches
        return sa.exists().where(
            urls.c.reference == reference,
            fetches.c.url_key == urls.c.url_key,
            fetches.c.state == UrlState.WAITING.value,
        )

    def _running(self, second: str) -> int:
        column = self.jobs.c.reference
        # ":" follows "9": all that begin with the second.
        query = sa.select(column).where(column > second, column < second + ":")
        taken = self.database.column(query)
        return max((int(reference[SECOND_DIGITS:] or 0) for reference in taken), default=0) + 1

    def _select(self, condition: sa.ColumnElement[bool]) -> list[Job]:
        order = (self.jobs.c.created_ts, self.jobs.c.reference)
        query = sa.select(self.jobs).where(condition).order_by(*order)
        with self.database.reading() as con:
            rows = con.execute(query).mappings().all()
        return [_job(row) for row in rows]


def url_key(url: str) -> str:
    """The key of a URL in ``fetches``: 128 bits of BLAKE2b, in hexadecimal digits."""
    return hashlib.blake2b(url.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def in_job(path: sa.ColumnElement[str], reference: str) -> sa.ColumnElement[bool]:
    """Whether a path of an image lies below the folder of a job."""
    # "0" follows "/".
    return sa.and_(path > f"{reference}/", path < f"{reference}0")


_COLUMNS = tuple(field.name for field in fields(Job))


def _job(row: Any) -> Job:
    values = {name: row[name] for name in _COLUMNS}
    return Job(**values | {"state": JobState(values["state"])})


@dataclass(frozen=True)
class JobFolders:
    """Paths inside the state folder."""

    state: Path

    @property
    def csvs(self) -> Path:
        """Copies of the CSVs: ``<reference>.csv``."""
        return self.state / "jobs"

    @property
    def uploads(self) -> Path:
        """CSVs that were uploaded, and whose columns somebody has yet to name."""
        return self.state / "uploads"

    @property
    def fetched(self) -> Path:
        """The bytes of every fetched image, named by their SHA-256."""
        return self.state / FETCHED_FOLDER

    @property
    def csv_store(self) -> FolderStore:
        return FolderStore(self.csvs)

    @property
    def fetched_store(self) -> FolderStore:
        return FolderStore(self.fetched)

    def csv(self, reference: str) -> Path:
        """The copy of the CSV of one job."""
        return self.csvs / f"{reference}.csv"
