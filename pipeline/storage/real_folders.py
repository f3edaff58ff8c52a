"""Folders below a root, opened one after the other, so that no link below the root is followed.

Anyone who may write to ``output/`` could plant a link there that leads to files of somebody else. A
path is looked up again by each system call, so a check before the call comes too early; an open
folder stays the one that was checked. The root itself may be reached through links.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence

from pipeline.errors import LinkInTheWay

# Names can be given relative to an open folder; elsewhere each folder is looked at before its use.
OPENS_FOLDERS = hasattr(os, "O_NOFOLLOW") and os.supports_dir_fd.issuperset(
    (os.open, os.rename, os.unlink, os.link, os.mkdir, os.rmdir, os.stat)
)

# With O_PATH, to write into a folder needs no right to list it.
_ROOT = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0)
_BELOW = _ROOT | getattr(os, "O_NOFOLLOW", 0)
_LISTED = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)


class RealFolder:
    """A folder that was reached without following a link below its root. Close it after use.

    ``at(name)`` and ``fd`` go together, as the path and the ``dir_fd`` of a call of ``os``.
    """

    __slots__ = ("_outside", "fd", "path")

    def __init__(self, path: str, fd: int | None, outside: int) -> None:
        """``outside`` characters of the ``path`` lead to the root, and are not for messages."""
        self.path = path
        self.fd = fd
        self._outside = outside

    def at(self, name: str) -> str:
        """What to call ``name``, which is in this folder."""
        return name if self.fd is not None else os.path.join(self.path, name)

    def enter(self, name: str, create: bool = False) -> RealFolder:
        """The folder ``name`` in this one.

        Raises:
            LinkInTheWay: it is a link.
            OSError: it is no folder, or cannot be opened; ``FileNotFoundError`` without ``create``.
        """
        try:
            return self._enter(name)
        except FileNotFoundError:
            if not create:
                raise
        with contextlib.suppress(FileExistsError):
            os.mkdir(self.at(name), dir_fd=self.fd)
        return self._enter(name)

    def _enter(self, name: str) -> RealFolder:
        path = f"{self.path}{os.sep}{name}"
        if self.fd is None:
            self._refuse_link(name)
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
            return RealFolder(path, None, self._outside)
        try:
            return RealFolder(path, os.open(name, _BELOW, dir_fd=self.fd), self._outside)
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                self._refuse_link(name)
            raise

    def _refuse_link(self, name: str) -> None:
        status = os.stat(self.at(name), dir_fd=self.fd, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            raise LinkInTheWay(f"{self.path}{os.sep}{name}"[self._outside :])

    def stat(self, name: str) -> os.stat_result:
        """What there is of ``name``, a link as a link."""
        return os.stat(self.at(name), dir_fd=self.fd, follow_symlinks=False)

    def listed(self) -> list[os.DirEntry[str]]:
        """What is in this folder."""
        if self.fd is None or os.scandir not in os.supports_fd:
            with os.scandir(self.path) as entries:
                return list(entries)
        # One that can be listed, of the same folder.
        fd = os.open(".", _LISTED, dir_fd=self.fd)
        try:
            with os.scandir(fd) as entries:
                listed = list(entries)
                for entry in listed:
                    # Where the listing has no type, this needs the open folder: do it now.
                    entry.is_dir(follow_symlinks=False)
                return listed
        finally:
            os.close(fd)

    def close(self) -> None:
        """Close it; nothing happens where it is closed already."""
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None

    def __enter__(self) -> RealFolder:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def opened(root: str, folders: Sequence[str] = (), create: bool = False) -> RealFolder:
    """The folder that the names ``folders`` lead to from ``root``.

    Raises:
        LinkInTheWay: one of them is a link.
        OSError: see :meth:`RealFolder.enter`.
    """
    here = _open_root(root, create)
    for name in folders:
        with here:
            here = here.enter(name, create)
    return here


@contextlib.contextmanager
def chain(root: str, folders: Sequence[str]) -> Iterator[list[RealFolder]]:
    """``root`` and the ``folders`` below it, as far as they are there, all open.

    Raises:
        LinkInTheWay: one of them is a link.
    """
    reached: list[RealFolder] = []
    try:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            reached.append(_open_root(root, False))
            for name in folders:
                reached.append(reached[-1].enter(name))
        yield reached
    finally:
        for folder in reached:
            folder.close()


def _open_root(root: str, create: bool) -> RealFolder:
    try:
        fd = os.open(root, _ROOT) if OPENS_FOLDERS else None
        if fd is None and not os.path.isdir(root):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), root)
    except FileNotFoundError:
        if not create:
            raise
        os.makedirs(root, exist_ok=True)
        fd = os.open(root, _ROOT) if OPENS_FOLDERS else None
    return RealFolder(root, fd, len(root) - len(os.path.basename(root)))
