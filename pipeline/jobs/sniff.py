"""What a file is by its first bytes; neither its suffix nor its Content-Type is believed."""

from __future__ import annotations

import re
from collections.abc import Callable

# From the first bytes of a file to the reason why it is no image; None where it is one.
Sniff = Callable[[bytes], "str | None"]

HEAD_BYTES = 4_096

_IMAGES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"II+\0", "image/tiff"),
    (b"MM\0+", "image/tiff"),
    (b"\0\0\1\0", "image/x-icon"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "image/jp2"),
    (b"\xff\x4f\xff\x51", "image/jp2"),
    (b"\xff\x0a", "image/jxl"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "image/jxl"),
)
_FTYP = {
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"hevc": "image/heic",
    b"heim": "image/heic",
    b"heis": "image/heic",
    b"mif1": "image/heif",
    b"msf1": "image/heif",
}
_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"%PDF-", "application/pdf"),
    (b"PK\3\4", "application/zip"),
    (b"\x1f\x8b", "application/gzip"),
    (b"\x1aE\xdf\xa3", "video/webm"),
    (b"7z\xbc\xaf'\x1c", "application/x-7z-compressed"),
    (b"Rar!\x1a\x07", "application/x-rar"),
    (b"\x7fELF", "application/x-executable"),
    (b"MZ", "application/x-executable"),
)
# Sizes of the header that follows the 14 bytes of a BMP's own; "BM" alone begins a text as well.
_BMP_HEADER_BYTES = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
# No part of it can match one text in two ways: a hostile head must not take for ever.
_DRAWING = re.compile(
    rb"(?:<\?xml[^>]*>|<!--(?:(?!-->).)*-->|<!doctype\s+svg[^\[>]*(?:\[[^\]]*\]\s*)?>|\s)*"
    rb"<(?:svg:)?svg\b",
    re.I | re.S,
)
_MARKUP = re.compile(rb"<(!doctype\s+html|html|head|body|script|title|meta|h1|div|p)\b", re.I)


def media_type(head: bytes) -> str:
    """The media type of a file that begins with ``head``, as ``image/jpeg`` or ``text/html``."""
    for magic, name in _IMAGES + _OTHERS:
        if head.startswith(magic):
            return name
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADER_BYTES:
        return "image/bmp"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head[4:8] == b"ftyp":
        return _FTYP.get(head[8:12], "video/mp4")
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    # At the very beginning: a page with a drawing somewhere in it is a page.
    if _DRAWING.match(text):
        return "image/svg+xml"
    if _MARKUP.search(text[:1_024]):
        return "text/html"
    if text.startswith(b"<?xml"):
        return "application/xml"
    if text[:1] in (b"{", b"[") and b"\0" not in text:
        return "application/json"
    if text and not re.search(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]", text):
        return "text/plain"
    return "application/octet-stream"


def image_fault(head: bytes) -> str | None:
    """Why a file that begins with ``head`` is no image of pixels; None where it is one."""
    if not head:
        return "not an image (empty)"
    kind = media_type(head)
    if kind == "image/svg+xml":
        return "not an image of pixels (image/svg+xml)"
    return None if kind.startswith("image/") else f"not an image ({kind})"
