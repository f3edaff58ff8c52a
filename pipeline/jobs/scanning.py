"""The CSVs below ``input/`` against the jobs that were made of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from pipeline.engine.context import Run
from pipeline.engine.unmounted import InputMounts, not_there, refuse_csvs
from pipeline.jobs.context import Jobs
from pipeline.jobs.dropping import leave, why_left
from pipeline.jobs.store import ACTIVE, ENDED, NOT_DELETED, UNREAD, Job, JobRepository
from pipeline.settings.values import Settings
from pipeline.states import JobState
from pipeline.storage.at_hand import sha256_in
from pipeline.storage.opening import open_store
from pipeline.storage.walking import CSV_SUFFIXES, FoundFile, Passed


@dataclass
class CsvDifference:
    """How the CSVs differ from the jobs. ``touched`` ones have unchanged content."""

    new: list[FoundFile] = field(default_factory=list)
    changed: list[Job] = field(default_factory=list)
    touched: list[tuple[Job, FoundFile]] = field(default_factory=list)
    gone: list[Job] = field(default_factory=list)
    # Deleted by a command; now the CSV is gone as well, and may come again as a new job.
    forgotten: list[Job] = field(default_factory=list)


def compare_csvs(repository: JobRepository, passed: Passed, settings: Settings) -> CsvDifference:
    """Which CSVs are new, changed and gone. One whose times changed is hashed."""
    # The last job of a source: a CSV that comes back after its job was deleted gets a new one.
    jobs = {job.source: job for job in repository.dropped()}
    difference = CsvDifference()
    for found in sorted(passed.deferred):
        job = jobs.pop(found.path, None)
        deleted = job is not None and job.state is JobState.DELETED
        if job is None or (deleted and job.inode is None):
            difference.new.append(found)
        elif job.inode is None or job.stat == tuple(found)[1:]:
            continue  # waiting to be read, or unchanged
        elif _content(settings, found) == job.csv_sha256:
            difference.touched.append((job, found))
        elif deleted:
            difference.new.append(found)
        else:
            difference.changed.append(job)
    for job in jobs.values():
        if passed.covers(job.source):
            continue
        if job.state is not JobState.DELETED:
            difference.gone.append(job)
        elif job.inode is not None:
            difference.forgotten.append(job)
    return difference


def scan_csvs(jobs: Jobs, run: Run) -> None:
    """Create jobs from new CSVs, queue changed ones for reading, and delete those that are gone.

    Raises:
        TooManyRemovedError: see :func:`refuse_unmounted`.
    """
    repository, difference = jobs.repository, _find(jobs, run)
    for job, found in difference.touched:
        repository.update(job.reference, **_stat(found))
    for found in difference.new:
        repository.create(found.path, found.path.rpartition("/")[2])
    for job in difference.changed:
        repository.move(job.reference, NOT_DELETED, JobState.RECEIVED, **UNREAD, ended_ts=None)
    for job in difference.gone:
        repository.move(job.reference, NOT_DELETED, JobState.DELETED, **UNREAD)
    for job in difference.forgotten:
        repository.update(job.reference, **UNREAD)


def preview_csvs(jobs: Jobs, run: Run) -> None:
    """Note which CSVs would be read, and which jobs deleted.

    Raises:
        TooManyRemovedError: as :func:`scan_csvs`.
    """
    difference, expected = _find(jobs, run), run.expected
    expected.csvs = [("", found.path) for found in difference.new]
    expected.csvs += [(job.reference, job.source) for job in difference.changed]
    expected.jobs_gone = {job.reference for job in difference.gone}
    if difference.new:
        run.has_jobs = True


def explain_csv(jobs: Jobs, path: str) -> tuple[bool, bool, str]:
    """Whether a CSV below ``input/`` is known, whether it is there, and what would happen to it."""
    place = jobs.settings.input_place
    there = open_store(place).look_at(path)
    made = [job for job in jobs.repository.dropped() if job.source == path]
    job = made[-1] if made else None
    passed = open_store(place).why_passed(path, CSV_SUFFIXES) if there else None
    if passed is not None:
        return job is not None, True, f"skipped: {passed}"
    return job is not None, there is not None, _verdict(jobs, job, there)


def _verdict(jobs: Jobs, job: Job | None, there: FoundFile | None) -> str:
    if job is None or (job.state is JobState.DELETED and job.inode is None):
        if there is None:
            return "there is no such CSV"
        if jobs.settings.jobs.csv_drop == "off":
            return "a CSV: it starts no job, as PIPELINE_CSV_DROP=off"
        left = None if jobs.settings.jobs.csv_drop == "strict" else why_left(jobs.settings, there)
        return left or "a new CSV: the next run creates a job from it"
    prefix = f"job {job.reference} is {job.state.value}"
    if there is None:
        ends = "" if job.state is JobState.DELETED else "; the next run deletes it"
        return f"{prefix}, and its CSV is gone{ends}"
    difference = compare_csvs(jobs.repository, Passed(deferred=[there]), jobs.settings)
    if difference.changed:
        return f"{prefix}; its CSV changed, and the next run reads it again"
    if difference.new:
        return f"{prefix}; its CSV changed since, and the next run creates a new job from it"
    if difference.touched:
        return f"{prefix}; its CSV was touched, but its content is unchanged"
    if job.state in ACTIVE:
        return f"{prefix}; the next run continues it"
    return f"{prefix}, and its CSV is unchanged since the last run"


def _find(jobs: Jobs, run: Run) -> CsvDifference:
    """How the CSVs differ from the jobs, counted, unless it looks like a missing disk."""
    repository, settings = jobs.repository, jobs.settings
    passed = run.passed
    input_folder = run.input
    if input_folder is None:
        # Started on its own, without the scan of the originals before it.
        input_folder = InputMounts(settings.input_place, run.repository)
        passed = Passed(deferred_suffixes=CSV_SUFFIXES)
        try:
            for _ in open_store(settings.input_place).walk(frozenset(), passed):
                pass
        except OSError as error:
            raise not_there(settings.input_place, error.strerror) from None
    difference = compare_csvs(repository, passed, settings)
    if not run.options.allow_removed:
        refuse_unmounted(difference.gone, run.report.there, passed, settings, input_folder.moved)
    difference.new = leave(settings, run, difference.new)
    run.report.jobs.received += len(difference.new) + len(difference.changed)
    return difference


def refuse_unmounted(
    gone: Sequence[Job], there: int, passed: Passed, settings: Settings, moved: Collection[str]
) -> None:
    """What is gone with its disk is not deleted.

    ``there`` is the number of originals that are there, ``moved`` which of its folders have been
    replaced.

    Raises:
        TooManyRemovedError: fetched images or a result would be deleted, and the folder is empty or
            another one.
    """
    lost = [job for job in gone if job.fetched or job.state in ACTIVE | ENDED]
    images = sum(job.fetched for job in lost)
    is_empty = not (there or passed.deferred)
    refuse_csvs([job.source for job in lost], images, is_empty, settings.input_place, moved)


def _content(settings: Settings, found: FoundFile) -> str | None:
    try:
        return sha256_in(settings.input_store, found.path)
    except OSError:
        return ""


def _stat(found: FoundFile) -> dict[str, int]:
    values = found._asdict()
    del values["path"]
    return values
