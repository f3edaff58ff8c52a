"""Questions about jobs, for the commands and the page. They read, and never write."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import sqlalchemy as sa

from pipeline.database.paging import chunks, pages
from pipeline.database.tracked import data_of
from pipeline.errors import CsvError, JobNotFoundError, JobNotReadyError
from pipeline.jobs.store import Job, JobBook, JobFolders
from pipeline.names import name_of
from pipeline.settings.values import Settings
from pipeline.states import JobState, State
from pipeline.storage.folder import file_below
from pipeline.text import iso
from pipeline.transforms.recipes import JOBS_FOLDER

if TYPE_CHECKING:
    from pipeline.app import Lockstep

CHUNK_ROWS = 1_000
PAGE_ROWS = 5_000


def job(app: Lockstep, reference: str) -> dict[str, Any]:
    """One job, as ``datapipe job status --json`` prints it and a webhook is sent it.

    ``answer`` is the key of the answered CSV below ``output/``, ``answer_url`` its address;
    ``errors`` are the first hundred faults of a CSV that was rejected. Times are ISO 8601.

    Raises:
        JobNotFoundError
    """
    return as_json(found(app, reference), app.settings)


def jobs(app: Lockstep, limit: int = 50, before: str | None = None) -> list[dict[str, Any]]:
    """Jobs as in :func:`job`, the newest first; with ``before`` those made before that one.

    Raises:
        JobNotFoundError: ``before`` is no job.
    """
    last = None if before is None else found(app, before)
    return [as_json(job, app.settings) for job in _book(app).newest(limit, last)]


def failures(
    app: Lockstep, reference: str, limit: int | None = None
) -> Iterator[dict[str, str | int]]:
    """What failed: ``number`` (S. No.), ``product``, ``sequence`` (from 0), ``url``, ``reason``.

    Raises:
        JobNotFoundError: before the first is given.
    """
    from pipeline.jobs.outcomes import Outcomes

    found(app, reference)
    return (vars(failure) for failure in Outcomes.of_app(app, reference).failures(limit))


def answer_path(app: Lockstep, reference: str) -> Path:
    """The file of the answered CSV, or of the faults of one that was rejected.

    Raises:
        JobNotFoundError
        JobNotReadyError: there is none (yet); the message says in which state the job is.
    """
    job = found(app, reference)
    names = [job.answer] if job.answer else []
    if job.state is JobState.REJECTED:
        names.append(job.faults_name)
    for name in names:
        file = file_below(app.settings.output_dir, name)
        if job.state is not JobState.DELETED and file.is_file():
            return file
    raise JobNotReadyError(
        f"job {reference} has no answer: it is {job.state.value}; "
        + (
            "`datapipe verify --fix` writes it anew"
            if names and job.state is not JobState.DELETED
            else "`datapipe job status` says more"
        )
    )


def failed_rows(app: Lockstep, reference: str, target: BinaryIO) -> int:
    """Write the rows with a failed image in the form of the CSV that came; how many.

    Mended, it can be submitted again.

    Raises:
        JobNotFoundError
        JobNotReadyError: its CSV has not been read yet, or is gone.
    """
    from pipeline.csvs.dialect import detect_dialect
    from pipeline.csvs.reading import CsvRow, iter_rows
    from pipeline.csvs.writing import write_failed_rows
    from pipeline.jobs.outcomes import Outcomes

    job = found(app, reference)
    csv = JobFolders(app.settings.state_dir).csv(reference)
    outcomes = Outcomes.of_app(app, reference)
    try:
        dialect = detect_dialect(csv)[0]

        def failed() -> Iterator[CsvRow]:
            for rows in chunks(iter_rows(csv, dialect), CHUNK_ROWS):
                numbers = outcomes.failed_numbers([row.number for row in rows])
                yield from (row for row in rows if row.number in numbers)

        text = io.TextIOWrapper(
            target, encoding=dialect.answer_encoding, errors="replace", newline=""
        )
        try:
            return write_failed_rows(text, dialect, failed())
        finally:
            # Flushes, and leaves the caller's file open.
            text.detach()
    except (CsvError, OSError) as error:
        raise JobNotReadyError(
            f"job {reference} ({job.state.value}) has no CSV that can be read ({error})"
        ) from error


def renditions(app: Lockstep, reference: str) -> Iterator[tuple[str, Path]]:
    """Every rendition of a job: its name in an archive (``half/<image name>``), and its file.

    Raises:
        JobNotFoundError: before the first is given.
    """
    found(app, reference)
    return _renditions(app, reference)


def _renditions(app: Lockstep, reference: str) -> Iterator[tuple[str, Path]]:
    table = data_of(app.answer.renditions)
    query = sa.select(table.c.path, table.c.recipe, table.c.file).where(
        # "0" follows "/": all below the folder of the job.
        table.c.path > f"{reference}/",
        table.c.path < f"{reference}0",
        table.c.state == State.OK.value,
    )
    for rows in pages(app.database, query, (table.c.path, table.c.recipe), PAGE_ROWS):
        for row in rows:
            file = app.settings.output_dir / JOBS_FOLDER / name_of(row.file)
            yield f"{row.recipe}/{row.file.rpartition('/')[2]}", file


def found(app: Lockstep, reference: str) -> Job:
    """The row of a job.

    Raises:
        JobNotFoundError
    """
    job = _book(app).get(reference)
    if job is None:
        raise JobNotFoundError(reference)
    return job


def as_json(job: Job, settings: Settings) -> dict[str, Any]:
    """One job in JSON; see :func:`job`."""
    from pipeline.csvs.writing import output_address

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
        "images": {
            "total": job.total,
            "fetched": job.fetched,
            "done": job.done,
            "failed": job.failed,
        },
        "answer": answer,
        "answer_url": output_address(answer, public_url) if answer and public_url else None,
        "errors": json.loads(job.faults) if job.faults else [],
        "webhook": job.webhook_state and {"state": job.webhook_state, "reason": job.webhook_reason},
    }


def _iso(timestamp_s: float | None) -> str | None:
    return None if timestamp_s is None else iso(timestamp_s)


def _book(app: Lockstep) -> JobBook:
    # A question to a new database is no error.
    app.make_tables()
    return JobBook(app.database)
