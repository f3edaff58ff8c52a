"""What a file is, by its first bytes; neither a suffix nor a Content-Type is trusted."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from pipeline.errors import ImageError
from pipeline.reasons import Code

# How many of a file's first bytes decide what it is.
HEAD_BYTES = 4_096

# From the first bytes of a file to the reason why it is no image; None where it is one.
Sniff = Callable[[bytes], "str | None"]


class Content(NamedTuple):
    """What a file is: for a machine, and for a person or as the format that it is rendered from."""

    media_type: str
    words: str = ""
    format: str | None = None


_JXL = Content("image/jxl", "a JPEG XL picture, which is not supported")
_PROGRAM = Content("application/x-executable", "a program")
_UNKNOWN = Content("application/octet-stream", "in a format that is not known")

_MAGIC: tuple[tuple[bytes, Content], ...] = (
    (b"\xff\xd8\xff", Content("image/jpeg", format="jpeg")),
    (b"\x89PNG\r\n\x1a\n", Content("image/png", format="png")),
    (b"GIF87a", Content("image/gif", format="gif")),
    (b"GIF89a", Content("image/gif", format="gif")),
    (b"II*\0", Content("image/tiff", format="tiff")),
    (b"MM\0*", Content("image/tiff", format="tiff")),
    (b"II+\0", Content("image/tiff", format="tiff")),
    (b"MM\0+", Content("image/tiff", format="tiff")),
    (b"\0\0\0\x0cjP  \r\n\x87\n", Content("image/jp2", format="jpeg2000")),
    (b"\xff\x4f\xff\x51", Content("image/jp2", format="jpeg2000")),
    (b"\xff\x0a", _JXL),
    (b"\0\0\0\x0cJXL \r\n\x87\n", _JXL),
    (b"\0\0\1\0", Content("image/x-icon", "a Windows icon")),
    (b"8BPS", Content("application/x-photoshop", "a Photoshop document")),
    (b"%PDF-", Content("application/pdf", "a PDF document")),
    (b"PK\3\4", Content("application/zip", "a ZIP archive or an Office document")),
    (b"\x1f\x8b", Content("application/gzip", "a gzip archive")),
    (b"7z\xbc\xaf'\x1c", Content("application/x-7z-compressed", "a 7-Zip archive")),
    (b"Rar!\x1a\x07", Content("application/x-rar", "a RAR archive")),
    (b"\x1aE\xdf\xa3", Content("video/webm", "a video")),
    (b"\x7fELF", _PROGRAM),
    (b"MZ", _PROGRAM),
)
_AVIF_BRANDS = frozenset([b"avif", b"avis"])
_HEIF_BRANDS = frozenset([b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"])
# Sizes of the header that follows the 14 bytes of a BMP's own; "BM" alone begins a text as well.
_BMP_HEADERS_BYTES = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
# No part of it can match one text in two ways: a hostile head must not take forever.
_DRAWING = re.compile(
    rb"(?:<\?xml[^>]*>|<!--(?:(?!-->).)*-->|<!doctype\s+svg[^\[>]*(?:\[[^\]]*\]\s*)?>|\s)*"
    rb"<(?:svg:)?svg\b",
    re.I | re.S,
)
_MARKUP = re.compile(rb"<(!doctype\s+html|html|head|body|script|title|meta|h1|div|p)\b", re.I)
_NO_TEXT = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]")


def content_of(data: bytes) -> Content:
    """Detect what a file is by its first bytes."""
    head = data[:HEAD_BYTES]
    # Before the list: a box of brands that is 256 bytes long begins as a Windows icon does.
    if head[4:8] == b"ftyp":
        return _by_brands(head)
    if head[:4] == b"RIFF":
        if head[8:12] == b"WEBP":
            return Content("image/webp", format="webp")
        return _UNKNOWN._replace(words="a sound or video file")
    if head[:2] == b"BM" and _is_bmp(head):
        return Content("image/bmp", format="bmp")
    for magic, content in _MAGIC:
        if head.startswith(magic):
            return content
    return _markup_or_text(head)


def sniff(data: bytes) -> str:
    """Detect an original's format by its first bytes; its name is not used.

    Raises ImageError with what the content is instead.
    """
    if not data:
        raise ImageError("empty file", Code.EMPTY)
    content = content_of(data)
    if content.format is None:
        is_picture = content.media_type.startswith("image/")
        code = Code.UNSUPPORTED if is_picture else Code.NOT_AN_IMAGE
        raise ImageError(f"not an image: the content is {content.words}", code)
    return content.format


def image_problem(head: bytes) -> str | None:
    """Why a fetched file that begins with ``head`` is not kept; None where it is an image.

    An image in a format that is not rendered, such as an icon, passes here; ``sniff`` refuses it.
    """
    if not head:
        return "not an image (empty)"
    kind = content_of(head).media_type
    if kind == "image/svg+xml":
        return f"not an image of pixels ({kind})"
    return None if kind.startswith("image/") else f"not an image ({kind})"


def _by_brands(head: bytes) -> Content:
    # A file may list several, and begin with one that only its maker knows.
    length = min(int.from_bytes(head[:4], "big"), len(head), 512)
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, length - 3, 4))}
    if brands & _AVIF_BRANDS:
        return Content("image/avif", format="avif")
    if brands & _HEIF_BRANDS:
        return Content("image/heif", format="heif")
    return Content("video/mp4", "a video or another media file")


def _is_bmp(head: bytes) -> bool:
    if len(head) < 18:
        return b"\0" in head  # cut off, and no text
    return int.from_bytes(head[14:18], "little") in _BMP_HEADERS_BYTES


def _markup_or_text(head: bytes) -> Content:
    if not any(head):
        return _UNKNOWN._replace(words="nothing but zero bytes")
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    # At the very beginning: a page with a drawing somewhere in it is a page.
    if _DRAWING.match(text):
        return Content("image/svg+xml", "an SVG drawing")
    if _MARKUP.search(text[:1_024]):
        return Content("text/html", "a web page")
    if text.startswith(b"<?xml"):
        return Content("application/xml", "text")
    if not text or _NO_TEXT.search(text):
        return _UNKNOWN
    return Content("application/json" if text[:1] in (b"{", b"[") else "text/plain", "text")
