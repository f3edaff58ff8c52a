"""The store that is a folder: files written beside their target, renamed, and deleted.

No reader ever sees half a file, and a process that dies leaves at most a temporary file, whose name
begins with ``.lockstep-`` and its owner (:mod:`pipeline.storage.owners`), and empty folders.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from pipeline.errors import LinkInTheWay, OutputError, TooManyBytes, Unstable
from pipeline.names import name_of
from pipeline.storage.base import Entry, Staged, staged_and_published
from pipeline.storage.folder import (
    explained,
    is_left_behind,
    pieces_of,
    temporary_name,
    tick_ns,
)
from pipeline.storage.folder_listing import FolderListing
from pipeline.storage.real_folders import RealFolder, chain, opened
from pipeline.storage.walking import FoundFile

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
_FOLDERS_KNOWN = 10_000
_PIECE_BYTES = 1 << 20


class FolderStore(FolderListing):
    """Files below ``root``; what is on the way to one is opened folder by folder.

    ``root`` may be a link, and what is read may be reached through links. For writing and deleting
    no link below ``root`` is followed.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = os.fspath(root)
        self._real: set[str] = set()

    def read(self, key: str, max_bytes: int) -> tuple[bytes, Entry]:
        """The bytes of a file that stands still.

        A change in the same clock tick as the one before leaves the same times behind. So a file
        that was changed a moment ago is read no sooner than one tick later: whatever changes it
        after our reading then has other times, and the next scan sees it.

        Raises:
            Unstable: it is being written.
            TooManyBytes: it is larger than ``max_bytes``.
            OSError: it cannot be read.
        """
        path = self.path_of(key)
        with open(path, "rb", buffering=0) as file:
            before = os.fstat(file.fileno())
            age_ns = time.time_ns() - before.st_ctime_ns
            wait_ns = tick_ns(before.st_ctime_ns)
            if 0 <= age_ns < wait_ns:
                time.sleep((wait_ns - age_ns) / 1e9)
            if before.st_size > max_bytes:
                raise TooManyBytes(before.st_size)
            data = file.read()
            entry = _entry(key, os.fstat(file.fileno()))
        if len(data) != entry.size_bytes or entry != _entry(key, before):
            raise Unstable(f"{path}: changes while it is read; run again when it is complete")
        return data, entry

    def stage(self, key: str, data: bytes, owner: str) -> Staged:
        """Write ``data`` to a temporary file in the folder of ``key``.

        Raises:
            OutputError: the disk is full or read-only, or permissions are missing.
            OSError: the name itself is impossible (a file is where a folder is needed).
            LinkInTheWay: a link stands on its way.
        """
        with self.open_staged(key, owner) as (file, staged):
            file.write(data)
        return staged

    @contextlib.contextmanager
    def open_staged(
        self, key: str, owner: str, durable: bool = False
    ) -> Iterator[tuple[BinaryIO, Staged]]:
        """The same for what is written to a file in a ``with`` block.

        After an error there the temporary file is gone. With ``durable`` its bytes are on the disk.
        """
        *folders, _ = parts(key)
        staged = Staged(key, beside(key, temporary_name(owner)))
        try:
            handle = _create(self.root, folders, parts(staged.temporary)[-1])
            try:
                with open(handle, "wb") as file:
                    yield file, staged
                    if durable:
                        file.flush()
                        os.fsync(handle)
            except BaseException:
                with contextlib.suppress(OSError, OutputError):
                    self.remove(staged.temporary)
                raise
        except OSError as error:
            raise explained(error, self.path_of(key)) from error

    def replacing(self, key: str) -> AbstractContextManager[BinaryIO]:
        """See :func:`pipeline.storage.base.staged_and_published`."""
        return staged_and_published(self, key)

    def publish(self, staged: Staged) -> Entry:
        """Put a finished temporary file in the place of its key, whole.

        Its folder is created if it is not the one that the file was staged in.

        Raises:
            OutputError: see :meth:`stage`.
            OSError: a folder is in the way.
            LinkInTheWay: a link stands on its way.
        """
        *folders, name = parts(staged.key)
        *others, temporary = parts(staged.temporary)
        try:
            with opened(self.root, folders, create=others != folders) as folder:
                if others == folders:
                    return _take_place(folder, temporary, folder, name, staged.key)
                with opened(self.root, others) as other:
                    return _take_place(other, temporary, folder, name, staged.key)
        except OSError as error:
            raise explained(error, self.path_of(staged.key)) from error

    def copy(self, source: str, key: str, owner: str) -> Staged:
        """A temporary file for ``key`` with the bytes of ``source``: a hard link if it can be.

        Raises:
            OutputError, OSError: see :meth:`stage`; ``FileNotFoundError`` where ``source`` is no
                file any more.
        """
        *folders, name = parts(source)
        with opened(self.root, folders) as folder:
            return self._copy(folder, name, key, owner)

    def _copy(self, source: RealFolder, name: str, key: str, owner: str) -> Staged:
        if not stat.S_ISREG(source.stat(name).st_mode):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        temporary = temporary_name(owner)
        try:
            with opened(self.root, parts(key)[:-1], create=True) as folder:
                os.link(
                    source.at(name),
                    folder.at(temporary),
                    src_dir_fd=source.fd,
                    dst_dir_fd=folder.fd,
                    follow_symlinks=False,
                )
            return Staged(key, beside(key, temporary))
        except LinkInTheWay:
            raise
        except OSError:
            # No hard links here (FAT, some network mounts), too many of this one, or the folder
            # has just been taken away, empty: staging makes it again.
            return copy_bytes(source, name, self, key, owner)

    def remove(self, key: str) -> bool:
        """Delete a file and the folders that it leaves empty; whether it was there.

        A folder in its place is not the file: an older database may name one that has long become
        a folder of other renditions. A link in its place is deleted as a link.

        Raises:
            OutputError: it is there and cannot be deleted.
            LinkInTheWay: a link stands on its way.
        """
        *folders, name = parts(key)
        with chain(self.root, folders) as reached:
            there = len(reached) > len(folders) and unlink(reached[-1], name)
            if there is None:
                return False
            _remove_empty(reached, folders)
        return there

    def erase(self, key: str) -> bool:
        """The same: a folder keeps no versions."""
        return self.remove(key)

    def sweep(
        self,
        is_alive: Callable[[str], bool] = lambda owner: False,
        keep: Collection[str] = (),
    ) -> int:
        """Delete temporary files of dead owners, and empty folders; how many files.

        Without ``is_alive`` every owner is dead: for those who hold the lock of runs while none of
        their own workers writes. The folders to ``keep``, as keys, stay, also if they are empty.

        Raises:
            OutputError: a file cannot be deleted.
        """
        kept = {tuple(parts(key)) for key in keep}
        count = 0
        folders: list[tuple[str, ...]] = [()]
        for inside in folders:  # grows as we go; what is in a folder comes after it
            count += _sweep_one(self.root, inside, is_alive, folders)
        for inside in reversed(folders[1:]):
            if inside not in kept:
                # Most are not empty: trying costs less than looking.
                with contextlib.suppress(OSError), opened(self.root, inside[:-1]) as folder:
                    os.rmdir(folder.at(inside[-1]), dir_fd=folder.fd)
        return count

    def sweep_folder(
        self, below: str = "", is_alive: Callable[[str], bool] = lambda owner: False
    ) -> int:
        """Delete temporary files of dead owners in one folder alone; how many.

        Nothing happens where there is no such folder.

        Raises:
            OutputError: a file cannot be deleted.
        """
        return _sweep_one(self.root, tuple(parts(below)) if below else (), is_alive, [])

    def pieces(
        self, key: str, first: int = 0, end: int | None = None, found: FoundFile | None = None
    ) -> Iterator[bytes]:
        """See :func:`pieces_of`."""
        return pieces_of(self.path_of(key), key, first, end, found)

    def has(self, key: str, size_bytes: int | None) -> bool:
        """Whether a file of this size is there, with no link on its way."""
        try:
            return self.is_ours(key) and os.stat(self.path_of(key)).st_size == size_bytes
        except OSError:
            return False

    def is_ours(self, key: str) -> bool:
        """Whether the folder of ``key`` is there, with no link on its way; kept for each folder."""
        folder = key.rpartition("/")[0]
        if folder not in self._real:
            if len(self._real) >= _FOLDERS_KNOWN:
                self._real.clear()
            try:
                opened(self.root, parts(key)[:-1]).close()
            except OSError:
                return False
            self._real.add(folder)
        return True

    def path_of(self, key: str) -> str:
        """The path of a file, for messages and for reading."""
        return os.path.join(self.root, name_of(key))


