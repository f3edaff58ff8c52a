"""Moving originals out of ``input/`` and back, so that a crash never loses one.

Within a file system a move is one rename. Across two the copy is whole and on the disk before its
source is removed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from pipeline.names import TEMPORARY_PREFIX, name_of, shortened


def free_place(folder: Path, key: str, salt: str, is_taken: Callable[[str], bool]) -> str:
    """``key``, or where something else is there already, a key of its own beside it.

    ``salt`` tells two files apart that want the same place.
    """
    if _is_free(folder, key) and not is_taken(key):
        return key
    within, _, name = key.rpartition("/")
    stem, suffix = os.path.splitext(name)
    number = 0
    while True:
        apart = shortened(stem, suffix, of=_digest(f"{salt}/{number}/{key}"))
        # A file may stand where the folder has to be.
        for candidate in (f"{within}/{apart}" if within else apart, apart):
            if _is_free(folder, candidate) and not is_taken(candidate):
                return candidate
        number += 1


def move(source: Path, target: Path) -> None:
    """Move one file, or a link as a link; ``target`` is replaced.

    Raises:
        OSError: the disk is full, or a right is missing; ``source`` is still there then.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy_over(source, target)
        os.unlink(source)


def remove_empty(folder: Path, root: Path) -> None:
    """Remove ``folder`` and those around it below ``root``, as far as they are empty."""
    while folder != root and root in folder.parents:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent


def make_private(folder: Path) -> None:
    """Make the quarantine folder, for its owner alone: what is in there was taken down."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _copy_over(source: Path, target: Path) -> None:
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{_digest(target.name)[:10]}")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    try:
        if source.is_symlink():
            os.symlink(os.readlink(source), temporary)
        else:
            shutil.copy2(source, temporary)
            with open(temporary, "rb") as copied:
                os.fsync(copied.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Have the names in ``folder`` outlast a loss of power, as far as the system can do it."""
    # Not every system lets a folder be opened; there the rename is as lasting as it gets.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _is_free(folder: Path, key: str) -> bool:
    here = folder
    *folders, name = name_of(key).split("/")
    for part in folders:
        here /= part
        if os.path.lexists(here) and not here.is_dir():
            return False
    return not os.path.lexists(here / name)


def _digest(text: str) -> str:
    return hashlib.sha256(os.fsencode(name_of(text))).hexdigest()
