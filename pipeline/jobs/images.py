"""The images of a job: an original for each URL whose bytes are there.

What should be there is a join of ``csv_urls`` and ``fetches``; the difference to ``originals`` is
written. The bytes stay where the fetch put them, under their hash.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from pipeline.database.dialects import VALUES_AT_ONCE
from pipeline.database.paging import chunks, known_among, pages
from pipeline.database.tracked import delete, upsert
from pipeline.engine.context import Run
from pipeline.jobs.context import Jobs
from pipeline.jobs.store import JobFolders, JobRepository, in_job
from pipeline.names import TEMPORARY_PREFIX, key_of
from pipeline.states import Source, UrlState
from pipeline.storage.blobs import blob_key, blob_path
from pipeline.storage.folder import files_below, has_size
from pipeline.workers.tasks import Urgency

# No scan looks for a fetched image.
NO_STAT = {"source": Source.JOBS.value, "mtime_ns": None, "ctime_ns": None, "inode": None}
CHUNK = 1_000


def image_counts(repository: JobRepository, reference: str) -> dict[str, int]:
    """How many images of a job are fetched, and how many failed; done starts at 0."""
    urls, fetches = repository.urls, repository.fetches
    waits = fetches.c.state == UrlState.WAITING.value
    there = sa.case((sa.and_(fetches.c.sha256.is_not(None), ~waits), 1), else_=0)
    failed = sa.case((sa.and_(fetches.c.sha256.is_(None), ~waits), 1), else_=0)
    query = (
        sa.select(sa.func.coalesce(sa.func.sum(there), 0), sa.func.coalesce(sa.func.sum(failed), 0))
        .select_from(urls)
        .join(fetches, fetches.c.url_key == urls.c.url_key)
        .where(urls.c.reference == reference)
    )
    with repository.database.reading() as con:
        found = con.execute(query).one()
    return {"fetched": int(found[0]), "failed": int(found[1]), "done": 0}


def bring_in_step(jobs: Jobs, run: Run, reference: str) -> int:
    """Bring the images of one job in step with what was fetched; how many stored files are lost.

    Those wait to be fetched again.
    """
    lost = add_fetched(jobs, run, reference)
    for paths in _to_remove(jobs, reference):
        _delete(jobs, run, paths)
    return lost


def add_fetched(jobs: Jobs, run: Run, reference: str) -> int:
    """Add the images of one job that were fetched; how many stored files are lost.

    Those wait to be fetched again. An image stays as it was until its own URL was fetched.
    """
    lost, originals = 0, jobs.pending.originals
    for page in _to_add(jobs, reference):
        run.check_stop()
        run.attend(Urgency.JOBS)
        rows: list[dict[str, Any]] = []
        missing: list[str] = []
        for row in page:
            key = row.pop("url_key")
            # Gone; or short, because a power cut may truncate what was not written back yet.
            if has_size(blob_path(jobs.folders.fetched, row["sha256"]), row["size_bytes"]):
                rows.append(row | NO_STAT)
            else:
                missing.append(key)
        run.touch(Source.JOBS, (row["path"] for row in rows))
        with run.database.writing() as write:
            if rows:
                upsert(write, originals, rows)
            if missing:
                _ask_again(jobs.repository, missing)
        lost += len(missing)
    return lost


def remove_obsolete(jobs: Jobs, run: Run, reference: str) -> None:
    """Remove images of a job that is still being fetched: those whose row is gone.

    One whose row has another URL now stays until that was fetched, if anything was made of it.
    """
    stem, renditions = jobs.repository.urls.c.stem, jobs.pending.table
    is_its = jobs.repository.urls.c.reference == reference
    is_made = sa.and_(jobs.pending.ours, jobs.pending.is_ok)
    for paths in _to_remove(jobs, reference):
        stem_of = {path: path.rpartition(".")[0] for path in paths}
        named = known_among(jobs.database, stem, set(stem_of.values()), is_its)
        made = known_among(jobs.database, renditions.c.path, paths, is_made)
        gone = [path for path in paths if stem_of[path] not in named or path not in made]
        if gone:
            _delete(jobs, run, gone)


def clear_images(jobs: Jobs, run: Run, reference: str) -> None:
    """Delete all images of a job; the render step then deletes their renditions."""
    query = paths_of(jobs, reference).limit(CHUNK)
    while True:
        paths = jobs.database.column(query)
        if not paths:
            return
        _delete(jobs, run, paths)


def forget_lost(jobs: Jobs, run: Run, paths: Sequence[str]) -> int:
    """Forget those images whose bytes are gone from the state folder; how many.

    The next run brings their job in step by fetching again.
    """
    table, count = jobs.pending.original_table, 0
    for chunk in chunks(paths):
        query = sa.select(table.c.path, table.c.sha256, table.c.size_bytes).where(
            jobs.pending.our_originals, table.c.path.in_(chunk)
        )
        rows = jobs.database.rows(query)
        lost = [
            row.path
            for row in rows
            if not has_size(blob_path(jobs.folders.fetched, row.sha256), row.size_bytes)
        ]
        if lost:
            _delete(jobs, run, lost)
            count += len(lost)
    return count


def collect_garbage(repository: JobRepository, folders: JobFolders) -> None:
    """Forget URLs without a row, and delete stored files without a URL."""
    urls, fetches = repository.urls, repository.fetches
    named = sa.exists().where(urls.c.url_key == fetches.c.url_key)
    query = sa.select(fetches.c.url_key, fetches.c.sha256).where(~named).limit(VALUES_AT_ONCE)
    while True:
        with repository.database.writing() as con:
            unused = con.execute(query).all()
            keys = [row.url_key for row in unused]
            con.execute(sa.delete(fetches).where(fetches.c.url_key.in_(keys)))
        if not unused:
            return
        drop_stored(repository, folders, {row.sha256 for row in unused if row.sha256})


def drop_stored(repository: JobRepository, folders: JobFolders, digests: Collection[str]) -> None:
    """Delete those of the stored files that have no URL any more."""
    column = repository.fetches.c.sha256
    for chunk in chunks(sorted(digests)):
        used = known_among(repository.database, column, chunk)
        for digest in chunk:
            if digest not in used:
                folders.fetched_store.remove(blob_key(digest))


def sweep_state(jobs: Jobs) -> None:
    """After an interrupted run: remove files of the state folder that have no row.

    Call it after what the run before has fetched is recorded.
    """
    folder = jobs.folders.fetched
    # Hard links that releases before this one kept beside it.
    shutil.rmtree(jobs.folders.state / "originals", ignore_errors=True)
    if not folder.is_dir():
        return
    store = jobs.folders.fetched_store
    store.sweep()
    paths = {
        path.rpartition("/")[2]: path
        for path, entry in files_below(folder)
        if "/" in path and not entry.name.startswith(TEMPORARY_PREFIX)
    }
    for chunk in chunks(sorted(paths)):
        known = known_among(jobs.database, jobs.repository.fetches.c.sha256, chunk)
        for unknown in set(chunk) - known:
            store.remove(key_of(paths[unknown]))


def _to_add(jobs: Jobs, reference: str) -> Iterator[list[dict[str, Any]]]:
    urls, fetches = jobs.repository.urls, jobs.repository.fetches
    images = jobs.pending.original_table
    path = urls.c.stem + fetches.c.suffix
    query = (
        sa.select(
            path.label("path"),
            fetches.c.sha256,
            fetches.c.size_bytes,
            urls.c.url_key,
            urls.c.number,
            urls.c.sequence,
        )
        .join(fetches, fetches.c.url_key == urls.c.url_key)
        .outerjoin(images, sa.and_(jobs.pending.our_originals, images.c.path == path))
        .where(
            urls.c.reference == reference,
            fetches.c.sha256.is_not(None),
            fetches.c.state != UrlState.WAITING.value,
            sa.or_(images.c.path.is_(None), images.c.sha256 != fetches.c.sha256),
        )
    )
    names = ("path", "sha256", "size_bytes", "url_key")
    for rows in pages(jobs.database, query, (urls.c.number, urls.c.sequence), CHUNK):
        yield [{name: getattr(row, name) for name in names} for row in rows]


def _to_remove(jobs: Jobs, reference: str) -> Iterator[list[str]]:
    """Images of a job that no URL of it has brought."""
    urls, fetches = jobs.repository.urls, jobs.repository.fetches
    images = jobs.pending.original_table
    brought = (
        sa.select((urls.c.stem + fetches.c.suffix).label("path"))
        .join(fetches, fetches.c.url_key == urls.c.url_key)
        .where(urls.c.reference == reference, fetches.c.sha256.is_not(None))
        .subquery()
    )
    query = (
        paths_of(jobs, reference)
        .outerjoin(brought, brought.c.path == images.c.path)
        .where(brought.c.path.is_(None))
    )
    for rows in pages(jobs.database, query, (images.c.path,), CHUNK):
        yield [row.path for row in rows]


def paths_of(jobs: Jobs, reference: str) -> sa.Select[tuple[str]]:
    """The paths of all images of a job."""
    return sa.select(jobs.pending.original_table.c.path).where(*_of_job(jobs, reference))


def _of_job(jobs: Jobs, reference: str) -> tuple[sa.ColumnElement[bool], ...]:
    """The images of one job."""
    return jobs.pending.our_originals, in_job(jobs.pending.original_table.c.path, reference)


def _delete(jobs: Jobs, run: Run, paths: Sequence[str]) -> None:
    run.touch(Source.JOBS, paths)
    with run.database.writing() as write:
        delete(write, jobs.pending.originals, [(Source.JOBS.value, path) for path in paths])


def _ask_again(repository: JobRepository, url_keys: Sequence[str]) -> None:
    fetches = repository.fetches
    nothing = dict.fromkeys(("sha256", "size_bytes", "suffix", "etag", "last_modified"))
    with repository.database.writing() as con:
        con.execute(
            sa.update(fetches)
            .where(fetches.c.url_key.in_(url_keys))
            .values(state=UrlState.WAITING.value, **nothing)
        )
