"""Beside a watcher or a service: users' steps see every change soon, and nothing waits for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from a_project import Project
from a_server import HTML, Server, serving
from a_watcher import Watching, wait_until
from own_steps import PLACEHOLDER, PLACEHOLDERS, declare, paths, rows

# One record at a time; each waits for as long as there is a file `wait`.
SLOW = PLACEHOLDERS.replace(
    '    made = renditions[renditions["state"] == "ok"]\n',
    '    made = renditions[renditions["state"] == "ok"]\n'
    "    import pathlib, time\n"
    '    pathlib.Path("began").touch()\n'
    '    while pathlib.Path("wait").exists():\n'
    "        time.sleep(0.01)\n",
)
ONE_BY_ONE = PLACEHOLDER.replace("placeholder,", "placeholder, chunk_size=1,")


def of_step(server: Server) -> dict[str, int]:
    """The counts of the step; none before all was counted for the first time."""
    counts = server.get("/status").json()["counts"] or {"steps": {}}
    found: dict[str, int] = counts["steps"].get("placeholder") or {}
    return found


def wait_for_paths(project: Project, *names: str) -> None:
    wait_until(lambda: paths(project) == sorted(names), lambda: (paths(project), names))


@pytest.fixture
def slow(project: Project) -> Project:
    declare(project, SLOW, ONE_BY_ONE)
    (project.root / "wait").touch()
    project.add("a.png")
    project.add("b.png")
    return project


def began(project: Project) -> Path:
    return project.root / "began"


def of_two(project: Project, watch: Callable[..., Watching]) -> Watching:
    """A watcher that has made the placeholders of two originals."""
    declare(project, PLACEHOLDERS, PLACEHOLDER)
    project.add("a.png")
    project.add("b.png")
    watching = watch()
    wait_for_paths(project, "a.png", "b.png")
    return watching


def test_in_a_watcher_every_change_arrives(
    project: Project, watch: Callable[..., Watching]
) -> None:
    watching = of_two(project, watch)
    project.add("c.png")
    wait_for_paths(project, "a.png", "b.png", "c.png")
    (project.input / "a.png").unlink()
    wait_for_paths(project, "b.png", "c.png")
    assert project.cli("takedown", "b.png", "--reason", "flagged").code == 0
    wait_for_paths(project, "c.png")
    wait_until(lambda: any(run["steps"] for run in watching.runs))
    assert watching.stop() == 0
    assert [run["partial"] for run in watching.runs if run["steps"]].count(False) == 0


def test_in_the_service_every_change_arrives(project: Project) -> None:
    declare(project, PLACEHOLDERS, PLACEHOLDER)
    project.add("a.png")
    with serving(project) as server:
        wait_for_paths(project, "a.png")
        project.add("b.png")
        wait_for_paths(project, "a.png", "b.png")
        server.post("/takedowns", json={"path": "a.png", "reason": "flagged"})
        wait_for_paths(project, "b.png")
        server.until(lambda: of_step(server).get("pending") == 0)


def test_nothing_of_ours_waits_for_a_slow_step(
    slow: Project, watch: Callable[..., Watching]
) -> None:
    watching = watch()
    wait_until(began(slow).exists)
    watching.wait_for("a.png", "b.png")
    slow.add("new.png")
    watching.wait_for("a.png", "b.png", "new.png")
    (slow.input / "a.png").unlink()
    watching.wait_for("b.png", "new.png")
    assert slow.cli("takedown", "b.png", "--reason", "flagged").code == 0
    watching.wait_for("new.png")
    assert paths(slow) == []
    (slow.root / "wait").unlink()
    wait_for_paths(slow, "new.png")
    assert watching.stop() == 0


def test_a_watcher_stops_beside_a_slow_step_and_nothing_is_lost(
    slow: Project, watch: Callable[..., Watching]
) -> None:
    watching = watch()
    wait_until(began(slow).exists)
    assert watching.stop() == 0
    assert paths(slow) == []
    (slow.root / "wait").unlink()
    slow.run()
    assert paths(slow) == ["a.png", "b.png"]


def test_a_run_waits_for_the_record_that_a_watcher_is_at_and_makes_the_rest(
    slow: Project, watch: Callable[..., Watching]
) -> None:
    watching = watch()
    wait_until(began(slow).exists)
    watching.wait_for("a.png", "b.png")
    running = slow.start("run", "--wait")
    (slow.root / "wait").unlink()
    assert running.wait(60) == 0
    running.communicate(10)
    assert paths(slow) == ["a.png", "b.png"]
    assert watching.stop() == 0


def test_a_run_leaves_a_step_that_hangs_elsewhere_and_says_so(
    slow: Project, watch: Callable[..., Watching]
) -> None:
    declare(slow, "from pipeline.engine import own_step\n\nown_step.TURN_S = 0.1\n")
    watching = watch()
    wait_until(began(slow).exists)
    watching.wait_for("a.png", "b.png")
    answer = slow.process("run")
    assert answer.code == 0
    assert "warning: the step placeholder is left to another process" in answer.stderr
    (slow.root / "wait").unlink()
    wait_for_paths(slow, "a.png", "b.png")
    assert watching.stop() == 0


def test_deleted_rows_that_a_watcher_leaves_are_forgotten_by_a_run(
    project: Project, watch: Callable[..., Watching]
) -> None:
    watching = of_two(project, watch)
    (project.input / "a.png").unlink()
    wait_for_paths(project, "b.png")
    assert watching.stop() == 0
    project.run()
    gone = "SELECT count(*) FROM {}_meta WHERE delete_ts IS NOT NULL"
    for table in ("originals", "renditions", "placeholders"):
        assert rows(project, gone.format(table)) == [(0,)]


def test_the_page_and_the_metrics_tell_what_failed_in_a_step(project: Project) -> None:
    failing = PLACEHOLDERS.replace(
        "    made =", '    assert "b.png" not in set(renditions["path"]), "no colour"\n    made ='
    )
    declare(project, failing, PLACEHOLDER)
    project.add("a.png")
    project.add("b.png")
    with serving(project) as server:
        wait_for_paths(project, "a.png")
        status = server.until(
            lambda: (
                of_step(server).get("failed") == 2
                and not (found := server.get("/status").json())["counts"]["pending"]
                and found
            )
        )
        assert status["in_step"] is False
        assert "except for 2 that failed" in server.get("/", headers=HTML).text
        page = server.get("/failed", headers=HTML).text
        assert "placeholder: A step of the pipeline failed" in page
        assert "AssertionError: no colour" in page
        assert "b.png half" in page
        metrics = server.get("/metrics").text
        assert 'lockstep_records{state="failed",step="placeholder"} 2.0' in metrics
        assert server.post("/retries", json={}).json() == {"retried": 2}
