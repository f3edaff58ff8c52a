"""Queries about jobs, for the commands and the page. They only read."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

import sqlalchemy as sa

from pipeline.csvs.mapping import ROLES
from pipeline.csvs.products import CsvRow, chunks_of_rows, iter_products
from pipeline.csvs.writing import output_address, write_failed_rows
from pipeline.database.paging import pages
from pipeline.errors import CsvError, JobNotFoundError, JobNotReadyError
from pipeline.jobs.context import Jobs
from pipeline.jobs.forms import dialect_of, mapping_used, sheet_used
from pipeline.jobs.outcomes import Outcomes
from pipeline.jobs.store import ENDED, Job, in_job
from pipeline.settings.values import Settings
from pipeline.states import JobState, State
from pipeline.text import iso

CHUNK_ROWS = 1_000
# Their rows say how many images are done only once they have ended.
_IN_PROGRESS = (JobState.FETCHING, JobState.RENDERING, JobState.WRITING)
PAGE_ROWS = 5_000


def job(jobs: Jobs, reference: str) -> dict[str, Any]:
    """One job, as ``datapipe job status --json`` prints it and a webhook gets it.

    ``answer`` is the key of the result CSV below ``output/``, ``answer_url`` its address;
    ``errors`` are the first hundred problems of a CSV that was rejected. Times are ISO 8601.

    Raises:
        JobNotFoundError
    """
    job = found(jobs, reference)
    shown = as_json(job, jobs.settings)
    if job.state in _IN_PROGRESS:
        shown["images"]["done"] = Outcomes(jobs, reference).done()
    return shown


def jobs(jobs: Jobs, limit: int = 50, before: str | None = None) -> list[dict[str, Any]]:
    """Jobs as in :func:`job`, the newest first; with ``before`` those made before that one.

    Raises:
        JobNotFoundError: ``before`` is no job.
    """
    last = None if before is None else found(jobs, before)
    return [as_json(job, jobs.settings) for job in jobs.repository.newest(limit, last)]


def failures(
    jobs: Jobs, reference: str, limit: int | None = None
) -> Iterator[dict[str, str | int]]:
    """What failed: ``number`` (S. No.), ``product``, ``sequence`` (from 0), ``url``, ``reason`` and
    ``code``.

    Raises:
        JobNotFoundError: before the first is given.
    """
    found(jobs, reference)
    return (vars(failure) for failure in Outcomes(jobs, reference).failures(limit))


def answer_key(jobs: Jobs, reference: str) -> str:
    """The key, in the output store, of the result CSV, or of the problems of one that was rejected.

    Raises:
        JobNotFoundError
        JobNotReadyError: there is none (yet); the message says in which state the job is.
    """
    job = found(jobs, reference)
    names, store = [job.answer] if job.answer else [], jobs.settings.output_store
    if job.state is JobState.REJECTED:
        names.append(job.problems_name)
    for name in names:
        if job.state is not JobState.DELETED and store.look_at(name) is not None:
            return name
    raise JobNotReadyError(
        f"job {reference} has no result: it is {job.state.value}; "
        + (
            "`datapipe verify --fix` writes it again"
            if names and job.state is not JobState.DELETED
            else "`datapipe job status` says more"
        )
    )


def failed_rows(jobs: Jobs, reference: str, target: BinaryIO) -> int:
    """Write the rows of products with a failed image in the format of the submitted CSV.

    Returns how many rows.

    Once fixed, it can be submitted again.

    Raises:
        JobNotFoundError
        JobNotReadyError: its CSV has not been read yet, or is gone.
    """
    job = found(jobs, reference)
    csv = jobs.folders.csv(reference)
    outcomes = Outcomes(jobs, reference)
    try:
        dialect = dialect_of(jobs.folders, job)

        def failed() -> Iterator[CsvRow]:
            for products in chunks_of_rows(iter_products(csv, dialect), CHUNK_ROWS):
                numbers = outcomes.failed_numbers([p.number for p in products if p.images])
                for product in products:
                    if product.images and product.number in numbers:
                        yield from product.rows

        text = io.TextIOWrapper(
            target, encoding=dialect.answer_encoding, errors="replace", newline=""
        )
        try:
            return write_failed_rows(text, dialect, failed())
        finally:
            # Flush, and leave the caller's file open.
            text.detach()
    except (CsvError, OSError) as error:
        raise JobNotReadyError(
            f"job {reference} ({job.state.value}) has no CSV that can be read ({error})"
        ) from error


def renditions(jobs: Jobs, reference: str) -> Iterator[tuple[str, str]]:
    """Every rendition of a job: its name in an archive (``half/<image name>``), and its key.

    Raises:
        JobNotFoundError: before the first is given.
    """
    found(jobs, reference)
    return _renditions(jobs, reference)


def _renditions(jobs: Jobs, reference: str) -> Iterator[tuple[str, str]]:
    table = jobs.pending.table
    query = sa.select(table.c.path, table.c.recipe, table.c.file).where(
        jobs.pending.ours,
        in_job(table.c.path, reference),
        table.c.state == State.OK.value,
    )
    for rows in pages(jobs.database, query, (table.c.path, table.c.recipe), PAGE_ROWS):
        for row in rows:
            yield f"{row.recipe}/{row.file.rpartition('/')[2]}", row.file


def found(jobs: Jobs, reference: str) -> Job:
    """The row of a job.

    Raises:
        JobNotFoundError
    """
    job = jobs.repository.get(reference)
    if job is None:
        raise JobNotFoundError(reference)
    return job


def as_json(job: Job, settings: Settings) -> dict[str, Any]:
    """One job in JSON; see :func:`job`."""
    answer = job.answer if job.state is not JobState.DELETED else None
    public_url = settings.jobs.public_url
    return {
        "reference": job.reference,
        "state": job.state.value,
        "filename": job.filename,
        "source": job.source,
        "reason": job.reason,
        "created": iso(job.created_ts),
        "started": _iso(job.started_ts),
        "changed": iso(job.changed_ts),
        "ended": _iso(job.ended_ts),
        "rows": job.rows,
        "without_images": job.without_images or 0,
        "columns": _columns(job),
        "images": {
            "total": job.total,
            "fetched": job.fetched,
            "done": job.done,
            "failed": job.failed,
            # Of a job that has ended, all others are done or failed.
            "withdrawn": max(0, job.total - job.done - job.failed) if job.state in ENDED else 0,
        },
        "answer": answer,
        "answer_url": output_address(answer, public_url) if answer and public_url else None,
        "errors": json.loads(job.faults) if job.faults else [],
        "webhook": job.webhook_state and {"state": job.webhook_state, "reason": job.webhook_reason},
    }


def _columns(job: Job) -> dict[str, Any] | None:
    """By which headers the CSV of a job was read, in which ``sheet`` of a workbook; None where it
    was not accepted yet."""
    mapping = mapping_used(job)
    if mapping is None:
        return None
    lists = {role: list(getattr(mapping, role)) for role in ROLES}
    sheet = sheet_used(job)
    columns = {"mapping": mapping.label, **lists, "grouped": mapping.grouped}
    return columns if sheet is None else {**columns, "sheet": sheet}


def _iso(timestamp_s: float | None) -> str | None:
    return None if timestamp_s is None else iso(timestamp_s)
