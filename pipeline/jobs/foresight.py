"""What a run would do with jobs: their part of ``run --dry-run`` and ``explain``."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from pipeline.csvs.reading import check_csv, iter_rows
from pipeline.database.paging import chunks
from pipeline.database.tracking import GONE
from pipeline.engine.recipe_step import compare_recipes
from pipeline.engine.report import JobCounts
from pipeline.jobs.context import Jobs
from pipeline.jobs.reading import csv_limits
from pipeline.jobs.scanning import compare_csvs, refuse_unmounted
from pipeline.jobs.store import ACTIVE, Job, JobRepository, url_key
from pipeline.states import JobState, Source, UrlState
from pipeline.storage.folder import file_below
from pipeline.storage.walking import CSV_SUFFIXES, FoundFile, Passed, look_at, why_passed
from pipeline.transforms.recipes import Recipe

CHUNK_ROWS = 1_000


def preview_jobs(
    jobs: Jobs,
    recipes: dict[str, Recipe],
    passed: Passed,
    there: int,
    moved: Collection[str] | None,
) -> JobCounts:
    """What the next run would do for jobs. New and changed CSVs are read and checked.

    ``requested`` counts URLs that were never requested, and those that wait. ``there`` is the
    number of originals in the folder, ``recipes`` are those of ``recipes.toml``, ``moved`` is which
    folders have been replaced; ``None`` allows all of it to be gone.

    Raises:
        TooManyRemovedError: see :func:`pipeline.jobs.scanning.refuse_unmounted`.
    """
    repository, counts = jobs.repository, JobCounts()
    difference = compare_csvs(repository, passed, jobs.settings)
    if moved is not None:
        refuse_unmounted(difference.gone, there, passed, jobs.settings, moved)
    sources = [found.path for found in difference.new]
    sources += [job.source for job in difference.changed]
    counts.received = len(sources)
    gone = {job.reference for job in (*difference.gone, *repository.to_clear())}
    counts.deleted = len(gone)
    counts.active = len({job.reference for job in repository.in_states(ACTIVE)} - gone)
    counts.requested = _waiting(repository)
    for source in sources:
        new_urls = _new_urls(jobs, source)
        counts.rejected += new_urls is None
        counts.requested += new_urls or 0
    _count_renditions(jobs, recipes, counts, gone)
    return counts


def explain_csv(jobs: Jobs, path: str) -> tuple[bool, bool, str]:
    """Whether a CSV below ``input/`` is known, whether it is there, and what would happen to it."""
    there = look_at(jobs.settings.input_dir, path)
    made = [job for job in jobs.repository.dropped() if job.source == path]
    job = made[-1] if made else None
    passed = why_passed(jobs.settings.input_dir, path, CSV_SUFFIXES) if there else None
    if passed is not None:
        return job is not None, True, f"skipped: {passed}"
    return job is not None, there is not None, _verdict(jobs, job, there)


def _verdict(jobs: Jobs, job: Job | None, there: FoundFile | None) -> str:
    if job is None or (job.state is JobState.DELETED and job.inode is None):
        return "a new CSV: the next run creates a job from it" if there else "there is no such CSV"
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


def _waiting(repository: JobRepository) -> int:
    fetches = repository.fetches
    query = sa.select(sa.func.count()).where(fetches.c.state == UrlState.WAITING.value)
    with repository.database.reading() as con:
        return con.execute(query).scalar_one()


def _new_urls(jobs: Jobs, source: str) -> int | None:
    """How many URLs of a CSV are not known yet; None if it has problems."""
    file = file_below(jobs.settings.input_dir, source)
    column, count = jobs.repository.fetches.c.url_key, 0
    try:
        check = check_csv(file, csv_limits(jobs.settings))
        if check.problems or check.dialect is None:
            return None
        for rows in chunks(iter_rows(file, check.dialect), CHUNK_ROWS):
            for keys in chunks({url_key(url) for row in rows for url in row.urls}, CHUNK_ROWS):
                with jobs.database.reading() as con:
                    known = con.execute(sa.select(column).where(column.in_(keys))).all()
                count += len(keys) - len(known)
    except OSError:
        return None
    return count


def _count_renditions(
    jobs: Jobs, recipes: dict[str, Recipe], counts: JobCounts, gone: Collection[str]
) -> None:
    pending = jobs.pending
    wanted = jobs.render.originals[Source.JOBS].recipes(recipes)
    moved = compare_recipes(wanted, pending.recipes, Source.JOBS)
    renditions = pending.table
    images = sa.select(sa.func.count()).select_from(pending.original_table)
    with jobs.database.reading() as con:
        all_images = con.execute(images.where(pending.our_originals)).scalar_one()
        leaving = sa.or_(
            renditions.c.recipe.in_(moved.removed),
            *[renditions.c.path.startswith(f"{reference}/") for reference in gone],
        )
        query = sa.select(sa.func.count()).select_from(renditions).where(pending.ours, leaving)
        counts.images.deleted = con.execute(query).scalar_one()
    counts.images.rendered = all_images * (len(moved.added) + len(moved.changed)) + sum(
        count for kind, count in pending.count().items() if kind != GONE
    )
