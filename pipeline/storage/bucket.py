"""The store that is a bucket: S3 and stores like it, Google Cloud Storage, Azure Blob Storage.

A rendition is staged under a key of its own below ``.lockstep-staged/``, which no listing shows,
and published by a copy within the store. That copy is made by the process that holds the lock of
runs, and by no worker: a worker that was thought dead can stage, but never publish. A process that
takes over the lock sweeps what was staged before; of one that went on without its lock, the copies
then fail, because their source is gone. What nothing has to be checked for before it is seen (a
result CSV) is published by one PUT, on the condition that the object is still the one that was
there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Callable, Collection, Iterator
from typing import Any, BinaryIO, cast

import obstore

from pipeline.errors import OutputError, TooManyBytes, Unstable
from pipeline.storage.base import Entry, Staged
from pipeline.storage.bucket_listing import (
    NO_NAME,
    STAGED,
    check,
    found_of,
    is_listed,
    pages,
    walk,
    why_passed,
)
from pipeline.storage.bucket_requests import BucketRequests, checked, temporary_key
from pipeline.storage.walking import FoundFile, Passed, Row

# Of S3 and of Google; Azure counts as many characters.
_NAME_MAX_BYTES = 1_024
_IN_MEMORY_BYTES = 8 << 20


class BucketStore(BucketRequests):
    """Objects below the prefix of a place."""

    def read(self, key: str, max_bytes: int) -> tuple[bytes, Entry]:
        """The bytes of an object, as it was at one moment.

        Raises:
            Unstable: it was replaced between two requests.
            TooManyBytes: it is larger than ``max_bytes``; none of it is read.
            OSError: it cannot be read; ``FileNotFoundError`` where there is none.
            StoreError: the bucket cannot be used.
        """
        with self._asking(key):
            result = self._get(key, {})
            meta = result.meta
            if meta["size"] > max_bytes:
                raise TooManyBytes(meta["size"])
            data = b"".join(self._body(key, result, 0, meta["size"]))
        return data, _entry(key, meta)

    def pieces(
        self, key: str, first: int = 0, end: int | None = None, found: FoundFile | None = None
    ) -> Iterator[bytes]:
        """The bytes of an object from ``first`` to before ``end``, a piece at a time.

        Raises:
            Unstable: it is not (any more) the one that was ``found``.
            OSError, StoreError: see :meth:`read`.
        """
        with self._asking(key):
            options: dict[str, Any] = {}
            if end is not None:
                if end <= first:
                    return
                options["range"] = (first, end)
            elif first:
                options["range"] = {"offset": first}
            result = self._get(key, options)
            if found is not None and found_of(key, result.meta) != found:
                raise Unstable(f"{self.path_of(key)}: was replaced")
            size_bytes = result.meta["size"]
            yield from self._body(key, result, first, min(end or size_bytes, size_bytes))

    def stage(self, key: str, data: bytes, owner: str) -> Staged:
        """Put ``data`` under a key that no listing shows.

        Raises:
            OSError: there can be no object of this key.
            StoreError: the bucket cannot be used.
        """
        staged = Staged(checked(key), temporary_key(owner))
        if len(self._name(key).encode()) > _NAME_MAX_BYTES:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), key)
        with self._asking(key):
            self._put(staged.temporary, data, key)
        return staged

    @contextlib.contextmanager
    def open_staged(
        self, key: str, owner: str, durable: bool = False
    ) -> Iterator[tuple[BinaryIO, Staged]]:
        """The same for what is written to a file in a ``with`` block; after an error nothing is.

        A bucket is durable in any case.

        Raises:
            OSError, StoreError: see :meth:`stage`.
        """
        # There from the start, so that a sweep ends it as it ends a file in a folder.
        staged = self.stage(key, b"", owner)
        try:
            with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES) as file:
                yield cast(BinaryIO, file), staged
                file.seek(0)
                with self._asking(key):
                    if self._head(staged.temporary) is not None:
                        self._put(staged.temporary, file, key)
        except BaseException:
            with contextlib.suppress(OSError, OutputError):
                self.remove(staged.temporary)
            raise

    @contextlib.contextmanager
    def replacing(self, key: str) -> Iterator[BinaryIO]:
        """A file that becomes the object at the end, by one PUT; after an error all is as it was.

        Where the store obeys conditions, it replaces no other object than the one that was there at
        the beginning.

        Raises:
            OutputError: another one took its place meanwhile.
            OSError, StoreError: see :meth:`stage`.
        """
        checked(key)
        with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES) as file:
            with self._asking(key):
                mode = self.conditions().mode(self._head(key))
            yield cast(BinaryIO, file)
            file.seek(0)
            try:
                with self._asking(key):
                    self._put(key, file, key, mode)
            except Unstable as error:
                raise OutputError(str(error)) from error

    def publish(self, staged: Staged) -> Entry:
        """Copy what was staged to its key, whole, and delete it where it was staged.

        Raises:
            FileNotFoundError: it is gone.
            OSError, StoreError: see :meth:`stage`.
        """
        key, objects = checked(staged.key), self._client.objects
        with self._asking(key):
            obstore.copy(objects, self._name(staged.temporary), self._name(key))
            obstore.delete(objects, [self._name(staged.temporary)])
            meta = self._head(key)
        if meta is None:
            raise Unstable(f"{self.path_of(key)}: was deleted meanwhile")
        return _entry(key, meta)

    def copy(self, source: str, key: str, owner: str) -> Staged:
        """Stage the bytes of ``source`` for ``key``, by a copy within the store.

        Raises:
            FileNotFoundError: there is no ``source``.
            OSError, StoreError: see :meth:`stage`.
        """
        staged = Staged(checked(key), temporary_key(owner))
        name = self._name(checked(source))
        with self._asking(source):
            obstore.copy(self._client.objects, name, self._name(staged.temporary))
        return staged

    def remove(self, key: str) -> bool:
        """Delete one object; whether it was there. A bucket with versions keeps the old ones.

        Raises:
            StoreError: the bucket cannot be used.
        """
        checked(key)
        with self._asking(key):
            if self._head(key) is None:
                return False
            obstore.delete(self._client.objects, [self._name(key)])
            return True

    def erase(self, key: str) -> bool:
        """Delete one object with all its versions; whether there were any.

        Only S3 and stores like it can be asked for versions: of other stores the object itself is
        deleted, and what they keep of it is theirs (see docs/buckets.md).

        Raises:
            StoreError: the bucket cannot be used.
        """
        s3 = self._client.s3
        if s3 is None:
            return self.remove(key)
        with self._asking(checked(key)):
            if not s3.has_versions():
                return self.remove(key)
            versions = s3.versions(self._name(key))
            for version in versions:
                s3.delete_version(version)
        return bool(versions)

    def sweep(
        self,
        is_alive: Callable[[str], bool] = lambda owner: False,
        keep: Collection[str] = (),
    ) -> int:
        """Delete what dead owners have staged; how many objects. There are no folders to keep.

        Raises:
            StoreError: the bucket cannot be used.
        """
        left: list[str] = []
        with self._asking(""):
            for page in pages(self._client, self.place, STAGED):
                for found in page:
                    owner = found.path[len(STAGED) :].partition("-")[0]
                    if not is_alive(owner):
                        left.append(self._name(found.path))
            if left:
                obstore.delete(self._client.objects, left)
        return len(left)

    def entries(self, below: str = "") -> Iterator[list[FoundFile]]:
        """Every object that is not staged, in the order of the keys, a page at a time.

        Raises:
            StoreError: the bucket cannot be used, or the listing broke off.
        """
        with self._asking(""):
            yield from pages(self._client, self.place, f"{below}/" if below else "")

    def walk(
        self, suffixes: frozenset[str], passed: Passed, below: str = ""
    ) -> Iterator[list[Row]]:
        """The originals among them; see :func:`pipeline.storage.walking.walk`.

        Raises:
            StoreError: see :meth:`entries`.
        """
        return walk(self.entries(below), suffixes, passed)

    def why_passed(self, key: str, suffixes: frozenset[str]) -> str | None:
        """Why the walk would skip an object of this key; ``None`` if it is an original."""
        return why_passed(key, suffixes)

    def look_at(self, key: str) -> FoundFile | None:
        """Size and version of one object; ``None`` where there is none.

        Raises:
            StoreError: the bucket cannot be used, which says nothing about its objects.
        """
        if why_passed(key, frozenset()) == NO_NAME:
            return None
        with self._asking(key):
            meta = self._head(key)
            # A bucket that is not there has no object either, and the request does not tell which.
            if meta is None and is_listed(self._client, self.place, key):
                meta = self._head(key)
        return None if meta is None else found_of(key, meta)

    def has(self, key: str, size_bytes: int | None) -> bool:
        """Whether an object of this size is there.

        Raises:
            StoreError: see :meth:`look_at`.
        """
        found = self.look_at(key)
        return found is not None and found.size_bytes == size_bytes

    def identity(self) -> str:
        """Which bucket it is, and where; only where it is there and lists its objects.

        Raises:
            StoreError: it is not, or refuses us.
        """
        with self._asking(""):
            check(self._client, self.place)
        return f"{self.place.text} at {self._client.endpoint}"


def _entry(key: str, meta: Any) -> Entry:
    return Entry(key, meta["size"], meta["e_tag"] or meta["last_modified"].isoformat())
