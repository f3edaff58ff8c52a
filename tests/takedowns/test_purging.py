"""What was in the quarantine for long enough goes for good, unless it is under legal hold."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from a_project import Project
from a_takedown import RED, audit, kept, lines, lose_database, sha256, take_down

DAYS = 30


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Have so many days pass for those who purge."""
    now = time.time

    def pass_(days: float) -> None:
        monkeypatch.setattr("pipeline.takedowns.purging.time.time", lambda: now() + days * 86_400)

    return pass_


@pytest.fixture
def due(shop: Project, later: Callable[[float], None]) -> Project:
    """A shop of which an original and its twin have been in the quarantine for long enough."""
    take_down(shop, "red.png")
    shop.env["PIPELINE_QUARANTINE_DAYS"] = str(DAYS)
    later(DAYS + 1)
    return shop


def events(project: Project) -> list[tuple[str, str, str | None]]:
    return [
        (event["what"], event["who"], event["note"])
        for act in reversed(audit(project))
        for event in act["events"]
    ]


PURGED = ("purged", "PIPELINE_QUARANTINE_DAYS", "after 30 days")


def test_what_was_kept_for_so_many_days_is_purged_by_a_run_and_the_audit_says_so(
    shop: Project, later: Callable[[float], None]
) -> None:
    take_down(shop, "red.png")
    later(100_000)
    shop.run()
    assert kept(shop) == RED  # for ever is the default
    shop.env["PIPELINE_QUARANTINE_DAYS"] = str(DAYS)
    later(DAYS - 1)
    shop.run()
    assert (kept(shop), events(shop)) == (RED, [])
    later(DAYS + 1)
    shop.run()
    assert (kept(shop), events(shop)) == ([], [PURGED])
    assert "purged" in shop.cli("takedown", "list").stdout
    shop.run()
    assert events(shop) == [PURGED]

    # Its content stays blocked, and nobody promises to put it back.
    shop.add("again.png", seed=1)
    assert shop.run()["renditions"]["taken_down"] == 1
    done = shop.cli("takedown", "reinstate", "1", "--json").json
    assert (done["originals"], done["missing"]) == ([], RED)


def test_a_lost_database_does_not_forget_a_purge_or_a_hold(due: Project) -> None:
    take_down(due, "blue.png", "--legal-hold")
    due.run()
    before = events(due)
    assert before == [PURGED, ("legal_hold", "mod", None)]
    lose_database(due)
    due.run()
    assert events(due) == before
    assert kept(due) == ["blue.png"]
    due.run()
    assert (events(due), kept(due)) == (before, ["blue.png"])


def test_a_legal_hold_keeps_it_until_it_is_released(due: Project) -> None:
    hold = ["takedown", "legal-hold", "1", "--who", "counsel", "--json"]
    assert due.cli(*hold).json == {"takedown": 1, "legal_hold": True, "changed": True}
    assert due.cli(*hold).json["changed"] is False
    due.run()
    assert kept(due) == RED
    due.add("red.png", seed=1)
    again = due.cli("takedown", "red.png", "--reason", "x", "--purge")
    assert again.code == 2
    assert "under legal hold" in again.stderr
    assert due.cli(*hold, "--release").json == {
        "takedown": 1,
        "legal_hold": False,
        "changed": True,
    }
    due.run()
    assert kept(due) == []
    names = [(what, who) for what, who, _ in events(due)]
    assert names == [
        ("legal_hold", "counsel"),
        ("released", "counsel"),
        ("purged", "PIPELINE_QUARANTINE_DAYS"),
    ]
    assert due.cli(*hold).code == 2  # nothing is left to hold
    assert due.cli("takedown", "legal-hold", "9").code == 2


def test_purging_and_holding_at_once_is_refused(shop: Project) -> None:
    answer = shop.cli("takedown", "red.png", "--reason", "x", "--purge", "--legal-hold")
    assert answer.code == 2
    assert audit(shop) == []


def test_a_quarantine_that_is_not_there_is_not_recorded_as_purged(due: Project) -> None:
    away = due.root / "away"
    shutil.move(due.root / "quarantine", away)  # its disk is not mounted
    due.run()
    assert events(due) == []
    shutil.rmtree(due.root / "quarantine")
    shutil.move(away, due.root / "quarantine")
    due.run()
    assert (kept(due), events(due)) == ([], [PURGED])


def killed_at_removal(number: int) -> Callable[[], None]:
    def prepare() -> None:
        from pipeline.takedowns import purging

        left, delete = number, purging.TakedownRepository.forget_place

        def forget(*args: Any) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            delete(*args)

        purging.TakedownRepository.forget_place = forget  # type: ignore[method-assign]

    return prepare


def test_a_purge_that_was_killed_is_finished_by_the_next_run_and_recorded_once(
    due: Project,
) -> None:
    assert due.in_child(killed_at_removal(1), "run") == -signal.SIGKILL
    assert kept(due) == RED[1:]
    due.run()
    assert (kept(due), events(due)) == ([], [PURGED])
    assert due.query("SELECT count(*) FROM takedown_files WHERE kept IS NOT NULL") == [(0,)]


def test_the_journal_has_what_an_earlier_release_can_read(due: Project) -> None:
    due.run()
    (said,) = [line for line in lines(due) if "events" in line]
    assert set(said) == {"takedown", "events"}
    assert sha256(due.input / "blue.png") not in str(said)


def test_days_are_a_whole_number(project: Project) -> None:
    project.env["PIPELINE_QUARANTINE_DAYS"] = "0"
    answer = project.cli("run")
    assert answer.code == 2
    assert "PIPELINE_QUARANTINE_DAYS" in answer.stderr
