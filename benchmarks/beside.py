"""The events of `lanes`: a service, what keeps it busy, and how long each change waits for it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import re
import shutil
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from benchmarks import lockstep
from benchmarks.job import recipes_toml
from benchmarks.jobs import ImageServer
from benchmarks.live import RECIPES, photo, renditions
from benchmarks.lockstep import Project, UnexpectedRun

LOOK_EVERY_S = 0.005
GIVE_UP_S = 300.0
# How often a big thing is looked at, which costs more.
LOOK_AT_ALL_EVERY_S = 0.2
SMALL_PX = (800, 600)
CSV_EVERY, TAKEDOWN_EVERY = 5, 3


@dataclass(frozen=True)
class Size:
    """How much of everything; `changes` photos are added and removed in each scenario."""

    photos: int
    urls: int
    changes: int
    run_photos: int
    megapixels: float


@dataclass
class Service:
    """A service in a process of its own; `port` where it serves pages."""

    process: subprocess.Popen[str]
    port: int | None


class Bench:
    """One project of photos, and what is done to it."""

    def __init__(
        self, folder: Path, photos: Sequence[Path], server: ImageServer, size: Size, workers: int
    ) -> None:
        self.project = Project(folder, folder / "input", RECIPES, workers)
        self.server = server
        self.size = size
        self.photos = photos[: size.photos]
        # Added and removed again, in each scenario.
        self.others = photos[size.photos : size.photos + size.changes]
        self.env = self.project.env() | server.env(self.project)
        self.numbers = count()
        self._qualities = count(84, -1)

    def prepare(self) -> None:
        """All photos, in step."""
        self.project.prepare()
        self.project.input.mkdir()
        for original in self.photos:
            os.link(original, self.project.input / original.name)
        done = subprocess.run(
            [self._command(), "run"],
            cwd=lockstep.REPOSITORY,
            env={**os.environ, **self.env},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise UnexpectedRun(done.stderr)

    @contextlib.contextmanager
    def service(self, mode: str) -> Iterator[Service]:
        """`datapipe watch` or `datapipe serve`, from the end of its first run on."""
        log = self.project.folder / f"{mode}.log"
        words = ["serve", "--port", "0"] if mode == "serve" else ["watch"]
        with log.open("w") as said:
            process = self.start(*words, stderr=said)
        try:
            wait_for(lambda: re.search(r"at http://\S+|watching", log.read_text()), f"see {log}")
            port = re.search(r"at http://127.0.0.1:(\d+)", log.read_text())
            time.sleep(5)  # the first run, and loading the workers
            yield Service(process, int(port.group(1)) if port else None)
        finally:
            process.terminate()
            process.wait()

    def start(self, *words: str, stderr: object = subprocess.DEVNULL) -> subprocess.Popen[str]:
        """A command as a process that goes on."""
        return subprocess.Popen(
            [self._command(), *words],
            cwd=lockstep.REPOSITORY,
            env={**os.environ, **self.env},
            stdout=subprocess.DEVNULL,
            stderr=stderr,  # type: ignore[call-overload]
            text=True,
        )

    def change_recipe(self) -> int:
        """Change one of the recipes; Unix time in ns from which its renditions are new."""
        half, *others = RECIPES
        half = replace(half, quality=next(self._qualities))
        if half.quality < 40:
            raise UnexpectedRun("the recipe was changed too often: use fewer changes")
        file = self.project.folder / "recipes.toml"
        new = file.with_suffix(".new")
        new.write_text(recipes_toml([half, *others]), "utf-8")
        moment = time.time_ns()
        new.replace(file)
        return moment

    def is_rendered(self, since_ns: int) -> bool:
        """Whether every photo has a rendition that is newer."""
        folder = self.project.output / RECIPES[0].name
        return all((folder / p.name).stat().st_mtime_ns >= since_ns for p in self.photos)

    @contextlib.contextmanager
    def fetching(self, names: Sequence[str]) -> Iterator[None]:
        """Big CSVs of the slow host, dropped, and being fetched; removed in the end."""
        files = [self.project.input / f"{name}.csv" for name in names]
        for file in files:
            self.server.write_feed(file, file.stem, self.size.urls)
        for name in names:
            wait_for(lambda: self.server.asked(name), f"{name} is not fetched")  # noqa: B023
        yield
        for file in files:
            file.unlink()
        wait_for(lambda: not self.jobs("state NOT IN ('completed', 'deleted')"), "jobs stay")

    def jobs(self, condition: str) -> int:
        """How many jobs there are for which a condition holds."""
        uri = f"file:{self.project.folder / 'db.sqlite'}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=10)) as con:
            found = con.execute(f"SELECT count(*) FROM jobs WHERE {condition}").fetchone()
        return int(found[0])

    def run_starts_s(self) -> float:
        """Seconds until `datapipe run`, started beside the service, has begun to work."""
        note = self.project.folder / "db.sqlite.lock.json"
        began = time.monotonic()
        process = self.start("run")

        def is_ours() -> bool:
            with contextlib.suppress(OSError, ValueError):
                return bool(json.loads(note.read_text())["pid"] == process.pid)
            return False

        try:
            wait_for(lambda: is_ours() or process.poll() is not None, "the run did not start")
            if process.returncode:
                raise UnexpectedRun(f"datapipe run ended with {process.returncode}")
            return time.monotonic() - began
        finally:
            process.terminate()
            process.wait()

    def _command(self) -> str:
        command = lockstep.command()
        assert command is not None
        return os.fspath(command)


def backlog_s(bench: Bench) -> float:
    """Seconds until a changed recipe's renditions are all new."""
    since = bench.change_recipe()
    began = time.monotonic()
    wait_for(lambda: bench.is_rendered(since), "the backlog stays", LOOK_AT_ALL_EVERY_S)
    return time.monotonic() - began


