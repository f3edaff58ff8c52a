"""Encode: pixels to bytes, with the defaults that docs/pixels.md measures."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pipeline.errors import ImageError
from pipeline.reasons import Code
from pipeline.transforms.recipes import Recipe

DEFAULT_QUALITY = {"jpeg": 82, "webp": 80, "avif": 65}

# What each format's own header can say.
_MAX_SIDE_PX = {"jpeg": 65_500, "webp": 16_383, "avif": 65_535, "gif": 65_535, "png": 2**31 - 1}

WEBP_METHOD = 4
AVIF_SPEED = 9
PNG_LEVEL = 3


@dataclass(frozen=True, slots=True)
class Tags:
    """The metadata that a rendition carries, each as the bytes that go into the file."""

    exif: bytes = b""
    xmp: bytes = b""


def encode(image: Image.Image, format: str, recipe: Recipe, tags: Tags) -> bytes:
    """Write L, RGB or RGBA as one still picture; raises ImageError where the format cannot."""
    check_size(image.size, format)
    options = encode_options(format, recipe, tags)
    if format == "gif":
        image, extra = to_palette(image)
        options |= extra
    elif format == "avif" and image.mode == "RGBA":
        image = _with_even_ground(image)
    file = io.BytesIO()
    # Pillow's writers add what they find in here unasked: profiles, comments, resolutions.
    found, image.info = image.info, {}
    try:
        image.save(file, format, **options)
    finally:
        image.info = found
    return file.getvalue()


def check_size(size: tuple[int, int], format: str) -> None:
    limit = _MAX_SIDE_PX[format]
    if max(size) > limit:
        raise ImageError(
            f"{size[0]:,} x {size[1]:,} px is more than {format} can hold ({limit:,} px a side)",
            Code.RESULT_TOO_LARGE,
        )


def encode_options(format: str, recipe: Recipe, tags: Tags) -> dict[str, Any]:
    """Return what Pillow's ``save`` is given, for stills and for animations alike."""
    return _codec_options(format, recipe) | _tag_options(format, tags)


def _codec_options(format: str, recipe: Recipe) -> dict[str, Any]:
    quality = recipe.quality or DEFAULT_QUALITY.get(format, 0)
    if format == "jpeg":
        # Huffman tables of its own save 3 % of the bytes and double the time of the encoding; a
        # progressive file always has them.
        return {"quality": quality, "progressive": recipe.progressive}
    if format == "webp":
        return {"quality": quality, "method": WEBP_METHOD}
    if format == "avif":
        return {"quality": quality, "speed": AVIF_SPEED, "max_threads": 1}
    if format == "png":
        return {"compress_level": PNG_LEVEL}
    return {}


def _tag_options(format: str, tags: Tags) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if tags.exif and format != "gif":
        options["exif"] = tags.exif
    if tags.xmp and format in ("jpeg", "webp", "avif"):
        options["xmp"] = tags.xmp
    if tags.xmp and format == "png":
        chunks = PngInfo()
        chunks.add_itxt("XML:com.adobe.xmp", tags.xmp.decode("utf-8", "replace"))
        options["pnginfo"] = chunks
    return options


def _with_even_ground(image: Image.Image) -> Image.Image:
    """Give hidden pixels the colour of what is seen near them, 8 px by 8 px.

    They are black after a resize with premultiplied alpha, and a lossy encoder carries that black
    over the rim as a fringe. libwebp does the same by itself.
    """
    alpha = image.getchannel("A")
    if alpha.getextrema()[0] != 0:
        return image
    near = image.convert("RGBa").reduce(8).convert("RGBA")
    ground = near.resize((near.width * 8, near.height * 8), Image.Resampling.NEAREST)
    ground = ground.crop((0, 0, *image.size)).convert("RGB")
    ground.paste(image.convert("RGB"), mask=alpha.point(lambda value: 255 if value else 0))
    ground.putalpha(alpha)
    return ground


def to_palette(image: Image.Image) -> tuple[Image.Image, dict[str, Any]]:
    """Reduce to a GIF's 256 colours; half-transparent pixels become one or the other."""
    if image.mode == "L":
        return image, {}
    if image.mode == "RGB":
        return image.quantize(256, Image.Quantize.MEDIANCUT), {}
    hidden = image.getchannel("A").point(lambda alpha: 255 if alpha < 128 else 0)
    palette = image.convert("RGB").quantize(255, Image.Quantize.MEDIANCUT)
    palette.paste(255, mask=hidden)
    return palette, {"transparency": 255, "disposal": 2}
