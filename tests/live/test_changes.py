"""What is heard of a folder and gathered until a look is due, by a clock of its own."""

import os
import sys
import threading
from pathlib import Path

import pytest

from pipeline.live.changes import LATEST_S, MANY, Changes
from pipeline.live.events import changed_keys


def test_a_run_is_due_when_all_is_quiet_or_has_not_been_for_too_long() -> None:
    changes = Changes(settle_s=0.3)
    assert not changes.is_due(0.0)
    changes.add(["a"], 10.0)
    assert not changes.is_due(10.2)
    assert changes.is_due(10.3)
    for tenth in range(25):
        changes.add(["b"], 10.0 + tenth / 10)
        assert changes.is_due(10.0 + tenth / 10) == (tenth / 10 >= LATEST_S)


def test_only_what_is_still_is_taken_and_the_rest_later() -> None:
    changes = Changes(settle_s=0.3)
    changes.add(["still"], 10.0)
    changes.add(["growing"], 12.1)
    work = changes.take(12.2)
    assert (work.only, work.leave, work.whole) == ({"still"}, {"growing"}, False)
    assert not changes.is_due(12.3)
    assert changes.is_due(12.4)
    assert changes.take(12.4).only == {"growing"}
    assert changes.is_empty


def test_the_folder_itself_or_very_many_paths_are_a_look_at_all() -> None:
    changes = Changes(settle_s=0.3)
    changes.add([""], 10.0)
    assert changes.take(10.5).whole
    changes.add([str(n) for n in range(MANY + 1)], 20.0)
    work = changes.take(20.5)
    assert work.whole
    changes.put_back(work, 20.6)
    assert changes.is_due(20.6)
    assert changes.take(20.6).whole


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems take no such names")
@pytest.mark.parametrize("poll", [False, True])
def test_names_that_are_no_text_lose_no_event_and_end_no_watching(
    tmp_path: Path, poll: bool
) -> None:
    stop, raw = threading.Event(), os.fsencode(tmp_path)
    ticks = changed_keys(tmp_path, stop, poll)

    def until(key: str) -> None:
        # Ten seconds of ticks, far more than it takes.
        assert any(key in next(ticks) for _ in range(100)), key

    next(ticks)
    for number in range(3):
        (tmp_path / f"lost {number}.jpg").touch()
        with open(raw + b"/\xff%d.jpg" % number, "wb"):
            pass
        until("")
        (tmp_path / f"{number}.jpg").touch()
        until(f"{number}.jpg")
    stop.set()
    assert list(ticks) == []
