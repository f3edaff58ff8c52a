"""Walking a folder in the order of the keys, so that it can be compared with a sorted table.

Nothing is opened; each file costs one ``stat``. Folders and files come sorted as if every folder's
name ended in ``/``, which is the byte order of the whole paths.
"""

from __future__ import annotations

import errno
import os
import stat
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from pipeline.names import TEMPORARY_PREFIX, key_of, name_of
from pipeline.storage.mounts import MOUNTS

# What editors, browsers, copy tools and office programs call an unfinished file.
TEMPORARY_SUFFIXES = frozenset(
    (".tmp", ".temp", ".part", ".partial", ".crdownload", ".download", ".swp", ".filepart", ".bak")
)
SYSTEM_NAMES = frozenset(("thumbs.db", "desktop.ini", "__macosx", "@eadir"))

# Excel workbooks are read like CSVs.
CSV_SUFFIXES = frozenset((".csv", ".tsv", ".xlsx"))
OTHER_SUFFIX = "other suffix"
LEADS_OUT = "link that leads out of the input folder"

# SQLite keeps 64-bit signed integers; some file systems give inodes of 64 bits unsigned.
_SIGN_BIT = 1 << 63
_TYPE_BITS = 0o170000


class FoundFile(NamedTuple):
    """One file: its key and its ``stat``. Times in nanoseconds, size in bytes."""

    path: str
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int


@dataclass
class Passed:
    """What the walk skipped: a count by reason, and folders that could not be read."""

    reasons: Counter[str] = field(default_factory=Counter)
    unreadable: list[str] = field(default_factory=list)
    # Files with these suffixes are deferred to another step: the folder is walked once for both.
    deferred_suffixes: frozenset[str] = frozenset()
    deferred: list[FoundFile] = field(default_factory=list)
    # Mount points; looked for where the system keeps no list of them, because each folder costs a
    # call.
    mounts: list[str] = field(default_factory=list)

    def covers(self, path: str) -> bool:
        """Whether ``path`` is in a folder that could not be read, so that it may still exist."""
        return any(path.startswith(folder) for folder in self.unreadable)


# A `FoundFile` as a plain tuple, which costs a third: it is made for every file of every run.
Row = tuple[str, int, int, int, int]


@dataclass
class _Level:
    """A folder that the walk is in, and what is left of it."""

    files: list[Row]
    folders: list[tuple[str, os.DirEntry[str]]]
    real_path: str
    next_file: int = 0
    next_folder: int = 0


def walk(
    root: Path, suffixes: frozenset[str], passed: Passed, below: str = ""
) -> Iterator[list[Row]]:
    """Every file below ``root`` whose suffix is in ``suffixes`` (lower case, with the dot).

    ``below`` is the key of a folder: what is in there alone, with keys from ``root`` on.

    Files come in runs: those of one folder with no sub-folder in between. Hidden and temporary
    names, other suffixes, links that lead out of ``root`` or nowhere, and anything that is no file
    are counted in ``passed``. A folder that cannot be read is listed there, and the walk goes on.

    Raises:
        OSError: ``root`` itself cannot be read.
    """
    real_root = os.path.realpath(root)
    start, prefix = root / name_of(below), f"{below}/" if below else ""
    listing = _listing(str(start), prefix, real_root, suffixes, passed)
    stack = [_Level(*listing, os.path.realpath(start))]
    notes_mounts = not MOUNTS.exists()
    while stack:
        level = stack[-1]
        if level.next_folder == len(level.folders):
            stack.pop()
            if level.next_file < len(level.files):
                yield level.files[level.next_file :]
            continue
        key, item = level.folders[level.next_folder]
        level.next_folder += 1
        until = bisect_left(level.files, (key,), level.next_file)
        if level.next_file < until:
            yield level.files[level.next_file : until]
            level.next_file = until
        real = level.real_path + os.sep + item.name
        if item.is_symlink():
            real = os.path.realpath(item.path)
            if any(real == outer.real_path for outer in stack):
                passed.reasons["link into a loop"] += 1
                continue
        try:
            listing = _listing(item.path, key, real_root, suffixes, passed)
        except OSError:
            passed.reasons["folder that cannot be read"] += 1
            passed.unreadable.append(key)
            continue
        if notes_mounts and os.path.ismount(item.path):
            passed.mounts.append(key[:-1])
        stack.append(_Level(*listing, real))


def look_at(root: Path, path: str) -> FoundFile | None:
    """The ``stat`` of one key below ``root``, or ``None`` if there is no file."""
    try:
        status = os.stat(root / name_of(path))
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return found_as(path, status)