def parts(key: str) -> list[str]:
    """The names of the folders and of the file, one after the other.

    Raises:
        ValueError: the key would lead out of the store.
    """
    names = name_of(key).split("/")
    if not {"", ".", ".."}.isdisjoint(names):
        raise ValueError(f"{key!r}: not the key of a file")
    return names


def beside(key: str, name: str) -> str:
    """The key of another file in the folder of ``key``."""
    folder, slash, _ = key.rpartition("/")
    return folder + slash + name


def _entry(key: str, status: os.stat_result) -> Entry:
    version = f"{status.st_mtime_ns}-{status.st_ctime_ns}-{status.st_ino}"
    return Entry(key, status.st_size, version)


def _take_place(
    source: RealFolder, temporary: str, folder: RealFolder, name: str, key: str
) -> Entry:
    os.replace(source.at(temporary), folder.at(name), src_dir_fd=source.fd, dst_dir_fd=folder.fd)
    # Between two names of one file, as after a hard link, a rename does nothing and keeps both.
    with contextlib.suppress(FileNotFoundError):
        os.unlink(source.at(temporary), dir_fd=source.fd)
    return _entry(key, folder.stat(name))


def copy_bytes(
    source: RealFolder, name: str, store: FolderStore, key: str, owner: str, durable: bool = False
) -> Staged:
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)
    handle = os.open(source.at(name), flags, dir_fd=source.fd)
    with open(handle, "rb") as file, store.open_staged(key, owner, durable) as (copy, staged):
        shutil.copyfileobj(file, copy, _PIECE_BYTES)
        copy.flush()
        status = os.fstat(handle)
        # As far as the file system has them.
        with contextlib.suppress(OSError):
            os.utime(copy.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))
            os.fchmod(copy.fileno(), stat.S_IMODE(status.st_mode))
    return staged


