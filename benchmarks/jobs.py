"""A CSV job of many images from a server on this machine, beside img2dataset on the same list.

    python -m benchmarks.jobs --rows 10000 --scratch FOLDER [--install-peers]

See README.md in this folder for what each number means and what is made equal.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import lockstep, table
from benchmarks.job import Recipe
from benchmarks.lockstep import REPOSITORY, Project, UnexpectedRun
from benchmarks.measure import Measured, measure
from benchmarks.options import parsed
from benchmarks.peers import img2dataset_peer as peer
from benchmarks.table import Target

_MB = 1_000_000
_FEED = "feed.csv"
HEADER = ["S. No.", "Product Name", "Input Image Urls"]
_LOOK_EVERY_S = 0.05
_IMAGES_PER_S, _MEMORY_MB = 300.0, 300.0
HALF = Recipe("half", "jpeg", 85, scale=0.5)


@dataclass
class ImageServer:
    """The server's process, and the URLs that it answers."""

    process: subprocess.Popen[str]
    port: int
    hosts: int

    def url(self, number: int, generation: int = 0) -> str:
        host = f"127.0.0.{1 + number % self.hosts}"
        return f"http://{host}:{self.port}/{generation}/{number:07d}.jpg"

    def asked(self, folder: str | None = None) -> int:
        """How many images were asked for so far, or how many of a folder."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/stats", timeout=30) as answer:
            stats = json.load(answer)
        return int(stats["images"] if folder is None else stats["by_folder"].get(folder, 0))

    def env(self, project: Project) -> dict[str, str]:
        """What a project needs to fetch from here."""
        return {
            "PIPELINE_STATE": str(project.folder / "state"),
            "PIPELINE_QUARANTINE": str(project.folder / "quarantine"),
            "PIPELINE_FETCH_ALLOW": "127.0.0.0/8",
            "PIPELINE_FETCH_PORTS": str(self.port),
        }

    def write_feed(self, file: Path, folder: str, urls: int, host: int = 0) -> None:
        """Drop a CSV with as many URLs of one host, one a row."""
        hidden = file.with_name(f".{file.name}")
        with hidden.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(HEADER)
            for number in range(urls):
                url = f"http://127.0.0.{host + 1}:{self.port}/{folder}/{number:07d}.jpg"
                writer.writerow([number + 1, f"SKU{number + 1}", url])
        hidden.replace(file)


@dataclass
class Timeline:
    """When a job was first seen in each state, in s since the start of the process."""

    database: Path
    seen_s: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Looks at the job's row while the block runs."""
        over = threading.Event()
        thread = threading.Thread(target=self._look, args=(over, time.perf_counter()))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _look(self, over: threading.Event, started: float) -> None:
        while not over.wait(_LOOK_EVERY_S):
            with contextlib.suppress(sqlite3.Error):  # it is not made yet, or being written
                uri = f"file:{self.database}?mode=ro"
                with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=1)) as connection:
                    for (state,) in connection.execute("SELECT state FROM jobs"):
                        self.seen_s.setdefault(state, time.perf_counter() - started)

    def fetched_s(self) -> float | None:
        """From the start of the process until every image was fetched and its row written."""
        after = [self.seen_s[s] for s in ("rendering", "writing", "completed") if s in self.seen_s]
        return min(after) if after else None


@dataclass
class Round:
    """One job from a fresh database on, and what came after it."""

    first: Measured
    timeline: Timeline
    idle: Measured
    idle_asked: int
    changed: Measured
    changed_asked: int


def main() -> None:
    options = _options()
    if options.install_peers:
        peer.install(options.scratch)
    print(f"{platform.platform()}, Python {platform.python_version()}\n")
    reason = lockstep.missing()
    if reason is not None:
        sys.exit(f"left out: lockstep: {reason}")
    peer_reason = None if options.peer else "not asked for"
    peer_reason = peer_reason or peer.missing(options.scratch)
    if peer_reason is not None:
        print(f"left out: {peer.NAME}: {peer_reason}")
    rounds: list[Round] = []
    peers: list[tuple[int, Measured]] = []
    with image_server(options.hosts, options.image_bytes) as server:
        for number in range(options.rounds):
            _say(f"round {number + 1} of {options.rounds}")
            rounds.append(_round(server, options))
            if peer_reason is None:
                peers += _peer_runs(server, options)
    _report(rounds, peers, options)


