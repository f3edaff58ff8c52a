"""Files of ``output/``: written beside their target, renamed, and deleted with their empty folders.

No reader ever sees half a rendition, and a process that dies leaves at most a file whose name
begins with ``.lockstep-``, which the next run clears away.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from pipeline.errors import OutputError
from pipeline.names import TEMPORARY_PREFIX

_numbers = itertools.count()

# What is wrong with the disk, not with one file: going on would fail for every original alike.
_DISK_FAULTS = {
    errno.ENOSPC: "the disk is full: make room and run again",
    errno.EDQUOT: "the disk quota is used up: make room and run again",
    errno.EFBIG: "the file is over the size limit of this process or file system: raise it and "
    "run again",
    errno.EROFS: "the file system is read-only: mount it for writing and run again",
    errno.EIO: "the disk reports an error: look after it and run again",
    errno.EACCES: "no right to write here: change the rights and run again",
    errno.EPERM: "no right to write here: change the rights and run again",
    errno.EMFILE: "too many open files: raise the limit (ulimit -n) and run again",
    errno.ENFILE: "too many open files: raise the limit and run again",
}


def write_beside(target: Path, data: bytes) -> Path:
    """Write ``data`` to a temporary file in the folder of ``target``; the caller renames it.

    Raises:
        OutputError: the disk is full, read-only, or the rights are missing.
        OSError: the name itself cannot be (a file stands where a folder is needed).
    """
    temporary = target.parent / f"{TEMPORARY_PREFIX}{os.getpid()}-{next(_numbers)}"
    try:
        handle = _create(temporary)
        with open(handle, "wb", buffering=0) as file:
            view = memoryview(data)
            while view:
                # A write cut short (a full disk, a size limit) says why at the next one.
                view = view[file.write(view) :]
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise explained(error, target) from error
    return temporary


def _create(temporary: Path) -> int:
    for _ in range(8):
        try:
            return os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileNotFoundError:
            # The folder is new, or a deletion beside us has just found it empty and taken it away.
            temporary.parent.mkdir(parents=True, exist_ok=True)
    return os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)


def explained(error: OSError, target: Path) -> Exception:
    """``OutputError`` for a fault of the disk; any other error as it is."""
    remedy = _DISK_FAULTS.get(error.errno or 0)
    if remedy is None:
        return error
    return OutputError(f"{target}: cannot be written ({os.strerror(error.errno or 0)}); {remedy}")


def publish(temporary: Path, target: Path) -> None:
    """Put a finished temporary file in the place of ``target``, whole.

    Raises:
        OutputError: see :func:`write_beside`.
        OSError: a folder stands where the file should go.
    """
    try:
        os.replace(temporary, target)
    except OSError as error:
        raise explained(error, target) from error


def link_or_copy(source: Path, target: Path) -> Path:
    """A temporary file beside ``target`` with the bytes of ``source``: a hard link if it can be.

    Raises:
        OutputError, OSError: see :func:`write_beside`; ``FileNotFoundError`` where ``source`` is
            gone.
    """
    temporary = target.parent / f"{TEMPORARY_PREFIX}{os.getpid()}-{next(_numbers)}"
    for _ in range(2):
        try:
            os.link(source, temporary)
            return temporary
        except FileNotFoundError:
            if not source.exists():
                raise
            temporary.parent.mkdir(parents=True, exist_ok=True)
        except OSError:
            # No hard links here (FAT, some network mounts), or too many of this one.
            break
    return write_beside(target, source.read_bytes())


def remove(target: Path, root: Path) -> bool:
    """Delete a file and the folders below ``root`` that it leaves empty; whether it was there.

    Raises:
        OutputError: it is there and cannot be deleted.
    """
    try:
        target.unlink()
        there = True
    except (FileNotFoundError, NotADirectoryError):
        there = False
    except OSError as error:
        raise OutputError(
            f"{target}: cannot be deleted ({error.strerror}); change the rights and run again"
        ) from None
    for folder in target.parents:
        if folder == root:
            break
        try:
            folder.rmdir()
        except OSError:
            break
    return there


def has_size(file: Path, size_bytes: int | None) -> bool:
    """Whether a file is there, and as many bytes long as it was made."""
    try:
        return file.stat().st_size == size_bytes
    except OSError:
        return False


def files_below(root: Path, apart: Collection[Path] = ()) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Every file below ``root`` with its path from there; links are not followed.

    The folders ``apart`` are left out.
    """
    left_out = {str(folder) for folder in apart}
    folders = [("", str(root))]
    while folders:
        prefix, folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        if entry.path in left_out:
                            continue
                        folders.append((f"{prefix}{entry.name}/", entry.path))
                    else:
                        yield prefix + entry.name, entry
        except FileNotFoundError:
            continue


def clear_temporary(root: Path) -> int:
    """Delete what interrupted runs left below ``root``; how many files."""
    count = 0
    for path, entry in files_below(root):
        if entry.name.startswith(TEMPORARY_PREFIX):
            remove(root / path, root)
            count += 1
    return count
