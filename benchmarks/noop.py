"""What a run costs when nothing, or next to nothing, has changed.

    python -m benchmarks.noop [--count 1000000] [--scratch FOLDER]

See README.md in this folder for what each number means.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import lockstep, table, tiny
from benchmarks.job import Job, Recipe
from benchmarks.lockstep import Project, UnexpectedRun
from benchmarks.measure import Measured, measure, median_of
from benchmarks.neighbours import Stock, git_status, stock_example
from benchmarks.options import parsed
from benchmarks.peers.registry import PEERS, REPOSITORY
from benchmarks.table import Target

RECIPES = (
    Recipe("half", "jpeg", 85, scale=0.5),
    Recipe("thumb", "jpeg", 85, fit=(400, 400)),
)
NO_CHANGE_ROUNDS, CHANGED_ROUNDS, CHANGED = 5, 3, 10
BARE_AT_MOST = 100_000  # originals: the loop holds its list in memory, and more tell no more
_MB = 1_000_000
# The bounds of a run with no change, by the number of originals: seconds and MB.
_BOUNDS = {100_000: (1.5, 200.0), 1_000_000: (10.0, 600.0)}
_MORE_FOR_CHANGED_S = 0.3
_BOOKKEEPING_MS = 1.0
_MORE_FOR_OWN_STEP_S = 0.3


@dataclass(frozen=True)
class Runs:
    """Lockstep's kinds of run over one tree; the last two are medians."""

    count: int
    first: Measured
    no_change: Measured
    changed: Measured | None
    # With a step of datapipe's own over all renditions: its first run, and one with no change.
    own_first: Measured | None = None
    own_no_change: Measured | None = None


@dataclass
class Findings:
    """All that was measured; None is what was left out."""

    lockstep: Runs | None = None
    bare: Measured | None = None
    bare_count: int = 0
    git: Measured | None = None
    stock: Stock | None = None
    lockstep_beside_stock: Runs | None = None

    @property
    def first_ms(self) -> float | None:
        """Wall time of the first run, for each rendition."""
        if self.lockstep is None:
            return None
        return self.lockstep.first.wall_s / (self.lockstep.count * len(RECIPES)) * 1000

    @property
    def bookkeeping_ms(self) -> float | None:
        """What the first run costs more than its codec calls, for each rendition."""
        if self.first_ms is None or self.bare is None:
            return None
        return self.first_ms - self.bare_ms

    @property
    def bare_ms(self) -> float:
        """Wall time of the bare loop, for each rendition."""
        assert self.bare is not None
        return self.bare.wall_s / (self.bare_count * len(RECIPES)) * 1000


def main() -> None:
    options = _options()
    print(f"{platform.platform()}, Python {platform.python_version()}\n")
    tree = options.scratch / "tiny" / f"noop-{options.count}"
    flat = options.scratch / "tiny" / f"flat-{options.stock_count}"
    _say(f"making {options.count:,} originals in {tree}")
    tiny.make(tree, options.count)
    if options.stock_count:
        tiny.make(flat, options.stock_count, only_jpeg=True, flat=True)

    found = Findings()
    if not options.skip_bare:
        found.bare_count = min(options.count, BARE_AT_MOST)
        found.bare = _bare_loop(tree, found.bare_count, options)
    reason = lockstep.missing()
    if reason is not None:
        print(f"left out: lockstep: {reason}")
    else:
        found.lockstep = _try(tree, options.count, options, changes=True)
        if options.stock_count:
            found.lockstep_beside_stock = _try(flat, options.stock_count, options, changes=False)
    if not options.skip_git:
        found.git = git_status(tree, options.scratch, NO_CHANGE_ROUNDS)
    if options.stock_count:
        found.stock = stock_example(
            flat, options.stock_count, RECIPES, options.scratch, options.stock_timeout
        )
    shutil.rmtree(options.scratch / "noop", ignore_errors=True)
    _report(found, options)


def _try(tree: Path, count: int, options: argparse.Namespace, *, changes: bool) -> Runs | None:
    try:
        return _lockstep(tree, count, options, changes=changes)
    except UnexpectedRun as error:
        print(f"failed: lockstep: {error}")
        return None


