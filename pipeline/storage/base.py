"""What every store of bytes can do, whether it is a folder or a bucket.

``tests/storage/conformance.py`` has what a store promises; each one has to pass it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from typing import BinaryIO, NamedTuple, Protocol

from pipeline.storage.owners import owner
from pipeline.storage.walking import FoundFile, Passed, Row


class Entry(NamedTuple):
    """One object: its key, its size, and a version that differs after each change."""

    key: str
    size_bytes: int
    version: str


class Staged(NamedTuple):
    """Bytes under the key ``temporary`` that no reader sees, to be published as ``key``."""

    key: str
    temporary: str


class Store(Protocol):
    """Where bytes lie. Keys have ``/`` between folders (:mod:`pipeline.names`)."""

    def read(self, key: str, max_bytes: int) -> tuple[bytes, Entry]:
        """The bytes of one object and which version they are.

        Raises:
            Unstable: it is being written.
            TooManyBytes: it is larger than ``max_bytes``.
            OSError: it cannot be read; ``FileNotFoundError`` where there is none.
        """

    def stage(self, key: str, data: bytes, owner: str) -> Staged:
        """Write ``data`` for ``key`` where no reader sees it; ``owner`` will publish it.

        Raises:
            OutputError: the disk is full or read-only, or permissions are missing.
            OSError: the name itself cannot be; ``LinkInTheWay`` where a link stands on its way.
        """

    def open_staged(
        self, key: str, owner: str, durable: bool = False
    ) -> AbstractContextManager[tuple[BinaryIO, Staged]]:
        """Stage what is written to a file in a ``with`` block; after an error there nothing is.

        With ``durable`` it survives a power cut.

        Raises:
            OutputError, OSError: see :meth:`stage`.
        """

    def replacing(self, key: str) -> AbstractContextManager[BinaryIO]:
        """A file that takes the place of ``key`` at the end, durably and whole.

        Raises:
            OutputError, OSError: see :meth:`stage`.
        """

    def publish(self, staged: Staged) -> Entry:
        """Put what was staged in the place of its key, whole; the key may be another by now.

        Raises:
            OutputError, OSError: see :meth:`stage`; ``FileNotFoundError`` where it is gone.
        """

    def copy(self, source: str, key: str, owner: str) -> Staged:
        """Stage the bytes of ``source`` for ``key``, without moving them where that can be.

        Raises:
            OutputError, OSError: see :meth:`stage`; ``FileNotFoundError`` where there is no
                ``source``.
        """

    def remove(self, key: str) -> bool:
        """Delete one object; whether it was there.

        Raises:
            OutputError: it is there and cannot be deleted.
            LinkInTheWay: a link stands on its way.
        """

    def erase(self, key: str) -> bool:
        """The same with every version of it, of which a bucket may keep many.

        Raises:
            OutputError, LinkInTheWay: see :meth:`remove`.
        """

    def sweep(
        self,
        is_alive: Callable[[str], bool] = lambda owner: False,
        keep: Collection[str] = (),
    ) -> int:
        """Delete what dead owners have staged; how many objects.

        Folders to ``keep`` stay, also if they are empty.

        Raises:
            OutputError: one cannot be deleted.
        """

    def entries(self, below: str = "") -> Iterator[list[FoundFile]]:
        """Every object that is not staged, in the order of the keys (as of their UTF-8 bytes).

        ``below`` is the key of a folder. Only an empty one has nothing: what is missing, refused or
        broken off raises.

        Raises:
            OutputError, OSError: it cannot be listed, or not to its end.
        """

    def walk(
        self, suffixes: frozenset[str], passed: Passed, below: str = ""
    ) -> Iterator[list[Row]]:
        """The originals among them; see :func:`pipeline.storage.walking.walk`.

        Raises:
            OutputError, OSError: see :meth:`entries`.
        """

    def why_passed(self, key: str, suffixes: frozenset[str]) -> str | None:
        """Why the walk would skip an object of this key; ``None`` if it is an original."""

    def identity(self) -> str:
        """Which folder or bucket it is; another one, or one that is not mounted, differs.

        Raises:
            OutputError, OSError: it is not there.
        """

    def look_at(self, key: str) -> FoundFile | None:
        """Size and version of one object, as the table of originals has them; ``None``: none.

        Raises:
            OutputError: a bucket does not answer, which says nothing about its objects.
        """

    def has(self, key: str, size_bytes: int | None) -> bool:
        """Whether an object of this size is there, and ours.

        Raises:
            OutputError: see :meth:`look_at`.
        """

    def pieces(
        self, key: str, first: int = 0, end: int | None = None, found: FoundFile | None = None
    ) -> Iterator[bytes]:
        """The bytes of an object from ``first`` to before ``end``, a piece at a time.

        Raises:
            Unstable: it is not (any more) the one that was ``found``.
            OSError: it cannot be read; ``FileNotFoundError`` where there is none.
        """

    def path_of(self, key: str) -> str:
        """What messages call an object."""


def replaced(store: Store, key: str) -> AbstractContextManager[BinaryIO]:
    """A file that takes the place of ``key`` at the end, durably; after an error all is as it was.

    Raises:
        OutputError, OSError: see :meth:`Store.stage`.
    """
    return store.replacing(key)


@contextlib.contextmanager
def staged_and_published(store: Store, key: str) -> Iterator[BinaryIO]:
    """The same by a file that is staged beside it.

    Raises:
        OutputError, OSError: see :meth:`Store.stage`.
    """
    with store.open_staged(key, owner(), durable=True) as (file, staged):
        yield file
    try:
        store.publish(staged)
    except BaseException:
        store.remove(staged.temporary)
        raise