def times_beside(bench: Bench, service: Service, is_backlog: bool) -> dict[str, list[float]]:
    """Seconds that each kind of change waits, while there is always a backlog, or none."""
    found: dict[str, list[float]] = {"new photo": [], "removed photo": []}
    found |= {"CSV of three images": [], "takedown": []}
    dice = random.Random(1)
    with _always_a_backlog(bench) if is_backlog else contextlib.nullcontext():
        for number, other in enumerate(bench.others):
            found["new photo"].append(_add(bench, other))
            time.sleep(dice.uniform(0.1, 0.6))
            if number % TAKEDOWN_EVERY == 0:
                found["takedown"].append(_take_down(bench, service))
            if number % CSV_EVERY == 0:
                found["CSV of three images"].append(_small_csv(bench))
            found["removed photo"].append(_remove(bench, other.name))
            time.sleep(dice.uniform(0.1, 0.6))
    return found


@contextlib.contextmanager
def _always_a_backlog(bench: Bench) -> Iterator[None]:
    over = threading.Event()

    def keep() -> None:
        while not over.is_set():
            since = bench.change_recipe()
            while not over.is_set() and not bench.is_rendered(since):
                over.wait(LOOK_AT_ALL_EVERY_S)

    thread = threading.Thread(target=keep)
    thread.start()
    time.sleep(1)  # until it is under way
    try:
        yield
    finally:
        over.set()
        thread.join()


def _add(bench: Bench, original: Path) -> float:
    hidden = bench.project.input / f".{original.name}"
    shutil.copyfile(original, hidden)
    targets = renditions(bench.project, original.name)
    hidden.replace(bench.project.input / original.name)
    return wait_for(lambda: all(t.exists() for t in targets), f"{original.name} is not rendered")


def _remove(bench: Bench, name: str) -> float:
    targets = renditions(bench.project, name)
    (bench.project.input / name).unlink()
    return wait_for(lambda: not any(t.exists() for t in targets), f"{name} keeps its renditions")


def _small_csv(bench: Bench) -> float:
    """From the moment that a CSV of another host is there until its job is complete."""
    name = f"small-{next(bench.numbers)}"
    file = bench.project.input / f"{name}.csv"
    bench.server.write_feed(file, name, 3, host=1)
    done = f"source = '{file.name}' AND state = 'completed'"
    waited = wait_for(lambda: bench.jobs(done), f"{name} is not complete", 5 * LOOK_EVERY_S)
    file.unlink()
    return waited


def _take_down(bench: Bench, service: Service) -> float:
    """From asking until no rendition is left; by a command where there is no page."""
    number = next(bench.numbers)
    name = f"withdrawn-{number}.jpg"
    hidden = bench.project.input / f".{name}"
    hidden.write_bytes(photo(number, SMALL_PX))
    hidden.replace(bench.project.input / name)
    targets = renditions(bench.project, name)
    wait_for(lambda: all(t.exists() for t in targets), f"{name} is not rendered")
    began = time.monotonic()
    if service.port is None:
        process = bench.start("takedown", name, "--reason", "measured")
    else:
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=GIVE_UP_S)
        body = json.dumps({"path": name, "reason": "measured"})
        connection.request("POST", "/takedowns", body, {"Content-Type": "application/json"})
        if connection.getresponse().status != 201:
            raise UnexpectedRun(f"{name} was not taken down")
        connection.close()
    wait_for(lambda: not any(t.exists() for t in targets), f"{name} keeps its renditions")
    waited = time.monotonic() - began
    if service.port is None and process.wait():
        raise UnexpectedRun(f"{name} was not taken down")
    return waited


def wait_for(ready: Callable[[], object], what: str, every_s: float = LOOK_EVERY_S) -> float:
    """Seconds until something holds."""
    began = time.monotonic()
    while not ready():
        if time.monotonic() - began > GIVE_UP_S:
            raise UnexpectedRun(f"{what} after {GIVE_UP_S:g} s")
        time.sleep(every_s)
    return time.monotonic() - began
