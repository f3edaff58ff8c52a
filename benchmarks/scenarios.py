"""The scenarios of the pixel benchmark: which originals become which renditions."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.corpus import MAX_MEGAPIXELS
from benchmarks.job import Recipe

_HALF = Recipe("half", "jpeg", 85, scale=0.5)
_FIT = Recipe("fit400", "jpeg", 85, fit=(400, 400))


@dataclass(frozen=True)
class Scenario:
    """`share` of --count are made: a slow codec needs fewer originals for a steady figure."""

    name: str
    title: str
    recipes: tuple[Recipe, ...]
    suffix: str = ".jpg"
    share: float = 1.0
    max_megapixels: float = MAX_MEGAPIXELS


SCENARIOS = {
    scenario.name: scenario
    for scenario in [
        Scenario("two", "photos to {half, 400 px}, both JPEG 85", (_HALF, _FIT)),
        Scenario("fit400", "photos to 400 px JPEG 85", (_FIT,)),
        Scenario(
            "webp",
            "photos to 400 px WebP 80",
            (Recipe("fit400", "webp", 80, fit=(400, 400)),),
            share=0.5,
        ),
        Scenario(
            "png",
            "PNG originals to {half, 400 px}, both JPEG 85",
            (_HALF, _FIT),
            suffix=".png",
            share=0.2,
            max_megapixels=8.0,
        ),
        Scenario(
            "avif",
            "photos to 400 px AVIF 60",
            (Recipe("fit400", "avif", 60, fit=(400, 400)),),
        ),
    ]
}
# Not contests: Lockstep beside itself.
SCALING, MEMORY, FUNCTION = "workers", "memory", "function"
ALL = (*SCENARIOS, SCALING, MEMORY, FUNCTION)
