"""The photo corpus: 0.5 to 24 MP, log-uniform, from a folder of photos or from generated ones.

Each original is a crop of one photo, scaled to its size and saved as JPEG at a quality of its own
(72 to 95), so that no two share their bytes, and a rate is not that of a single photo. A crop that
has to be enlarged gets grain back, as an enlarged photo without any would decode too fast.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import shutil
import sys
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.job import Original

MIN_MEGAPIXELS, MAX_MEGAPIXELS = 0.5, 24.0
_ASPECTS = ((3, 2), (4, 3), (1, 1), (2, 3), (3, 4), (16, 9))
_GENERATED = 6
_GENERATED_SIZE = (6000, 4000)
_PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp")
_VERSION = 5  # raise it when a corpus made by an older script must not be used again


@dataclass(frozen=True)
class Wanted:
    """Which corpus: its size, the format of its originals, and where its photos come from."""

    count: int
    suffix: str = ".jpg"
    max_megapixels: float = MAX_MEGAPIXELS
    photos: Path | None = None

    def folder(self, scratch: Path) -> Path:
        source = str(self.photos.resolve()) if self.photos else "generated"
        key = hashlib.sha256(f"{_VERSION} {source} {self.max_megapixels}".encode()).hexdigest()[:8]
        return scratch / "corpus" / f"{self.suffix.lstrip('.')}-{self.count}-{key}"


def make(wanted: Wanted, scratch: Path) -> tuple[Path, list[Original]]:
    """The folder of the corpus, and its originals; made once, then found again."""
    folder = wanted.folder(scratch)
    manifest = folder.parent / f"{folder.name}.json"
    if not manifest.exists():
        if folder.exists():
            shutil.rmtree(folder)  # begun and not finished
        folder.mkdir(parents=True)
        sources = _sources(wanted.photos, scratch)
        print(f"making {wanted.count} originals in {folder}", file=sys.stderr)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            make_one = partial(_make_one, wanted, folder, sources)
            made = pool.map(make_one, range(wanted.count), chunksize=4)
        manifest.write_text(json.dumps(made), encoding="utf-8")
    made = json.loads(manifest.read_text(encoding="utf-8"))
    return folder, [Original(*entry) for entry in made]


def megapixels(number: int, wanted: Wanted) -> float:
    """Log-uniform and stratified: a small corpus has the same mix of sizes as a large one."""
    order = np.random.default_rng(wanted.count).permutation(wanted.count)
    share = (order[number] + 0.5) / wanted.count
    return float(MIN_MEGAPIXELS * (wanted.max_megapixels / MIN_MEGAPIXELS) ** share)


def _make_one(
    wanted: Wanted, folder: Path, sources: list[Path], number: int
) -> tuple[str, int, int]:
    random = np.random.default_rng((_VERSION, number))
    photo = _open(sources[number % len(sources)])
    across, down = _ASPECTS[random.integers(len(_ASPECTS))]
    unit = (megapixels(number, wanted) * 1e6 / (across * down)) ** 0.5
    # Even sides, as cameras write them. Of an odd side no decoder gives an exact half: Lockstep
    # resamples those, at a tenth of the time of the whole (docs/pixels.md).
    size = (2 * round(unit * across / 2), 2 * round(unit * down / 2))
    image = photo.resize(size, Image.Resampling.BICUBIC, box=_crop(photo, size, random))
    if size[0] > photo.width or size[1] > photo.height:
        image = _with_grain(image, random)
    name = f"p{number:05d}{wanted.suffix}"
    if wanted.suffix == ".png":
        image.save(folder / name, compress_level=3)
    else:
        image.save(folder / name, quality=int(random.integers(72, 96)))
    return name, *size


def _crop(
    photo: Image.Image, size: tuple[int, int], random: np.random.Generator
) -> tuple[float, float, float, float]:
    """A random window of the wanted aspect that covers 60 to 100 % of what fits."""
    widest = min(photo.width / size[0], photo.height / size[1])
    scale = widest * random.uniform(0.6, 1.0)
    width, height = size[0] * scale, size[1] * scale
    left = random.uniform(0, photo.width - width)
    top = random.uniform(0, photo.height - height)
    return left, top, min(left + width, photo.width), min(top + height, photo.height)


def _with_grain(image: Image.Image, random: np.random.Generator) -> Image.Image:
    # Drawn at half the size: the grain of a camera's JPEG is never as fine as a pixel.
    coarse = random.normal(128, 4, (-(-image.height // 2), -(-image.width // 2))).astype(np.uint8)
    grain = Image.fromarray(coarse).resize(image.size, Image.Resampling.BICUBIC)
    pixels = np.asarray(image, dtype=np.int16) + np.asarray(grain, dtype=np.int16)[..., None] - 128
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@cache
def _open(path: Path) -> Image.Image:
    return Image.open(path).convert("RGB")


def _sources(photos: Path | None, scratch: Path) -> list[Path]:
    if photos is None:
        return _generated(scratch / "corpus" / f"generated-{_VERSION}")
    found = sorted(p for p in photos.rglob("*") if p.suffix.lower() in _PHOTO_SUFFIXES)
    if not found:
        raise SystemExit(f"no photos in {photos}: give --photos a folder with JPEG or PNG files")
    return found


def _generated(folder: Path) -> list[Path]:
    """Photo-like images: 1/f noise, a gradient of light, hard edges."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"g{number}.png" for number in range(_GENERATED)]
    wanted = [number for number, path in enumerate(paths) if not path.exists()]
    if wanted:
        print(f"generating {len(wanted)} photo-like images in {folder}", file=sys.stderr)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            pool.starmap(_generate, [(number, paths[number]) for number in wanted], chunksize=1)
    return paths


def _generate(seed: int, path: Path) -> None:
    unfinished = path.with_suffix(".unfinished")
    _photo_like(seed).save(unfinished, "PNG", compress_level=1)
    unfinished.rename(path)


def _photo_like(seed: int) -> Image.Image:
    """Noise is added and the image doubled, octave by octave, from a few pixels to full size."""
    random = np.random.default_rng(seed)
    width, height = _GENERATED_SIZE
    image = Image.fromarray(random.integers(60, 180, (4, 6, 3), dtype=np.uint8))
    amplitude = 40.0
    while image.width < width:
        size = (min(image.width * 2, width), min(image.height * 2, height))
        pixels = np.asarray(image.resize(size, Image.Resampling.BICUBIC), dtype=np.float32)
        noise = random.standard_normal(pixels.shape[:2], dtype=np.float32)[..., None]
        pixels = pixels + noise * amplitude
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        amplitude *= 0.7
    light = np.asarray(image, dtype=np.int16)
    light = light + np.linspace(40, -40, height, dtype=np.int16)[:, None, None]
    for _ in range(25):  # objects with an outline: a flat shade over a rectangle
        left, top = random.integers(0, width), random.integers(0, height)
        right, bottom = left + random.integers(100, 1500), top + random.integers(100, 1500)
        light[top:bottom, left:right] += random.normal(0, 30, 3).astype(np.int16)
    return Image.fromarray(light.clip(0, 255).astype(np.uint8))
