"""Orientation: the eight ways in which a camera may have stored a picture."""

from __future__ import annotations

from PIL import Image

ORIENTATION_TAG = 0x0112

_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Where the stored right or bottom edge ends up at the left or top of the upright picture.
RIGHT_OR_BOTTOM_EDGE_AT_LEFT = frozenset([2, 3, 6, 7])
RIGHT_OR_BOTTOM_EDGE_AT_TOP = frozenset([3, 4, 7, 8])


def stored_orientation(image: Image.Image) -> int:
    """Return 1 to 8; 1 where there is no tag, or none that makes sense."""
    if image.format == "TIFF":
        return 1  # Pillow turns a TIFF upright while it loads, and says the upright size before
    try:
        value = image.getexif().get(ORIENTATION_TAG, 1)
    except Exception:  # broken EXIF raises nearly anything; the picture itself may be fine
        return 1
    return value if value in _TRANSPOSITIONS else 1


def swaps_sides(orientation: int) -> bool:
    return orientation >= 5


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """Turn a stored picture the right way up; the same object where it is so already."""
    method = _TRANSPOSITIONS.get(orientation)
    return image if method is None else image.transpose(method)
