"""Changes that people request: running a job now, deleting it, fetching its images again."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from pipeline.csvs.mapping import Mapping
from pipeline.csvs.reading import CsvCheck, check_csv
from pipeline.engine.context import RunOptions
from pipeline.engine.progress import Progress
from pipeline.errors import (
    CsvError,
    CsvRejectedError,
    JobNotReadyError,
    LockedError,
    SettingsError,
    UnknownColumnsError,
)
from pipeline.fetch.signing import new_secret
from pipeline.fetch.urls import UrlRefused, checked_url
from pipeline.jobs.context import Jobs
from pipeline.jobs.copies import held_copy
from pipeline.jobs.forms import REPLACE, form_of, options_of
from pipeline.jobs.questions import as_json, found
from pipeline.jobs.reading import copy_hashed, csv_limits
from pipeline.jobs.store import ACTIVE, ENDED, NOT_DELETED, SUBMITTED
from pipeline.names import key_of
from pipeline.settings.values import Settings
from pipeline.states import JobState
from pipeline.storage.folder import made, pieces_of

_WITH_IMAGES = ENDED | {JobState.FETCHING, JobState.RENDERING, JobState.WRITING}


def work_job(jobs: Jobs, reference: str, progress: Progress | None = None) -> dict[str, Any]:
    """Run one job to its end in this process; returns what :func:`~.questions.job` does.

    Waits for a run in progress, which may finish the job itself.

    Raises:
        LockstepError: whatever stops a run; the next run continues.
    """
    options = RunOptions(job=reference, wait=True)
    # A second round if stored images turned out to be lost, or a CSV changed while it was read.
    for _ in range(2):
        jobs.run(options, progress).join()
        if found(jobs, reference).state not in ACTIVE:
            break
    return as_json(found(jobs, reference), jobs.settings)


def delete_job(jobs: Jobs, reference: str) -> bool:
    """Delete a job: its rows, fetched images, renditions and result; returns whether all is gone.

    It is ``deleted`` at once. A run in progress stops fetching for it, and the next one removes
    what is left. A CSV below ``input/`` stays; changed or dropped in again, it becomes another job.
    Deleting twice is harmless.

    Raises:
        JobNotFoundError
        LockstepError: whatever stops a run; the job is ``deleted``, and the next run removes.
    """
    job, repository = found(jobs, reference), jobs.repository
    values: dict[str, Any] = {} if job.ended_ts else {"ended_ts": time.time()}
    if not job.was_submitted and job.inode is None:
        # Not read yet. The next scan must not take it for a new one.
        seen = jobs.settings.input_store.look_at(job.source)
        values |= {k: v for k, v in seen._asdict().items() if k != "path"} if seen else {}
    repository.move(reference, NOT_DELETED, JobState.DELETED, reason=None, **values)
    try:
        jobs.run(RunOptions(job=reference), None)
    except LockedError:
        return False
    return True


def refresh_job(jobs: Jobs, reference: str) -> int:
    """Make the next run fetch the images of a job again; returns how many URLs.

    They are requested with ``If-None-Match`` and ``If-Modified-Since``: unchanged images are not
    downloaded. Other jobs with the same URLs get what has changed as well.

    Raises:
        JobNotFoundError
        JobNotReadyError: the job has no images.
    """
    job, repository = found(jobs, reference), jobs.repository
    if not repository.move(reference, _WITH_IMAGES, JobState.FETCHING, ask_again=True):
        raise JobNotReadyError(
            f"job {reference} is {job.state.value}: it has no images to fetch again"
        )
    theirs = (
        sa.select(repository.urls.c.url_key)
        .where(repository.urls.c.reference == reference)
        .distinct()
    )
    with jobs.database.reading() as con:
        return con.execute(sa.select(sa.func.count()).select_from(theirs.subquery())).scalar_one()


@dataclass(frozen=True)
class Submitted:
    """The job that was created from a CSV; the next run works on it."""

    reference: str
    state: str
    # What its own webhook is signed with. Shown now, and never again.
    webhook_secret: str | None = field(default=None, repr=False)

    def as_json(self) -> dict[str, Any]:
        """What a program reads; ``webhook_secret`` only where there is one."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def submit(
    jobs: Jobs,
    source: Path,
    filename: str,
    webhook: str | None = None,
    *,
    mapping: Mapping | None = None,
    require_images: bool = False,
    result: str | None = None,
    base: str = "",
) -> Submitted:
    """Check the CSV in ``source`` and create a job from it; ``filename`` is its name for people.

    It is read by ``mapping``, or by its headers. ``require_images``: a product without an image is
    a problem, as with PIPELINE_JOB_REQUIRE_IMAGES. ``base`` is the address that images without a
    host are below.

    ``webhook`` is an address to notify when the job ends, instead of PIPELINE_WEBHOOK_URL;
    deliveries to it are signed with a secret of its own. ``result`` is ``add`` or ``replace``, by
    default PIPELINE_JOB_RESULT.

    Raises:
        CsvRejectedError: it has problems, and lists all of them; nothing is left behind.
        CsvError: it cannot be read.
        SettingsError: ``webhook`` may not be requested, ``result`` lacks a setting, or the state
            folder cannot be created.
        MappingsError: the file of named mappings is wrong.
        OutputError: the disk is full, or permissions are missing.
    """
    result = result or jobs.settings.jobs.result
    _refuse_impossible(jobs.settings, webhook, result)
    secret = new_secret() if webhook else None
    folders = jobs.folders
    # The copy is checked and kept, whatever happens to the source meanwhile.
    with held_copy(made(folders.csvs)) as copy:
        try:
            digest = copy_hashed(pieces_of(str(source)), copy)
        except OSError as error:
            raise CsvError(
                f"{source}: cannot be read ({error.strerror}); name a CSV of products"
            ) from None
        form = form_of(jobs.settings, mapping, require_images, base)
        check = check_csv(copy, csv_limits(jobs.settings), form)
        if check.problems or check.dialect is None:
            raise _rejected(filename, check)
        reference = jobs.repository.create(
            SUBMITTED,
            key_of(filename).replace("\0", ""),
            lambda reference: copy.replace(folders.csv(reference)),
            csv_sha256=digest,
            rows=check.rows,
            total=check.images,
            without_images=check.without_images,
            options=options_of(check.dialect, result),
            webhook=webhook or None,
            webhook_secret=secret,
        )
    return Submitted(reference, JobState.RECEIVED.value, secret)


def _refuse_impossible(settings: Settings, webhook: str | None, result: str) -> None:
    if webhook:
        try:
            checked_url(webhook, settings.fetch.ports)
        except UrlRefused as error:
            raise SettingsError(f"--webhook {webhook}: {error}") from None
    if result == REPLACE and not settings.jobs.public_url:
        raise SettingsError(
            "--result replace: a shop imports whole addresses; set PIPELINE_PUBLIC_URL to the "
            "public address of the output folder"
        )


def _rejected(filename: str, check: CsvCheck) -> CsvRejectedError:
    faults = [asdict(problem) for problem in check.problems]
    is_known = check.dialect is None or check.dialect.mapping is not None
    kind = CsvRejectedError if is_known else UnknownColumnsError
    return kind(filename, faults, check.fault_count)
