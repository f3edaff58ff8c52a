"""Formats: which suffixes the scan accepts, what bytes are, and which format a rendition gets."""

from __future__ import annotations

from pipeline.errors import ImageError

_SUFFIXES: dict[str, tuple[str, ...]] = {
    "jpeg": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "png": (".png", ".apng"),
    "webp": (".webp",),
    "gif": (".gif",),
    "avif": (".avif", ".avifs"),
    "tiff": (".tif", ".tiff"),
    "bmp": (".bmp", ".dib"),
    "heif": (".heic", ".heif", ".hif"),
    "jpeg2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
}
_FORMAT_OF_SUFFIX = {suffix: name for name, suffixes in _SUFFIXES.items() for suffix in suffixes}

ORIGINAL_SUFFIXES = frozenset(_FORMAT_OF_SUFFIX)

# The allow-list: Pillow opens nothing by any other plug-in, whatever the bytes pretend to be.
PILLOW_FORMAT = {
    "jpeg": "JPEG",
    "png": "PNG",
    "webp": "WEBP",
    "gif": "GIF",
    "avif": "AVIF",
    "tiff": "TIFF",
    "bmp": "BMP",
    "heif": "HEIF",
    "jpeg2000": "JPEG2000",
}

_WEB_FORMATS = frozenset(["jpeg", "png", "webp", "gif", "avif"])
_LOSSLESS_FORMATS = frozenset(["bmp", "tiff"])

# What people put under an image's name by mistake, so that the reason can say what it is.
_OTHER_CONTENT = (
    (b"%PDF-", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive or an Office document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"8BPS", "a Photoshop document"),
    (b"\x00\x00\x01\x00", "a Windows icon"),
    (b"\x1aE\xdf\xa3", "a video"),
    (b"RIFF", "a sound or video file"),
    (b"\xff\x0a", "a JPEG XL picture, which is not supported"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL picture, which is not supported"),
)
_MARKUP = ((b"<svg", "an SVG drawing"), (b"<!doctype html", "a web page"), (b"<html", "a web page"))


def suffix_for(format: str) -> str:
    """Return the suffix, with its dot, that a rendition in this format is given."""
    return _SUFFIXES[format][0]


def format_of_suffix(suffix: str) -> str | None:
    """Return the format that a suffix (with its dot, in any case) stands for; None if none."""
    return _FORMAT_OF_SUFFIX.get(suffix.lower())


def output_format(wanted: str, source: str, *, has_alpha: bool) -> str:
    """Resolve a recipe's format; ``keep`` is the original's own where the web can show it.

    BMP and TIFF become PNG. HEIF and JPEG 2000 hold photos, so they become JPEG, or PNG where
    there is transparency.
    """
    if wanted != "keep":
        return wanted
    if source in _WEB_FORMATS:
        return source
    if source in _LOSSLESS_FORMATS or has_alpha:
        return "png"
    return "jpeg"


def sniff(data: bytes) -> str:
    """Tell an original's format by its first bytes; the file's name is not asked.

    Raises ImageError with what the content is instead.
    """
    if not data:
        raise ImageError("empty file")
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    if data[:4] in (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"):
        return "tiff"
    if data[4:8] == b"ftyp":
        return _iso_brand(data)
    if data.startswith((b"\x00\x00\x00\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")):
        return "jpeg2000"
    if data.startswith(b"BM"):
        return "bmp"
    raise ImageError(f"not an image: the content is {_describe(data)}")


def _iso_brand(data: bytes) -> str:
    length = min(int.from_bytes(data[:4], "big"), len(data), 512)
    brands = {data[8:12], *(data[at : at + 4] for at in range(16, length - 3, 4))}
    if brands & {b"avif", b"avis"}:
        return "avif"
    if brands & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}:
        return "heif"
    raise ImageError("not an image: the content is a video or another media file")


def _describe(data: bytes) -> str:
    for magic, what in _OTHER_CONTENT:
        if data.startswith(magic):
            return what
    head = data[:1024]
    if not any(head):
        return "nothing but zero bytes"
    for magic, what in _MARKUP:
        if magic in head.lower():
            return what
    # A cut in the middle of a character is not a reason to call text binary.
    text = head.decode("utf-8", errors="ignore")
    if len(text.encode()) >= len(head) - 3 and all(c.isprintable() or c.isspace() for c in text):
        return "text"
    return "in a format that is not known"
