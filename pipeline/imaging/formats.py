"""Formats: which suffixes the scan accepts, and which format a rendition gets."""

from __future__ import annotations

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
# What to do with pictures that are not originals; of a camera, every maker has a suffix.
RAW_ADVICE = "export it as JPEG or TIFF, and use that file"
SVG_ADVICE = "export it as PNG, and use that file"
PDF_ADVICE = "export its pages as PNG or JPEG, and use those"
PHOTOSHOP_ADVICE = "export it as PNG or TIFF, and use that file"
_RAW = "3fr arw cr2 cr3 crw dcr dng erf iiq kdc mef mos mrw nef nrw orf pef raf raw rw2 srw x3f"
_ADVICE = {f".{suffix}": RAW_ADVICE for suffix in _RAW.split()} | {
    ".svg": SVG_ADVICE,
    ".svgz": SVG_ADVICE,
    ".pdf": PDF_ADVICE,
    ".psd": PHOTOSHOP_ADVICE,
}
_FORMAT_OF_SUFFIX = {suffix: name for name, suffixes in _SUFFIXES.items() for suffix in suffixes}

ORIGINAL_SUFFIXES = frozenset(_FORMAT_OF_SUFFIX)
ORIGINAL_FORMATS = tuple(_SUFFIXES)

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

# A browser shows them as a picture and nothing else: no SVG, no HTML, no PDF.
WEB_FORMATS = frozenset(["jpeg", "png", "webp", "gif", "avif"])
_LOSSLESS_FORMATS = frozenset(["bmp", "tiff"])


def suffix_for(format: str) -> str:
    """Return the suffix, with its dot, that a rendition in this format is given."""
    return _SUFFIXES[format][0]


def format_of_suffix(suffix: str) -> str | None:
    """Return the format that a suffix (with its dot, in any case) stands for; None for others."""
    return _FORMAT_OF_SUFFIX.get(suffix.lower())


def advice_of_suffix(suffix: str) -> str | None:
    """What to do with a file of this suffix, which holds a picture that cannot be an original."""
    return _ADVICE.get(suffix.lower())


def suffixes_of(format: str) -> tuple[str, ...]:
    """Return the suffixes, with their dots and in lower case, that stand for a format."""
    return _SUFFIXES.get(format, ())


def output_format(wanted: str, source: str, *, has_alpha: bool) -> str:
    """Resolve a recipe's format; ``keep`` is the original's own where the web can show it.

    BMP and TIFF become PNG. HEIF and JPEG 2000 hold photos, so they become JPEG, or PNG where
    there is transparency.
    """
    if wanted != "keep":
        return wanted
    if source in WEB_FORMATS:
        return source
    if source in _LOSSLESS_FORMATS or has_alpha:
        return "png"
    return "jpeg"
