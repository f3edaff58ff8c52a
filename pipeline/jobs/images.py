"""The images of a job: one file and one row for each URL whose bytes are there.

What should be there is a join of ``csv_urls`` and ``fetches``; the difference to
``fetched_images`` is written, file first, row second. The file is a hard link to the stored bytes,
if the file system supports it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import sqlalchemy as sa
from datapipe.datatable import DataTable
from datapipe.types import IndexDF

from pipeline.database.dialects import VALUES_AT_ONCE
from pipeline.database.paging import chunks, known_among, pages
from pipeline.database.tracked import data_of
from pipeline.database.tracking import frame
from pipeline.engine.context import Run
from pipeline.jobs.store import JobFolders, JobRepository
from pipeline.names import TEMPORARY_PREFIX, key_of
from pipeline.states import UrlState
from pipeline.storage.blobs import blob_key, blob_path
from pipeline.storage.folder import file_below, files_below, has_size
from pipeline.storage.folder_store import FolderStore
from pipeline.storage.owners import owner

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


def bring_in_step(
    repository: JobRepository, folders: JobFolders, images: DataTable, run: Run, reference: str
) -> int:
    """Bring the images of one job in step with what was fetched; how many stored files are lost.

    Those wait to be fetched again.

    Raises:
        OutputError: a file cannot be written or deleted.
    """
    lost, store = 0, FolderStore(folders.originals)
    for page in _to_add(repository, data_of(images), reference):
        run.check_stop()
        rows: list[dict[str, Any]] = []
        missing: list[str] = []
        for row in page:
            stored = blob_path(folders.fetched, row["sha256"])
            key = row.pop("url_key")
            # Gone; or short, because a power cut may truncate what was not written back yet.
            if not has_size(stored, row["size_bytes"]):
                missing.append(key)
                continue
            store.publish(store.copy_from(stored, row["path"], owner()))
            rows.append(row)
        run.touch(images.name, (row["path"] for row in rows))
        with run.database.writing() as write:
            if rows:
                images.store_chunk(frame(rows, list(rows[0])), now=write.now)
            if missing:
                _ask_again(repository, missing)
        lost += len(missing)
    for paths in _to_remove(repository, data_of(images), reference):
        _delete(folders, images, run, paths)
    return lost


def clear_images(
    repository: JobRepository, folders: JobFolders, images: DataTable, run: Run, reference: str
) -> None:
    """Delete all images of a job; the render step then deletes their renditions."""
    table = data_of(images)
    query = sa.select(table.c.path).where(table.c.reference == reference).limit(CHUNK)
    while True:
        with repository.database.reading() as con:
            paths = list(con.execute(query).scalars())
        if not paths:
            return
        _delete(folders, images, run, paths)


def forget_lost(
    repository: JobRepository,
    folders: JobFolders,
    images: DataTable,
    run: Run,
    paths: Sequence[str],
) -> int:
    """Forget those images whose file is gone from the state folder; how many.

    The next run brings their job in step: from the stored bytes, or by fetching again.
    """
    lost = [path for path in paths if not file_below(folders.originals, path).exists()]
    for chunk in chunks(lost):
        _delete(folders, images, run, chunk)
    return len(lost)


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
                FolderStore(folders.fetched).remove(blob_key(digest))


def sweep_state(repository: JobRepository, folders: JobFolders, images: DataTable) -> None:
    """After an interrupted run: remove files of the state folder that have no row.

    Call it after what the run before has fetched is recorded.
    """
    for root in (folders.originals, folders.fetched):
        if root.is_dir():
            FolderStore(root).sweep()
    _sweep(repository, folders.originals, data_of(images).c.path, key_of)
    _sweep(
        repository,
        folders.fetched,
        repository.fetches.c.sha256,
        lambda path: path.rpartition("/")[2],
    )


def _sweep(
    repository: JobRepository, root: Path, column: sa.Column[Any], key: Callable[[str], str]
) -> None:
    paths = {
        key(path): path
        for path, entry in files_below(root)
        if "/" in path and not entry.name.startswith(TEMPORARY_PREFIX)
    }
    for chunk in chunks(sorted(paths)):
        for unknown in set(chunk) - known_among(repository.database, column, chunk):
            FolderStore(root).remove(key_of(paths[unknown]))


def _to_add(
    repository: JobRepository, images: sa.Table, reference: str
) -> Iterator[list[dict[str, Any]]]:
    urls, fetches = repository.urls, repository.fetches
    path = urls.c.stem + fetches.c.suffix
    query = (
        sa.select(
            path.label("path"),
            urls.c.reference,
            urls.c.number,
            urls.c.sequence,
            fetches.c.sha256,
            fetches.c.size_bytes,
            urls.c.url_key,
        )
        .join(fetches, fetches.c.url_key == urls.c.url_key)
        .outerjoin(images, images.c.path == path)
        .where(
            urls.c.reference == reference,
            fetches.c.sha256.is_not(None),
            fetches.c.state != UrlState.WAITING.value,
            sa.or_(images.c.path.is_(None), images.c.sha256 != fetches.c.sha256),
        )
    )
    for rows in pages(repository.database, query, (urls.c.number, urls.c.sequence), CHUNK):
        yield [dict(row._mapping) for row in rows]


def _to_remove(repository: JobRepository, images: sa.Table, reference: str) -> Iterator[list[str]]:
    urls, fetches = repository.urls, repository.fetches
    query = (
        sa.select(images.c.path)
        .outerjoin(
            urls,
            sa.and_(
                urls.c.reference == images.c.reference,
                urls.c.number == images.c.number,
                urls.c.sequence == images.c.sequence,
            ),
        )
        .outerjoin(fetches, fetches.c.url_key == urls.c.url_key)
        .where(
            images.c.reference == reference,
            sa.or_(
                fetches.c.sha256.is_(None),
                images.c.path != urls.c.stem + fetches.c.suffix,
            ),
        )
        .limit(CHUNK)
    )
    while True:
        with repository.database.reading() as con:
            paths = list(con.execute(query).scalars())
        if not paths:
            return
        yield paths


def _delete(folders: JobFolders, images: DataTable, run: Run, paths: Sequence[str]) -> None:
    for path in paths:
        FolderStore(folders.originals).remove(path)
    run.touch(images.name, paths)
    with run.database.writing() as write:
        idx = IndexDF(pd.DataFrame({"path": list(paths)}))
        images.delete_by_idx(idx, now=write.now)


def _ask_again(repository: JobRepository, url_keys: Sequence[str]) -> None:
    fetches = repository.fetches
    nothing = dict.fromkeys(("sha256", "size_bytes", "suffix", "etag", "last_modified"))
    with repository.database.writing() as con:
        con.execute(
            sa.update(fetches)
            .where(fetches.c.url_key.in_(url_keys))
            .values(state=UrlState.WAITING.value, **nothing)
        )