def _lockstep(tree: Path, count: int, options: argparse.Namespace, *, changes: bool) -> Runs:
    project = Project(options.scratch / "noop", tree, RECIPES, options.workers)
    project.prepare()
    _say(f"lockstep: first run over {count:,} originals")
    first = project.run()
    lockstep.check(first, rendered=count * len(RECIPES))
    _say(f"lockstep: {NO_CHANGE_ROUNDS} runs with no change")
    idle = []
    for _ in range(NO_CHANGE_ROUNDS):
        idle.append(project.run())
        lockstep.check(idle[-1], rendered=0)
    changed: list[Measured] = []
    for _ in range(CHANGED_ROUNDS if changes else 0):
        _say(f"lockstep: {CHANGED} changed originals")
        picked = tiny.change(tree, count, CHANGED, time.time_ns())
        changed.append(project.run())
        lockstep.check(changed[-1], rendered=len(picked) * len(RECIPES))
    runs = Runs(count, first, median_of(idle), median_of(changed) if changed else None)
    return _own_step(project, runs) if changes and options.own_step else runs


def _own_step(project: Project, runs: Runs) -> Runs:
    """Runs with no change, with and without a step of datapipe's own in turn."""
    more = project.with_step()
    _say("lockstep: first run with a step of datapipe's own")
    first = more.run()
    lockstep.check(first, rendered=0)
    without, with_it = [], []
    for _ in range(NO_CHANGE_ROUNDS):
        for each, found in ((project, without), (more, with_it)):
            found.append(each.run())
            lockstep.check(found[-1], rendered=0)
    idle, own = median_of(without), median_of(with_it)
    return replace(runs, no_change=idle, own_first=first, own_no_change=own)


def _bare_loop(tree: Path, count: int, options: argparse.Namespace) -> Measured | None:
    """The codec calls of the first run in as many processes, with nothing around them."""
    peer = PEERS["bare-loop"]
    reason = peer.missing(options.scratch)
    if reason is not None:
        print(f"left out: {peer.name}: {reason}")
        return None
    _say("bare loop of the same codec calls")
    folder = options.scratch / "noop-bare"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    output = folder / "output"
    job = Job(tree, tiny.originals(count), RECIPES, options.workers)
    job.write(folder / "job.json", output)
    for recipe in RECIPES:
        for parent in sorted({original.name.rpartition("/")[0] for original in job.originals}):
            (output / recipe.name / parent).mkdir(parents=True, exist_ok=True)
    command = [*peer.command(options.scratch), str(folder / "job.json")]
    run = measure(command, cwd=REPOSITORY)
    shutil.rmtree(folder)
    if not run.ok:
        print(f"failed: {peer.name}: {run.complaint}")
        return None
    return run


def _report(found: Findings, options: argparse.Namespace) -> None:
    title = f"\n{options.count:,} originals x {len(RECIPES)} recipes, {options.workers} workers"
    print(table.render(title, ["", "is", "of"], _ratios(found, options)))
    head = ["whole process", "wall", "CPU", "peak RSS", "peak PSS"]
    print(table.render("Measured", head, [_cells(*row) for row in _rows(found)]))
    if found.stock and (found.stock.first.timed_out or found.stock.no_change is None):
        print(f"stock datapipe was interrupted after {options.stock_timeout:.0f} s\n")
    targets = _targets(found, options.count)
    print(table.render_targets(targets))
    if options.json:
        record = {
            "originals": options.count,
            "recipes": len(RECIPES),
            "measured": {name: _record(run) for name, run in _rows(found)},
            "first_run_ms_per_rendition": found.first_ms,
            "bookkeeping_ms_per_rendition": found.bookkeeping_ms,
            "targets": [target.record() for target in targets],
        }
        options.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _rows(found: Findings) -> list[tuple[str, Measured]]:
    mine, beside, stock = found.lockstep, found.lockstep_beside_stock, found.stock
    rows: list[tuple[str, Measured | None]] = [
        ("run with no change", mine and mine.no_change),
        ("run with no change, and a step of datapipe's own", mine and mine.own_no_change),
        ("first run of that step", mine and mine.own_first),
        (f"run with {CHANGED} changed originals", mine and mine.changed),
        ("git status, same tree", found.git),
        ("first run", mine and mine.first),
        (f"bare loop of its codec calls at {found.bare_count:,}", found.bare),
    ]
    if beside:
        rows.append((f"no change at {beside.count:,}", beside.no_change))
    if stock:
        rows.append((f"stock datapipe, no change at {stock.count:,}", stock.no_change))
    if beside:
        rows.append((f"first run at {beside.count:,}", beside.first))
    if stock:
        rows.append((f"stock datapipe, first run at {stock.count:,}", stock.first))
    return [(name, run) for name, run in rows if run is not None]


