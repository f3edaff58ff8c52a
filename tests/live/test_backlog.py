"""While a watcher renders a backlog, what changes in the folder does not wait for it."""

from __future__ import annotations

import json
import os

import pytest
from a_project import Project
from a_watcher import Watching, wait_until

MANY = 50
# Makes each original take a while, as a large one does.
SLOW = """
import time
import pipeline.imaging.render as module
render = module.render
module.render = lambda *given: time.sleep(0.3) or render(*given)
"""


@pytest.fixture
def large(project: Project) -> Project:
    """A project of originals that one worker is busy with for many seconds."""
    for number in range(MANY):
        project.add(f"{number:02}.png", size=(60 + number, 40))
    plugin = project.root / "plugin"
    plugin.mkdir()
    (plugin / "sitecustomize.py").write_text(SLOW)
    project.env["PIPELINE_WORKERS"] = "1"
    project.recipes("[half]\nscale = 0.5\n")
    return project


def slowly(project: Project) -> None:
    """From now on, each original takes a while."""
    project.env["PYTHONPATH"] = str(project.root / "plugin")


def test_a_watcher_sees_to_changes_while_it_renders_a_backlog(large: Project) -> None:
    project = large
    project.run()
    slowly(project)
    first, last = project.output / "half/00.png", project.output / f"half/{MANY - 1}.png"
    before, old = first.read_bytes(), last.read_bytes()
    watching = Watching(project)
    try:
        watching.wait_for_start()
        project.recipes("[half]\nscale = 0.25\n")
        wait_until(lambda: first.read_bytes() != before, lambda: watching.said)
        project.add("new.png")
        (project.input / "30.png").unlink()
        gone, new = project.output / "half/30.png", project.output / "half/new.png"
        wait_until(lambda: new.exists() and not gone.exists(), lambda: watching.said)
        assert last.read_bytes() == old, "the backlog went first"
        want = project.expected()
        wait_until(lambda: project.outputs() == want, lambda: watching.said)
        assert watching.stop() == 0
    finally:
        watching.kill()


def test_more_changes_than_can_be_told_apart_do_not_wait_for_a_backlog_either(
    large: Project,
) -> None:
    project = large
    project.run()
    slowly(project)
    first, last = project.output / "half/00.png", project.output / f"half/{MANY - 1}.png"
    before, old = first.read_bytes(), last.read_bytes()
    watching = Watching(project)
    try:
        watching.wait_for_start()
        project.recipes("[half]\nscale = 0.25\n")
        wait_until(lambda: first.read_bytes() != before, lambda: watching.said)
        project.add("new.png")
        # Of a name that is no text, a watcher only knows that something has changed.
        with open(os.fsencode(project.input) + b"/\xff.png", "wb") as odd:
            odd.write(b"odd")
        wait_until((project.output / "half/new.png").exists, lambda: watching.said)
        assert last.read_bytes() == old, "the backlog went first"
        wait_until(lambda: last.read_bytes() != old, lambda: watching.said)
        assert watching.stop() == 0
    finally:
        watching.kill()


def test_a_run_from_cron_takes_over_what_a_watcher_is_rendering(large: Project) -> None:
    project = large
    slowly(project)
    watching = Watching(project)
    try:
        wait_until((project.output / "half/00.png").exists, lambda: watching.said)
        answer = project.process("run", "--json")
        assert answer.code == 0, answer
        # It did not wait until the watcher was done: it did the rest itself.
        done = json.loads(answer.stdout)["renditions"]
        assert done["rendered"] > 0, done
        assert done["in_step"] == MANY
        project.assert_in_step()
        # The watcher works on.
        project.add("new.png")
        wait_until((project.output / "half/new.png").exists, lambda: watching.said)
        assert watching.stop() == 0
    finally:
        watching.kill()
