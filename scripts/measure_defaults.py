"""Measure what each encoder setting costs and gives; the tables of docs/pixels.md are made so.

    PYTHONPATH=. python scripts/measure_defaults.py --photos FOLDER [--long-side 1200] [--count 8]

Every photo is decoded whole, scaled down once, and encoded with each setting; bytes and SSIM are
means over the photos, milliseconds are the best of three, one thread.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.imaging import Limits, Rendition
from pipeline.imaging.render import render
from pipeline.transforms.recipes import Recipe

Array = NDArray[np.float64]
LANCZOS = Image.Resampling.LANCZOS

SETTINGS: dict[str, list[dict[str, Any]]] = {
    "JPEG": [
        *({"quality": quality} for quality in (75, 80, 82, 85, 90)),
        {"quality": 82, "optimize": True},
        {"quality": 82, "progressive": True, "optimize": True},
        {"quality": 82, "subsampling": "4:4:4"},
    ],
    "WEBP": [
        *({"quality": quality, "method": 4} for quality in (70, 75, 80, 85)),
        *({"quality": 80, "method": method} for method in (0, 2, 6)),
    ],
    "AVIF": [
        *({"quality": quality, "speed": 9, "max_threads": 1} for quality in (50, 60, 65, 70)),
        *({"quality": 65, "speed": speed, "max_threads": 1} for speed in (6, 7, 9, 10)),
        {"quality": 65, "speed": 9, "max_threads": 1, "subsampling": "4:4:4"},
    ],
    "PNG": [{"compress_level": level} for level in (1, 3, 6)],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--long-side", type=int, default=1200)
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--scales-only", action="store_true", help="leave the encoders out")
    options = parser.parse_args()
    paths = sorted(options.photos.glob("*.jp*g"))[: options.count]
    if not options.scales_only:
        scaled = [scale_down(path, options.long_side) for path in paths]
        print(f"{len(scaled)} photos, {options.long_side} px on the long side\n")
        print("| format | setting | bytes | SSIM | ms |\n|---|---|---|---|---|")
        for format_, settings in SETTINGS.items():
            for setting in settings:
                print(row(format_, setting, scaled))
    print("\n| rendition | PSNR, dB | ms |\n|---|---|---|")
    for name, psnr_db, ms in decode_scales(paths):
        print(f"| {name} | {psnr_db:.1f} | {ms:.1f} |")


def scale_down(path: Path, long_side: int) -> Image.Image:
    with Image.open(path) as image:
        image.thumbnail((long_side, long_side), LANCZOS, reducing_gap=None)
        return image.convert("RGB")


def row(format_: str, setting: dict[str, Any], images: list[Image.Image]) -> str:
    sizes, similar, times_ms = [], [], []
    for image in images:
        best_ms = float("inf")
        for _ in range(3):
            file = io.BytesIO()
            start = time.perf_counter()
            image.save(file, format_, **setting)
            best_ms = min(best_ms, (time.perf_counter() - start) * 1000)
        sizes.append(len(file.getvalue()))
        similar.append(ssim(luma(image), luma(Image.open(file))))
        times_ms.append(best_ms)
    words = ", ".join(f"{key} {value}" for key, value in setting.items() if key != "max_threads")
    return (
        f"| {format_} | {words} | {np.mean(sizes):,.0f} | {np.mean(similar):.4f} "
        f"| {np.mean(times_ms):.1f} |"
    )


def decode_scales(paths: list[Path]) -> Iterator[tuple[str, float, float]]:
    """Compare JPEGs (quality 85) with a whole decode + Lanczos that is never encoded."""
    small = Recipe("small", fit=(400, 400), format="jpeg", quality=85)
    half = Recipe("half", scale=0.5, format="jpeg", quality=85)
    ways = {
        "400 px alone": ([small], "small"),
        "400 px beside half": ([small, half], "small"),
        "half alone": ([half], "half"),
    }
    for name, (recipes, judged) in ways.items():
        ours, theirs = [], []
        for path in paths:
            data = path.read_bytes()
            start = time.perf_counter()
            made = {result.recipe: result for result in render(data, recipes, Limits())}[judged]
            ms = (time.perf_counter() - start) * 1000
            assert isinstance(made, Rendition)
            size = made.width_px, made.height_px
            reference = array(Image.open(path).convert("RGB").resize(size, LANCZOS))
            ours.append((psnr(reference, array(Image.open(io.BytesIO(made.data)))), ms))
            start = time.perf_counter()
            file = io.BytesIO()
            image = Image.open(io.BytesIO(data)).convert("RGB").resize(size, LANCZOS)
            image.save(file, "JPEG", quality=85)
            ms = (time.perf_counter() - start) * 1000
            theirs.append((psnr(reference, array(Image.open(file))), ms))
        for who, values in (("Lockstep", ours), ("whole decode + Lanczos", theirs)):
            psnr_db, ms = np.mean(values, axis=0)
            yield f"{name}: {who}", float(psnr_db), float(ms)


def array(image: Image.Image) -> Array:
    return np.asarray(image.convert("RGB")).astype(np.float64)


def luma(image: Image.Image) -> Array:
    return np.asarray(image.convert("L")).astype(np.float64)


def psnr(a: Array, b: Array) -> float:
    return float(10 * np.log10(255**2 / ((a - b) ** 2).mean()))


def ssim(a: Array, b: Array, window: int = 8) -> float:
    """SSIM of luma by uniform windows of 8 x 8 px (Wang et al. 2004, equation 13)."""

    def mean(values: Array) -> Array:
        sums = np.pad(values.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        boxes = sums[window:, window:] - sums[:-window, window:]
        return np.asarray(boxes - sums[window:, :-window] + sums[:-window, :-window]) / window**2

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    both = mean(a * b) - mean_a * mean_b
    top = (2 * mean_a * mean_b + c1) * (2 * both + c2)
    return float((top / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean())


if __name__ == "__main__":
    main()
