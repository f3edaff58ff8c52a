"""How long what is urgent waits while a backlog renders and slow URLs are fetched.

    python -m benchmarks.lanes [--quick] [--photos FOLDER]

600 photos of up to 24 MP, two recipes; `datapipe watch` and `datapipe serve` as processes of their
own, at rest, beside a changed recipe's backlog, beside 1,000 URLs of a server that answers 10 a
second, and beside both. Then `datapipe run` over photos and URLs at once. See README.md in this
folder.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks import corpus, lockstep, table
from benchmarks.beside import Bench, Size, backlog_s, times_beside
from benchmarks.jobs import image_server
from benchmarks.live import RECIPES, p95
from benchmarks.lockstep import Project, UnexpectedRun
from benchmarks.measure import measure
from benchmarks.options import parsed
from benchmarks.table import Target

FULL = Size(photos=600, urls=1000, changes=30, run_photos=1000, megapixels=24.0)
QUICK = Size(photos=60, urls=60, changes=5, run_photos=100, megapixels=6.0)
SCENARIOS = {"at rest": (False, False), "backlog": (True, False), "fetch": (False, True)}
SCENARIOS |= {"both": (True, True)}
# Seconds: what was promised of each kind of event.
BOUNDS_S = {"new photo": 2.0, "removed photo": 2.0, "CSV of three images": 5.0, "takedown": 1.0}
AT_REST_S = 1.0


@dataclass
class Findings:
    """Seconds by mode, scenario and kind of event; and what was measured once."""

    waited_s: dict[str, dict[str, dict[str, list[float]]]] = field(default_factory=dict)
    run_starts_s: dict[str, float] = field(default_factory=dict)
    # By mode: a backlog alone, and beside a fetch.
    backlog_s: dict[str, tuple[float, float]] = field(default_factory=dict)
    # By mode: images of the big CSV that got on less, as a share of those of the other.
    shares: dict[str, float] = field(default_factory=dict)
    # Whole runs: photos, URLs, both.
    runs_s: tuple[float, float, float] | None = None

    def targets(self) -> list[Target]:
        """What was promised."""
        found = []
        for mode, scenarios in self.waited_s.items():
            for scenario, kinds in scenarios.items():
                for kind, waited in kinds.items():
                    is_change = "photo" in kind
                    bound = AT_REST_S if is_change and scenario == "at rest" else BOUNDS_S[kind]
                    worst = p95(waited) if is_change else max(waited, default=None)
                    what = f"{mode}, {scenario}: {kind}, {'p95' if is_change else 'longest'}"
                    found.append(Target(what, worst, bound, False, " s"))
        for mode, starts_s in self.run_starts_s.items():
            found.append(Target(f"{mode}: datapipe run beside it starts", starts_s, 2, False, " s"))
        for mode, (alone, beside) in self.backlog_s.items():
            what = f"{mode}: backlog beside a fetch, times alone"
            found.append(Target(what, beside / alone, 1.1, False))
        for mode, share in self.shares.items():
            found.append(Target(f"{mode}: the slower of two big CSVs", share, 0.5, True))
        if self.runs_s:
            photos, urls, both = self.runs_s
            what = "run over photos and URLs, times the longer alone"
            found.append(Target(what, both / max(photos, urls), 1.15, False))
        return found


def main() -> None:
    options = _options()
    reason = lockstep.missing()
    if reason:
        raise SystemExit(reason)
    size = QUICK if options.quick else FULL
    count = max(size.run_photos, size.photos + size.changes)
    wanted = corpus.Wanted(count, max_megapixels=size.megapixels, photos=options.photos)
    folder, originals = corpus.make(wanted, options.scratch)
    photos = [folder / original.name for original in originals]
    found = Findings()
    for mode in options.modes:
        with image_server(hosts=2, image_bytes=100_000, per_second=options.per_second) as server:
            bench = Bench(options.scratch / "lanes", photos, server, size, options.workers)
            _measure_mode(bench, mode, found)
    if options.whole_runs:
        found.runs_s = whole_runs(options, photos[: size.run_photos], size.urls)
    show(found)
    if options.json:
        record = asdict(found) | {"targets": [target.record() for target in found.targets()]}
        options.json.write_text(json.dumps(record, indent=1), encoding="utf-8")


def _measure_mode(bench: Bench, mode: str, found: Findings) -> None:
    _say(f"{mode}: first run over {bench.size.photos} photos")
    bench.prepare()
    waited = found.waited_s.setdefault(mode, {})
    with bench.service(mode) as service:
        alone_s = backlog_s(bench)
        for name, (is_backlog, is_fetch) in SCENARIOS.items():
            _say(f"{mode}: {name}")
            # Beside both, there are two big CSVs.
            big = [f"big-{name}-{n}" for n in range(is_fetch + (is_fetch and is_backlog))]
            with bench.fetching(big):
                if is_fetch and is_backlog:
                    found.backlog_s[mode] = (alone_s, backlog_s(bench))
                waited[name] = times_beside(bench, service, is_backlog)
                if len(big) > 1:
                    asked = [bench.server.asked(folder) for folder in big]
                    found.shares[mode] = min(asked) / max(max(asked), 1)
                    found.run_starts_s[mode] = bench.run_starts_s()


def whole_runs(
    options: argparse.Namespace, photos: list[Path], urls: int
) -> tuple[float, float, float]:
    """Seconds of `datapipe run` over photos, over a CSV of URLs, and over both."""
    seconds = []
    with image_server(hosts=1, image_bytes=100_000, per_second=options.per_second) as server:
        for has_photos, has_urls in ((True, False), (False, True), (True, True)):
            _say(f"a run over{' photos' * has_photos}{' URLs' * has_urls}")
            folder = options.scratch / "lanes"
            project = Project(folder, folder / "input", RECIPES, options.workers)
            project.prepare()
            project.input.mkdir()
            for photo in photos if has_photos else ():
                os.link(photo, project.input / photo.name)
            if has_urls:
                server.write_feed(project.input / "feed.csv", "feed", urls)
            env = project.env() | server.env(project)
            command = lockstep.command()
            assert command is not None
            beside = {server.process.pid}
            run = measure([command, "run"], cwd=lockstep.REPOSITORY, env=env, beside=beside)
            if not run.ok:
                raise UnexpectedRun(run.complaint)
            seconds.append(run.wall_s)
            shutil.rmtree(folder)
    return seconds[0], seconds[1], seconds[2]


def show(found: Findings) -> None:
    for mode, scenarios in found.waited_s.items():
        rows = [
            [
                f"{scenario}: {kind}",
                str(len(waited)),
                f"{statistics.median(waited):.2f} s",
                f"{p95(waited) or waited[0]:.2f} s",
                f"{max(waited):.2f} s",
            ]
            for scenario, kinds in scenarios.items()
            for kind, waited in kinds.items()
            if waited
        ]
        head = ["from the change to what a reader sees", "times", "p50", "p95", "longest"]
        print(table.render(f"datapipe {mode}", head, rows))
    for mode, (alone, beside) in found.backlog_s.items():
        print(f"{mode}: a backlog takes {alone:.1f} s alone, {beside:.1f} s beside a fetch")
    if found.runs_s:
        print("whole runs: photos {:.1f} s, URLs {:.1f} s, both {:.1f} s".format(*found.runs_s))
    print(table.render_targets(found.targets()))


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.lanes",
        description="How long what is urgent waits beside a backlog and slow URLs.",
        epilog="example: python -m benchmarks.lanes --quick --modes watch",
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="a tenth of it, to see that it works")
    add("--photos", type=Path, metavar="FOLDER", help="photos to cut the corpus from")
    add("--modes", nargs="+", choices=["watch", "serve"], default=["watch", "serve"])
    add("--no-whole-runs", dest="whole_runs", action="store_false", help="leave out datapipe run")
    add("--per-second", type=float, default=10.0, help="images of the slow host (%(default)s)")
    add("--workers", type=int, default=2, help="(default: %(default)s)")
    return parsed(parser)


if __name__ == "__main__":
    try:
        main()
    except (UnexpectedRun, KeyboardInterrupt) as error:
        sys.exit(str(error) or 130)
