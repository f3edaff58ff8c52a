"""While a watcher renders a backlog, what changes in the folder does not wait for it."""

from __future__ import annotations

import json

from a_project import Project
from a_watcher import Watching, wait_until

MANY = 90


def test_a_watcher_sees_to_changes_while_it_renders_a_backlog(project: Project) -> None:
    for number in range(MANY):
        project.add(f"{number:02}.png", size=(1500, 1100))
    project.env |= {"PIPELINE_WORKERS": "1", "PIPELINE_SETTLE_MS": "50"}
    project.recipes("[half]\nscale = 0.5\n")
    project.run()
    last = project.output / f"half/{MANY - 1}.png"
    first, old = project.output / "half/00.png", last.read_bytes()
    before = first.read_bytes()
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


def test_a_run_from_cron_takes_over_what_a_watcher_is_rendering(project: Project) -> None:
    for number in range(MANY):
        project.add(f"{number:02}.png", size=(1500, 1100))
    project.env |= {"PIPELINE_WORKERS": "1", "PIPELINE_SETTLE_MS": "50"}
    project.recipes("[half]\nscale = 0.5\n")
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