def _create(root: str, folders: list[str], name: str) -> int:
    for _ in range(8):
        with contextlib.suppress(FileNotFoundError), opened(root, folders, create=True) as folder:
            return os.open(folder.at(name), _NEW, 0o666, dir_fd=folder.fd)
        # A deletion beside us has just found the folder empty and taken it away.
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.sep.join(folders))


def _remove_empty(reached: list[RealFolder], folders: list[str]) -> None:
    for inner in range(len(reached) - 1, 0, -1):
        outer = reached[inner - 1]
        try:
            os.rmdir(outer.at(folders[inner - 1]), dir_fd=outer.fd)
        except FileNotFoundError:
            continue  # somebody else has just removed it
        except OSError:
            return


def unlink(folder: RealFolder, name: str) -> bool | None:
    """Whether there was a file of this name; ``None`` where it is a folder."""
    try:
        os.unlink(folder.at(name), dir_fd=folder.fd)
    except FileNotFoundError:
        return False
    except OSError as error:
        # Linux says IsADirectoryError, other systems PermissionError.
        if stat.S_ISDIR(folder.stat(name).st_mode):
            return None
        raise OutputError(
            f"{os.path.join(folder.path, name)}: cannot be deleted ({error.strerror}); "
            "change the permissions and run again"
        ) from None
    return True


def _sweep_one(
    root: str,
    inside: tuple[str, ...],
    is_alive: Callable[[str], bool],
    folders: list[tuple[str, ...]],
) -> int:
    count = 0
    # A folder that became a link since it was listed is not ours.
    gone = (FileNotFoundError, NotADirectoryError, LinkInTheWay)
    with contextlib.suppress(*gone), opened(root, inside) as folder:
        for item in folder.listed():
            if item.is_dir(follow_symlinks=False):
                folders.append((*inside, item.name))
            elif is_left_behind(item.name, is_alive):
                unlink(folder, item.name)
                count += 1
    return count
