"""Archives that are made while they are sent: a ZIP of any size takes the memory of one piece."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator

PIECE_BYTES = 1 << 18


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


def zip_stream(files: Iterable[tuple[str, str]]) -> Iterator[bytes]:
    """A ZIP of ``files`` (name there, path here), in pieces. Pictures are stored as they are.

    A file that is gone when its turn comes is left out.
    """
    sent = _Pieces()
    with zipfile.ZipFile(sent, "w", zipfile.ZIP_STORED) as archive:
        for name, path in files:
            try:
                source = open(path, "rb")  # noqa: SIM115 - closed below
            except OSError:
                continue
            with source:
                entry = zipfile.ZipInfo.from_file(path, name, strict_timestamps=False)
                with archive.open(entry, "w", force_zip64=entry.file_size >= 1 << 31) as target:
                    while piece := source.read(PIECE_BYTES):
                        target.write(piece)
                        yield sent.take()
            yield sent.take()
    yield sent.take()
