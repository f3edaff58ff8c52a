"""Files in folders: names of temporary ones, what is wrong with the disk, and what is where.

They are written, moved and deleted by :mod:`pipeline.storage.folder_store`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import stat
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from pipeline.errors import LinkInTheWay, OutputError, SettingsError, Unstable
from pipeline.names import TEMPORARY_PREFIX, name_of
from pipeline.storage.real_folders import opened
from pipeline.storage.walking import FoundFile, found_as

_numbers = itertools.count()

# What is wrong with the disk, not with one file: continuing would fail for every original.
_DISK_PROBLEMS = {
    errno.ENOSPC: "the disk is full: free some space and run again",
    errno.EDQUOT: "the disk quota is used up: free some space and run again",
    errno.EFBIG: "the file is over the size limit of this process or file system: raise it and "
    "run again",
    errno.EROFS: "the file system is read-only: mount it for writing and run again",
    errno.EIO: "the disk reports an error: check the disk and run again",
    errno.EACCES: "no permission to write here: change the permissions and run again",
    errno.EPERM: "no permission to write here: change the permissions and run again",
    errno.EMFILE: "too many open files: raise the limit (ulimit -n) and run again",
    errno.ENFILE: "too many open files: raise the limit and run again",
}

# File systems stamp times by a clock that ticks every 1 to 10 ms (CONFIG_HZ); FAT every 2 s.
_TICK_NS = 20_000_000
_COARSE_TICK_NS = 2_000_000_000


def holds_anything(folder: Path) -> bool:
    """Whether there is anything in a folder; not where it cannot be looked into."""
    try:
        with os.scandir(folder) as entries:
            return any(entries)
    except OSError:
        return False


def temporary_name(owner: str) -> str:
    """A name that no other file has, for one that ``owner`` is about to write."""
    return f"{TEMPORARY_PREFIX}{owner}-{os.getpid()}-{next(_numbers)}"


def is_left_behind(name: str, is_alive: Callable[[str], bool]) -> bool:
    """Whether a file of this name is a temporary one whose owner is dead."""
    if not name.startswith(TEMPORARY_PREFIX):
        return False
    return not is_alive(name.removeprefix(TEMPORARY_PREFIX).partition("-")[0])


def explained(error: OSError, target: str | Path) -> Exception:
    """``OutputError`` for a problem of the disk; any other error as it is."""
    remedy = _DISK_PROBLEMS.get(error.errno or 0)
    if remedy is None:
        return error
    return OutputError(f"{target}: cannot be written ({os.strerror(error.errno or 0)}); {remedy}")


def has_size(file: Path, size_bytes: int | None) -> bool:
    """Whether a file is there and still has its original size."""
    try:
        return file.stat().st_size == size_bytes
    except OSError:
        return False


def files_below(
    root: Path, apart: Collection[Path] = (), real: Path | None = None
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Every file below ``root`` with its path from there; links are not followed.

    The folders ``apart`` are left out. Where ``root`` is behind a link that stands below the folder
    ``real``, there is none.
    """
    left_out = {str(folder) for folder in apart}
    try:
        opened(str(real or root), root.relative_to(real or root).parts).close()
    except (FileNotFoundError, NotADirectoryError, LinkInTheWay):
        return
    folders = [("", str(root))]
    while folders:
        prefix, folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if not entry.is_dir(follow_symlinks=False):
                        yield prefix + entry.name, entry
                    elif entry.path not in left_out:
                        folders.append((f"{prefix}{entry.name}/", entry.path))
        except FileNotFoundError:
            continue


def pieces_of(
    path: str,
    key: str = "",
    first: int = 0,
    end: int | None = None,
    found: FoundFile | None = None,
) -> Iterator[bytes]:
    """The bytes of a file from ``first`` to before ``end``, a piece at a time.

    Raises:
        Unstable: it is not (any more) the one that was ``found``.
        OSError: it cannot be read.
    """
    with open(path, "rb", buffering=0) as file:
        if found is not None and found_as(key, os.fstat(file.fileno())) != found:
            raise Unstable(f"{path}: was replaced")
        file.seek(first)
        left = sys.maxsize if end is None else end - first
        while left > 0 and (piece := file.read(min(left, 1 << 20))):
            left -= len(piece)
            yield piece


def sha256_of(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits, read in pieces."""
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def digests_of(file: Path) -> tuple[str, str]:
    """The SHA-256 and the MD5 of a file, in hexadecimal digits, read once, in pieces."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with open(file, "rb") as stream:
        while piece := stream.read(1 << 20):
            sha256.update(piece)
            md5.update(piece)
    return sha256.hexdigest(), md5.hexdigest()


def tick_ns(ctime_ns: int) -> int:
    """How long, in nanoseconds, a second change may leave the same times behind."""
    return _TICK_NS if ctime_ns % 1_000_000_000 else _COARSE_TICK_NS


def inside(folder: Path, key: str, may_be_link: bool = False) -> str | None:
    """The file of a row's key, if it is really one, below the real ``folder``; else ``None``."""
    real_folder = os.path.realpath(folder)
    file = os.path.join(real_folder, name_of(key))
    real = os.path.realpath(file)
    if not real.startswith(real_folder + os.sep) or (real != file and not may_be_link):
        return None
    try:
        return real if stat.S_ISREG(os.lstat(real).st_mode) else None
    except OSError:
        return None


def made(folder: Path) -> Path:
    """A folder of the state folder, created if it is missing.

    The state folder itself is created for its owner only. Those in it need not be: where it is
    shared on purpose, they are as well.

    Raises:
        SettingsError: it cannot be created.
    """
    try:
        make_private(folder.parent)
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"PIPELINE_STATE: the folder {str(folder)!r} cannot be created ({error.strerror}); "
            "name one that is writable"
        ) from None
    return folder


def prefix_of(folder: Path, root: Path) -> str:
    """What stands before the keys of ``folder`` below ``root``: empty, or ending with ``/``."""
    below = folder.relative_to(root).as_posix()
    return "" if below == "." else f"{below}/"


def file_below(root: Path, key: str) -> Path:
    """The file of a key below ``root``."""
    return root / name_of(key)


def make_private(folder: Path) -> None:
    """Create the quarantine or state folder, for its owner only.

    What is in there was taken down, or sent in by customers. One that is there stays as it is.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` survive a power cut, as far as the system supports it."""
    # Not every system lets a folder be opened; there the rename is as durable as it gets.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def digest_of(text: str) -> str:
    return hashlib.sha256(os.fsencode(name_of(text))).hexdigest()
