"""The function ``watermark``: a text or a picture, laid over every rendition of a recipe."""

from __future__ import annotations

import functools
import io

from PIL import Image, ImageDraw, ImageFont

from pipeline.imaging.geometry import Layout, Size
from pipeline.imaging.resize import resize

_FORMATS = ("PNG", "WEBP", "JPEG", "GIF")
# Letters are measured at this size, in pixels, and then drawn at that which fills the box.
_MEASURED_PX = 200


def watermark(
    image: Image.Image,
    *,
    text: str | None = None,
    picture: bytes | None = None,
    font: bytes | None = None,
    colour: str = "#ffffff",
    position: str = "bottom-right",
    opacity: float = 0.5,
    margin: float = 0.03,
    scale: float = 0.25,
) -> Image.Image:
    """Lay ``text`` or ``picture`` over ``image``.

    It is as large as fits in ``scale`` times the width and height of the image, and ``margin``
    times the shorter side away from the edges. A grey image becomes RGB.

    Raises:
        ValueError: the picture or the font cannot be read.
    """
    box = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    mark = _mark(text, picture, font, colour, opacity, box)
    if image.mode == "L":
        image = image.convert("RGB")
    away = round(margin * min(image.size))
    room = max(mark.width, image.width - 2 * away), max(mark.height, image.height - 2 * away)
    left, top = Layout(room, mark.size).offset(position)
    at = left + (image.width - room[0]) // 2, top + (image.height - room[1]) // 2
    if image.mode == "RGBA":
        image.alpha_composite(mark, at)
    else:
        image.paste(mark, at, mark)
    return image


# Renditions of one recipe have few sizes.
@functools.lru_cache(maxsize=16)
def _mark(
    text: str | None,
    picture: bytes | None,
    font: bytes | None,
    colour: str,
    opacity: float,
    box: Size,
) -> Image.Image:
    mark = _letters(text or "", font, colour, box) if picture is None else _picture(picture, box)
    mark.putalpha(mark.getchannel("A").point(lambda alpha: round(alpha * opacity)))
    return mark


def _picture(data: bytes, box: Size) -> Image.Image:
    try:
        mark = Image.open(io.BytesIO(data), formats=_FORMATS).convert("RGBA")
    except Exception as error:
        raise ValueError(f"the picture of the watermark cannot be read: {error}") from error
    factor = min(box[0] / mark.width, box[1] / mark.height)
    size = max(1, round(mark.width * factor)), max(1, round(mark.height * factor))
    return resize(mark, (0, 0, *mark.size), size)


def _letters(text: str, font: bytes | None, colour: str, box: Size) -> Image.Image:
    left, top, right, bottom = _font(font, text, _MEASURED_PX).getbbox(text)
    factor = min(box[0] / max(1, right - left), box[1] / max(1, bottom - top))
    drawn = _font(font, text, max(1, _MEASURED_PX * factor))
    left, top, right, bottom = drawn.getbbox(text)
    size = max(1, round(right - left)), max(1, round(bottom - top))
    alpha = Image.new("L", size)
    ImageDraw.Draw(alpha).text((-left, -top), text, fill=255, font=drawn)
    mark = Image.new("RGBA", size, colour)
    mark.putalpha(alpha)
    return mark


def _font(
    data: bytes | None, text: str, size_px: float
) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    if data is None:
        # It would draw boxes.
        if not text.isascii():
            raise ValueError(f"the default font has no letters for {text!r}: name a file in `font`")
        return ImageFont.load_default(size_px)
    try:
        return ImageFont.truetype(io.BytesIO(data), size_px)
    except OSError as error:
        raise ValueError(f"the font of the watermark cannot be read: {error}") from error
