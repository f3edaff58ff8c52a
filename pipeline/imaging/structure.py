"""Structure: is a file all there, and how many frames does it hold? Read without decoding.

Decoders accept many a cut file and paint the rest grey. So the containers are walked first, in
their own terms. What a walk cannot see, because only the pixels end early, the decoder reports.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from typing import Literal

from pipeline.errors import ImageError
from pipeline.reasons import Code


class CutOffError(ImageError):
    """The file ends before its picture does."""

    code = Code.CUT_OFF


def cut_off(there: int, whole: int | None = None, detail: str = "") -> CutOffError:
    """Say how much of a file is there; ``whole`` is None where the format does not tell."""
    if whole is not None and whole > there:
        share = f"{100 * there / whole:.0f} %" if there * 100 < whole * 99 else "almost all"
        return CutOffError(f"cut off: {there:,} of its {whole:,} bytes are there ({share})")
    return CutOffError(f"cut off: the picture needs more data after its {there:,} bytes{detail}")


def count_frames(data: bytes, format: str, most: int) -> int:
    """Return the frames of a file whose format was sniffed; 1 where it cannot be animated.

    Counting ends past ``most``, so that a million frames cost no more than a thousand. Only GIF,
    APNG and WebP are animated here: a TIFF's further pages and an AVIF's or HEIF's further
    pictures are not looked at. Raises CutOffError where the container ends too early.
    """
    if format == "png":
        return _png(data)
    if format == "gif":
        return _gif(data, most)
    if format == "webp":
        return _webp(data, most)
    if format == "jpeg":
        _jpeg(data)
    elif format in ("avif", "heif"):
        _boxes(data)
    elif format == "tiff":
        _tiff(data)
    elif format == "jpeg2000":
        _jpeg2000(data)
    elif format == "bmp" and len(data) < _BMP_HEADER_BYTES:
        raise cut_off(len(data), detail=", of which none is pixels")
    return 1


_BMP_HEADER_BYTES = 26  # of the oldest version, which has the smallest header
_PNG_PIXELS = (b"IDAT", b"fdAT", b"PLTE")


def _check_png_sum(data: bytes, at: int, length: int) -> None:
    """Pillow shows whatever broken pixels inflate to; the chunk's checksum knows better."""
    end = at + 8 + length
    if zlib.crc32(memoryview(data)[at + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
        kind = data[at + 4 : at + 8].decode("ascii")
        raise ImageError(f"broken PNG: the {kind} data at byte {at:,} is damaged")


def _png(data: bytes) -> int:
    frames = 1
    at = 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        kind = data[at + 4 : at + 8]
        if at + 12 + length > len(data):
            break
        if kind in _PNG_PIXELS:
            _check_png_sum(data, at, length)
        if kind == b"IEND":
            return frames
        if kind == b"acTL" and length == 8:
            frames = max(1, int.from_bytes(data[at + 8 : at + 12], "big"))
        at += 12 + length
    raise cut_off(len(data))


_GIF_BLOCK = re.compile(rb"[\x21\x2c\x3b]")


def _gif(data: bytes, most: int) -> int:
    frames = 0
    try:
        at = 13 + _gif_table_bytes(data[10])
        while frames <= most:
            block = data[at]
            if block == 0x3B:
                return max(1, frames)
            if block == 0x2C:
                frames += 1
                at += 10 + _gif_table_bytes(data[at + 9]) + 1
            elif block == 0x21:
                at += 2
            else:
                # Padding and rubbish between blocks: decoders skip it, so it is no cut.
                found = _GIF_BLOCK.search(data, at)
                at = found.start() if found else len(data)
                continue
            while data[at]:
                at += 1 + data[at]
            at += 1
        return frames
    except IndexError:
        whole = f", in frame {frames}" if frames > 1 else ""
        raise cut_off(len(data), detail=whole) from None


def _gif_table_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _webp(data: bytes, most: int) -> int:
    whole = 8 + int.from_bytes(data[4:8], "little")
    if len(data) < whole:
        raise cut_off(len(data), whole)
    frames, at = 0, 12
    while at + 8 <= whole and frames <= most:
        frames += data[at : at + 4] == b"ANMF"
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + length + (length & 1)
    return max(1, frames)


def webp_size(data: bytes) -> tuple[int, int]:
    """Return a WebP's canvas from its header: Pillow lays out the canvas as it opens one."""
    kind, head = data[12:16], data[20:30]
    if kind == b"VP8X":
        return 1 + int.from_bytes(head[4:7], "little"), 1 + int.from_bytes(head[7:10], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(head[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return (
        int.from_bytes(head[6:8], "little") & 0x3FFF,
        int.from_bytes(head[8:10], "little") & 0x3FFF,
    )


# A marker that a length follows. Decoders skip rubbish, fill bytes and bare markers before it.
_JPEG_SEGMENT = re.compile(rb"\xff[^\x01\xd0-\xd8\xff]")


def _jpeg(data: bytes) -> None:
    at = 2
    while found := _JPEG_SEGMENT.search(data, at, len(data) - 2):
        at = found.start()
        if data[at + 1] == 0xDA:
            # The end mark cannot occur within the coded pixels, but does in a thumbnail before.
            if data.rfind(b"\xff\xd9", at) < 0:
                raise cut_off(len(data))
            return
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    raise cut_off(len(data), detail=", of which none is pixels")


_TIFF_VALUE_BYTES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8)


def _tiff(data: bytes) -> None:
    """Check that the first page's directory, and all its values, lie within the file."""
    order: Literal["little", "big"] = "little" if data[:2] == b"II" else "big"
    # BigTIFF widens every offset and count from 4 (or 2) bytes to 8.
    big = data[2:4] in (b"\x2b\x00", b"\x00\x2b")
    wide, count_bytes, entry_bytes = (8, 8, 20) if big else (4, 2, 12)

    def number(at: int, length: int) -> int:
        if at + length > len(data):
            raise cut_off(len(data), at + length)
        return int.from_bytes(data[at : at + length], order)

    at = number(8 if big else 4, wide)
    entries = number(at, count_bytes)
    at += count_bytes
    number(at + entries * entry_bytes - 1, 1)
    for entry in range(at, at + entries * entry_bytes, entry_bytes):
        kind = number(entry + 2, 2)
        each = _TIFF_VALUE_BYTES[kind] if kind < len(_TIFF_VALUE_BYTES) else 0
        length = each * number(entry + 4, wide)
        if length > wide:
            number(number(entry + 4 + wide, wide) + length - 1, 1)


def _box_ends(data: bytes) -> Iterator[int]:
    """Yield where each box of an ISO media file ends; the last may end past the data."""
    at = 0
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if length == 1:
            length = int.from_bytes(data[at + 8 : at + 16], "big")
        at = at + length if length >= 8 else len(data)
        yield at
    if at < len(data):
        yield at + 8


def heif_sizes(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the sizes that a HEIF declares, of the shown picture, its tiles and its alpha channel.

    The decoder takes memory for each by its own size, and refuses pixels that do not have it.
    """
    for kind, at, end in _inside(data, 0, len(data), (b"meta", b"iprp", b"ipco")):
        if kind == b"ispe" and end - at >= 12:
            wide = int.from_bytes(data[at + 4 : at + 8], "big")
            yield wide, int.from_bytes(data[at + 8 : at + 12], "big")


def _inside(
    data: bytes, at: int, end: int, into: tuple[bytes, ...]
) -> Iterator[tuple[bytes, int, int]]:
    """Yield each box with where its content begins and ends; those of ``into`` lie in another."""
    while at + 8 <= end:
        length = int.from_bytes(data[at : at + 4], "big")
        kind, start = data[at + 4 : at + 8], at + 8
        if length == 1:
            length, start = int.from_bytes(data[at + 8 : at + 16], "big"), at + 16
        at = min(end, at + length) if length >= 8 else end
        if into and kind == into[0]:
            # "meta" begins with its version and flags.
            yield from _inside(data, start + 4 * (kind == b"meta"), at, into[1:])
        else:
            yield kind, start, at


def _boxes(data: bytes) -> None:
    for end in _box_ends(data):
        if end > len(data):
            raise cut_off(len(data), end)


def _jpeg2000(data: bytes) -> None:
    if data[:4] == b"\x00\x00\x00\x0c":
        _boxes(data)
    at = data.find(b"\xff\x4f\xff\x51") + 2
    if at < 2:
        raise cut_off(len(data), detail=", of which none is pixels")
    while at + 12 <= len(data):
        marker = data[at : at + 2]
        if marker == b"\xff\xd9":
            return
        if marker == b"\xff\x90":  # a tile part, which knows its length; 0 means to the end
            length = int.from_bytes(data[at + 6 : at + 10], "big")
            at = at + length if length >= 14 else len(data) - 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    if data[at : at + 2] != b"\xff\xd9":
        raise cut_off(len(data), max(at + 2, len(data) + 1))
