"""The CSVs below ``input/`` against the jobs that were made of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from pipeline.engine.context import Run
from pipeline.engine.unmounted import InputFolder, not_there, refuse_csvs
from pipeline.jobs.context import Jobs
from pipeline.jobs.store import ACTIVE, ENDED, NOT_DELETED, UNREAD, Job, JobRepository
from pipeline.settings.values import Settings
from pipeline.states import JobState
from pipeline.storage.folder import file_below, sha256_of
from pipeline.storage.walking import CSV_SUFFIXES, FoundFile, Passed, walk


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
    repository, settings, report = jobs.repository, jobs.settings, run.report
    passed = run.passed
    input_folder = run.input
    if input_folder is None:
        # Started on its own, without the scan of the originals before it.
        input_folder = InputFolder(settings.input_dir, run.repository)
        passed = Passed(deferred_suffixes=CSV_SUFFIXES)
        try:
            for _ in walk(settings.input_dir, frozenset(), passed):
                pass
        except OSError as error:
            raise not_there(settings.input_dir, error.strerror) from None
    difference = compare_csvs(repository, passed, settings)
    if not run.options.allow_removed:
        refuse_unmounted(difference.gone, run.report.there, passed, settings, input_folder.moved)
    for job, found in difference.touched:
        repository.update(job.reference, **_stat(found))
    for found in difference.new:
        repository.create(found.path, found.path.rpartition("/")[2])
        report.jobs.received += 1
    for job in difference.changed:
        repository.move(job.reference, NOT_DELETED, JobState.RECEIVED, **UNREAD, ended_ts=None)
        report.jobs.received += 1
    for job in difference.gone:
        repository.move(job.reference, NOT_DELETED, JobState.DELETED, **UNREAD)
    for job in difference.forgotten:
        repository.update(job.reference, **UNREAD)


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
    refuse_csvs([job.source for job in lost], images, is_empty, settings.input_dir, moved)


def _content(settings: Settings, found: FoundFile) -> str | None:
    try:
        return sha256_of(file_below(settings.input_dir, found.path))
    except OSError:
        return ""


def _stat(found: FoundFile) -> dict[str, int]:
    values = found._asdict()
    del values["path"]
    return values