def found_as(path: str, status: os.stat_result) -> FoundFile:
    """The row of a file with this ``stat``."""
    inode = status.st_ino
    if inode >= _SIGN_BIT:
        inode -= 2 * _SIGN_BIT
    return FoundFile(path, status.st_size, status.st_mtime_ns, status.st_ctime_ns, inode)


_Folders = list[tuple[str, "os.DirEntry[str]"]]


def _listing(
    folder: str, prefix: str, real_root: str, suffixes: frozenset[str], passed: Passed
) -> tuple[list[Row], _Folders]:
    """The wanted files and the folders of one folder, each sorted by key; all else is counted."""
    files: list[Row] = []
    folders: _Folders = []
    # This loop is most of a run with no change: a file costs one stat, and no other call that
    # could be saved. The common spelling of a suffix is tried before its lower case.
    with os.scandir(folder) as items:
        for item in items:
            name = item.name
            suffix = name[name.rfind(".") :]
            if (suffix in suffixes or suffix.lower() in suffixes) and name[0] not in ".~":
                try:
                    status = item.stat(follow_symlinks=False)
                except OSError as error:
                    _note_unseen(error, prefix + key_of(name), passed)
                    continue
                inode = status.st_ino
                if status.st_mode & _TYPE_BITS == stat.S_IFREG and inode < _SIGN_BIT:
                    files.append(
                        (
                            prefix + (name if name.isascii() else key_of(name)),
                            status.st_size,
                            status.st_mtime_ns,
                            status.st_ctime_ns,
                            inode,
                        )
                    )
                    continue
            _add_unusual(item, prefix, real_root, suffixes, passed, files, folders)
    files.sort(key=itemgetter(0))
    folders.sort(key=itemgetter(0))
    return files, folders


def _add_unusual(
    item: os.DirEntry[str],
    prefix: str,
    real_root: str,
    suffixes: frozenset[str],
    passed: Passed,
    files: list[Row],
    folders: _Folders,
) -> None:
    """Add a folder, a link or a large inode; count whatever else there is in a folder."""
    name = item.name
    key = prefix + key_of(name)
    reason = None
    try:
        is_folder = item.is_dir()
        reason = _reason_to_pass(item, is_folder, real_root, suffixes | passed.deferred_suffixes)
        if reason is None and is_folder:
            folders.append((key + "/", item))
        elif reason is None:
            status = item.stat()
            if not stat.S_ISREG(status.st_mode):
                reason = "not a file"
            elif os.path.splitext(name)[1].lower() in passed.deferred_suffixes:
                passed.deferred.append(found_as(key, status))
            else:
                files.append(found_as(key, status))
    except OSError as error:
        _note_unseen(error, key, passed)
    if reason is not None:
        passed.reasons[reason] += 1


def _note_unseen(error: OSError, key: str, passed: Passed) -> None:
    """Distinguish what is gone from what a failing disk or missing permissions hide."""
    if isinstance(error, FileNotFoundError):
        passed.reasons["gone, or a link to nowhere"] += 1
    elif error.errno == errno.ELOOP:
        passed.reasons["link into a loop"] += 1
    else:
        passed.reasons["file that cannot be examined"] += 1
        passed.unreadable.append(key)


def why_passed(root: Path, path: str, suffixes: frozenset[str]) -> str | None:
    """Why the walk would skip the file of this key; ``None`` if it is an original."""
    names = name_of(path).split("/")
    if names[0] in ("", ".."):
        return "outside the input folder"
    real_root, here = os.path.realpath(root), root
    for name in names:
        here /= name
        reason = _reason_to_pass(here, here.is_dir(), real_root, suffixes)
        if reason is not None:
            return reason
    return None


def _reason_to_pass(
    item: Path | os.DirEntry[str], is_folder: bool, real_root: str, suffixes: frozenset[str]
) -> str | None:
    name = item.name
    if name[0] == ".":
        return "temporary" if name.startswith(TEMPORARY_PREFIX) else "hidden"
    if item.is_symlink() and not _inside(os.path.realpath(item), real_root):
        return LEADS_OUT
    if name.lower() in SYSTEM_NAMES:
        return "hidden"
    if is_folder:
        return None
    suffix = os.path.splitext(name)[1].lower()
    if name.startswith("~$") or name.endswith("~") or suffix in TEMPORARY_SUFFIXES:
        return "temporary"
    if suffix in suffixes:
        return None
    return f"{OTHER_SUFFIX} ({suffix or 'none'})"


def _inside(real: str, real_root: str) -> bool:
    return real == real_root or real.startswith(real_root + os.sep)
