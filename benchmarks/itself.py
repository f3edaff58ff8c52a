"""Lockstep beside itself: one worker and two, few originals and many, a function and none."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from benchmarks import contest, corpus, lockstep, scenarios, table, tiny
from benchmarks.contest import Entrant
from benchmarks.job import Job
from benchmarks.lockstep import Project, UnexpectedRun
from benchmarks.measure import Measured
from benchmarks.table import Target
from benchmarks.targets import (
    BASE_MEMORY_BYTES,
    FUNCTION_BOUND,
    SAME_MEMORY_BOUND,
    SCALING_BOUND,
)

FEW, MANY = 300, 30_000
_RECIPES = scenarios.SCENARIOS["two"].recipes
_MB = 1_000_000


def run(name: str, options: argparse.Namespace) -> dict[str, object]:
    """Run one of them by its name in `scenarios`, print it, return its record."""
    measures = {
        scenarios.SCALING: _scaling,
        scenarios.MEMORY: _memory,
        scenarios.FUNCTION: _function,
    }
    try:
        targets = measures[name](options)
    except UnexpectedRun as error:
        print(f"failed: {name}: {error}\n")
        return {"failed": str(error)}
    print(table.render_targets(targets))
    return {"targets": [target.record() for target in targets]}


def _scaling(options: argparse.Namespace) -> list[Target]:
    wanted = corpus.Wanted(options.count, photos=options.photos)
    folder, originals = corpus.make(wanted, options.scratch)
    one = Job(folder, originals, _RECIPES, 1)
    two = replace(one, workers=2)
    entrants = [
        contest.lockstep_entrant(one, options.scratch, "1 worker"),
        contest.lockstep_entrant(two, options.scratch, "2 workers"),
    ]
    _hold("workers", entrants, one, options)
    gain = entrants[1].images_per_s(one) / entrants[0].images_per_s(one)
    return [Target("2 workers, times 1 worker", gain, SCALING_BOUND, at_least=True)]


def _function(options: argparse.Namespace) -> list[Target]:
    """The cost of calling one that does nothing, and of a feature that says nothing."""
    wanted = corpus.Wanted(options.count, photos=options.photos)
    folder, originals = corpus.make(wanted, options.scratch)
    without = Job(folder, originals, _RECIPES, options.workers)
    half, fit400 = _RECIPES
    calling = replace(without, recipes=(half, replace(fit400, function="functions:same")))
    entrants = [
        contest.lockstep_entrant(without, options.scratch, "without a function"),
        contest.lockstep_entrant(calling, options.scratch, "with a function"),
    ]
    _hold("function", entrants, without, options)
    times = {
        what: getattr(entrants[1].cost, f"{what}_s") / getattr(entrants[0].cost, f"{what}_s")
        for what in ("wall", "cpu")
    }
    return [
        Target(
            f"{what} with a function, times without", times[what], FUNCTION_BOUND, at_least=False
        )
        for what in times
    ]


def _hold(title: str, entrants: list[Entrant], job: Job, options: argparse.Namespace) -> None:
    contest.hold(entrants, job, options.scratch, options.rounds)
    for entrant in entrants:
        if entrant.failed:
            raise UnexpectedRun(entrant.failed)
    rows = [_row(entrant, job) for entrant in entrants]
    head = ["", "images/s", "wall", "CPU", "peak PSS"]
    count = len(job.originals)
    print(table.render(f"\n{title}: {count} originals to {{half, 400 px}}", head, rows))


def _row(entrant: Entrant, job: Job) -> list[str]:
    cost = entrant.cost
    return [
        entrant.name,
        f"{entrant.images_per_s(job):.1f}",
        table.seconds(cost.wall_s),
        table.seconds(cost.cpu_s),
        table.mebibytes(cost.peak_pss_bytes),
    ]


def _memory(options: argparse.Namespace) -> list[Target]:
    runs = {count: _first_run(count, options.scratch, options.workers) for count in (FEW, MANY)}
    rows = [
        [
            f"{count:,} tiny originals",
            table.seconds(run.wall_s),
            table.mebibytes(run.peak_pss_bytes),
            table.mebibytes(run.peak_rss_bytes),
        ]
        for count, run in runs.items()
    ]
    head = ["", "first run", "peak PSS", "peak RSS"]
    print(table.render("\nmemory: a first run over few and over many originals", head, rows))
    peak = runs[MANY].peak_pss_bytes
    return [
        Target(
            f"peak at {MANY:,} originals",
            peak / _MB,
            BASE_MEMORY_BYTES / _MB,
            at_least=False,
            unit=" MB",
        ),
        Target(
            f"peak at {MANY:,} originals, times that at {FEW}",
            peak / runs[FEW].peak_pss_bytes if runs[FEW].peak_pss_bytes else None,
            SAME_MEMORY_BOUND,
            at_least=False,
        ),
    ]


def _first_run(count: int, scratch: Path, workers: int) -> Measured:
    folder = scratch / "tiny" / f"memory-{count}"
    tiny.make(folder, count)
    project = Project(scratch / "memory", folder, _RECIPES, workers)
    project.prepare()
    run = project.run()
    lockstep.check(run, rendered=count * len(_RECIPES))
    return run
