"""A run with no change writes no row and no file, starts no worker, and costs one stat a file."""

import os
import sqlite3

import pytest
from a_project import Project
from folder_entries import list_with


def tree(project: Project) -> dict[str, tuple[int, int, int]]:
    """Inode, mtime and ctime of every file and folder of the project but those of the lock."""
    return {
        str(path): (path.stat().st_ino, path.stat().st_mtime_ns, path.stat().st_ctime_ns)
        for path in (*project.input.rglob("*"), *project.output.rglob("*"), project.output)
    }


def test_nothing_is_written_and_no_worker_is_started(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(40):
        project.add(f"{number % 4}/{number}.jpg")
    (project.input / "bad.jpg").write_bytes(b"bad")
    project.run(code=1)
    before = tree(project)

    from pipeline.workers.local import Workers

    def refuse(self: Workers) -> None:
        raise AssertionError("a worker was started")

    monkeypatch.setattr(Workers, "warm_up", refuse)
    watching = sqlite3.connect(project.root / "db.sqlite")
    # Changes by any other connection move this number.
    version = watching.execute("PRAGMA data_version").fetchone()
    report = project.run()
    assert report["originals"] == {"new": 0, "changed": 0, "removed": 0, "unchanged": 41}
    assert watching.execute("PRAGMA data_version").fetchone() == version
    watching.close()
    assert tree(project) == before


def test_the_statements_of_a_run_with_no_change_only_read(project: Project) -> None:
    import sqlalchemy as sa

    project.add("a.jpg")
    project.run()
    statements: list[str] = []

    def note(con: object, cursor: object, statement: str, *rest: object) -> None:
        statements.append(statement.split()[0].upper())

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        project.run()
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)
    assert set(statements) <= {"SELECT", "PRAGMA"}


def test_few_changes_ask_for_their_own_keys_alone(project: Project) -> None:
    import sqlalchemy as sa

    for number in range(30):
        project.add(f"{number % 3}/{number}.jpg")
    project.run()
    project.add("0/3.jpg", seed=99)
    project.add("new.jpg", seed=98)
    (project.input / "1/4.jpg").unlink()
    looks: list[str] = []
    plans: list[str] = []

    def note(
        con: sa.Connection, cursor: sqlite3.Cursor, statement: str, parameters: tuple, *rest: object
    ) -> None:
        if "_kind" in statement:
            looks.append("some" if "originals_meta.path IN" in statement else "all")
        names_keys = "IN (?" in statement or "IN (VALUES" in statement
        if names_keys and isinstance(parameters, tuple):
            asked = con.connection.cursor()
            asked.execute("EXPLAIN QUERY PLAN " + statement, parameters)
            plans.extend(row[3] for row in asked.fetchall())

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        report = project.run()
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)
    assert report["originals"] == {"new": 1, "changed": 1, "removed": 1, "unchanged": 28}
    assert report["renditions"]["rendered"] == 4
    assert report["renditions"]["deleted"] == 2
    project.assert_in_step()
    # One look beside the scan, one at what the scan found; its pages are kept.
    assert sorted(looks) == ["all", "some"]
    # Each is found by an index: no statement about some keys reads a whole table.
    whole = [plan for plan in plans if plan.startswith("SCAN ") and "CONSTANT ROW" not in plan]
    assert [plan for plan in whole if "recipes" not in plan] == []


def test_a_file_costs_one_stat(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        project.add(f"{number % 3}/{number}.jpg")
    project.run()
    stats: list[str] = []

    class Counting:
        """A folder entry that counts what it is asked; `is_dir` and `is_symlink` cost no call."""

        def __init__(self, entry: os.DirEntry) -> None:
            self.entry = entry
            self.name, self.path = entry.name, entry.path
            self.is_dir, self.is_symlink = entry.is_dir, entry.is_symlink

        def stat(self, follow_symlinks: bool = True) -> os.stat_result:
            stats.append(self.path)
            return self.entry.stat(follow_symlinks=follow_symlinks)

    opened: list[str] = []

    def no_other_stat(path: object, **options: object) -> os.stat_result:
        opened.append(str(path))
        return real_stat(path, **options)  # type: ignore[call-overload]

    real_stat = os.stat
    list_with(monkeypatch, Counting)
    monkeypatch.setattr(os, "stat", no_other_stat)
    project.run()
    monkeypatch.undo()
    assert sorted(stats) == sorted(str(p) for p in project.input.rglob("*.jpg"))
    assert not [path for path in opened if path.endswith(".jpg")]
