"""Size: what the header of an original says; its pixels are not decoded."""

from __future__ import annotations

from pipeline.imaging.model import Header


def size(original: Header) -> dict[str, int | str]:
    """Width and height in pixels, of the upright picture, its format, and the bytes of its file."""
    return {
        "width": original.width_px,
        "height": original.height_px,
        "format": original.format,
        "bytes": original.size_bytes,
    }
