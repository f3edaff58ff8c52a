"""How soon a watcher brings one change in step, and what it costs while nothing changes.

    python -m benchmarks.live [--count 100000] [--changes 200] [--flat-changes 10000]

The clock runs from the moment a changed original is written until its renditions are there, as a
reader of the output folder sees it. See README.md in this folder.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from benchmarks import lockstep, table, tiny
from benchmarks.job import Recipe
from benchmarks.lockstep import Project, UnexpectedRun
from benchmarks.options import parsed
from benchmarks.table import Target

RECIPES = (
    Recipe("half", "jpeg", 85, scale=0.5),
    Recipe("thumb", "jpeg", 85, fit=(400, 400)),
)
PHOTO_PX = (1600, 1200)
LOOK_EVERY_S = 0.005
GIVE_UP_S = 60.0
BURST = 500
_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
_MB = 1_000_000


@dataclass
class Findings:
    """Seconds from a write to what a reader sees, the share of one processor, and megabytes."""

    changed_s: list[float] = field(default_factory=list)
    removed_s: list[float] = field(default_factory=list)
    idle_share: float | None = None
    # Before and after the many changes: the watcher and its workers, shared pages divided.
    memory_mb: tuple[float, float] | None = None

    def targets(self) -> list[Target]:
        """What was promised."""
        growth = None if self.memory_mb is None else self.memory_mb[1] - self.memory_mb[0]
        idle = None if self.idle_share is None else self.idle_share * 100
        return [
            Target("changed photo in step, p95", p95(self.changed_s), 1.0, False, " s"),
            Target("removed photo gone, p95", p95(self.removed_s), 1.0, False, " s"),
            Target("idle, of one processor", idle, 1.0, False, " %"),
            Target("more memory after the changes", growth, 10.0, False, " MB"),
        ]


def p95(values: list[float]) -> float | None:
    """The value that 95 % of all do not pass; ``None`` of too few."""
    return statistics.quantiles(values, n=20)[-1] if len(values) > 1 else None


def main() -> None:
    options = _options()
    reason = lockstep.missing()
    if reason:
        raise SystemExit(reason)
    folder: Path = options.scratch / "live"
    originals = folder / "input"
    project = Project(folder / "project", originals, RECIPES, options.workers)
    if not options.again:
        shutil.rmtree(folder, ignore_errors=True)
        print(f"making {options.count:,} originals", file=sys.stderr)
        tiny.make(originals, options.count)
        project.prepare()
        print("first run", file=sys.stderr)
        lockstep.check(project.run(), rendered=options.count * len(RECIPES))
    found = Findings()
    with watcher(project) as process:
        names = list(tiny.names(options.count))
        chance = random.Random(1)
        jpegs = [name for name in names if name.endswith(".jpg")]
        picked = chance.sample(jpegs, options.changes)
        print(f"{len(picked)} changes", file=sys.stderr)
        for number, name in enumerate(picked):
            found.changed_s.append(time_change(project, name, photo(number)))
            time.sleep(chance.uniform(0.1, 0.9))
        for name in picked[: options.changes // 4]:
            before = (project.input / name).read_bytes()
            found.removed_s.append(time_removal(project, name))
            (project.input / name).write_bytes(before)
            time.sleep(chance.uniform(0.1, 0.9))
        if options.flat_changes:
            print(f"{options.flat_changes:,} changes in bursts", file=sys.stderr)
            found.memory_mb = memory_over(project, process.pid, jpegs, options.flat_changes)
        if options.idle_s:
            print(f"nothing for {options.idle_s:g} s", file=sys.stderr)
            found.idle_share = idle_share(process.pid, options.idle_s)
    print(table.render_targets(found.targets()))
    if found.changed_s:
        print(
            f"changed: median {statistics.median(found.changed_s):.2f} s, "
            f"longest {max(found.changed_s):.2f} s"
        )
    if found.memory_mb:
        print(f"memory: {found.memory_mb[0]:.0f} MB, then {found.memory_mb[1]:.0f} MB")
    if options.json:
        record = {
            "count": options.count,
            "changed_s": found.changed_s,
            "removed_s": found.removed_s,
            "idle_share": found.idle_share,
            "memory_mb": found.memory_mb,
            "targets": [target.record() for target in found.targets()],
        }
        options.json.write_text(json.dumps(record, indent=1), encoding="utf-8")


@contextlib.contextmanager
def watcher(project: Project) -> Iterator[subprocess.Popen[str]]:
    """`datapipe watch` as a process of its own, from its first run on."""
    datapipe = lockstep.command()
    assert datapipe is not None
    said = project.folder / "watch.log"
    process = subprocess.Popen(
        [os.fspath(datapipe), "watch", "--json"],
        cwd=lockstep.REPOSITORY,
        env={**os.environ, **project.env()},
        stdout=subprocess.PIPE,
        stderr=said.open("w"),
        text=True,
    )
    try:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise UnexpectedRun(f"the watcher ended by itself, see {said}")
        # What it writes later must not fill the pipe.
        subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL)
        yield process
    finally:
        process.terminate()
        process.wait()


def time_change(project: Project, name: str, data: bytes) -> float:
    """Seconds until both renditions of ``name`` are new ones."""
    targets = renditions(project, name)
    before = [target.stat().st_mtime_ns for target in targets]
    (project.input / name).write_bytes(data)
    began = time.monotonic()
    wait_until(
        lambda: all(t.stat().st_mtime_ns != old for t, old in zip(targets, before, strict=True))
    )
    return time.monotonic() - began


def time_removal(project: Project, name: str) -> float:
    """Seconds until both renditions of ``name`` are gone."""
    targets = renditions(project, name)
    (project.input / name).unlink()
    began = time.monotonic()
    wait_until(lambda: not any(target.exists() for target in targets))
    return time.monotonic() - began


def memory_over(project: Project, pid: int, names: list[str], changes: int) -> tuple[float, float]:
    """Megabytes before and after so many changes, in bursts."""
    data = [photo(seed, (64, 48)) for seed in range(50)]

    def burst(number: int) -> None:
        chosen = [names[(number * BURST + i) % len(names)] for i in range(BURST)]
        for i, name in enumerate(chosen):
            comment = b"\xff\xfe" + (18).to_bytes(2, "big") + f"{number:08d}{i:08d}".encode()
            image = data[i % len(data)]
            file = project.input / name
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(image[:2] + comment + image[2:])
        last = renditions(project, chosen[-1])
        written = time.time()
        wait_until(lambda: all(t.exists() and t.stat().st_mtime >= written - 1 for t in last))

    burst(0)
    burst(1)  # what is loaded and allocated once is there by now
    before = memory_mb(pid)
    for number in range(2, 2 + changes // BURST):
        burst(number)
    return before, memory_mb(pid)


def idle_share(pid: int, seconds: float) -> float:
    """The share of one processor that the watcher and its children take while nothing changes."""
    time.sleep(2)
    before = cpu_s(pid)
    time.sleep(seconds)
    return (cpu_s(pid) - before) / seconds


def tree(pid: int) -> list[int]:
    """A process and all below it (Linux)."""
    pids = [pid]
    for parent in pids:
        for file in Path(f"/proc/{parent}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                pids += [int(child) for child in file.read_text().split()]
    return pids


def cpu_s(pid: int) -> float:
    """Processor seconds of a tree so far."""
    total = 0
    for one in tree(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(") ")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / _CLOCK_TICKS


def memory_mb(pid: int) -> float:
    """Proportional set size of a tree, in megabytes."""
    total_kb = 0
    for one in tree(pid):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total_kb += int(line.split()[1])
    return total_kb * 1024 / _MB


def renditions(project: Project, name: str) -> list[Path]:
    """Where the renditions of a JPEG are."""
    return [project.output / recipe.name / name for recipe in RECIPES]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + GIVE_UP_S
    while not condition():
        if time.monotonic() > deadline:
            raise UnexpectedRun(f"nothing happened for {GIVE_UP_S:g} s")
        time.sleep(LOOK_EVERY_S)


def photo(seed: int, size: tuple[int, int] = PHOTO_PX) -> bytes:
    """A photo-like JPEG of its own."""
    noise = random.Random(seed).randbytes(48 * 36 * 3)
    image = Image.frombytes("RGB", (48, 36), noise).resize(size, Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=85)
    return stream.getvalue()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.live",
        description="How soon a watcher brings one change in step, and what it costs when idle.",
        epilog="example: python -m benchmarks.live --count 10000 --changes 50",
    )
    add = parser.add_argument
    add("--count", type=int, default=100_000, help="originals (default: %(default)s)")
    add("--changes", type=int, default=200, help="single changes (default: %(default)s)")
    add("--flat-changes", type=int, default=10_000, help="for memory; 0: none")
    add("--idle-s", type=float, default=120.0, help="seconds; 0: none (default: %(default)s)")
    add("--again", action="store_true", help="take the originals and tables of the last time")
    add("--workers", type=int, default=2, help="(default: %(default)s)")
    return parsed(parser)


if __name__ == "__main__":
    try:
        main()
    except (UnexpectedRun, KeyboardInterrupt) as error:
        sys.exit(str(error) or 130)
