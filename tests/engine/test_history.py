"""What the last runs did is remembered, and a run that did nothing leaves no trace."""

import pytest
from a_project import Project
from failing_runs import remembered

from pipeline.engine import history


def test_a_run_is_remembered_if_it_did_something(project: Project) -> None:
    project.add("a.png")
    (project.input / "bad.png").write_bytes(b"bad")
    first = project.run(code=1)
    project.run()
    (project.input / "bad.png").unlink()
    second = project.run()
    project.run()
    runs = remembered(project)
    assert [run["report"]["renditions"] for run in runs] == [
        second["renditions"],
        first["renditions"],
    ]
    assert [run["id"] for run in runs] == [2, 1]
    assert all(run["stopped_by"] is None and run["seconds"] > 0 for run in runs)
    assert [run["id"] for run in remembered(project, limit=1)] == [2]
    assert [run["id"] for run in remembered(project, before=2)] == [1]


def test_the_error_that_stops_runs_is_remembered_once(project: Project) -> None:
    project.add("a.png")
    project.run()
    project.recipes("[half]\nscail = 1\n")
    for _ in range(3):
        assert project.cli("run").code == 2
    runs = remembered(project)
    assert len(runs) == 2
    assert "scail" in runs[0]["stopped_by"]
    assert runs[0]["report"] is None
    with project._as_if_started_here():
        import app

        assert "scail" in (history.last_stop(app.app.database, 0.0) or "")
        assert history.last_stop(app.app.database, 1e12) is None


def test_old_runs_are_forgotten(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "KEPT", 3)
    for number in range(5):
        project.add(f"{number}.png")
        project.run()
    assert [run["id"] for run in remembered(project)] == [5, 4, 3]


def test_a_database_of_the_release_before_gets_its_new_table_and_index(project: Project) -> None:
    project.add("a.png")
    project.run()
    project.query("DROP TABLE runs")
    project.query("DROP INDEX ix_renditions_exceptions")
    project.add("b.png")
    assert project.run()["renditions"]["rendered"] == 2
    names = {row[0] for row in project.query("SELECT name FROM sqlite_master")}
    assert {"runs", "ix_renditions_exceptions", "ix_renditions_states"} <= names
