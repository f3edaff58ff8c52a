"""The counts of Home are those of the last run, without anybody asking a second time."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from a_project import Project

from pipeline.web import counts


def test_counts_that_may_not_be_taken_yet_are_taken_later(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.run()

    def slow(app: Any) -> dict[str, Any]:
        time.sleep(0.4)
        return status(app)

    status, moved = counts.status, threading.Event()
    monkeypatch.setattr(counts, "status", slow)
    with project._as_if_started_here():
        import app as module

        latest = counts.LatestCounts(module.app, moved.set)
        latest.get()
        assert moved.wait(30)
        moved.clear()
        project.add("a.png")
        project.start("run").communicate(timeout=60)
        # Just counted: it takes too much of the processor to do it at once.
        said = latest.get()
        assert said is not None
        assert said["originals"] == 0
        assert moved.wait(30)
        said = latest.get()
        assert said is not None
        assert said["originals"] == 1