def _ratios(found: Findings, options: argparse.Namespace) -> list[list[str]]:
    mine, beside, stock = found.lockstep, found.lockstep_beside_stock, found.stock
    rows = []
    if mine and found.git:
        share = mine.no_change.wall_s / found.git.wall_s
        rows.append(["run with no change", table.ratio(share), "git status, same tree"])
    if found.first_ms and found.bare:
        share = found.bare_ms / found.first_ms
        rows.append(["bare loop, a rendition", table.ratio(share), "first run, a rendition"])
    if beside and stock and stock.no_change:
        share = stock.no_change.wall_s / beside.no_change.wall_s
        what = f"stock datapipe, no change at {stock.count:,}"
        more = " or more (cut off)" if stock.no_change.timed_out else ""
        rows.append([what, table.ratio(share) + more, "run with no change, same tree"])
    if beside and stock:
        share = stock.first.wall_s / beside.first.wall_s
        more = " or more (cut off)" if stock.first.timed_out else ""
        what = f"stock datapipe, first run at {stock.count:,}"
        rows.append([what, table.ratio(share) + more, "first run, same tree"])
    return rows


def _targets(found: Findings, count: int) -> list[Target]:
    targets = []
    mine = found.lockstep
    if count in _BOUNDS:
        bound_s, bound_mb = _BOUNDS[count]
        wall = mine.no_change.wall_s if mine else None
        peak = mine.no_change.peak_rss_bytes / _MB if mine else None
        targets += [
            Target("run with no change", wall, bound_s, at_least=False, unit=" s"),
            Target("its peak memory (RSS)", peak, bound_mb, at_least=False, unit=" MB"),
        ]
    more = mine.changed.wall_s - mine.no_change.wall_s if mine and mine.changed else None
    what = f"{CHANGED} changed originals, more than that"
    targets.append(Target(what, more, _MORE_FOR_CHANGED_S, at_least=False, unit=" s"))
    if mine and mine.own_no_change:
        more = mine.own_no_change.wall_s - mine.no_change.wall_s
        what = "no change, for a step of datapipe's own"
        targets.append(Target(what, more, _MORE_FOR_OWN_STEP_S, at_least=False, unit=" s"))
    what = "bookkeeping a rendition, first run"
    targets.append(Target(what, found.bookkeeping_ms, _BOOKKEEPING_MS, at_least=False, unit=" ms"))
    return targets


def _cells(name: str, run: Measured) -> list[str]:
    wall = table.seconds(run.wall_s) + (" (cut off)" if run.timed_out else "")
    return [
        name,
        wall,
        table.seconds(run.cpu_s),
        table.mebibytes(run.peak_rss_bytes),
        table.mebibytes(run.peak_pss_bytes),
    ]


def _record(run: Measured) -> dict[str, object]:
    return {
        "wall_s": run.wall_s,
        "cpu_s": run.cpu_s,
        "peak_rss_bytes": run.peak_rss_bytes,
        "peak_pss_bytes": run.peak_pss_bytes,
        "timed_out": run.timed_out,
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.noop",
        description="What a run costs when nothing, or next to nothing, has changed.",
        epilog="example: python -m benchmarks.noop --count 1000000 --stock-count 0",
    )
    add = parser.add_argument
    add("--count", type=int, default=100_000, help="originals (default: %(default)s)")
    add("--workers", type=int, default=2, help="(default: %(default)s)")
    add("--stock-count", type=int, default=20_000, help="originals for datapipe's example; 0: none")
    add("--stock-timeout", type=float, default=600.0, help="seconds a run (default: %(default)s)")
    add("--skip-git", action="store_true", help="leave out git status")
    add("--own-step", action="store_true", help="also with a step of datapipe's own")
    add("--skip-bare", action="store_true", help="leave out the bare loop")
    return parsed(parser)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
