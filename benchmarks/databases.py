"""What runs cost on SQLite, on PostgreSQL, and on a PostgreSQL that is a millisecond away.

    python -m benchmarks.databases [--count 20000] [--scratch FOLDER]

See README.md in this folder for what each number means.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from benchmarks import lockstep, table, tiny
from benchmarks.far import HOST
from benchmarks.lockstep import REPOSITORY, Project
from benchmarks.measure import Measured, median_of
from benchmarks.noop import CHANGED, RECIPES
from benchmarks.options import parsed
from benchmarks.table import Target

ROUND_TRIP_MS = 1.0
NEAR, FAR = "PostgreSQL", f"PostgreSQL, {ROUND_TRIP_MS:g} ms away"
SQLITE = "SQLite"
KINDS = {"first": "first run", "idle": "no change", "changed": f"{CHANGED} changed originals"}
_FIRST_AT_MOST = 1.3


@dataclass
class Runs:
    """All runs over one database, by what they had to do."""

    first: list[Measured] = field(default_factory=list)
    idle: list[Measured] = field(default_factory=list)
    changed: list[Measured] = field(default_factory=list)

    def of(self, kind: str) -> Measured:
        """The median of a kind."""
        found: list[Measured] = getattr(self, kind)
        return median_of(found)


def main() -> None:
    options = _options()
    print(f"{platform.platform()}, Python {platform.python_version()}\n")
    reason = lockstep.missing()
    if reason is not None:
        sys.exit(f"left out: lockstep: {reason}")
    tree = options.scratch / "tiny" / f"noop-{options.count}"
    _say(f"making {options.count:,} originals in {tree}")
    tiny.make(tree, options.count)
    found = {name: Runs() for name in (SQLITE, NEAR, FAR)}
    with _postgresql() as (port, server), _far_from(port) as (far_port, proxy):
        for number in range(options.rounds):
            for name, runs in found.items():
                # Another database for each: none finds the server's memory filled by another.
                database = f"bench_{number}_{'far' if name == FAR else 'near'}"
                if name != SQLITE:
                    _create(port, database)
                address = {
                    SQLITE: None,
                    NEAR: f"postgresql://postgres@{HOST}:{port}/{database}",
                    FAR: f"postgresql://postgres@{HOST}:{far_port}/{database}",
                }[name]
                project = Project(
                    options.scratch / "databases", tree, RECIPES, options.workers, database=address
                )
                _measure(project, name, runs, options, (server, proxy))
    shutil.rmtree(options.scratch / "databases", ignore_errors=True)
    _report(found, options)


def _measure(
    project: Project,
    name: str,
    runs: Runs,
    options: argparse.Namespace,
    beside: tuple[int, int],
) -> None:
    count = options.count
    project.prepare()
    _say(f"{name}: first run over {count:,} originals")
    runs.first.append(project.run(beside=beside))
    lockstep.check(runs.first[-1], rendered=count * len(RECIPES))
    _say(f"{name}: {options.runs} runs with no change, and with {CHANGED} changed originals")
    for _ in range(options.runs):
        runs.idle.append(project.run(beside=beside))
        lockstep.check(runs.idle[-1], rendered=0)
    for _ in range(options.runs):
        picked = tiny.change(project.input, count, CHANGED, time.time_ns())
        runs.changed.append(project.run(beside=beside))
        lockstep.check(runs.changed[-1], rendered=len(picked) * len(RECIPES))


@contextlib.contextmanager
def _postgresql() -> Iterator[tuple[int, int]]:
    """A PostgreSQL server with its default settings, for as long as the block: its port and its
    process."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not binaries:
        sys.exit("left out: no PostgreSQL server is installed (Debian: postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="bench-pg-"))
    user: dict[str, int] = {}
    if os.geteuid() == 0:
        # The server refuses to run as root.
        entry = pwd.getpwnam("postgres")
        os.chown(folder, entry.pw_uid, entry.pw_gid)
        user = {"user": entry.pw_uid, "group": entry.pw_gid}

    def run(program: str, *arguments: str) -> None:
        command = [str(binaries[-1] / program), "-D", str(folder / "data"), *arguments]
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, **user)  # type: ignore[call-overload]

    with socket.create_server((HOST, 0)) as free:
        port: int = free.getsockname()[1]
    options = f"-p {port} -k {folder} -c listen_addresses={HOST}"
    try:
        run("initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale", "C.UTF-8")
        run("pg_ctl", "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield port, int((folder / "data/postmaster.pid").read_text().splitlines()[0])
        finally:
            run("pg_ctl", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def _far_from(port: int) -> Iterator[tuple[int, int]]:
    """The port of a proxy of :mod:`benchmarks.far`, and its process."""
    command = [sys.executable, "-m", "benchmarks.far", str(port), str(ROUND_TRIP_MS / 2)]
    with subprocess.Popen(
        command, cwd=REPOSITORY, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as proxy:
        assert proxy.stdin is not None
        assert proxy.stdout is not None
        yield int(proxy.stdout.readline()), proxy.pid
        proxy.stdin.close()


def _create(port: int, name: str) -> None:
    url = f"postgresql://postgres@{HOST}:{port}/postgres"
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as con:
        con.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()


def _report(found: dict[str, Runs], options: argparse.Namespace) -> None:
    ratios = [
        [
            what,
            name,
            table.ratio(runs.of(kind).wall_s / found[SQLITE].of(kind).wall_s),
            table.ratio(runs.of(kind).cpu_s / found[SQLITE].of(kind).cpu_s),
        ]
        for kind, what in KINDS.items()
        for name, runs in found.items()
        if name != SQLITE
    ]
    title = f"\n{options.count:,} originals x {len(RECIPES)} recipes, {options.workers} workers"
    head = ["run", "on", "wall, of SQLite's", "CPU, of SQLite's"]
    print(table.render(title, head, ratios))
    rows = [
        [what, name, table.seconds(run.wall_s), table.seconds(run.cpu_s)]
        for kind, what in KINDS.items()
        for name, runs in found.items()
        for run in [runs.of(kind)]
    ]
    print(table.render("Measured", ["run", "on", "wall", "CPU without the server"], rows))
    share = found[FAR].of("first").wall_s / found[SQLITE].of("first").wall_s
    what = f"first run, {FAR}, by SQLite's"
    targets = [Target(what, share, _FIRST_AT_MOST, at_least=False, unit=" x")]
    print(table.render_targets(targets))
    if options.json:
        record = {
            "originals": options.count,
            "measured": {
                name: {
                    kind: {"wall_s": runs.of(kind).wall_s, "cpu_s": runs.of(kind).cpu_s}
                    for kind in KINDS
                }
                for name, runs in found.items()
            },
            "targets": [target.record() for target in targets],
        }
        options.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.databases",
        description="What runs cost on SQLite, on PostgreSQL, and on one a millisecond away.",
        epilog="example: python -m benchmarks.databases --count 2000 --runs 1",
    )
    add = parser.add_argument
    add("--count", type=int, default=20_000, help="originals (default: %(default)s)")
    add("--workers", type=int, default=2, help="(default: %(default)s)")
    add("--rounds", type=int, default=1, help="of all databases in turn (default: %(default)s)")
    add("--runs", type=int, default=3, help="of each kind but first ones (default: %(default)s)")
    return parsed(parser)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
