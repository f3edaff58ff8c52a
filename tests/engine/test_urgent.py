"""What changes while a backlog is rendered does not wait for it, and is not spoiled by it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from a_project import Project

from pipeline.engine.context import Run, RunOptions

MANY = 40
OTHER = "[half]\nscale = 0.25\n[thumb]\nfit = [20, 20]\n"


def in_backlog(project: Project, at: int, change: Callable[[Any, Run], None]) -> Any:
    """A run over a backlog, in which ``change`` is called between two tasks; its report."""
    with project._as_if_started_here():
        import app as module
        from pipeline.engine.run import run_once
        from pipeline.workers.tasks import Urgency

        calls = 0

        def attend(run: Run) -> None:
            nonlocal calls
            calls += 1
            if calls == at:
                change(module.app, run)

        options = RunOptions(urgent={Urgency.FRESH: attend})
        report = run_once(module.app.plan, options)
        assert calls >= at
    return report


def see_to(app: Any, run: Run, *keys: str, whole: bool = False) -> Any:
    from pipeline.engine.urgent import work_within

    options = RunOptions(only=None if whole else frozenset(keys))
    return work_within(app.plan, run, options, [app.scan, app.render])


@pytest.fixture
def behind(project: Project) -> Project:
    """A project that is to render all its originals again."""
    for number in range(MANY):
        project.add(f"{number:02}.png", size=(60, 40))
    project.run()
    project.recipes(OTHER)
    project.env["PIPELINE_WORKERS"] = "1"
    return project


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("at", [2, 15])
def test_changes_are_seen_to_within_a_backlog(behind: Project, at: int, whole: bool) -> None:
    project = behind

    def change(app: Any, run: Run) -> None:
        old = project.outputs()
        project.add("new.png")
        project.add("39.png", seed=5)  # not rendered yet
        project.add("00.png", seed=6)  # rendered, or with a worker
        (project.input / "38.png").unlink()
        (project.input / "01.png").unlink()
        keys = ("new.png", "39.png", "00.png", "38.png", "01.png")
        report = see_to(app, run, *keys, whole=whole)
        assert (report.new, report.changed, report.removed) == (1, 2, 2)
        now = project.outputs()
        assert {"half/new.png", "thumb/new.png"} <= now.keys()
        assert not [name for name in now if name.endswith(("01.png", "38.png"))]
        assert now["half/39.png"] != old["half/39.png"]
        # The backlog is where it was.
        assert now["half/37.png"] == old["half/37.png"]

    in_backlog(project, at, change)
    assert len(project.outputs()) == 2 * (MANY - 1)
    project.assert_in_step()
    stamps = project.stamps()
    assert project.run()["renditions"] == {
        **dict.fromkeys(("rendered", "reused", "deleted", "taken_down", "held", "failed"), 0),
        **{"failed_before": 0, "in_step": 2 * (MANY - 1), "pending": 0},
    }
    assert project.stamps() == stamps
    assert project.cli("verify").code == 0
    # Nothing of what is gone makes later change queries longer.
    gone = "SELECT 1 FROM originals_meta WHERE delete_ts IS NOT NULL"
    assert project.query(gone) == []


def test_a_photo_that_comes_and_goes_within_a_backlog_leaves_nothing(behind: Project) -> None:
    project = behind

    def change(app: Any, run: Run) -> None:
        see_to(app, run, project.add("20.png", seed=9).name)
        (project.input / "20.png").unlink()
        see_to(app, run, "20.png")
        project.add("20.png", seed=9)
        see_to(app, run, "20.png")
        (project.input / "20.png").unlink()
        see_to(app, run, "20.png")

    in_backlog(project, 3, change)
    assert not [name for name in project.outputs() if "20.png" in name]
    project.assert_in_step()
    assert project.run()["renditions"]["in_step"] == 2 * (MANY - 1)


def test_a_run_that_fails_after_urgent_work_loses_neither(behind: Project) -> None:
    project = behind

    def change(app: Any, run: Run) -> None:
        project.add("new.png")
        see_to(app, run, "new.png")
        raise RuntimeError("the shelf fell over")

    with pytest.raises(RuntimeError):
        in_backlog(project, 5, change)
    assert "half/new.png" in project.outputs()
    project.run()
    project.assert_in_step()
    assert project.cli("verify").code == 0


def test_more_changes_than_are_known_by_name_end_a_backlog_early(
    behind: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = behind
    monkeypatch.setattr("pipeline.engine.context.NARROW_ROWS", 3)
    monkeypatch.setattr("pipeline.engine.urgent.NARROW_ROWS", 3)

    def change(app: Any, run: Run) -> None:
        for number in range(10):
            project.add(f"{number:02}.png", seed=7)
        see_to(app, run, whole=True)
        assert run.overtaken

    in_backlog(project, 3, change)
    project.run()
    project.assert_in_step()


def test_urgent_tasks_overtake_those_that_wait(behind: Project) -> None:
    from pipeline.engine.context import make_workers
    from pipeline.transforms.recipes import Recipe
    from pipeline.workers.tasks import RenditionWanted, Task, Urgency

    project = behind
    project.env["PIPELINE_WORKERS"] = "2"
    with project._as_if_started_here():
        import app as module

        workers = make_workers(module.app.settings)
        wanted = (RenditionWanted(Recipe("half", scale=0.5), None, None, None),)

        def task(number: int) -> Task:
            name = f"{number:02}.png"
            return Task(name, wanted, str(project.input), name, str(project.output))

        workers._task_s = 1.0  # as of large photos: no more than three are with two processes
        try:
            for number in range(10, 30):
                workers.submit(task(number), Urgency.BACKLOG)
            workers.submit(task(0), Urgency.FRESH)
            outcome = None
            while outcome is None:
                outcome = workers.next_outcome(5, Urgency.FRESH)
            assert outcome.path == "00.png"
            # A busy machine may have done a few before the last was submitted.
            assert len(workers._ended[Urgency.BACKLOG]) < 15
            seen = 0
            while workers.waiting(Urgency.BACKLOG):
                seen += workers.next_outcome(5, Urgency.BACKLOG) is not None
            assert seen == 20
        finally:
            workers.close()
