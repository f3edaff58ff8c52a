"""Reading: a job's CSV is copied, checked whole, and its rows brought in step with the table.

Only rows that differ are written, and only their URLs are fetched. Everything may be interrupted
and repeated: a job stays in ``checking`` until its last row is stored.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import time
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from pipeline.csvs.dialect import CsvDialect
from pipeline.csvs.lines import CsvProblem
from pipeline.csvs.products import CsvProduct, chunks_of_rows, iter_products
from pipeline.csvs.reading import CsvCheck, CsvLimits, check_csv
from pipeline.csvs.writing import write_problems
from pipeline.database.dialects import VALUES_AT_ONCE
from pipeline.database.paging import chunks, pages
from pipeline.database.tracked import data_of, delete, insert_or_update, meta_of, upsert
from pipeline.engine.context import Run
from pipeline.engine.recovery import remember_writing
from pipeline.errors import CsvError
from pipeline.jobs.context import Jobs
from pipeline.jobs.copies import held_copy
from pipeline.jobs.forms import dialect_of, form_of, options_of
from pipeline.jobs.images import clear_images, collect_garbage, image_counts
from pipeline.jobs.names import image_name
from pipeline.jobs.store import Job, JobRepository, url_key
from pipeline.settings.values import Settings
from pipeline.states import JobState, UrlState, WebhookState
from pipeline.storage.folder import explained, made, tick_ns
from pipeline.storage.walking import FoundFile
from pipeline.workers.tasks import Urgency

CHUNK_ROWS = 1_000
COPY_BYTES = 1 << 20
# Problems that are kept with the job; its list of problems in output/ has the first thousand.
PROBLEMS_KEPT = 100
READING = frozenset((JobState.RECEIVED, JobState.CHECKING))


def csv_limits(settings: Settings) -> CsvLimits:
    """What one CSV may hold, by the settings."""
    jobs = settings.jobs
    return CsvLimits(jobs.max_rows, jobs.max_images, jobs.max_bytes)


def read_csvs(jobs: Jobs, run: Run, to_read: Sequence[Job], deleted: Sequence[Job]) -> None:
    """Clear what is left of deleted jobs, then read the CSVs of ``to_read``.

    Raises:
        OutputError: the disk is full, or permissions are missing.
    """
    remember_writing(run)
    removed = bool(deleted)
    for job in deleted:
        _clear(jobs, run, job)
    for job in to_read:
        removed |= _Reading(jobs, run, job).work()
    if removed:
        collect_garbage(jobs.repository, jobs.folders)


class _Reading:
    """The reading of one CSV."""

    def __init__(self, jobs: Jobs, run: Run, job: Job) -> None:
        self.jobs, self.run, self.job = jobs, run, job
        self.repository, self.folders, self.settings = jobs.repository, jobs.folders, jobs.settings

    def work(self) -> bool:
        """Bring the job to ``fetching``, or to ``rejected``; whether URLs lost a row."""
        job = self.job
        if not self.repository.move(
            job.reference, READING, JobState.CHECKING, started_ts=time.time(), reason=None
        ):
            return False
        csv = self.folders.csv(job.reference)
        try:
            dialect = dialect_of(self.folders, job) if job.was_submitted else self._take_in(csv)
            return False if dialect is None else self._store(csv, dialect)
        except (CsvError, OSError) as error:
            self._end(JobState.FAILED, reason=f"its CSV cannot be read ({error})")
            return False

    def _take_in(self, csv: Path) -> CsvDialect | None:
        """Copy a dropped CSV and check the copy; None if there is nothing to store."""
        job, store = self.job, self.settings.input_store
        source = store.path_of(job.source)
        with held_copy(made(csv.parent)) as copy:
            before = store.look_at(job.source)
            if before is None:
                self.repository.move(job.reference, {JobState.CHECKING}, JobState.RECEIVED)
                return None
            _let_a_tick_pass(before)
            seen = {k: v for k, v in before._asdict().items() if k != "path"}
            try:
                seen["csv_sha256"] = copy_hashed(store.pieces(job.source), copy)
            except OSError as error:
                reason = f"{source} cannot be read ({error.strerror}); change its permissions"
                self._end(JobState.FAILED, reason=reason, **seen)
                return None
            if before != store.look_at(job.source):
                self.run.report.warnings.append(
                    f"{source}: changed while it was read; the next run reads it again"
                )
                self.repository.move(job.reference, {JobState.CHECKING}, JobState.RECEIVED)
                return None
            check = check_csv(copy, csv_limits(self.settings), form_of(self.settings))
            if check.problems or check.dialect is None:
                self._reject(check, seen)
                return None
            copy.replace(csv)
            self.settings.output_store.remove(job.problems_name)
            options = options_of(check.dialect, self.settings.jobs.result)
            self.repository.update(job.reference, **seen, faults=None, options=options)
            return check.dialect

    def _reject(self, check: CsvCheck, seen: dict[str, Any]) -> None:
        # The images and the result of earlier content stay: an error in a feed says nothing about
        # the products in it.
        store, name = self.settings.output_store, self.job.problems_name
        write_problems(store, name, check.problems, check.fault_count)
        count = "a problem" if check.fault_count == 1 else f"{check.fault_count:,} problems"
        reason = f"its CSV has {count}: see {self.job.problems_name} in the output folder"
        self._end(JobState.REJECTED, reason=reason, faults=_as_json(check.problems), **seen)

    def _end(self, state: JobState, **values: Any) -> None:
        if self.job.webhook or self.settings.jobs.webhook_url:
            values["webhook_state"] = WebhookState.PENDING.value
        if self.repository.move(
            self.job.reference, {JobState.CHECKING}, state, ended_ts=time.time(), **values
        ):
            counts = self.run.report.jobs
            counts.rejected += state is JobState.REJECTED
            counts.failed += state is JobState.FAILED
            counts.add_line(
                f"{self.job.reference} ({self.job.filename}) {state.value}: {values['reason']}"
            )

    def _store(self, csv: Path, dialect: CsvDialect) -> bool:
        reference = self.job.reference
        seen: array[int] = array("q")
        rows = images = without_images = 0
        changed_any = False
        for found in chunks_of_rows(iter_products(csv, dialect), CHUNK_ROWS):
            self.run.check_stop()
            self.run.attend(Urgency.JOBS)
            # The rows of the others are only copied to the result.
            products = [product for product in found if product.images]
            changed_any |= self._store_chunk(products)
            seen.extend(hash(product.number) for product in products)
            rows += sum(len(product.rows) for product in found)
            images += sum(len(product.images) for product in products)
            without_images += len(found) - len(products)
        removed_any = self._remove_others(seen)
        self.repository.move(
            reference,
            {JobState.CHECKING},
            JobState.FETCHING,
            rows=rows,
            total=images,
            without_images=without_images,
            **image_counts(self.repository, reference),
        )
        return changed_any or removed_any

    def _store_chunk(self, rows: Sequence[CsvProduct]) -> bool:
        """Write those of ``rows`` that differ; whether one was there before, with other URLs."""
        reference = self.job.reference
        differing, is_any_stored = differing_rows(self.jobs, reference, rows)
        if not differing:
            return False
        values = [
            {
                "number": row.number,
                "reference": reference,
                "name": row.name,
                "urls": _urls_stored(row),
            }
            for row in differing
        ]
        with self.run.database.writing() as write:
            upsert(write, self.jobs.rows, values)
            _store_urls(self.repository, reference, differing)
        return is_any_stored

    def _remove_others(self, seen: array[int]) -> bool:
        """Remove rows that are no longer in the CSV; whether there are any."""
        reference, rows = self.job.reference, data_of(self.jobs.rows)
        count = sa.select(sa.func.count()).where(rows.c.reference == reference)
        with self.run.database.reading() as con:
            if con.execute(count).scalar_one() == len(seen):
                return False
        for gone in numbers_gone(self.repository, reference, seen):
            _forget_rows(self.jobs, self.run, reference, gone)
        return True


def numbers_gone(
    repository: JobRepository, reference: str, seen: array[int]
) -> Iterator[list[str]]:
    """The numbers of rows that are in the table, and whose 64-bit hashes are not in ``seen``."""
    known = np.sort(np.frombuffer(seen, dtype=np.int64))
    for page in _numbers(repository, reference):
        hashes = np.fromiter((hash(number) for number in page), np.int64, len(page))
        at = np.searchsorted(known, hashes).clip(max=len(known) - 1)
        there = known[at] == hashes
        yield [number for number, kept in zip(page, there, strict=True) if not kept]


def differing_rows(
    jobs: Jobs, reference: str, rows: Sequence[CsvProduct]
) -> tuple[list[CsvProduct], bool]:
    """Those of ``rows`` that are not in the table like that, and whether it has any of ``rows``."""
    table = data_of(jobs.rows)
    query = sa.select(table.c.number, table.c.name, table.c.urls).where(
        table.c.reference == reference, table.c.number.in_([row.number for row in rows])
    )
    stored = {found.number: (found.name, found.urls) for found in jobs.database.rows(query)}
    differing = [row for row in rows if stored.get(row.number) != (row.name, _urls_stored(row))]
    return differing, bool(stored)


def _urls_stored(row: CsvProduct) -> str:
    return json.dumps(row.urls, ensure_ascii=False)


def stem_of(reference: str, row: CsvProduct, sequence: int) -> str:
    """The path of an image, but for its suffix."""
    return f"{reference}/{image_name(reference, row.number, row.name, sequence, '')}"


def _as_json(faults: Iterable[CsvProblem]) -> str:
    first = itertools.islice(faults, PROBLEMS_KEPT)
    return json.dumps([asdict(problem) for problem in first], ensure_ascii=False)


def _store_urls(repository: JobRepository, reference: str, rows: Sequence[CsvProduct]) -> None:
    """Write the URLs of new and changed rows, and queue those that are missing."""
    urls, fetches = repository.urls, repository.fetches
    wanted: list[dict[str, Any]] = []
    distinct: dict[str, str] = {}
    for row in rows:
        for sequence, url in enumerate(row.urls):
            key = url_key(url)
            distinct[key] = url
            wanted.append(
                {
                    "reference": reference,
                    "number": row.number,
                    "sequence": sequence,
                    "url_key": key,
                    "stem": stem_of(reference, row, sequence),
                }
            )
    with repository.database.writing() as con:
        con.execute(
            sa.delete(urls).where(
                urls.c.reference == reference, urls.c.number.in_([row.number for row in rows])
            )
        )
        if wanted:
            con.execute(sa.insert(urls), wanted)
        # One that failed for another row, or on another day, is fetched again for this one.
        for keys in chunks(distinct, VALUES_AT_ONCE):
            con.execute(
                sa.update(fetches)
                .where(
                    fetches.c.url_key.in_(keys),
                    fetches.c.state.in_([UrlState.FAILED.value, UrlState.REFUSED.value]),
                )
                .values(state=UrlState.WAITING.value)
            )
        insert_or_update(
            repository.database,
            fetches,
            ["url_key"],
            (),
            [
                {
                    "url_key": key,
                    "url": url,
                    "state": UrlState.WAITING.value,
                    "place": random.getrandbits(62),
                }
                for key, url in distinct.items()
            ],
        )


def _clear(jobs: Jobs, run: Run, job: Job) -> None:
    """Remove rows, files and the result of a deleted job; its own row stays."""
    output, reference = jobs.settings.output_store, job.reference
    for key in (job.answer_name(), job.answer_name(is_workbook=True), job.problems_name):
        output.remove(key)
    for page in _numbers(jobs.repository, reference):
        _forget_rows(jobs, run, reference, page)
    clear_images(jobs, run, reference)
    jobs.folders.csv_store.remove(jobs.folders.csv(reference).name)
    jobs.repository.update(reference, cleared=True, answer=None, fetched=0, done=0, failed=0)
    run.report.jobs.deleted += 1


def _forget_rows(jobs: Jobs, run: Run, reference: str, numbers: Sequence[str]) -> None:
    if not numbers:
        return
    urls, meta = jobs.repository.urls, meta_of(jobs.rows)
    with run.database.writing() as write:
        delete(write, jobs.rows, [(number, reference) for number in numbers])
        # What a user's step reads is forgotten when that has passed it.
        is_read = meta in jobs.render.linear_meta.read_beside
        for table in (urls,) if is_read else (urls, meta):
            write.execute(
                sa.delete(table).where(table.c.reference == reference, table.c.number.in_(numbers))
            )


def _let_a_tick_pass(found: FoundFile) -> None:
    """Read a recently changed file only when a further change would alter its times."""
    age_ns = time.time_ns() - found.ctime_ns
    wait_ns = tick_ns(found.ctime_ns) - age_ns
    if age_ns >= 0 and wait_ns > 0:
        time.sleep(wait_ns / 1e9)


def _numbers(repository: JobRepository, reference: str) -> Iterator[list[str]]:
    """The numbers of all rows of a job, in order, by way of their URLs: each row has one."""
    number = repository.urls.c.number
    query = sa.select(number).where(repository.urls.c.reference == reference).distinct()
    for rows in pages(repository.database, query, (number,), VALUES_AT_ONCE):
        yield [row.number for row in rows]


def copy_hashed(pieces: Iterable[bytes], target: Path) -> str:
    """Write what was read to a file; its SHA-256.

    Raises:
        OutputError: ``target`` cannot be written.
        OSError: the ``pieces`` cannot be read.
    """
    digest = hashlib.sha256()
    with open(target, "wb", buffering=0) as writer:
        for piece in pieces:
            digest.update(piece)
            try:
                writer.write(piece)
            except OSError as error:
                raise explained(error, target) from error
    return digest.hexdigest()
