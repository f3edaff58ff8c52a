"""Draw the sample originals in input/: small, different in every way that matters, and free.

    python scripts/make_samples.py [FOLDER]

They differ in format, orientation tag, transparency, animation and sub-folder, and weigh under
1 MB in all. The same script draws the same pixels at every run.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Array = NDArray[np.float64]
Colour = tuple[int, int, int]


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "input")
    alps = landscape(1600, 1067, DUSK, seed=3)
    save(alps, folder / "dusk.jpg", quality=84)
    save(landscape(1201, 801, NOON, seed=8), folder / "travel" / "noon.webp", quality=80)
    save(aurora(1280, 853), folder / "travel" / "Norðurljós.avif", quality=62, speed=6)
    # Held upright, stored lying: the camera says so in a tag.
    save(lighthouse(800, 1200), folder / "travel" / "lighthouse.jpg", quality=84, tag=6)
    save(mirror_lake(900, 600), folder / "travel" / "lake-mirrored.jpg", quality=84, tag=2)
    save(mug(720, 720, (201, 72, 50)), folder / "shop" / "mug.png", optimize=True)
    save(mug(640, 640, (44, 110, 138)), folder / "shop" / "mug-blue.webp", quality=82)
    save(tile(512), folder / "shop" / "tile.bmp")
    print_ready = landscape(480, 320, DAWN, seed=5).convert("CMYK")
    save(print_ready, folder / "print" / "dawn-cmyk.tif", compression="tiff_lzw", tag=3)
    save(bars(600, 400), folder / "print" / "chart.png", bits=4, optimize=True)
    frames = [moon(200, (step / 16 + 0.3) % 1) for step in range(16)]
    save(
        frames[0].quantize(32),
        folder / "moon.gif",
        save_all=True,
        append_images=[frame.quantize(32) for frame in frames[1:]],
        duration=[90] * 15 + [600],
        loop=0,
    )
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix]
    print(f"{len(files)} originals, {sum(path.stat().st_size for path in files):,} bytes")


def save(image: Image.Image, path: Path, *, tag: int = 1, **options: Any) -> None:
    """Write a picture; with an orientation ``tag`` its pixels are stored turned accordingly."""
    turned = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        6: Image.Transpose.ROTATE_90,
    }
    if tag in turned:
        exif = Image.Exif()
        exif[0x0112] = tag
        image, options["exif"] = image.transpose(turned[tag]), exif.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


# A landscape's light: the sky from top to horizon, the sun, and the farthest and nearest ridge.
DUSK = {
    "sky": [(24, 28, 74), (92, 64, 130), (226, 118, 110), (253, 196, 128)],
    "sun": (255, 226, 170),
    "ridges": [(176, 108, 128), (18, 16, 40)],
}
NOON = {
    "sky": [(48, 116, 200), (112, 172, 228), (196, 222, 240)],
    "sun": (255, 252, 236),
    "ridges": [(150, 182, 200), (34, 74, 46)],
}
DAWN = {
    "sky": [(90, 120, 170), (214, 190, 200), (255, 222, 180)],
    "sun": (255, 240, 214),
    "ridges": [(190, 176, 190), (62, 70, 92)],
}


def grid(width: int, height: int) -> tuple[Array, Array]:
    """Coordinates of every pixel, both from 0 to 1."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    return x / width, y / height


def gradient(stops: list[Colour], at: Array) -> Array:
    places = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(at, places, [s[c] for s in stops]) for c in range(3)], axis=-1)


def picture(values: Array) -> Image.Image:
    return Image.fromarray(values.clip(0, 255).round().astype(np.uint8))


def ridge(x: Array, layer: int, seed: int) -> Array:
    """The height of a mountain ridge along x: a few waves, each smaller and quicker."""
    height = np.zeros_like(x)
    for octave in range(1, 8):
        shift = math.sin(seed * 12.9 + layer * 78.2 + octave * 37.7) * 43.7
        height += np.abs(np.sin(x * 2.1 * 1.9**octave + shift)) / 1.9**octave
    return height


