"""Requests for single objects of a bucket, by obstore."""

from __future__ import annotations

import contextlib
import errno
import mimetypes
import os
import secrets
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import obstore

from pipeline.errors import StoreError, Unstable
from pipeline.storage.bucket_client import Client, client_of
from pipeline.storage.bucket_conditions import Conditions, probe
from pipeline.storage.bucket_errors import explained, meaning
from pipeline.storage.bucket_listing import STAGED
from pipeline.storage.places import Place

# Above this a PUT is split into parts, of which a lost one is sent again alone.
_PART_BYTES = 64 << 20
_PIECE_BYTES = 1 << 20
# How often in a row a body may be cut off without a byte more.
_TRIES = 4

# By process and place.
_conditions: dict[tuple[int, Place], Conditions] = {}


class BucketRequests:
    """The part of a store in a bucket that talks to it."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def presigned(self, key: str, valid_s: int) -> str:
        """An address by which anybody may read one object for ``valid_s`` seconds.

        Raises:
            SettingsError, StoreError: there are no credentials to sign it with.
        """
        with self._asking(key):
            name, valid = self._name(checked(key)), timedelta(seconds=valid_s)
            return str(obstore.sign(self._client.objects, "GET", name, valid))

    def conditions(self) -> Conditions:
        """Which conditions of a PUT the store obeys here; tried once a process.

        Raises:
            StoreError: the bucket cannot be used.
        """
        known = _conditions.get((os.getpid(), self.place))
        if known is None:
            with self._asking(""):
                name = self._name(temporary_key("probe"))
                known = _conditions[os.getpid(), self.place] = probe(self._client.objects, name)
        return known

    def path_of(self, key: str) -> str:
        """What messages call an object."""
        return self.place.at(key)

    @property
    def _client(self) -> Client:
        return client_of(self.place)

    def _name(self, key: str) -> str:
        return self.place.prefix + key

    def _asking(self, key: str) -> contextlib.AbstractContextManager[None]:
        return explained(self.place, key)

    def _head(self, key: str) -> Any:
        try:
            return obstore.head(self._client.objects, self._name(key))
        except FileNotFoundError:
            return None

    def _put(self, name: str, data: Any, key: str, mode: Any = "overwrite") -> None:
        if not isinstance(data, bytes):
            data.seek(0, os.SEEK_END)
            size_bytes = data.tell()
            data.seek(0)
            if size_bytes <= _PART_BYTES:
                data = data.read()
        is_large = not isinstance(data, bytes) or len(data) > _PART_BYTES
        kind = mimetypes.guess_type(key)[0] or "application/octet-stream"
        obstore.put(
            self._client.objects,
            self._name(name),
            data,
            attributes={"Content-Type": kind, "Cache-Control": "no-cache"},
            use_multipart=is_large and mode == "overwrite",
            mode=mode,
        )

    def _get(self, key: str, options: dict[str, Any]) -> Any:
        try:
            return obstore.get(
                self._client.objects, self._name(checked(key)), options=options or None
            )
        except obstore.exceptions.PermissionDeniedError as error:
            # Of a key that nobody has, a store that lets us read says that there is nothing.
            refused = meaning(error, self.place, key)
            if isinstance(refused, StoreError):
                with contextlib.suppress(FileNotFoundError):
                    obstore.get(self._client.objects, self._name(temporary_key("probe")))
                    raise refused from error
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), key) from error
            raise refused from error

    def _body(self, key: str, result: Any, at: int, end: int) -> Iterator[bytes]:
        """The bytes from ``at`` to before ``end``; goes on where the connection broke off."""
        e_tag, failed = result.meta["e_tag"], 0
        while at < end:
            try:
                for piece in result.stream(min_chunk_size=_PIECE_BYTES):
                    at, failed = at + len(piece), 0
                    yield bytes(piece)
                if at < end:
                    raise EOFError(f"the answer ended at byte {at} of {end}")
            except (GeneratorExit, FileNotFoundError):
                raise
            except Exception:
                failed += 1
                if failed >= _TRIES or e_tag is None:
                    raise
                try:
                    result = self._get(key, {"range": (at, end), "if_match": e_tag})
                except FileNotFoundError:
                    raise Unstable(f"{self.path_of(key)}: was deleted while it was read") from None


def temporary_key(owner: str) -> str:
    """A key that nobody else has, for what ``owner`` is about to stage."""
    # Random: on another machine, a worker of the same run may have the same process id.
    return f"{STAGED}{owner}-{secrets.token_hex(8)}"


def checked(key: str) -> str:
    """The key, if an object may have it.

    Raises:
        ValueError: it would lead out of the prefix.
    """
    if not {"", ".", ".."}.isdisjoint(key.split("/")):
        raise ValueError(f"{key!r}: not the key of a file")
    return key
