"""A project starts in a folder of its own, and its commands know which folder is one."""

from __future__ import annotations

from pathlib import Path

import pytest
from a_project import ROOT, Project


@pytest.fixture
def empty(project: Project) -> Project:
    """A folder without anything."""
    for name in ("app.py", "recipes.toml"):
        (project.root / name).unlink()
    project.input.rmdir()
    return project


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_init_asks_two_questions_and_says_the_next_two_commands(empty: Project) -> None:
    answer = empty.cli("init", stdin="photos of shoes\n\n")
    assert answer.code == 0, answer
    assert "Folder of the originals [input]: " in answer.stdout
    assert "Folder of the renditions [output]: " in answer.stdout
    last = answer.stdout.splitlines()[-3:]
    assert last[0] == "next:"
    assert [line.split("#")[0].strip() for line in last[1:]] == [
        "datapipe run --dry-run",
        "datapipe run",
    ]
    assert names(empty.root) == [".env", "app.py", "photos of shoes", "recipes.toml"]
    empty.input = empty.root / "photos of shoes"
    empty.add("red.png")
    assert empty.run()["renditions"]["rendered"] == 2
    assert "half/red.png" in empty.outputs()


def test_init_makes_another_folder_and_asks_nothing_where_all_is_given(empty: Project) -> None:
    there = empty.root / "there"
    answer = empty.cli("init", "there", "--input", "in", "--output", "it's out")
    assert answer.code == 0, answer
    assert "cd there && " in answer.stdout
    assert names(there) == [".env", "app.py", "in", "recipes.toml"]
    assert (there / "app.py").read_bytes() == (ROOT / "app.py").read_bytes()
    empty.root = there
    assert empty.cli("run").code == 0
    assert (there / "it's out").is_dir()


def test_init_overwrites_nothing(empty: Project) -> None:
    (empty.root / "recipes.toml").write_text("[mine]\nscale = 0.1\n")
    answer = empty.cli("init", "--yes")
    assert answer.code == 0, answer
    assert "recipes.toml: was there already, and is kept" in answer.stdout
    assert (empty.root / "recipes.toml").read_text() == "[mine]\nscale = 0.1\n"
    before = (empty.root / ".env").read_text()
    assert empty.cli("init", "--yes").code == 0
    # Settings that would not be followed are an error, not a file that was kept.
    answer = empty.cli("init", "--yes", "--input", "elsewhere")
    assert answer.code == 2
    assert "does not name these folders" in answer.stderr
    assert (empty.root / ".env").read_text() == before


def test_init_starts_no_second_project_in_a_folder(project: Project) -> None:
    project.run()
    before = names(project.root)
    answer = project.cli("init", "--yes")
    assert answer.code == 2
    assert "holds a project already" in answer.stderr
    assert names(project.root) == before


def test_init_refuses_folders_that_no_run_would_accept(empty: Project) -> None:
    answer = empty.cli("init", "--input", "photos", "--output", "photos/out")
    assert answer.code == 2
    assert "lies inside" in answer.stderr
    assert names(empty.root) == []


def test_init_says_what_to_do_where_nobody_answers(empty: Project) -> None:
    answer = empty.cli("init")
    assert answer.code == 2
    assert "--yes" in answer.stderr
    assert names(empty.root) == []


@pytest.mark.parametrize("command", ["status", "errors", "run", "serve", "verify", "job list"])
def test_in_a_folder_without_a_project_nothing_is_made(empty: Project, command: str) -> None:
    answer = empty.cli(*command.split())
    assert (answer.code, answer.stdout) == (2, "")
    assert f"{empty.root}: there is no project in this folder" in answer.stderr
    assert "`datapipe init`" in answer.stderr
    assert names(empty.root) == []


def test_an_app_of_something_else_is_no_project(empty: Project) -> None:
    (empty.root / "app.py").write_text("app = object()\n")
    answer = empty.script("status")
    assert answer.code == 2
    assert "this is no project of Lockstep" in answer.stderr


def test_the_app_of_the_working_folder_is_the_one_that_is_loaded(project: Project) -> None:
    """Also where Python would find another one first: that of the checkout."""
    with (project.root / "app.py").open("a") as file:
        file.write('\nprint("mine")\n')
    assert "mine" in project.script("status").stdout


def test_an_app_of_the_working_folder_that_is_not_loaded_is_said(project: Project) -> None:
    (project.root / "app.py").rename(project.root / "another.py")
    (project.root / "app.py").touch()
    answer = project.script("--pipeline", "another", "status")
    assert answer.code == 0, answer
    assert f"{project.root / 'app.py'} is not used: --pipeline names" in answer.stderr


def test_the_version_needs_no_project(empty: Project) -> None:
    answer = empty.cli("--version")
    assert (answer.code, answer.stdout) == (0, "lockstep 0.1.0\n")


def test_an_unknown_variable_is_warned_of_with_the_nearest_name(project: Project) -> None:
    project.env |= {"PIPELINE_INPTU": "x", "PIPELINE_ZZZ": "y"}
    for command in ("status", "run"):
        answer = project.cli(command)
        assert answer.code == 0
        assert answer.stderr == (
            "warning: PIPELINE_INPTU is not a setting of Lockstep; did you mean PIPELINE_INPUT?\n"
            "warning: PIPELINE_ZZZ is not a setting of Lockstep; it has no effect\n"
        )
