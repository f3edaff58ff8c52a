"""Archives that are made while they are sent: a ZIP of any size takes the memory of one piece."""

from __future__ import annotations

import contextlib
import io
import itertools
import time
import zipfile
from collections.abc import Iterable, Iterator

from pipeline.errors import Unstable
from pipeline.storage.base import Store
from pipeline.storage.folder import pieces_of


class _Pieces(io.RawIOBase):
    """What was written since it was last taken; not seekable, and ``zipfile`` knows that."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._pieces.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


def zip_stream(files: Iterable[tuple[str, str]], store: Store | None = None) -> Iterator[bytes]:
    """A ZIP of ``files`` (name there, path here or key in ``store``), in pieces.

    Pictures are stored as they are. A file that is gone when its turn comes is left out.
    """
    sent = _Pieces()
    with zipfile.ZipFile(sent, "w", zipfile.ZIP_STORED) as archive:
        for name, path in files:
            with contextlib.suppress(OSError, Unstable):
                entry, pieces = _from_file(name, path) if store is None else _of(store, name, path)
                # Before it has an entry: of one that cannot be read there is to be none.
                pieces = itertools.chain((next(pieces, b""),), pieces)
                with archive.open(entry, "w", force_zip64=entry.file_size >= 1 << 31) as target:
                    for piece in pieces:
                        target.write(piece)
                        yield sent.take()
            yield sent.take()
    yield sent.take()


def _from_file(name: str, path: str) -> tuple[zipfile.ZipInfo, Iterator[bytes]]:
    entry = zipfile.ZipInfo.from_file(path, name, strict_timestamps=False)
    return entry, pieces_of(path)


def _of(store: Store, name: str, key: str) -> tuple[zipfile.ZipInfo, Iterator[bytes]]:
    found = store.look_at(key)
    if found is None:
        raise FileNotFoundError(key)
    entry = zipfile.ZipInfo(name, time.localtime(found.mtime_ns / 1e9)[:6])
    entry.file_size = found.size_bytes
    return entry, store.pieces(key, found=found)
