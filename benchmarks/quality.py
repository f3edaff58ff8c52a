"""How near a rendition is to the best one: PSNR and SSIM against whole decode + Lanczos.

The reference is worked out by Pillow from the original at full size, and not encoded. Both
figures are means over the sample. PSNR is over R, G and B; SSIM is that of Wang et al. (2004)
on luma, with its 11 px Gaussian window (sigma 1.5) and constants (0.01, 0.03).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from benchmarks.job import Job, Original, Recipe
from benchmarks.peers.worker import save_options

SAMPLE = 24
_SIGMA_PX, _RADIUS_PX = 1.5, 5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_SAME_PSNR_DB = 99.0  # stands in for the infinite value of two equal images


@dataclass(frozen=True)
class Quality:
    psnr_db: float
    ssim: float
    compared: int
    wrong_size: int  # renditions whose size differs from the one asked for


def sample(job: Job) -> list[Original]:
    """Originals spread evenly over the corpus, the same for every peer."""
    step = max(1, len(job.originals) // SAMPLE)
    return list(job.originals[::step][:SAMPLE])


class Judge:
    """Compares renditions with references, which are worked out once for all peers."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._sample = sample(job)
        self._references: dict[tuple[str, tuple[int, int]], np.ndarray] = {}

    def of_folder(self, output: Path, recipe: Recipe) -> Quality | None:
        """The quality of the files that a peer left in its output folder."""
        paths = [output / recipe.name / recipe.file_name(o.name) for o in self._sample]
        images = [_read(path) for path in paths]
        return self._mean(images, recipe)

    def of_whole_decode(self, recipe: Recipe) -> Quality | None:
        """The quality of the reference itself once encoded: what the encoder alone takes away."""
        images = []
        for original in self._sample:
            size = recipe.size(original.width, original.height)
            rendition = {"format": recipe.format, "quality": recipe.quality}
            file = io.BytesIO()
            reference = Image.fromarray(self._reference(original, size))
            reference.save(file, **save_options(rendition, vars(self._job.encoder)))
            images.append(_read(file))
        return self._mean(images, recipe)

    def _mean(self, images: Sequence[np.ndarray | None], recipe: Recipe) -> Quality | None:
        psnrs, ssims, wrong = [], [], 0
        for original, image in zip(self._sample, images, strict=True):
            if image is None:
                continue
            height, width = image.shape[:2]
            asked = recipe.size(original.width, original.height)
            wrong += (width, height) != asked
            if abs(width - asked[0]) > 1 or abs(height - asked[1]) > 1:
                continue  # more than another way of rounding: there is nothing to compare
            reference = self._reference(original, (width, height))
            psnrs.append(psnr_db(reference, image))
            ssims.append(ssim(reference, image))
        if not psnrs:
            return None
        return Quality(float(np.mean(psnrs)), float(np.mean(ssims)), len(psnrs), wrong)

    def _reference(self, original: Original, size: tuple[int, int]) -> np.ndarray:
        key = (original.name, size)
        if key not in self._references:
            with Image.open(self._job.input / original.name) as opened:
                image = ImageOps.exif_transpose(opened).convert("RGB")
            resized = image.resize(size, Image.Resampling.LANCZOS)
            self._references[key] = np.asarray(resized)
        return self._references[key]


def psnr_db(a: np.ndarray, b: np.ndarray) -> float:
    difference = a.astype(np.float32) - b.astype(np.float32)
    error = float(np.mean(difference**2))
    return _SAME_PSNR_DB if error == 0 else 10 * float(np.log10(255**2 / error))


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    x, y = _luma(a), _luma(b)
    if min(x.shape) <= 2 * _RADIUS_PX:
        return float("nan")  # smaller than the window
    mean_x, mean_y = _blurred(x), _blurred(y)
    variance_x = _blurred(x * x) - mean_x**2
    variance_y = _blurred(y * y) - mean_y**2
    covariance = _blurred(x * y) - mean_x * mean_y
    numerator = (2 * mean_x * mean_y + _C1) * (2 * covariance + _C2)
    denominator = (mean_x**2 + mean_y**2 + _C1) * (variance_x + variance_y + _C2)
    return float(np.mean(numerator / denominator))


def _luma(image: np.ndarray) -> np.ndarray:
    return image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)


def _blurred(plane: np.ndarray) -> np.ndarray:
    """A Gaussian blur, without the border where the window would leave the image."""
    offsets = np.arange(-_RADIUS_PX, _RADIUS_PX + 1)
    weights = np.exp(-(offsets**2) / (2 * _SIGMA_PX**2))
    weights = (weights / weights.sum()).astype(np.float32)
    for axis in (0, 1):
        length = plane.shape[axis] - 2 * _RADIUS_PX
        windows = (np.take(plane, range(i, i + length), axis) for i in range(2 * _RADIUS_PX + 1))
        plane = sum(w * window for w, window in zip(weights, windows, strict=True))
    return plane


def _read(file: Path | io.BytesIO) -> np.ndarray | None:
    try:
        with Image.open(file) as opened:
            return np.asarray(opened.convert("RGB"))
    except OSError:
        return None