def landscape(width: int, height: int, light: dict[str, Any], seed: int) -> Image.Image:
    x, y = grid(width, height)
    scene = gradient(light["sky"], np.clip(y / 0.62, 0, 1))
    away = np.hypot((x - 0.68) * width / height, y - 0.44)
    glow = np.exp(-away * 5.5)[..., None] * 0.75 + (away < 0.045)[..., None] * 1.0
    scene = scene + (np.array(light["sun"]) - scene) * glow.clip(0, 1)
    layers = 6
    for layer in range(layers):
        depth = layer / (layers - 1)
        crest = (
            0.5 + 0.085 * layer - (0.16 - 0.012 * layer) * ridge(x * (1.4 - depth / 2), layer, seed)
        )
        far, near = (np.array(colour, float) for colour in light["ridges"])
        colour = far + (near - far) * depth
        below = np.clip((y - crest) * height / 1.5, 0, 1)[..., None]
        mist = np.clip((y - crest) * 3.2, 0, 0.55)[..., None] * (1 - depth)
        scene = scene + (colour + (np.array(light["sun"]) - colour) * mist * 0.6 - scene) * below
    return picture(scene)


def aurora(width: int, height: int) -> Image.Image:
    x, y = grid(width, height)
    scene = gradient([(4, 8, 28), (10, 26, 52), (22, 50, 66)], y)
    for band in range(3):
        curve = 0.34 + 0.09 * band + 0.09 * np.sin(x * (5 + band) + band * 2.0)
        rays = 0.72 + 0.28 * np.sin(x * (70 + 23 * band) + 4 * np.sin(x * 9))
        fall = np.where(y < curve, np.exp((y - curve) * 7), np.exp((curve - y) * 32)) * rays
        hue = np.array([(64, 240, 150), (60, 220, 190), (150, 90, 220)][band], float)
        scene = scene + hue * fall[..., None] * 0.62
    crest = 0.80 - 0.10 * ridge(x, 4, 2)
    scene *= 1 - np.clip((y - crest) * height / 1.5, 0, 1)[..., None] * 0.94
    image = picture(scene)
    draw = ImageDraw.Draw(image)
    for star in range(120):
        u, v = math.sin(star * 91.7) * 0.5 + 0.5, (math.sin(star * 47.3) * 0.5 + 0.5) * 0.55
        shade = 120 + star % 5 * 30
        draw.point((int(u * width), int(v * height)), (shade, shade, shade))
    return image


def lighthouse(width: int, height: int) -> Image.Image:
    x, y = grid(width, height)
    scene = gradient([(58, 120, 196), (150, 196, 228), (250, 226, 196)], np.clip(y / 0.7, 0, 1))
    waves = np.sin(y * 190 + 5 * np.sin(x * 17)) * np.clip((y - 0.7) * 9, 0, 1) * 12
    sea = gradient([(122, 170, 190), (18, 62, 96)], np.clip((y - 0.7) / 0.3, 0, 1))
    scene = np.where((y > 0.7)[..., None], sea + waves[..., None], scene)
    image = picture(scene)
    draw = ImageDraw.Draw(image)
    w, h = width / 100, height / 100
    draw.polygon(
        [
            (0, 82 * h),
            (30 * w, 72 * h),
            (78 * w, 74 * h),
            (100 * w, 86 * h),
            (100 * w, 100 * h),
            (0, 100 * h),
        ],
        (58, 52, 50),
    )
    for band in range(8):
        top, bottom = 26 + band * 6, 32 + band * 6
        left, right = (6 + 0.07 * (edge - 26) for edge in (top, bottom))
        draw.polygon(
            [
                ((52 - left) * w, top * h),
                ((52 + left) * w, top * h),
                ((52 + right) * w, bottom * h),
                ((52 - right) * w, bottom * h),
            ],
            (206, 48, 44) if band % 2 == 0 else (246, 242, 234),
        )
    draw.rectangle((43 * w, 24.5 * h, 61 * w, 26 * h), (40, 44, 52))
    draw.rectangle((47 * w, 19 * h, 57 * w, 24.5 * h), (255, 236, 150))
    draw.polygon([(45 * w, 19 * h), (59 * w, 19 * h), (52 * w, 14 * h)], (168, 36, 36))
    return image.filter(ImageFilter.GaussianBlur(0.8))


