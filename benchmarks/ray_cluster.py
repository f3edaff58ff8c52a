"""Photos a second on two Ray nodes of one processor each, beside two local processes.

    python -m benchmarks.ray_cluster [--count 600] [--rounds 3] [--photos FOLDER]

See README.md in this folder for what each number means.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from benchmarks import corpus
from benchmarks.job import Recipe
from benchmarks.lockstep import REPOSITORY, Project, UnexpectedRun, command
from benchmarks.options import parsed
from tests.helpers.a_cluster import RayCluster, tree

NODES = 2
# Of the local pool's photos a second.
WANTED = 0.9
MAX_MEGAPIXELS = 6.0
RECIPES = (Recipe("half", "jpeg", 85, scale=0.5), Recipe("fit400", "jpeg", 85, fit=(400, 400)))
SAMPLE_S = 0.25
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class OnRay(Project):
    """A project whose photos are rendered on a cluster."""

    url: str = ""

    def env(self) -> dict[str, str]:
        return super().env() | {"PIPELINE_WORKERS": self.url}


class Cpu:
    """The CPU time of a command and of all processes of a cluster, sampled, in seconds."""

    def __init__(self, command: int, cluster: RayCluster | None) -> None:
        self._command = command
        self._cluster = cluster
        self._ended = threading.Event()
        self._known: dict[int, float] = {}
        self._before: dict[int, float] = {}

    @property
    def seconds(self) -> float:
        return sum(each - self._before.get(pid, 0.0) for pid, each in self._known.items())

    def __enter__(self) -> Cpu:
        # What the nodes have used so far; the command has only just begun.
        self._before = self._now()
        self._before.pop(self._command, None)
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.wait(SAMPLE_S):
            self._known |= self._now()

    def _now(self) -> dict[int, float]:
        nodes = self._cluster.all if self._cluster else []
        pids = {pid for node in nodes for pid in node.processes()} | tree(self._command)
        return {pid: _cpu_s(pid) for pid in pids}


def _cpu_s(pid: int) -> float:
    try:
        text = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except OSError:
        return 0.0
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--photos", type=Path)
    options = parsed(parser)
    wanted = corpus.Wanted(options.count, ".jpg", MAX_MEGAPIXELS, options.photos)
    photos, _ = corpus.make(wanted, options.scratch)
    folder = options.scratch / "ray"
    cluster = RayCluster()
    try:
        cluster.nodes(NODES)
        os.environ["RAY_ADDRESS"] = cluster.address
        local = Project(folder, photos, RECIPES, NODES)
        ways = {
            "local": local,
            "auto": OnRay(**vars(local), url="ray://auto"),
            "client": OnRay(**vars(local), url=cluster.url),
        }
        figures = _measure(cluster, ways, options.count, options.rounds)
    finally:
        cluster.close()
        shutil.rmtree(folder, ignore_errors=True)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    return _tell(figures, options.count)


def _measure(
    cluster: RayCluster, ways: dict[str, Project], count: int, rounds: int
) -> dict[str, list[dict[str, float]]]:
    """Rounds in turn, so that what else the machine does slows all ways alike."""
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for number in range(rounds):
        names = list(ways) if number % 2 == 0 else list(reversed(ways))
        for name in names:
            project = ways[name]
            project.prepare()
            figures[name].append(_run(project, cluster if name != "local" else None, count))
            print(f"{name}: {figures[name][-1]}", file=sys.stderr)
    return figures


def _run(project: Project, cluster: RayCluster | None, count: int) -> dict[str, float]:
    """One whole run. Not by `measure`, for which the cluster would be left behind."""
    datapipe = command()
    assert datapipe is not None
    words = [str(datapipe), "run", "--json"]
    env = {**os.environ, **project.env()}
    running = subprocess.Popen(words, cwd=REPOSITORY, env=env, stdout=subprocess.PIPE, text=True)
    with Cpu(running.pid, cluster) as cpu:
        stdout, _ = running.communicate()
    report = json.loads(stdout)
    if running.returncode != 0 or report["renditions"]["rendered"] != len(RECIPES) * count:
        raise UnexpectedRun(stdout)
    return {
        "seconds": report["seconds"],
        "photos_per_s": count / report["seconds"],
        "cpu_ms_per_photo": cpu.seconds / count * 1000,
    }


def _tell(figures: dict[str, list[dict[str, float]]], count: int) -> int:
    print(f"\n{count:,} photos x {len(RECIPES)} recipes, medians of {len(figures['local'])} rounds")
    medians = {
        name: {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}
        for name, rounds in figures.items()
    }
    here = medians["local"]
    for name, each in medians.items():
        shares = [each[key] / here[key] for key in ("photos_per_s", "cpu_ms_per_photo")]
        print(
            f"{name:8} {each['photos_per_s']:6.1f} photos/s ({shares[0]:.2f} x)   "
            f"{each['cpu_ms_per_photo']:6.1f} ms of CPU a photo ({shares[1]:.2f} x)"
        )
    is_met = medians["auto"]["photos_per_s"] >= WANTED * here["photos_per_s"]
    print(f"ray://auto at {WANTED:g} x of the local pool or more: {'met' if is_met else 'MISSED'}")
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main())
