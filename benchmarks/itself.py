"""Lockstep beside itself: one worker and two, few originals and many."""

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
from benchmarks.targets import BASE_MEMORY_BYTES, SAME_MEMORY_BOUND, SCALING_BOUND

FEW, MANY = 300, 30_000
_RECIPES = scenarios.SCENARIOS["two"].recipes
_MB = 1_000_000


def run(name: str, options: argparse.Namespace) -> dict[str, object]:
    """Run one of the two by its name in `scenarios`, print it, return its record."""
    try:
        targets = _scaling(options) if name == scenarios.SCALING else _memory(options)
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
    contest.hold(entrants, one, options.scratch, options.rounds)
    for entrant in entrants:
        if entrant.failed:
            raise UnexpectedRun(entrant.failed)
    rows = [_row(entrant, one) for entrant in entrants]
    head = ["", "images/s", "wall", "CPU", "peak PSS"]
    print(table.render(f"\nworkers: {len(originals)} originals to {{half, 400 px}}", head, rows))
    gain = entrants[1].images_per_s(one) / entrants[0].images_per_s(one)
    return [Target("2 workers, times 1 worker", gain, SCALING_BOUND, at_least=True)]


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
