"""Decode ``Content-Encoding`` within a limit of bytes.

We request ``identity``, but some servers compress anyway. httpx's own decoders give out
whatever a chunk expands to: 64 KB of a "gzip bomb" become 64 MB at once, times 32 fetches.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Protocol

from pipeline.errors import FetchError
from pipeline.reasons import Code

PIECE_BYTES = 256 * 1024


class DecodingFailed(FetchError):
    """The body has an encoding that we do not decode, or is damaged."""

    code = Code.BAD_RESPONSE


class Decoder(Protocol):
    """Encoded bytes in, decoded bytes out, in pieces of at most 256 KB."""

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """The pieces that ``data`` completes."""

    def finish(self) -> None:
        """Raises :class:`DecodingFailed` where the end of the body is missing."""


class Identity:
    """Nothing to decode."""

    def pieces(self, data: bytes) -> Iterator[bytes]:
        yield data

    def finish(self) -> None:
        return


class Inflate:
    """``gzip`` or ``deflate``; the latter with or without its zlib header (RFC 9110, 8.4.1.2)."""

    def __init__(self, gzip: bool) -> None:
        self._gzip = gzip
        self._head = b""  # of the body, until it is known how to begin; not empty once begun
        self._inflater = zlib.decompressobj(zlib.MAX_WBITS | 32) if gzip else None

    def pieces(self, data: bytes) -> Iterator[bytes]:
        if self._inflater is None:
            self._head = data = self._head + data
            if len(data) < 2:
                return
            self._inflater = zlib.decompressobj(_wbits(data))
        while data:
            if self._inflater.eof:
                if not self._gzip or not data.strip(b"\0"):
                    return  # what follows the end is padding
                # A gzip file may have several members, one after the other (RFC 1952, 2.2).
                self._inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)
            try:
                piece = self._inflater.decompress(data, PIECE_BYTES)
            except zlib.error:
                raise DecodingFailed("the compressed body is damaged") from None
            data = self._inflater.unconsumed_tail or self._inflater.unused_data
            self._head = b"begun"
            if piece:
                yield piece
            elif not self._inflater.eof and not self._inflater.unconsumed_tail:
                return

    def finish(self) -> None:
        if self._head and (self._inflater is None or not self._inflater.eof):
            raise DecodingFailed("the compressed body ends too early")


def _wbits(head: bytes) -> int:
    """zlib's parameter for a deflated body with a zlib header (RFC 1950, 2.2), or without."""
    has_header = head[0] & 0x0F == 8 and (head[0] << 8 | head[1]) % 31 == 0
    return zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS


def decoder_for(content_encoding: str) -> Decoder:
    """The decoder for the value of a ``Content-Encoding`` header.

    Raises:
        DecodingFailed: another encoding than gzip and deflate, or several at once.
    """
    names = [name.strip().lower() for name in content_encoding.split(",")]
    wanted = [name for name in names if name not in ("", "identity")]
    if not wanted:
        return Identity()
    if wanted in (["gzip"], ["x-gzip"]):
        return Inflate(gzip=True)
    if wanted == ["deflate"]:
        return Inflate(gzip=False)
    raise DecodingFailed(f"sent as {', '.join(wanted)[:60]}, which was not requested")
