"""What stands beside Lockstep in the benchmark of unchanged trees: git, and datapipe's example."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.job import Job, Original, Recipe
from benchmarks.measure import Measured, measure, median_of
from benchmarks.peers.registry import PEERS, REPOSITORY


@dataclass(frozen=True)
class Stock:
    """datapipe's example over the same number of originals; None where the time ran out before."""

    count: int
    first: Measured
    no_change: Measured | None


def git_status(tree: Path, scratch: Path, rounds: int) -> Measured | None:
    """`git status` on the tree, with its repository outside of it; None where git is not here.

    The first status after an add looks into files that are as new as the index, so one run is
    thrown away. `core.untrackedCache` is off, as it is by default.
    """
    if shutil.which("git") is None:
        print("left out: git status: no git on the PATH")
        return None
    repository = scratch / "noop-git"
    shutil.rmtree(repository, ignore_errors=True)
    git = ["git", f"--git-dir={repository}", f"--work-tree={tree}", "-c", "core.bare=false"]
    env = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    try:
        for step in (["init", "--quiet"], ["add", "--all"]):
            subprocess.run([*git, *step], check=True, cwd=tree, env={**os.environ, **env})
        status = [*git, "-c", "core.untrackedCache=false", "status", "--porcelain=v2", "--branch"]
        measure(status, cwd=tree, env=env)
        return median_of([measure(status, cwd=tree, env=env) for _ in range(rounds)])
    finally:
        shutil.rmtree(repository, ignore_errors=True)


def stock_example(
    flat: Path, count: int, recipes: Sequence[Recipe], scratch: Path, timeout_s: float
) -> Stock | None:
    """datapipe-core's example over `count` originals in one folder, each run cut off by a timeout.

    None where datapipe-core is not here or fails.
    """
    peer = PEERS["stock-datapipe"]
    reason = peer.missing(scratch)
    if reason is not None:
        print(f"left out: {peer.name}: {reason}")
        return None
    folder = scratch / "noop-stock"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    names = [Original(path.name, 1, 1) for path in sorted(flat.iterdir())]
    assert len(names) == count
    Job(flat, names, recipes, 1).write(folder / "job.json", folder / "output")
    command = [*peer.command(scratch), str(folder / "job.json")]
    try:
        runs = []
        for label in ("first run", "run with no change"):
            print(f"stock datapipe: {label} over {count:,} originals", file=sys.stderr)
            run = measure(command, cwd=REPOSITORY, timeout_s=timeout_s)
            if run.exit_code != 0 and not run.timed_out:
                print(f"failed: {peer.name}: {run.complaint}")
                return None
            runs.append(run)
            if run.timed_out:
                break
        return Stock(count, runs[0], runs[1] if len(runs) == 2 else None)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
