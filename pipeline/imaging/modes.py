"""Modes: every kind of pixel that Pillow decodes becomes 8-bit grey, RGB or RGBA, or stays CMYK."""

from __future__ import annotations

import math
from array import array

from PIL import Image, ImageChops

# 16 bits to 8: 65535 / 257 = 255 exactly.
_SIXTEEN_TO_EIGHT = 1 / 257


def to_eight_bit(image: Image.Image) -> Image.Image:
    """Return L, RGB, RGBA, CMYK or LAB with the same look; wider values are scaled, not clipped."""
    mode = image.mode
    if mode in ("RGB", "L") and "transparency" not in image.info:
        return image
    if mode == "CMYK":
        # Pillow takes every CMYK JPEG for an inverted one; without Adobe's marker it is not.
        if image.format in ("JPEG", "MPO") and "adobe" not in image.info:
            return ImageChops.invert(image)
        return image
    if mode == "LAB":
        return image
    if mode.startswith("I;16"):
        image = _scaled(image, 0, _SIXTEEN_TO_EIGHT)
    elif mode in ("I", "F"):
        image = _scaled(image, *_range_to_eight_bit(image))
    elif mode in ("RGB", "L", "1", "P", "PA", "LA", "La", "RGBa"):
        has_alpha = image.has_transparency_data or mode in ("La", "RGBa")
        if mode in ("1", "L") and not has_alpha:
            image = image.convert("L")
        elif mode == "La":
            image = image.convert("LA").convert("RGBA")
        else:
            image = image.convert("RGBA" if has_alpha else "RGB")
    elif mode != "RGBA":
        image = image.convert("RGB")  # YCbCr, HSV, RGBX
    return _without_idle_alpha(image) if image.mode == "RGBA" else image


def _without_idle_alpha(image: Image.Image) -> Image.Image:
    """Drop an alpha channel that hides nothing; it would cost time and bytes at every step."""
    if image.getchannel("A").getextrema() == (255, 255):
        return image.convert("RGB")
    return image


def _range_to_eight_bit(image: Image.Image) -> tuple[float, float]:
    """Return (black, factor) for 32-bit pixels, whose range no header says.

    The smallest usual range that holds them is taken: 0..1 (floats), 0..255, 0..65535. Anything
    else is stretched from its own darkest to its own brightest value.
    """
    low, high = _finite_extremes(image)
    if low >= 0:
        if high <= 1 and image.mode == "F":
            return 0, 255
        if high <= 255:
            return 0, 1
        if high <= 65535:
            return 0, _SIXTEEN_TO_EIGHT
    return low, 255 / (high - low) if high > low else 0


def _finite_extremes(image: Image.Image) -> tuple[float, float]:
    low, high = image.getextrema()
    assert isinstance(low, int | float)
    assert isinstance(high, int | float)
    if math.isfinite(low) and math.isfinite(high):
        return low, high
    # Slow, but rare: measurements with holes in them, marked as NaN or infinite.
    numbers = [value for value in array("f", image.tobytes()) if math.isfinite(value)]
    return min(numbers, default=0.0), max(numbers, default=0.0)


def _scaled(image: Image.Image, black: float, factor: float) -> Image.Image:
    # Through floats: Pillow's own I;16 to L clips. The half makes its truncation a rounding.
    wide = image if image.mode == "F" else image.convert("I").convert("F")
    return wide.point(lambda value: value * factor + (0.5 - black * factor)).convert("L")
