"""A step of the user's that raises: one bad record costs one record, and nobody overlooks it."""

from __future__ import annotations

import pytest
from a_project import Project
from own_steps import PLACEHOLDER, PLACEHOLDERS, declare, paths, rows

FAILING = PLACEHOLDERS.replace(
    '    made = renditions[renditions["state"] == "ok"]\n',
    '    made = renditions[renditions["state"] == "ok"]\n'
    '    with open("calls", "a") as file:\n'
    '        file.write(f"{len(renditions)}\\n")\n'
    "    for path in made['path']:\n"
    "        if 'bad' in path:\n"
    "            raise ValueError(f'no colour in {path}')\n",
)
HALF = "[half]\nscale = 0.5\n"


@pytest.fixture
def failing(project: Project) -> Project:
    project.recipes(HALF)
    declare(project, FAILING, PLACEHOLDER)
    for name in ("a.png", "b.png", "bad.png", "c.png"):
        project.add(name)
    return project


def calls(project: Project) -> list[int]:
    """How many records each call of the function had, since the last time."""
    file = project.root / "calls"
    counts = [int(line) for line in file.read_text().split()] if file.exists() else []
    file.unlink(missing_ok=True)
    return counts


def test_one_bad_record_costs_one_record(failing: Project) -> None:
    answer = failing.cli("run")
    assert answer.code == 1
    assert "placeholder: 3 done, 1 failed" in answer.stdout
    assert (
        "failed      bad.png half [placeholder]: ValueError: no colour in bad.png" in answer.stdout
    )
    assert "in step, except for what failed in this run" in answer.stdout
    assert paths(failing) == ["a.png", "b.png", "c.png"]
    assert failing.cli("status", "--json").json["steps"]["placeholder"]["failed"] == 1
    assert failing.cli("status", "--check").code == 1
    (error,) = failing.cli("errors", "--json").json
    assert error["path"] == "bad.png"
    assert (error["step"], error["state"]) == ("placeholder", "failed")
    assert error["reason"] == "ValueError: no colour in bad.png"
    assert "bad.png half [placeholder] ValueError" in failing.cli("errors").stdout
    assert "  placeholder half: failed; ValueError: no" in failing.cli("explain", "bad.png").stdout


def test_it_is_tried_again_only_when_the_input_or_the_step_changes(failing: Project) -> None:
    failing.cli("run")
    calls(failing)
    answer = failing.cli("run")
    assert (answer.code, calls(failing)) == (0, [])
    assert "placeholder: 1 failed before" in answer.stdout
    assert "in step, except for what failed before" in answer.stdout
    failing.add("bad.png", seed=2)
    assert failing.cli("run").code == 1
    assert calls(failing) == [1]
    app = failing.root / "app.py"
    app.write_text(app.read_text("utf-8").replace("'bad' in path", "'worse' in path"), "utf-8")
    assert failing.run()["steps"]["placeholder"]["done"] == 1
    assert calls(failing) == [1]
    assert paths(failing) == ["a.png", "b.png", "bad.png", "c.png"]
    assert failing.cli("errors", "--json").json == []


def test_retry_tries_it_again(failing: Project) -> None:
    failing.cli("run")
    for arguments in ((), ("bad.png",)):
        calls(failing)
        assert failing.cli("retry", "--json", *arguments).json == {"retried": 1}
        assert failing.cli("run").code == 1
        assert calls(failing) == [1]
    assert failing.cli("retry", "--json", "a.png").json == {"retried": 0}


def test_what_was_made_of_a_record_goes_when_it_fails(project: Project) -> None:
    project.recipes(HALF)
    declare(project, PLACEHOLDERS, PLACEHOLDER)
    project.add("bad.png")
    project.add("a.png")
    project.run()
    app = project.root / "app.py"
    app.write_text(app.read_text("utf-8").replace(PLACEHOLDERS, FAILING), "utf-8")
    project.add("bad.png", seed=2)
    assert project.cli("run").code == 1
    assert paths(project) == ["a.png"]
    (project.input / "bad.png").unlink()
    project.run()
    assert project.cli("errors", "--json").json == []


def test_what_cannot_be_stored_fails_like_what_cannot_be_made(project: Project) -> None:
    project.recipes(HALF)
    unsuitable = 'text="of " + made["file"].astype(str)'
    code = PLACEHOLDERS.replace(unsuitable, "text=made['path'].map(len)")
    declare(project, code.replace("made['path'].map(len)", "[{}] * len(made)"), PLACEHOLDER)
    project.add("a.png")
    assert project.cli("run").code == 1
    (error,) = project.cli("errors", "--json").json
    assert "Error" in error["reason"]


def test_what_cannot_be_deleted_is_tried_again_in_every_run(project: Project) -> None:
    project.recipes(HALF)
    stuck = """
class Stuck(TableStoreDB):
    def delete_rows(self, idx):
        import os

        if os.path.exists("stuck"):
            raise PermissionError("the shelf is locked")
        super().delete_rows(idx)

"""
    declare(project, stuck + PLACEHOLDERS.replace("Table(TableStoreDB", "Table(Stuck"), PLACEHOLDER)
    for name in ("a.png", "b.png"):
        project.add(name)
    project.run()
    (project.root / "stuck").touch()
    (project.input / "a.png").unlink()
    for _ in range(2):
        answer = project.cli("run")
        assert answer.code == 1
        assert "a.png half [placeholder]: PermissionError: the shelf is locked" in answer.stdout
    assert project.cli("status", "--json").json["steps"]["placeholder"]["pending"] == 1
    (project.root / "stuck").unlink()
    assert project.run()["steps"]["placeholder"]["removed"] == 1
    assert paths(project) == ["b.png"]


def test_a_step_over_whole_tables_fails_as_one(project: Project) -> None:
    declare(
        project,
        """
def summarize(ds, input_dts, output_dts, run_config=None, kwargs=None):
    with open("calls", "a") as file:
        file.write("1\\n")
    raise KeyError("total")
""",
        'DatatableTransform(summarize, inputs=["renditions"], outputs=[])',
    )
    project.add("a.png")
    answer = project.cli("run")
    assert answer.code == 1
    assert "1 failed" in answer.stdout
    assert calls(project) == [1]
    assert project.cli("run").code == 0
    assert calls(project) == []
    (error,) = project.cli("errors", "--json").json
    assert (error["path"], error["reason"]) == (None, "KeyError: 'total'")
    assert project.cli("retry", "--json").json == {"retried": 1}
    assert project.cli("run").code == 1
    assert calls(project) == [1]


def test_the_whole_traceback_is_in_the_log_once(failing: Project) -> None:
    failing.add("bad2.png")
    answer = failing.process("run")
    assert answer.stderr.count("Traceback") == 1
    assert "in placeholder" in answer.stderr
    assert rows(failing, "SELECT count(*) FROM placeholder_meta WHERE is_success = 0") == [(2,)]
