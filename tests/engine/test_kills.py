"""The crash test of `make test-kills` finds what it is there to find."""

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from a_project import HALF_AND_THUMB, ROOT, Project
from kills import oracle, preload
from kills.changes import Changes
from kills.shop import Shop
from PIL import Image

KEPT, GONE = "half/kept.jpg", "withdrawn.jpg"
Planted = Callable[[Path], object]


@pytest.fixture(scope="module")
def in_step(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str]]:
    """A project in step, with one takedown; and the SHA-256 that it bars."""
    recipes = (
        f'{HALF_AND_THUMB}[features.colour]\nfunction = "palette"\noptions = {{ count = 1 }}\n'
    )
    project = Project(tmp_path_factory.mktemp("kills") / "shop", recipes)
    for name in ("kept.jpg", "other.png", GONE):
        project.add(name)
    (project.input / "no-picture.gif").write_bytes(b"no picture")
    project.run(code=1)
    sha256 = project.cli("takedown", GONE, "--reason", "a test", "--json").json["sha256"]
    project.run()
    return project.root, {sha256}


def sql(statement: str) -> Planted:
    def plant(root: Path) -> None:
        connection = sqlite3.connect(root / "db.sqlite")
        with connection:
            assert connection.execute(statement).rowcount == 1
        connection.close()

    return plant


def show_other_content(root: Path) -> None:
    """As if an old rendition had stayed, with a row that agrees with it."""
    file = root / "output" / KEPT
    Image.new("RGB", (30, 20), "red").save(file)
    seen = oracle.seen(file)
    set_to = f"size_bytes = {seen.size_bytes}, file_sha256 = '{seen.sha256}'"
    sql(f"UPDATE renditions SET {set_to} WHERE file = '{KEPT}'")(root)


PLANTED: dict[str, Planted] = {
    "stray": lambda root: shutil.copy(root / "output" / KEPT, root / "output/half/new.jpg"),
    "stale": show_other_content,
    "missing": lambda root: (root / "output" / KEPT).unlink(),
    "torn": lambda root: os.truncate(root / "output" / KEPT, 200),
    "wrong size or format": lambda root: Image.new("RGB", (9, 9)).save(root / "output" / KEPT),
    "wrong row": sql(f"UPDATE renditions SET size_bytes = 1 WHERE file = '{KEPT}'"),
    "stale row": sql(f"UPDATE renditions SET sha256 = 'other' WHERE file = '{KEPT}'"),
    "no row": sql(f"DELETE FROM renditions WHERE file = '{KEPT}'"),
    "features": sql(
        "UPDATE features SET sha256 = 'other' WHERE path = 'kept.jpg' AND name = 'colour'"
    ),
    "row of nothing": lambda root: (root / "input/no-picture.gif").unlink(),
    "database": sql("DELETE FROM originals WHERE path = 'kept.jpg'"),
    "empty folder": lambda root: (root / "output/half/empty").mkdir(),
    "left-over temporary": lambda root: (root / "output/half/.lockstep-1-1").touch(),
    "state": lambda root: shutil.copy(root / "quarantine" / GONE, root / "input/kept.jpg"),
    "rendition of a taken-down picture": sql(
        f"UPDATE renditions SET sha256 = (SELECT sha256 FROM takedowns) WHERE file = '{KEPT}'"
    ),
    "takedown": sql("UPDATE takedowns SET state = 'lifted'"),
    "quarantine": lambda root: (root / "quarantine" / GONE).write_bytes(b"altered"),
}


def test_the_oracle_finds_nothing_where_all_is_in_step(in_step: tuple[Path, set[str]]) -> None:
    assert oracle.faults(*in_step) == []


@pytest.mark.parametrize("kind", PLANTED)
def test_the_oracle_finds_a_fault_that_is_planted(
    in_step: tuple[Path, set[str]], tmp_path: Path, kind: str
) -> None:
    root = tmp_path / "shop"
    shutil.copytree(in_step[0], root)
    PLANTED[kind](root)
    assert kind in {fault.split(":")[0] for fault in oracle.faults(root, in_step[1])}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = preload.compiled(tmp_path_factory.mktemp("library"))
    if found is None:
        pytest.skip("no C compiler here, or no Linux")
    return found


@pytest.mark.parametrize("torn", [False, True])
def test_all_processes_are_killed_at_the_call_that_was_named(
    library: Path, tmp_path: Path, torn: bool
) -> None:
    script = f"""
import subprocess, sys
from pathlib import Path
from kills.preload import Plan
plan = Plan(Path("plan"))
plan.arm(3, torn={torn})
plan.enter()
Path("first").mkdir()
subprocess.run([sys.executable, "-c", "open('second', 'w').write('whole')"])
Path("never").mkdir()
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=preload.environment(library) | {"PYTHONPATH": str(ROOT / "tests")},
        start_new_session=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "plan", "second"]
    assert (tmp_path / "second").read_text() == ("wh" if torn else "")
    assert b"worker: write " in (tmp_path / "plan").read_bytes()


def test_a_seed_makes_the_same_changes_again(tmp_path: Path) -> None:
    told = []
    for place in ("one", "other"):
        changes = Changes(Shop(tmp_path / place / "shop"), random.Random(7), set())
        told.append(changes.make(9, ["add"]) + changes.make(40))
    assert told[0] == told[1]


def test_rounds_are_played_by_a_command() -> None:
    command = [sys.executable, "-m", "tests.kills", "--rounds", "1", "--seed", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "1 rounds, " in done.stdout
