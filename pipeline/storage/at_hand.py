"""One file or object of a store, as a file of this machine, or as a hash."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pipeline.storage.base import Store
from pipeline.storage.folder import file_below
from pipeline.storage.opening import open_store
from pipeline.storage.places import Place


@contextlib.contextmanager
def at_hand(place: Place, key: str) -> Iterator[Path]:
    """A file with the bytes of an object, for the length of a ``with`` block; a file as it is.

    Raises:
        OSError: it cannot be read; ``FileNotFoundError`` where there is none.
        StoreError: the bucket does not answer.
    """
    if place.folder is not None:
        yield file_below(place.folder, key)
        return
    with tempfile.TemporaryDirectory(prefix="lockstep-") as folder:
        file = Path(folder) / ("object" + Path(key).suffix)
        with open(file, "wb") as target:
            write_to(open_store(place), key, target)
        yield file


def write_to(store: Store, key: str, target: BinaryIO) -> str:
    """Copy the bytes of an object to a file; their SHA-256.

    Raises:
        OSError, StoreError: see :func:`at_hand`.
    """
    digest = hashlib.sha256()
    for piece in store.pieces(key):
        digest.update(piece)
        target.write(piece)
    return digest.hexdigest()


def sha256_in(store: Store, key: str) -> str:
    """The SHA-256 of an object, in hexadecimal digits, read in pieces.

    Raises:
        OSError, StoreError: see :func:`at_hand`.
    """
    return digests_in(store, key)[0]


def digests_in(store: Store, key: str) -> tuple[str, str]:
    """The SHA-256 and the MD5 of an object, in hexadecimal digits, read once, in pieces.

    Raises:
        OSError, StoreError: see :func:`at_hand`.
    """
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    for piece in store.pieces(key):
        sha256.update(piece)
        md5.update(piece)
    return sha256.hexdigest(), md5.hexdigest()
