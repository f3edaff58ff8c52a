"""Originals are carried from a store to confined workers, and renditions back.

A folder stands for the bucket here; tests/buckets has real ones.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from a_project import picture

from pipeline.errors import StoreError
from pipeline.reasons import Code
from pipeline.storage.base import Store
from pipeline.storage.folder_store import FolderStore
from pipeline.storage.places import Place
from pipeline.transforms.recipes import Recipe
from pipeline.workers import carrying, sandbox
from pipeline.workers.local import Workers
from pipeline.workers.tasks import Folders, Outcome, RenditionWanted, Task, WorkerSetup

IN, OUT = "s3://bucket/in", "s3://bucket/out"
HALF = RenditionWanted(Recipe("half", scale=0.5), None, None, None)


class Carried:
    """Workers with two stores that they cannot see."""

    def __init__(self, root: Path) -> None:
        self.stores = {IN: FolderStore(root / "in"), OUT: FolderStore(root / "out")}
        self.folder = root / "state/carried"
        folders = None if sandbox.why_not() else Folders((), ())
        self.workers = Workers(WorkerSetup(10**8, 100, 2_000, folders, str(self.folder)), 2, 60)

    def put(self, key: str, data: bytes, place: str = IN) -> None:
        store = self.stores[place]
        store.publish(store.stage(key, data, "somebody"))

    def submit(self, key: str, wanted: RenditionWanted = HALF, hash_only: bool = False) -> None:
        self.workers.submit(Task(key, (wanted,), IN, key, OUT, hash_only=hash_only))

    def outcome(self) -> Outcome:
        while True:
            outcome = self.workers.next_outcome()
            if outcome is not None:
                return outcome

    def temporary(self) -> list[str]:
        root = Path(self.stores[OUT].root)
        return [path.name for path in root.rglob(".lockstep-*")] if root.exists() else []

    def left(self) -> list[Path]:
        return list(self.folder.glob("*/*/*"))


@pytest.fixture
def carried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Carried]:
    carried = Carried(tmp_path)
    stores: dict[str, Store] = dict(carried.stores)
    monkeypatch.setattr(carrying, "open_store", lambda place: stores[place.text])
    with contextlib.closing(carried.workers):
        yield carried
    assert not list(carried.folder.glob("*"))


def test_an_original_comes_and_its_renditions_are_staged(carried: Carried) -> None:
    names = [f"shoes/{number}.png" for number in range(20)]
    for name in names:
        carried.put(name, picture(".png", name))
        carried.submit(name)
    outcomes = [carried.outcome() for _ in names]
    assert sorted(outcome.path for outcome in outcomes) == sorted(names)
    store = carried.stores[OUT]
    for outcome in outcomes:
        (made,) = outcome.made
        data, _ = store.read(made.temporary, 10**6)
        assert (made.file, len(data)) == (f"half/{outcome.path}", made.size_bytes)
        assert (outcome.failed, outcome.unsettled) == ([], False)
        store.remove(made.temporary)
    assert carried.left() == []


def test_one_that_is_gone_or_broken_costs_itself_alone(carried: Carried) -> None:
    carried.put("bad.png", b"no picture")
    carried.put("good.png", picture(".png", 1))
    for name in ("gone.png", "bad.png", "good.png"):
        carried.submit(name)
    by_path = {outcome.path: outcome for outcome in (carried.outcome() for _ in range(3))}
    assert by_path["gone.png"].unsettled
    assert [name for name, _ in by_path["bad.png"].failed] == ["half"]
    assert len(by_path["good.png"].made) == 1
    assert carried.left() == []


def test_one_that_is_too_large_for_a_worker_is_not_carried(
    carried: Carried, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert carried.workers._carrier is not None
    monkeypatch.setattr(carried.workers._carrier, "_max_bytes", 100)
    carried.put("large.png", bytes(1_000))
    carried.submit("large.png")
    outcome = carried.outcome()
    assert (outcome.size_bytes, outcome.failed[0][1].code) == (1_000, Code.TOO_LARGE)


def test_what_is_there_already_stays_and_what_is_missing_is_made_again(carried: Carried) -> None:
    carried.put("a.png", picture(".png", 1))
    carried.submit("a.png", hash_only=True)
    sha256 = carried.outcome().sha256
    carried.put("half/a.png", b"12345", OUT)
    for size_bytes, unchanged in ((5, ["half"]), (6, [])):
        wanted = HALF._replace(made_of=sha256, file="half/a.png", size_bytes=size_bytes)
        carried.submit("a.png", wanted)
        outcome = carried.outcome()
        assert (outcome.unchanged, len(outcome.made)) == (unchanged, 1 - len(unchanged))


def test_what_nobody_has_taken_over_is_deleted_when_the_workers_are_stopped(
    carried: Carried,
) -> None:
    for number in range(6):
        carried.put(f"{number}.png", picture(".png", number))
        carried.submit(f"{number}.png")
    taken = carried.outcome()
    carried.workers.close()
    assert carried.temporary() == [Path(taken.made[0].temporary).name]


def test_workers_that_are_killed_cost_no_more_than_what_they_had(carried: Carried) -> None:
    names = {f"{number:02}.png" for number in range(12)}
    # So large that a worker is killed at its picture, and not between two of them: one that is just
    # taking a task holds a lock that others wait a minute for.
    large = picture(".png", "large", (4000, 3000))
    for name in sorted(names):
        carried.put(name, large)
        carried.submit(name)
    first = carried.outcome()
    time.sleep(0.05)
    for process in multiprocessing.active_children():
        os.kill(process.pid or 0, signal.SIGKILL)
    others = [carried.outcome() for _ in range(11)]
    assert {first.path, *(outcome.path for outcome in others)} == names
    assert all(outcome.killed or len(outcome.made) == 1 for outcome in others)
    assert sum(outcome.killed for outcome in others) <= 2
    assert carried.left() == []


def test_a_store_that_does_not_answer_ends_the_run(
    carried: Carried, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(key: str, *rest: object) -> Iterator[bytes]:
        raise StoreError(f"{Place(IN).at(key)}: does not answer")

    monkeypatch.setattr(carried.stores[IN], "pieces", refuse)
    carried.submit("a.png")
    with pytest.raises(StoreError, match="s3://bucket/in/a"):
        carried.outcome()
