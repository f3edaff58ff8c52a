"""An error that nobody foresaw ends one run, and neither the watcher nor the service."""

from __future__ import annotations

import pytest
from a_project import Project
from a_watcher import Watching, wait_until
from failing_runs import FAILS_ONCE, remembered

# A watcher tries again five seconds after an unexpected error, which is too long to wait for.
SOON = "from pipeline.live import watcher\n\nwatcher.BACK_OFF_S = 0.2\n"


@pytest.mark.parametrize("error", ["RuntimeError", "SystemExit", "BaseException"])
def test_a_watcher_survives_whatever_a_run_raises(project: Project, error: str) -> None:
    project.own_step(SOON + FAILS_ONCE.format(error=error))
    project.add("a.jpg")
    watching = Watching(project)
    try:
        watching.wait_for("a.jpg")
        watching.wait_for_words(f"unexpected error: {error}: the shelf")
        said = "".join(watching.said)
        assert f"\nunexpected error: {error}: the shelf fell over\n" in f"\n{said}"
        assert "Traceback" in said
        # It goes on as before.
        project.add("b.jpg")
        watching.wait_for("a.jpg", "b.jpg")
        assert watching.stop() == 0
    finally:
        watching.kill()


def test_an_unexpected_error_of_a_run_is_remembered(project: Project) -> None:
    project.own_step(FAILS_ONCE.format(error="RuntimeError"))
    project.add("a.jpg")
    with pytest.raises(RuntimeError, match="the shelf"):
        project.cli("run")
    (stopped,) = remembered(project)
    assert stopped["stopped_by"] == "unexpected error: RuntimeError: the shelf fell over"
    project.add("b.jpg")
    project.run(code=0)
    assert remembered(project)[0]["stopped_by"] is None


def test_a_database_that_fails_once_does_not_end_a_watcher(project: Project) -> None:
    error = "__import__('sqlalchemy').exc.InvalidRequestError"
    project.own_step(SOON + FAILS_ONCE.format(error=error))
    project.add("a.jpg")
    watching = Watching(project)
    try:
        wait_until(lambda: any("the shelf fell over" in line for line in watching.said))
        watching.wait_for("a.jpg")
        assert watching.stop() == 0
    finally:
        watching.kill()
