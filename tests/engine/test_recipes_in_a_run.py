"""`recipes.toml` edited during a run: the run uses what it loaded, the change is the next run's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from a_project import HALF_AND_THUMB, Project
from a_watcher import Watching, wait_until

RENAMED = HALF_AND_THUMB.replace("[half]", "[demi]")
REMOVED = HALF_AND_THUMB[HALF_AND_THUMB.index("[thumb]") :]
# Several times what is published at once, and so much that a watcher is at it for seconds.
SOME, MANY = 300, 1_000

# A step of the user's between loading the recipes and rendering, which edits as a person may.
EDIT = """
def own():
    from pathlib import Path

    new = Path("new.toml")
    if new.exists():
        new.replace("recipes.toml")
"""


def add_many(project: Project, count: int) -> None:
    for number in range(count):
        project.add(f"{number:04}.png", size=(16, 12))


@pytest.mark.parametrize("new", [RENAMED, REMOVED], ids=["renamed", "removed"])
def test_recipes_that_change_during_a_run_are_the_next_runs(project: Project, new: str) -> None:
    add_many(project, SOME)
    project.own_step(EDIT)
    (project.root / "new.toml").write_text(new)
    done = project.run(code=0)["renditions"]
    assert (done["rendered"] + done["reused"], done["in_step"]) == (2 * SOME, 2 * SOME)
    assert sum(name.startswith("half/") for name in project.outputs()) == SOME
    project.run(code=0)
    assert not any(name.startswith("half/") for name in project.outputs())
    project.assert_in_step()


def test_a_watcher_follows_recipes_that_changed_during_its_run(
    project: Project, watch: Callable[..., Watching]
) -> None:
    add_many(project, MANY)
    watching = watch()
    wait_until(lambda: any((project.output / "half").glob("*.png")), lambda: watching.said)
    project.recipes(RENAMED)
    wait_until(
        lambda: (
            not (project.output / "half").exists()
            and len(list((project.output / "demi").glob("*.png"))) == MANY
        ),
        lambda: watching.said,
    )
    assert watching.stop() == 0
    assert not any("error" in line for line in watching.said), watching.said


def test_a_step_on_its_own_works_with_a_recipe_that_the_file_has_no_more(project: Project) -> None:
    project.add("a.png")
    project.run()
    project.add("b.png")
    before = project.outputs()["half/a.png"]
    (project.output / "half/a.png").unlink()
    project.recipes(RENAMED)
    # Neither loads the recipes: the table still has [half], and does not have [demi] yet.
    for name in ("scan", "render"):
        answer = project.cli("step", f"--name={name}", "run")
        assert answer.code == 0, answer
    answer = project.cli("verify", "--fix")
    assert answer.code == 0, answer
    assert project.outputs()["half/a.png"] == before
    assert sorted(name for name in project.outputs() if "half" in name) == [
        "half/a.png",
        "half/b.png",
    ]
    project.run()
    project.assert_in_step()