@contextlib.contextmanager
def image_server(hosts: int, image_bytes: int, per_second: float = 0.0) -> Iterator[ImageServer]:
    """A server in a process of its own; its first host answers so many a second, or all."""
    command = [sys.executable, "-m", "benchmarks.image_server"]
    command += ["--hosts", str(hosts), "--image-bytes", str(image_bytes)]
    command += ["--per-second", str(per_second)]
    process = subprocess.Popen(
        command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield ImageServer(process, int(process.stdout.readline() or 0), hosts)
    finally:
        process.stdin.close()
        process.wait(30)


def _round(server: ImageServer, options: argparse.Namespace) -> Round:
    folder = options.scratch / "jobs"
    project = Project(folder, folder / "input", (HALF,), options.workers)
    project.prepare()
    project.input.mkdir()
    os.sync()
    _write_feed(project.input / _FEED, server, options.rows)
    count = options.rows * 2
    timeline = Timeline(folder / "db.sqlite")
    with timeline.watching():
        first, asked = _run(project, server)
    _expect("images asked for", asked, count)
    _expect_answer(project, options.rows)
    _say(f"  lockstep: {count:,} images, whole job {first.wall_s:.1f} s")
    idle, idle_asked = _run(project, server)
    _write_feed(project.input / _FEED, server, options.rows, changed_row=options.rows // 2)
    changed, changed_asked = _run(project, server)
    _expect_answer(project, options.rows)
    shutil.rmtree(folder)
    return Round(first, timeline, idle, idle_asked, changed, changed_asked)


def _run(project: Project, server: ImageServer) -> tuple[Measured, int]:
    """One `datapipe run`, and how many images it asked for."""
    datapipe = lockstep.command()
    assert datapipe is not None
    before = server.asked()
    env = project.env() | server.env(project)
    run = measure([datapipe, "run", "--json"], cwd=REPOSITORY, env=env, beside={server.process.pid})
    if not run.ok:
        raise UnexpectedRun(run.complaint)
    return run, server.asked() - before


def _write_feed(path: Path, server: ImageServer, rows: int, changed_row: int = -1) -> None:
    """The CSV; in `changed_row` the second URL is another one."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for row in range(rows):
            second = server.url(row * 2 + 1, generation=int(row == changed_row))
            writer.writerow([row + 1, f"SKU{row + 1}", f"{server.url(row * 2)},{second}"])


def _expect_answer(project: Project, rows: int) -> None:
    (answer,) = project.output.glob("feed-*.csv")
    with answer.open(newline="", encoding="utf-8-sig") as file:
        answered = list(csv.DictReader(file))
    whole = [
        row
        for row in answered
        if not row["Errors"] and len(list(filter(None, row["Output Image Urls"].split(",")))) == 2
    ]
    _expect("whole rows in the answer", len(whole), rows)


def _expect(what: str, seen: int, expected: int) -> None:
    if seen != expected:
        raise UnexpectedRun(f"{what}: {seen:,}, expected {expected:,}")


def _peer_runs(server: ImageServer, options: argparse.Namespace) -> list[tuple[int, Measured]]:
    """img2dataset with as many connections as Lockstep, and with as many as it takes by itself."""
    folder = options.scratch / "jobs-peer"
    runs = []
    for threads_each in options.peer_threads:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        urls = folder / "urls.txt"
        urls.write_text("".join(f"{server.url(n)}\n" for n in range(options.rows * 2)), "utf-8")
        os.sync()
        beside = {server.process.pid}
        run = peer.fetch(options.scratch, urls, folder / "output", threads_each, beside)
        count = peer.fetched(folder / "output")
        if not run.ok or count != options.rows * 2:
            print(f"failed: {peer.NAME}: {count:,} of {options.rows * 2:,} images; {run.complaint}")
            continue
        _say(f"  {peer.NAME}, {threads_each} threads each: {run.wall_s:.1f} s")
        runs.append((threads_each, run))
    shutil.rmtree(folder, ignore_errors=True)
    return runs


def _report(
    rounds: list[Round], peers: list[tuple[int, Measured]], options: argparse.Namespace
) -> None:
    count = options.rows * 2
    best = min(rounds, key=lambda one: one.timeline.fetched_s() or one.first.wall_s)
    fetched_s = best.timeline.fetched_s()
    rows = []
    if fetched_s:
        rows.append(["fetched and tracked", f"{count / fetched_s:.0f}", *_times(fetched_s, None)])
    rows.append(_row("whole job, renditions and answer", best.first, count))
    rows.append(_row("run with no change", best.idle, None))
    rows.append(_row("run with one row changed", best.changed, None))
    fastest = min(peers, key=lambda one: one[1].wall_s, default=None)
    for threads_each, run in peers:
        name = f"{peer.NAME}, {peer.PROCESSES} x {threads_each} threads"
        rows.append(_row(name, run, count))
    title = (
        f"\n{options.rows:,} rows with {count:,} images of {options.image_bytes:,} bytes from "
        f"{options.hosts} hosts of this machine, {options.workers} workers, best of "
        f"{len(rounds)}"
    )
    head = ["whole process", "images/s", "wall", "CPU", "main RSS", "peak RSS", "peak PSS"]
    print(table.render(title, head, rows))
    if fastest:
        print(f"{peer.version(options.scratch)}: fetched, hashed and stored; nothing is rendered\n")
    seen = {state: round(s, 2) for state, s in best.timeline.seen_s.items()}
    print("states first seen at (s): " + ", ".join(f"{k} {v}" for k, v in seen.items()) + "\n")
    rate = count / fetched_s if fetched_s else None
    times = rate / (count / fastest[1].wall_s) if rate and fastest else None
    targets = [
        Target("images fetched and tracked a second", rate, _IMAGES_PER_S, at_least=True),
        Target(f"times {peer.NAME}", times, 1.0, at_least=True),
        Target(
            "peak memory of the main process (RSS)",
            max(one.first.peak_main_rss_bytes for one in rounds) / _MB,
            _MEMORY_MB,
            at_least=False,
            unit=" MB",
        ),
        Target("requests of a run with no change", best.idle_asked, 0, at_least=False),
        Target("requests of a run with one URL changed", best.changed_asked, 1, at_least=False),
    ]
    print(table.render_targets(targets))
    if options.json:
        record = {
            "rows": options.rows,
            "images": count,
            "hosts": options.hosts,
            "states_s": seen,
            "images_per_s": rate,
            "measured": {row[0]: row[1:] for row in rows},
            "targets": [target.record() for target in targets],
        }
        options.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _row(name: str, run: Measured, count: int | None) -> list[str]:
    rate = f"{count / run.wall_s:.0f}" if count else "-"
    return [name, rate, *_times(run.wall_s, run)]


def _times(wall_s: float, run: Measured | None) -> list[str]:
    if run is None:
        return [table.seconds(wall_s), "-", "-", "-", "-"]
    memory = (run.peak_main_rss_bytes, run.peak_rss_bytes, run.peak_pss_bytes)
    return [table.seconds(wall_s), table.seconds(run.cpu_s), *map(table.mebibytes, memory)]


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.jobs",
        description="A CSV job of many images from a server on this machine.",
        epilog="example: python -m benchmarks.jobs --rows 1000 --hosts 1",
    )
    add = parser.add_argument
    add("--rows", type=int, default=10_000, help="of two images each (default: %(default)s)")
    add("--hosts", type=int, default=8, help="addresses from 127.0.0.1 on (default: %(default)s)")
    add("--image-bytes", type=int, default=100_000, help="(default: %(default)s)")
    add("--workers", type=int, default=2, help="of Lockstep (default: %(default)s)")
    add("--rounds", type=int, default=1, help="(default: %(default)s)")
    add("--no-peer", dest="peer", action="store_false", help=f"leave out {peer.NAME}")
    add(
        "--peer-threads",
        type=int,
        nargs="+",
        default=[peer.THREADS_EACH, 64],
        metavar="N",
        help=f"threads of each of its {peer.PROCESSES} processes (default: %(default)s)",
    )
    add("--install-peers", action="store_true", help=f"install {peer.NAME} into the scratch")
    return parsed(parser)


if __name__ == "__main__":
    try:
        main()
    except UnexpectedRun as error:
        sys.exit(f"failed: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
