"""Small pictures in every format, made in memory, for the tests of the imaging package."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pillow_heif
from numpy.typing import NDArray
from PIL import Image

RED, GREEN, BLUE, YELLOW = (220, 30, 30), (30, 200, 40), (30, 50, 220), (230, 220, 40)


def photo(width: int = 96, height: int = 64) -> Image.Image:
    """A picture with smooth and detailed parts, of which no row is like another."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    waves = [
        128
        + 60 * np.sin(x / (7 + c) + y / 11)
        + 40 * np.cos(y / (5 + c))
        + 20 * np.sin((x * y) / (90 + 10 * c))
        for c in range(3)
    ]
    return Image.fromarray(np.stack(waves, axis=-1).clip(0, 255).astype(np.uint8))


def quadrants(width: int = 64, height: int = 48) -> Image.Image:
    """Red, green, blue and yellow quarters: top left, top right, bottom left, bottom right."""
    image = Image.new("RGB", (width, height))
    halves = width // 2, height // 2
    for colour, at in (
        (RED, (0, 0)),
        (GREEN, (halves[0], 0)),
        (BLUE, (0, halves[1])),
        (YELLOW, halves),
    ):
        image.paste(colour, (*at, *(at[0] + halves[0], at[1] + halves[1])))
    return image


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def heic(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    pillow_heif.from_pillow(image).save(file, **{"quality": 90} | options)
    return file.getvalue()


def declaring(data: bytes, box: int, size: tuple[int, int]) -> bytes:
    """A HEIF or AVIF of which the size that is declared at this place (``ispe``) is another."""
    at = -1
    for _ in range(box + 1):
        at = data.index(b"ispe", at + 1)
    width, height = (side.to_bytes(4, "big") for side in size)
    return data[: at + 8] + width + height + data[at + 16 :]


def decoded(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def pixels(image: Image.Image | bytes, mode: str = "RGB") -> NDArray[np.float64]:
    picture = decoded(image) if isinstance(image, bytes) else image
    return np.asarray(picture.convert(mode)).astype(float)


def mean_error(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(np.abs(a - b).mean())


def psnr(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(10 * np.log10(255**2 / max(((a - b) ** 2).mean(), 1e-9)))


def moving(
    count: int = 4, size: tuple[int, int] = (40, 30), mode: str = "RGB"
) -> list[Image.Image]:
    """Frames in which a bright square walks to the right over a ground of its own colour."""
    frames = []
    for index in range(count):
        ground = (20, 40 + 10 * index, 90) if mode == "RGB" else (0, 0, 0, 0)
        frame = Image.new(mode, size, ground)
        frame.paste((250, 200, 30, 255)[: len(mode)], (index * 8, 8, index * 8 + 10, 20))
        frames.append(frame)
    return frames


def animated(format: str, count: int = 4, mode: str = "RGB", **options: Any) -> bytes:
    first, *rest = moving(count, mode=mode)
    options = {"duration": [100 * (n + 1) for n in range(count)], "loop": 0} | options
    if format == "WEBP":
        options["lossless"] = True
    data = encoded(first, format, save_all=True, append_images=rest, **options)
    if format == "WEBP" and mode == "RGBA":
        # libwebp forgets to say so where each frame's own rectangle is opaque, as it is here.
        data = data[:20] + bytes([data[20] | 0x10]) + data[21:]
    return data


def every_format() -> dict[str, bytes]:
    """One sound still or animation per format and flavour that matters to a decoder."""
    image = photo()
    alpha = image.convert("RGBA")
    alpha.putalpha(Image.linear_gradient("L").resize(image.size))
    return {
        "jpeg": encoded(image, "JPEG", quality=90),
        "jpeg-progressive": encoded(image, "JPEG", quality=90, progressive=True),
        "jpeg-grey": encoded(image.convert("L"), "JPEG"),
        "jpeg-cmyk": encoded(image.convert("CMYK"), "JPEG"),
        "jpeg-restarts": encoded(image, "JPEG", restart_marker_rows=1),
        "png": encoded(image, "PNG"),
        "png-alpha": encoded(alpha, "PNG"),
        "png-palette": encoded(image.quantize(64), "PNG"),
        "apng": animated("PNG"),
        "gif": encoded(image.quantize(64), "GIF"),
        "gif-animated": animated("GIF"),
        "webp": encoded(image, "WEBP"),
        "webp-lossless": encoded(alpha, "WEBP", lossless=True),
        "webp-animated": animated("WEBP"),
        "tiff": encoded(image, "TIFF"),
        "tiff-lzw": encoded(image, "TIFF", compression="tiff_lzw"),
        "tiff-deflate": encoded(image, "TIFF", compression="tiff_adobe_deflate"),
        "tiff-jpeg": encoded(image, "TIFF", compression="jpeg"),
        "bmp": encoded(image, "BMP"),
        "bmp-palette": encoded(image.quantize(64), "BMP"),
        "avif": encoded(image, "AVIF", speed=9),
        "avif-alpha": encoded(alpha, "AVIF", speed=9),
        "avif-sequence": animated("AVIF"),
        "heic": heic(image),
        "heic-alpha": heic(alpha),
        "jp2": encoded(image, "JPEG2000"),
        "j2k": encoded(image, "JPEG2000", no_jp2=True),
    }
