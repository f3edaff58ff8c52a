"""What a file is, by its first bytes; neither a suffix nor a Content-Type is trusted."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal, NamedTuple

from pipeline.errors import ImageError
from pipeline.imaging import formats
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
    advice: str = ""

    @property
    def remedy(self) -> str:
        """What to do about it, to be put after the reason; empty where nothing is known."""
        return f"; {self.advice}" if self.advice else ""


def _raw(maker: str) -> Content:
    words = f"a RAW file of a camera ({maker})"
    return Content("image/x-raw", words, advice=formats.RAW_ADVICE)


_JXL = Content("image/jxl", "a JPEG XL picture, which is not supported")
_SVG = Content("image/svg+xml", "an SVG drawing", advice=formats.SVG_ADVICE)
_PDF = Content("application/pdf", "a PDF document", advice=formats.PDF_ADVICE)
_PHOTOSHOP = Content(
    "application/x-photoshop",
    "a Photoshop document",
    advice=formats.PHOTOSHOP_ADVICE,
)
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
    (b"8BPS", _PHOTOSHOP),
    (b"%PDF-", _PDF),
    (b"IIRO", _raw("Olympus ORF")),
    (b"IIRS", _raw("Olympus ORF")),
    (b"MMOR", _raw("Olympus ORF")),
    (b"IIU\0", _raw("Panasonic RW2")),
    (b"FUJIFILMCCD-RAW", _raw("Fujifilm RAF")),
    (b"FOVb", _raw("Sigma X3F")),
    (b"\0MRM", _raw("Minolta MRW")),
    (b"II\x1a\0\0\0HEAPCCDR", _raw("Canon CRW")),
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
            return _raw_in_tiff(head) or content if content.format == "tiff" else content
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
        raise ImageError(f"not an image: the content is {content.words}{content.remedy}", code)
    return content.format


def image_problem(head: bytes) -> str | None:
    """Why a fetched file that begins with ``head`` is not kept; None where it is an image.

    An image in a format that is not rendered, such as an icon, passes here; ``sniff`` refuses it.
    """
    if not head:
        return "not an image (empty)"
    content = content_of(head)
    kind = content.media_type
    if content is _SVG:
        return f"not an image of pixels ({kind}){content.remedy}"
    return None if kind.startswith("image/") else f"not an image ({kind}){content.remedy}"


def _by_brands(head: bytes) -> Content:
    # A file may list several, and begin with one that only its maker knows.
    length = min(int.from_bytes(head[:4], "big"), len(head), 512)
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, length - 3, 4))}
    if head[8:12] == b"crx ":
        return _raw("Canon CR3")
    if brands & _AVIF_BRANDS:
        return Content("image/avif", format="avif")
    if brands & _HEIF_BRANDS:
        return Content("image/heif", format="heif")
    return Content("video/mp4", "a video or another media file")


# Tags of a TIFF's directory (Adobe, "TIFF Revision 6.0"; "Digital Negative Specification").
_SUBFILE, _PHOTOMETRIC, _MAKE, _PARTS, _DNG_VERSION = 254, 262, 271, 330, 50706
_SENSOR_PIXELS = frozenset({32803, 34892})  # colour filter array, linear raw


def _raw_in_tiff(head: bytes) -> Content | None:
    """Tell a camera's RAW file from a TIFF, which it is but for the pixels of its sensor.

    Read as a TIFF, it would give the preview of 160 pixels that comes first in it.
    """
    if head[8:10] == b"CR":
        return _raw("Canon CR2")
    if head[2:4] not in (b"*\0", b"\0*"):
        return None  # BigTIFF: no camera writes it
    tags = _first_directory(head)
    if _DNG_VERSION in tags:
        return _raw("DNG")
    is_preview = tags.get(_SUBFILE, 0) & 1 and _PARTS in tags and _MAKE in tags
    if not is_preview and tags.get(_PHOTOMETRIC) not in _SENSOR_PIXELS:
        return None
    make = head[tags.get(_MAKE, len(head)) :][:64].split(b"\0")[0].upper()
    return _raw(next((name for word, name in _MAKERS.items() if word in make), "TIFF"))


_MAKERS = {b"NIKON": "Nikon NEF", b"SONY": "Sony ARW", b"PENTAX": "Pentax PEF"}


def _first_directory(head: bytes) -> dict[int, int]:
    """The first tags of a TIFF with their values, or where those lie; cameras put them in front."""
    order: Literal["little", "big"] = "little" if head[:2] == b"II" else "big"
    at = int.from_bytes(head[4:8], order) + 2
    count = int.from_bytes(head[at - 2 : at], order)
    tags = {}
    for entry in range(at, min(at + 12 * count, len(head) - 11), 12):
        kind = int.from_bytes(head[entry + 2 : entry + 4], order)
        value = head[entry + 8 : entry + (10 if kind == 3 else 12)]
        tags[int.from_bytes(head[entry : entry + 2], order)] = int.from_bytes(value, order)
    return tags


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
        return _SVG
    if _MARKUP.search(text[:1_024]):
        return Content("text/html", "a web page")
    if text.startswith(b"<?xml"):
        return Content("application/xml", "text")
    if not text or _NO_TEXT.search(text):
        return _UNKNOWN
    return Content("application/json" if text[:1] in (b"{", b"[") else "text/plain", "text")
