"""The numbers that were promised, and which measured ones they are compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.contest import LOCKSTEP, Entrant
from benchmarks.job import Job
from benchmarks.quality import Quality
from benchmarks.table import Target

_MB = 1_000_000
_RGB_BYTES = 3
BASE_MEMORY_BYTES = 250 * _MB
SCALING_BOUND = 1.85
# Times the wall time without a function.
FUNCTION_BOUND = 1.05
# The same memory at 300 and at 30,000 originals, but for the noise of the sampling.
SAME_MEMORY_BOUND = 1.10

_SPEED: dict[str, Sequence[tuple[str, float]]] = {
    "two": (("sharp", 2.8), ("sharp-chained", 1.0), ("plain-pillow", 5.0), ("bare-loop", 0.9)),
    "fit400": (("sharp", 1.2), ("bare-loop", 0.9)),
    "webp": (("sharp", 1.0),),
    "png": (("sharp", 1.0), ("sharp-chained", 1.0)),
    "avif": (("sharp", 1.0),),
}


def of_contest(
    scenario: str,
    entrants: Mapping[str, Entrant],
    job: Job,
    whole: Mapping[str, Quality | None],
) -> list[Target]:
    """The targets of one scenario; a peer that is not here leaves its own unmeasured."""
    targets = [
        Target(f"times {peer}", _times(entrants, peer, job), bound, at_least=True)
        for peer, bound in _SPEED[scenario]
    ]
    if scenario in ("two", "fit400"):
        targets += _of_quality(entrants, job, whole)
    if scenario == "two":
        targets.append(_of_memory(entrants, job))
    return targets


def memory_bound_bytes(job: Job) -> int:
    largest = max(original.pixels for original in job.originals) * _RGB_BYTES
    return BASE_MEMORY_BYTES + job.workers * largest


def _of_memory(entrants: Mapping[str, Entrant], job: Job) -> Target:
    lockstep = _ran(entrants, LOCKSTEP)
    peak = lockstep.cost.peak_pss_bytes / _MB if lockstep else None
    bound = memory_bound_bytes(job) / _MB
    return Target("peak memory of the tree", peak, round(bound), at_least=False, unit=" MB")


def _of_quality(
    entrants: Mapping[str, Entrant], job: Job, whole: Mapping[str, Quality | None]
) -> list[Target]:
    targets = []
    for recipe in job.recipes:
        lockstep = _psnr(entrants, LOCKSTEP, recipe.name)
        best = whole.get(recipe.name)
        below = None if lockstep is None or best is None else best.psnr_db - lockstep
        bound = 1.0 if recipe.scale is not None else 0.2
        name = f"{recipe.name}: PSNR below whole decode"
        targets.append(Target(name, below, bound, at_least=False, unit=" dB"))
        if recipe.fit is not None:
            sharp = _psnr(entrants, "sharp", recipe.name)
            above = None if lockstep is None or sharp is None else lockstep - sharp
            name = f"{recipe.name}: PSNR above sharp"
            targets.append(Target(name, above, 0.0, at_least=True, unit=" dB"))
    return targets


def _times(entrants: Mapping[str, Entrant], peer: str, job: Job) -> float | None:
    lockstep, other = _ran(entrants, LOCKSTEP), _ran(entrants, peer)
    if lockstep is None or other is None:
        return None
    return lockstep.images_per_s(job) / other.images_per_s(job)


def _psnr(entrants: Mapping[str, Entrant], name: str, recipe: str) -> float | None:
    entrant = _ran(entrants, name)
    quality = entrant.quality.get(recipe) if entrant else None
    return quality.psnr_db if quality else None


def _ran(entrants: Mapping[str, Entrant], name: str) -> Entrant | None:
    entrant = entrants.get(name)
    return entrant if entrant and entrant.runs and entrant.failed is None else None
