"""A bulk is recorded as a whole, can be stopped, and loses nothing where its process is killed."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from a_project import Project
from a_takedown import audit, kept, originals

from pipeline.operations import bulk_work
from pipeline.operations.bulks import BulkRepository, Order, choose, choose_all
from pipeline.operations.listing import Filter
from pipeline.states import BulkAct, BulkState
from pipeline.takedowns.review_rows import ReviewRepository
from pipeline.takedowns.reviews import take_down_reviewed

COUNT = 90


@pytest.fixture
def full(project: Project) -> Project:
    """Originals that are no pictures: their rows and their bytes are there."""
    project.recipes("[thumb]\nfit = [40, 40]\n")
    for number in range(COUNT):
        (project.input / f"{number:03}.png").write_bytes(b"original %d" % number)
    project.run(code=1)
    return project


@contextlib.contextmanager
def the_app(project: Project) -> Any:
    with project._as_if_started_here():
        import app as module

        yield module.app


def record(project: Project, act: BulkAct = BulkAct.TAKE_DOWN) -> int:
    with the_app(project) as app:
        repository = BulkRepository(app.database)
        order = Order(act, "Ada", "withdrawn", chosen="all")
        return repository.add(order, choose_all(app.render.pending, Filter()))


def killed_at_statement(number: int) -> Callable[[], None]:
    """Kill this process before its ``number``-th act, after it, or before that is recorded."""

    def prepare() -> None:
        left = number
        settle, take = BulkRepository.settle, bulk_work.take_down

        def count() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        def settled(*given: Any) -> None:
            count()
            settle(*given)
            count()

        def taken(*given: Any) -> Any:
            count()
            return take(*given)

        BulkRepository.settle = settled  # type: ignore[method-assign]
        bulk_work.take_down = taken

    return prepare


def test_killed_again_and_again_it_takes_each_down_once(full: Project) -> None:
    assert record(full) == 1
    for moment in (1, 2, 3, 31, 47, 60, 80):
        done_before = full.query("select done from bulks")[0][0]
        code = full.in_child(killed_at_statement(moment), "takedown", "resume")
        assert code == -signal.SIGKILL
        state, done, failed = full.query("select state, done, failed from bulks")[0]
        assert (state, failed) == ("running", 0)
        assert done_before <= done < COUNT
    assert full.cli("takedown", "resume").code == 0
    assert full.query("select state, done, failed from bulks") == [("done", COUNT, 0)]
    assert originals(full) == []
    assert len(kept(full)) == COUNT
    acts = audit_of_all(full)
    assert len(acts) == COUNT
    assert len({act["sha256"] for act in acts}) == COUNT


def audit_of_all(project: Project) -> Any:
    return project.cli("takedown", "list", "--json", "--limit", "1000").json


def test_one_that_is_stopped_stays_so_until_it_is_resumed(full: Project) -> None:
    number = record(full)
    with the_app(full) as app:
        repository = BulkRepository(app.database)

        def moved(bulk: Any) -> None:
            if bulk.done == 10:
                assert repository.change(number, BulkState.RUNNING, BulkState.STOPPED, "Ben")

        bulk_work.work(app, moved=moved)
        bulk = repository.bulk(number)
        assert bulk is not None
        assert (bulk.state, bulk.done, bulk.ended_by) == ("stopped", 11, "Ben")
        bulk_work.work(app)
        assert len(originals(full)) == COUNT - 11
        assert not repository.change(number, BulkState.RUNNING, BulkState.STOPPED, "Cid")
        assert repository.change(number, BulkState.STOPPED, BulkState.RUNNING)
        bulk_work.work(app, is_stopping=lambda: len(originals(full)) <= COUNT - 20)
        assert len(originals(full)) == COUNT - 20


def test_what_is_held_is_published_unless_somebody_has_decided_otherwise(full: Project) -> None:
    with the_app(full) as app:
        reviews = ReviewRepository(app.database)
        digests = dict(full.query("select path, sha256 from renditions"))
        numbers = [
            reviews.add_report(digests[path], "input", path, "looks near", "Cid")[0]
            for path in ("000.png", "001.png")
        ]
        take_down_reviewed(app.takedowns, numbers[1], "Ben", "", "it is near")
        repository = BulkRepository(app.database)
        wanted = choose(app.render.pending, ["000.png", "001.png", "002.png"])
        repository.add(Order(BulkAct.PUBLISH, "Ada"), wanted)
        bulk_work.work(app)
        found = [(row.path, row.state, row.note) for row in repository.items_of(1, 9)]
    assert found == [
        ("000.png", "done", None),
        ("001.png", "failed", "somebody has decided otherwise meanwhile"),
        ("002.png", "failed", "it was neither held nor reported"),
    ]
    decided = full.query("select state, decided_by from reviews order by id")
    assert decided == [("published", "Ada"), ("taken_down", "Ben")]


def test_a_run_goes_on_while_a_bulk_does(full: Project) -> None:
    record(full)
    runs: list[int] = []
    with the_app(full) as app:

        def moved(bulk: Any) -> None:
            if bulk.done == 5:
                (full.input / "fresh.png").write_bytes(b"fresh")
                runs.append(full.process("run").code)

        bulk_work.work(app, moved=moved, is_stopping=lambda: bool(runs))
    assert runs == [1], "the fresh one is no picture either"
    assert full.query("select path from originals where path = 'fresh.png'") == [("fresh.png",)]


def test_a_list_is_taken_down_at_once_by_the_command(full: Project) -> None:
    names = full.root / "names.txt"
    names.write_text("000.png\n\n# a remark\n001.png\n", "utf-8")
    answer = full.cli(
        "takedown",
        "002.png",
        "--from-file",
        str(names),
        "--reason",
        "sold",
        "--who",
        "Ada",
        "--json",
    )
    assert answer.code == 0, answer
    assert (answer.json["total"], answer.json["done"], answer.json["state"]) == (3, 3, "done")
    assert len(originals(full)) == COUNT - 3
    assert [act["bulk"] for act in audit(full)] == [1, 1, 1]
    wrong = full.cli("takedown", "many", "003.png", "nothing.png", "--reason", "sold")
    assert wrong.code == 2
    assert "nothing.png" in wrong.stderr
    assert "003.png" in originals(full)
