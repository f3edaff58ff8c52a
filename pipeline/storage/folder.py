"""Files of ``output/``: written beside their target, renamed, and deleted with their empty folders.

No reader ever sees half a rendition, and a process that dies leaves at most a temporary file, whose
name begins with ``.lockstep-`` and its owner (:mod:`pipeline.storage.owners`), and empty folders.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import shutil
import stat
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from pipeline.errors import OutputError, SettingsError
from pipeline.names import TEMPORARY_PREFIX, name_of
from pipeline.storage.owners import owner

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

# File systems stamp times by a clock that ticks every 1 to 10 ms (CONFIG_HZ); FAT every 2 s.
_TICK_NS = 20_000_000
_COARSE_TICK_NS = 2_000_000_000


def temporary_beside(target: Path) -> Path:
    """A name in the folder of ``target``, for a file that this process is about to write."""
    return target.parent / f"{TEMPORARY_PREFIX}{owner()}-{os.getpid()}-{next(_numbers)}"


def is_left_behind(name: str, is_alive: Callable[[str], bool]) -> bool:
    """Whether a file of this name is a temporary one whose owner is dead."""
    if not name.startswith(TEMPORARY_PREFIX):
        return False
    return not is_alive(name.removeprefix(TEMPORARY_PREFIX).partition("-")[0])


def write_beside(target: Path, data: bytes) -> Path:
    """Write ``data`` to a temporary file in the folder of ``target``; the caller renames it.

    Raises:
        OutputError: the disk is full, read-only, or the rights are missing.
        OSError: the name itself cannot be (a file stands where a folder is needed).
    """
    temporary = temporary_beside(target)
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
        # Between two names of one file, as after a hard link, a rename does nothing and keeps both.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    except OSError as error:
        raise explained(error, target) from error


def link_or_copy(source: Path, target: Path) -> Path:
    """A temporary file beside ``target`` with the bytes of ``source``: a hard link if it can be.

    Raises:
        OutputError, OSError: see :func:`write_beside`; ``FileNotFoundError`` where ``source`` is
            gone.
    """
    temporary = temporary_beside(target)
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

    A folder in its place is not the file: an older database may name one that has long become a
    folder of other renditions.

    Raises:
        OutputError: it is there and cannot be deleted.
    """
    try:
        target.unlink()
        there = True
    except (FileNotFoundError, NotADirectoryError):
        there = False
    except OSError as error:
        # Linux says IsADirectoryError, other systems PermissionError.
        if target.is_dir() and not target.is_symlink():
            return False
        raise OutputError(
            f"{target}: cannot be deleted ({error.strerror}); change the rights and run again"
        ) from None
    for folder in target.parents:
        if folder == root:
            break
        try:
            folder.rmdir()
        except FileNotFoundError:
            continue  # a deletion before this one was cut off between two folders
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
    for path, entry in _entries_below(root, apart):
        if not entry.is_dir(follow_symlinks=False):
            yield path, entry


def sweep(
    root: Path,
    is_alive: Callable[[str], bool] = lambda owner: False,
    keep: Collection[Path] = (),
) -> int:
    """Delete temporary files of dead owners below ``root``, and empty folders; how many files.

    Without ``is_alive`` every owner is dead: for those who hold the lock of runs while none of
    their own workers writes. The folders to ``keep`` stay, also if they are empty.

    Raises:
        OutputError: a file cannot be deleted.
    """
    left: list[Path] = []
    folders: list[str] = []
    for _, entry in _entries_below(root):
        if entry.is_dir(follow_symlinks=False):
            folders.append(entry.path)
        elif is_left_behind(entry.name, is_alive):
            left.append(Path(entry.path))
    for file in left:
        remove(file, file.parent)
    kept = {str(folder) for folder in keep}
    for folder in reversed(folders):  # what is in a folder comes after it
        if folder not in kept:
            # Most are not empty: to try costs less than to look.
            with contextlib.suppress(OSError):
                os.rmdir(folder)
    return len(left)


def _entries_below(
    root: Path, apart: Collection[Path] = ()
) -> Iterator[tuple[str, os.DirEntry[str]]]:
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
                    yield prefix + entry.name, entry
        except FileNotFoundError:
            continue


def sha256_of(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits, read in pieces."""
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


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
    """A folder of the state folder, made where it is missing.

    Raises:
        SettingsError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"PIPELINE_STATE: the folder {str(folder)!r} cannot be made ({error.strerror}); "
            "name one that can be written"
        ) from None
    return folder


def file_below(root: Path, key: str) -> Path:
    """The file of a key below ``root``."""
    return root / name_of(key)


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
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{digest_of(target.name)[:10]}")
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


def digest_of(text: str) -> str:
    return hashlib.sha256(os.fsencode(name_of(text))).hexdigest()
