"""A database of another layout, or none at all, is a clear error and never a traceback."""

import sqlite3

import pytest
from a_project import Project

COMMANDS = ("run", "status", "errors", "verify")


def execute(project: Project, *statements: str) -> None:
    con = sqlite3.connect(project.root / "db.sqlite")
    for statement in statements:
        con.execute(statement)
    con.commit()
    con.close()


@pytest.mark.parametrize("layout", ["0", "99"])
def test_another_layout_version_is_refused_with_a_remedy(project: Project, layout: str) -> None:
    project.add("a.jpg")
    project.run()
    before = project.stamps()
    execute(project, f"UPDATE lockstep_state SET value = '{layout}' WHERE name = 'layout'")
    for command in (*COMMANDS, "run --dry-run", "db create-all"):
        answer = project.cli(*command.split())
        assert answer.code == 2, (command, answer)
        assert f"layout {layout}" in answer.stderr
        assert "db.sqlite away and run again" in answer.stderr
    assert project.stamps() == before


def test_tables_with_other_columns_are_refused(project: Project) -> None:
    execute(
        project,
        "CREATE TABLE originals (path VARCHAR PRIMARY KEY, etag VARCHAR)",
        "CREATE TABLE other (x INTEGER)",
    )
    answer = project.cli("run")
    assert answer.code == 2
    assert "'originals'" in answer.stderr
    assert "unknown: etag" in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize("command", [*COMMANDS, "db create-all"])
def test_a_file_that_is_no_database_is_refused(project: Project, command: str) -> None:
    (project.root / "db.sqlite").write_text("no database, but long enough to be looked at" * 40)
    answer = project.process(*command.split())
    assert answer.code == 2, answer
    assert "PIPELINE_DB" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_damaged_database_is_a_clear_error(project: Project) -> None:
    project.add("a.jpg")
    project.run()
    file = project.root / "db.sqlite"
    data = bytearray(file.read_bytes())
    for start in range(4096, len(data), 4096):
        data[start : start + 200] = b"\xff" * 200
    file.write_bytes(data)
    for name in ("db.sqlite-wal", "db.sqlite-shm"):
        (project.root / name).unlink(missing_ok=True)
    for command in ("run", "status", "errors", "verify", "explain a.jpg", "retry"):
        answer = project.process(*command.split())
        assert answer.code == 2, (command, answer)
        assert "Traceback" not in answer.stderr


def test_the_database_is_made_once_and_made_by_a_run(project: Project) -> None:
    for _ in range(2):
        answer = project.cli("db", "create-all")
        assert (answer.code, answer.stderr) == (0, "")
    tables = {row[0] for row in project.query("SELECT name FROM sqlite_master WHERE type='table'")}
    assert {"recipes", "originals", "renditions", "lockstep_state"} <= tables
    (project.root / "db.sqlite").unlink()
    for name in ("db.sqlite-wal", "db.sqlite-shm"):
        (project.root / name).unlink(missing_ok=True)
    project.add("a.jpg")
    assert project.run()["renditions"]["rendered"] == 2