def mirror_lake(width: int, height: int) -> Image.Image:
    """Mountains above their own reflection, with a sail on the right that shows a mirroring."""
    upper = landscape(width, height, DAWN, seed=11).crop((0, 0, width, height * 62 // 100))
    lower = upper.transpose(Image.Transpose.FLIP_TOP_BOTTOM).filter(ImageFilter.GaussianBlur(3))
    image = Image.new("RGB", (width, height))
    image.paste(upper, (0, 0))
    image.paste(
        Image.blend(lower, Image.new("RGB", lower.size, (60, 90, 120)), 0.3), (0, upper.height)
    )
    draw = ImageDraw.Draw(image)
    at, line = width * 78 // 100, upper.height + 26
    draw.polygon([(at, line - 120), (at, line - 8), (at + 62, line - 8)], (250, 248, 240))
    draw.polygon([(at - 6, line - 104), (at - 6, line - 8), (at - 40, line - 8)], (214, 70, 58))
    draw.polygon(
        [(at - 46, line - 4), (at + 66, line - 4), (at + 46, line + 14), (at - 30, line + 14)],
        (70, 48, 40),
    )
    return image


def mug(width: int, height: int, colour: Colour) -> Image.Image:
    """A mug with a soft shadow on nothing: every degree of transparency."""
    x, y = grid(width, height)
    inside = (
        (np.abs(x - 0.44) < 0.24)
        & (y > 0.26)
        & (y < 0.80 + 0.03 * np.sqrt(np.clip(1 - ((x - 0.44) / 0.24) ** 2, 0, 1)))
    )
    handle = np.hypot((x - 0.68) / 0.9, y - 0.50)
    handle_in = (handle < 0.16) & (handle > 0.10) & (x > 0.66)
    rim = ((x - 0.44) / 0.24) ** 2 + ((y - 0.26) / 0.05) ** 2
    coffee = ((x - 0.44) / 0.215) ** 2 + ((y - 0.265) / 0.038) ** 2
    side = 0.62 + 0.5 * np.cos((x - 0.36) * 5.2) ** 3
    rgb = np.array(colour, float) * side[..., None]
    rgb += 90 * np.exp(-(((x - 0.30) / 0.035) ** 2))[..., None]
    rgb = np.where((rim < 1)[..., None], np.array(colour) * 1.12 + 20, rgb)
    rgb = np.where((coffee < 1)[..., None], gradient([(58, 32, 18), (96, 58, 34)], y * 2), rgb)
    shadow = 0.5 * np.exp(-(((x - 0.5) / 0.30) ** 2) - ((y - 0.84) / 0.035) ** 2)
    solid = inside | handle_in | (rim < 1)
    rgb = np.where(solid[..., None], rgb, (24, 20, 28))
    alpha = np.where(solid, 1.0, shadow) * 255
    return picture(np.concatenate([rgb, alpha[..., None]], axis=-1)).filter(
        ImageFilter.GaussianBlur(0.7)
    )


def tile(side: int) -> Image.Image:
    """A glazed tile in 64 colours."""
    x, y = grid(side, side)
    u, v = np.abs(x * 4 % 2 - 1), np.abs(y * 4 % 2 - 1)
    flower = np.hypot(u - 0.5, v - 0.5) * (1 + 0.35 * np.cos(8 * np.arctan2(v - 0.5, u - 0.5)))
    scene = gradient(
        [(246, 240, 226), (30, 84, 150), (214, 168, 70), (246, 240, 226)], flower * 1.9
    )
    return picture(scene).quantize(64)


def bars(width: int, height: int) -> Image.Image:
    """A chart in a palette of few colours, its ground transparent."""
    image = Image.new("P", (width, height), 0)
    image.putpalette([255, 255, 255, 47, 62, 78, 224, 122, 95, 129, 178, 154, 242, 204, 143])
    draw = ImageDraw.Draw(image)
    for bar, share in enumerate((0.42, 0.66, 0.31, 0.85, 0.58, 0.74, 0.93)):
        left = 50 + bar * 76
        draw.rounded_rectangle(
            (left, height - 40 - share * 320, left + 52, height - 40), 8, 2 + bar % 3
        )
    draw.line((30, height - 38, width - 20, height - 38), 1, 4)
    image.info["transparency"] = 0
    return image


def moon(side: int, phase: float) -> Image.Image:
    x, y = grid(side, side)
    u, v = (x - 0.5) / 0.38, (y - 0.5) / 0.38
    inside = np.clip((1 - np.hypot(u, v)) * side * 0.2, 0, 1)
    edge = math.cos(phase * 2 * math.pi) * np.sqrt(np.clip(1 - v * v, 0, 1))
    lit = np.clip((u - edge if phase < 0.5 else -edge - u) * 9 + 0.5, 0, 1) * inside
    craters = sum(
        np.exp(-((u - a) ** 2 + (v - b) ** 2) / r)
        for a, b, r in (
            (0.3, -0.3, 0.03),
            (-0.35, 0.1, 0.05),
            (0.1, 0.45, 0.02),
            (-0.2, -0.5, 0.02),
        )
    )
    glow = np.array((236, 230, 206)) * (0.08 * inside + lit * (1 - 0.25 * craters))[..., None]
    return picture(np.array((14, 18, 40)) + glow)


if __name__ == "__main__":
    main()
