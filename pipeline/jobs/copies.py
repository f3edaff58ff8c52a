"""Copies of CSVs in the state folder: those in use by a living process, and leftovers.

A copy under a temporary name is locked by the operating system until its job is there, also across
its renaming. The lock dies with its process, and is seen from other containers and machines, where
a process id would say nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from pipeline.jobs.store import JobFolders, JobRepository
from pipeline.names import TEMPORARY_PREFIX
from pipeline.storage.folder_store import FolderStore
from pipeline.storage.owners import owner


@contextlib.contextmanager
def held_copy(folder: Path) -> Iterator[Path]:
    """A new empty file that no run deletes while the block lasts; afterwards it is gone.

    Raises:
        OutputError: the disk is full, or permissions are missing.
    """
    store = FolderStore(folder)
    while True:
        with store.open_staged("copy.csv", owner()) as (file, staged):
            copy = Path(store.path_of(staged.temporary))
            # Where there are no locks (some network mounts), nothing is ever taken for a leftover.
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
            # Otherwise a run deleted it between the two calls.
            if copy.exists():
                try:
                    yield copy
                finally:
                    copy.unlink(missing_ok=True)
                return


def clear_copies(repository: JobRepository, folders: JobFolders) -> int:
    """Delete what killed submissions left: temporary files, and copies without a job; how many.

    Call it with the lock of the run held, while no CSV is read.

    Raises:
        OutputError: one cannot be deleted.
    """
    try:
        names = os.listdir(folders.csvs)
    except FileNotFoundError:
        return 0
    known = _names_of_jobs(repository)
    return sum(
        _clear(repository, folders, name)
        for name in sorted(set(names) - known)
        if name.startswith(TEMPORARY_PREFIX) or name.endswith(".csv")
    )


def _names_of_jobs(repository: JobRepository) -> set[str]:
    kept = sa.select(repository.jobs.c.reference).where(repository.jobs.c.cleared.is_(sa.false()))
    return {f"{reference}.csv" for reference in repository.database.column(kept)}


def _clear(repository: JobRepository, folders: JobFolders, name: str) -> bool:
    copy = folders.csvs / name
    try:
        handle = os.open(copy, os.O_RDWR)
    except OSError:
        return False  # gone meanwhile, or not ours
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False  # a living process holds it
        # Checked again under the lock: its job may have been created meanwhile.
        job = repository.get(name.removesuffix(".csv"))
        return (job is None or job.cleared) and folders.csv_store.remove(name)
    finally:
        os.close(handle)
