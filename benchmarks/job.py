"""What every peer is asked to do: the same files, sizes and encoder settings, as one JSON file.

The size of each rendition is worked out here, once, so that no peer is measured on other pixels
and none has to read a header to learn a size.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

SUFFIXES = {"jpeg": ".jpg", "webp": ".webp", "png": ".png", "avif": ".avif"}
FORMAT_OF_SUFFIX = {".jpg": "jpeg", ".png": "png", ".webp": "webp", ".avif": "avif"}


@dataclass(frozen=True)
class Recipe:
    """A recipe as in recipes.toml: `scale`, or a `fit` box that is never enlarged into."""

    name: str
    format: str
    quality: int
    scale: float | None = None
    fit: tuple[int, int] | None = None
    function: str | None = None  # of Lockstep alone

    def size(self, width: int, height: int) -> tuple[int, int]:
        """The size of the rendition in px, rounded half up as sharp's `inside` does."""
        if self.scale is not None:
            factor = Fraction(str(self.scale))
        else:
            assert self.fit is not None
            box = Fraction(self.fit[0], width), Fraction(self.fit[1], height)
            factor = min(*box, Fraction(1))
        return _rounded(width * factor), _rounded(height * factor)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Recipe:
        """A recipe as it stands in a job file."""
        return cls(**{**record, "fit": tuple(record["fit"]) if record["fit"] else None})

    def file_name(self, original: str) -> str:
        """The rendition's path below output/<recipe>/: a suffix is added where formats differ."""
        if FORMAT_OF_SUFFIX.get(Path(original).suffix.lower()) == self.format:
            return original
        return original + SUFFIXES[self.format]

    def toml(self) -> str:
        size = f"scale = {self.scale}" if self.fit is None else f"fit = {list(self.fit)}"
        function = f'function = "{self.function}"\n{FEATURE}' if self.function else ""
        return (
            f'[{self.name}]\n{size}\nformat = "{self.format}"\nquality = {self.quality}\n'
            f"enlarge = false\n{function}"
        )


# Made beside a recipe with a function: a picture of 256 px, of which nothing is said.
FEATURE = '[features.nothing]\nfunction = "functions:nothing"\n'


@dataclass(frozen=True)
class Encoder:
    """Encoder settings that recipes do not carry. Peers are set to them; see `probe.py`."""

    jpeg_optimise_huffman: bool = False
    jpeg_progressive: bool = False
    jpeg_subsampling: str = "4:2:0"
    webp_method: int = 4
    avif_speed: int = 6  # of aom: 0 is the slowest; sharp's `effort` is 9 minus this
    avif_subsampling: str = "4:2:0"

    def describe(self, formats: Sequence[str]) -> str:
        lines = {
            "jpeg": (
                f"JPEG: subsampling {self.jpeg_subsampling}, "
                f"{'progressive' if self.jpeg_progressive else 'baseline'}, "
                f"{'optimised' if self.jpeg_optimise_huffman else 'standard'} Huffman tables, "
                "no mozjpeg extras"
            ),
            "webp": f"WebP: lossy, method {self.webp_method}",
            "avif": f"AVIF: aom speed {self.avif_speed}, {self.avif_subsampling}, 8 bits",
        }
        return "; ".join(lines[name] for name in sorted(set(formats)) if name in lines)


@dataclass(frozen=True)
class Original:
    name: str
    width: int
    height: int

    @property
    def pixels(self) -> int:
        return self.width * self.height


@dataclass(frozen=True)
class Job:
    """Originals below `input`, recipes, and the two folders."""

    input: Path
    originals: Sequence[Original]
    recipes: Sequence[Recipe]
    workers: int
    encoder: Encoder = field(default_factory=Encoder)

    @property
    def renditions(self) -> int:
        return len(self.originals) * len(self.recipes)

    def formats(self) -> list[str]:
        return [recipe.format for recipe in self.recipes]

    def write(self, path: Path, output: Path) -> None:
        """Write the job for one peer and make the folders it will write into."""
        for recipe in self.recipes:
            (output / recipe.name).mkdir(parents=True, exist_ok=True)
        tasks = [self._task(original, output) for original in self.originals]
        record = {
            "input": str(self.input),
            "output": str(output),
            "workers": self.workers,
            "encoder": asdict(self.encoder),
            "recipes": [asdict(recipe) for recipe in self.recipes],
            "tasks": tasks,
        }
        path.write_text(json.dumps(record), encoding="utf-8")

    def _task(self, original: Original, output: Path) -> dict[str, object]:
        renditions = []
        for recipe in self.recipes:
            width, height = recipe.size(original.width, original.height)
            renditions.append(
                {
                    "recipe": recipe.name,
                    "path": str(output / recipe.name / recipe.file_name(original.name)),
                    "width": width,
                    "height": height,
                    "format": recipe.format,
                    "quality": recipe.quality,
                }
            )
        # Largest first: a peer that feeds the smaller from the larger needs that order.
        renditions.sort(key=lambda rendition: -rendition["width"])
        return {"path": str(self.input / original.name), "renditions": renditions}


def recipes_toml(recipes: Sequence[Recipe]) -> str:
    return "\n".join(recipe.toml() for recipe in recipes)


def _rounded(value: Fraction) -> int:
    return max(1, math.floor(value + Fraction(1, 2)))
