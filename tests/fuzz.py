"""Fuzzing: mutated files of every format go through real workers for a bounded time.

    python -m tests.fuzz --seconds 300 --seed 1

Nothing but renditions and failures with a reason may come out, no worker may be lost without a
record of it, and the main process must not grow. A file that breaks one of these is kept.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pillow_heif
from PIL import Image

from pipeline.transforms.recipes import Recipe, load_recipes
from pipeline.workers.local import Workers
from pipeline.workers.tasks import RenditionWanted, Task, WorkerSetup

ROUND = 200
GROWTH_ALLOWED_MB = 40


def seeds() -> list[tuple[str, bytes]]:
    """A small valid file of every format, also animated, 16-bit, CMYK and with metadata."""
    colours = Image.linear_gradient("L").resize((96, 64))
    photo = Image.merge("RGB", (colours, colours.rotate(90).resize((96, 64)), colours))
    alpha = photo.convert("RGBA")
    alpha.putalpha(colours)
    exif = Image.Exif()
    exif[0x0112] = 6
    found: list[tuple[str, bytes]] = []

    def add(suffix: str, image: Image.Image, **options: object) -> None:
        stream = io.BytesIO()
        image.save(stream, **options)
        found.append((suffix, stream.getvalue()))

    frames = [photo.rotate(angle) for angle in (90, 180)]
    add(".jpg", photo, format="JPEG", exif=exif)
    add(".jpg", photo, format="JPEG", progressive=True)
    add(".jpg", photo.convert("CMYK"), format="JPEG")
    add(".png", alpha, format="PNG")
    add(".png", colours.convert("I;16"), format="PNG")
    add(".png", photo.quantize(16), format="PNG", transparency=3)
    add(".png", photo, format="PNG", save_all=True, append_images=frames)
    add(".gif", photo, format="GIF", save_all=True, append_images=frames, loop=0)
    add(".webp", alpha, format="WEBP", lossless=True)
    add(".webp", photo, format="WEBP", save_all=True, append_images=frames)
    add(".avif", photo, format="AVIF", speed=10)
    add(".bmp", photo, format="BMP")
    for compression in ("raw", "tiff_deflate", "tiff_lzw", "jpeg", "packbits"):
        add(".tif", photo, format="TIFF", compression=compression)
    add(".jp2", photo, format="JPEG2000")
    add(".avif", photo, format="AVIF", save_all=True, append_images=frames, speed=10)
    for picture in (photo, alpha):
        stream = io.BytesIO()
        pillow_heif.from_pillow(picture).save(stream)
        found.append((".heic", stream.getvalue()))
    return found


def mutate(data: bytes, chance: random.Random) -> bytes:
    """Flip, cut, repeat, splice, or set a header's number to an extreme."""
    mutated = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        if not mutated:
            break
        # Headers are where the sizes and offsets are.
        near = chance.random() < 0.6
        at = chance.randrange(min(len(mutated), 256) if near else len(mutated))
        kind = chance.randrange(6)
        if kind == 0:
            mutated[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            del mutated[at:]
        elif kind == 2:
            mutated[at : at + 4] = chance.choice(
                (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\xff\xff")
            )
        elif kind == 3:
            end = at + chance.randrange(1, 64)
            mutated[at:at] = mutated[at:end] * chance.randrange(1, 8)
        elif kind == 4:
            del mutated[at : at + chance.randrange(1, 64)]
        else:
            mutated[at : at + 8] = chance.randbytes(8)
    return bytes(mutated)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"))
    return parser.parse_args()


def main() -> int:
    """Fuzz until the time is over; 1 where something came out that must not."""
    options = _options()
    chance = random.Random(options.seed)
    print(f"seed {options.seed}, {options.seconds:g} s", flush=True)
    ends: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    faults = 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "recipes.toml").write_text(
            '[half]\nscale = 0.5\n[thumb]\nfit = [40, 40]\nformat = "webp"\n'
            '[cover]\ncover = [30, 30]\nformat = "jpeg"\nposition = "attention"\n'
            'metadata = "keep"\n'
        )
        recipes = list(load_recipes(root / "recipes.toml").values())
        workers = Workers(WorkerSetup(20_000_000, 200, 1_500), os.cpu_count() or 2, timeout_s=20)
        originals = seeds()
        end_at = time.monotonic() + options.seconds
        start_mb = None
        try:
            while time.monotonic() < end_at:
                files = _write_round(root, originals, chance)
                lost_before = workers.lost
                recorded = 0
                for path in files:
                    workers.submit(_task(path, recipes, root))
                for _ in files:
                    outcome = workers.next_outcome(60)
                    if outcome is None:
                        print("FAULT: a task never ended", flush=True)
                        return 1
                    told = len(outcome.made) + len(outcome.failed) + len(outcome.unchanged)
                    ends["ok"] += len(outcome.made)
                    ends["failed"] += len(outcome.failed)
                    lost = False
                    for _, (_, reason) in outcome.failed:
                        reasons[_shape(reason)] += 1
                        lost = lost or "worker" in reason or "longer than" in reason
                        if not reason or "the renderer failed" in reason:
                            told = -1
                    recorded += lost
                    if told != len(recipes) or lost:
                        faults += told != len(recipes)
                        _keep(options.keep, root / "in" / outcome.path, outcome.failed)
                if workers.lost - lost_before != recorded:
                    print("FAULT: a worker was lost without a record", flush=True)
                    faults += 1
                memory_mb = _resident_mb()
                start_mb = memory_mb if start_mb is None else start_mb
        finally:
            workers.close()
        grown_mb = memory_mb - start_mb
    print(f"{workers.lost} workers lost and recorded, main process grew {grown_mb:.0f} MB")
    if grown_mb > GROWTH_ALLOWED_MB:
        print(f"FAULT: the main process grew by {grown_mb:.0f} MB")
        faults += 1
    _print_ends(ends, reasons)
    print("nothing to fix" if not faults else f"{faults} FAULTS, files kept in {options.keep}")
    return 1 if faults else 0


def _print_ends(ends: Counter[str], reasons: Counter[str]) -> None:
    print(f"{sum(ends.values()):,} renditions: {ends['ok']:,} ok, {ends['failed']:,} failed")
    for reason, count in reasons.most_common(25):
        print(f"  {count:7,}  {reason}")


def _write_round(
    root: Path, originals: list[tuple[str, bytes]], chance: random.Random
) -> list[str]:
    folder = root / "in"
    folder.mkdir(exist_ok=True)
    names = []
    for number in range(ROUND):
        suffix, data = chance.choice(originals)
        name = f"{number}{suffix}"
        for old in folder.glob(f"{number}.*"):
            old.unlink()
        (folder / name).write_bytes(mutate(data, chance))
        names.append(name)
    return names


def _task(path: str, recipes: list[Recipe], root: Path) -> Task:
    wanted = tuple(RenditionWanted(recipe, None, None, None) for recipe in recipes)
    return Task(path, wanted, str(root / "in"), path, str(root / "out"))


def _shape(reason: str) -> str:
    """A reason with its numbers taken out, so that like ones count together."""
    return "".join("#" if c.isdigit() else c for c in reason)[:110]


def _keep(folder: Path, file: Path, failed: list[tuple[str, str]]) -> None:
    folder.mkdir(exist_ok=True)
    kept = folder / f"{time.time_ns()}{file.suffix}"
    kept.write_bytes(file.read_bytes())
    print(f"kept {kept}: {failed[:1]}", flush=True)


def _resident_mb() -> float:
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
        return pages * resource.getpagesize() / 1e6
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    sys.exit(main())
