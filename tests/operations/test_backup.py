"""A backup is whole whatever goes on meanwhile; one command brings an older one in step."""

from __future__ import annotations

import shlex
import shutil
import sqlite3
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from a_postgresql import server_binaries
from a_project import Project


@pytest.fixture
def shop(project: Project) -> Project:
    for name in ("kept.png", "removed.png", "changed.png", "withdrawn.png"):
        project.add(name)
    project.run()
    return project


def restore(project: Project, backup: Path) -> None:
    """As docs/service.md says: the files beside the database belong to the one that is gone."""
    for file in project.root.glob("db.sqlite*"):
        file.unlink()
    shutil.copy(backup, project.root / "db.sqlite")


def change_everything(shop: Project) -> None:
    shop.add("later.png", seed=7)
    shop.add("changed.png", seed=8)
    fleeting = shop.add("fleeting.png")
    (shop.input / "removed.png").unlink()
    shop.run()
    assert shop.cli("takedown", "withdrawn.png", "--reason", "sold").code == 0
    fleeting.unlink()  # no row of the backup knows its renditions


def assert_one_command_helps(shop: Project) -> None:
    answer = shop.cli("verify", "--fix")
    assert answer.code == 0, answer
    assert "added 1 takedown from the journal" in answer.stderr
    assert "the database is older than the output folder, so a run came first:" in answer.stdout
    assert "originals   1 new, 1 changed, 2 removed" in answer.stdout
    assert "stray  half/fleeting.png\nstray  thumb/fleeting.png.webp\n" in answer.stdout
    assert answer.stdout.endswith("all fixed\n")
    assert "verify --fix" not in answer.stdout + answer.stderr
    shop.assert_in_step()
    assert not [name for name in shop.outputs() if "withdrawn" in name]
    assert shop.cli("status", "--check").code == 0
    assert shop.cli("run").stderr == ""
    # Nor does it come back with its bytes.
    (taken,) = (shop.root / "quarantine").rglob("withdrawn.png")
    shutil.copy(taken, shop.input / "again.png")
    shop.run(code=None)
    assert not [name for name in shop.outputs() if "again" in name]


def test_one_command_brings_an_older_backup_in_step_and_says_what_it_did(shop: Project) -> None:
    backup = shop.root / "backup.sqlite"
    answer = shop.cli("backup", str(backup))
    assert answer.code == 0, answer
    assert "not in it: input/, quarantine/, .lockstep/" in answer.stdout
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    change_everything(shop)
    restore(shop, backup)
    assert_one_command_helps(shop)


def test_a_backup_beside_a_run_is_whole_and_is_always_taken_for_an_older_one(
    project: Project,
) -> None:
    for number in range(40):
        project.add(f"{number}.png", size=(300, 200))
    backup = project.root / "backup.sqlite"
    with project.start("run") as running:
        while running.poll() is None:
            assert project.cli("backup", str(backup)).code == 0
            with sqlite3.connect(backup) as con:
                assert con.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            con.close()
        # The run went on: its lock was never in the way.
        assert running.returncode == 0
    assert sorted(file.name for file in project.root.glob("*backup*")) == ["backup.sqlite"]
    (project.input / "7.png").unlink()
    restore(project, backup)
    answer = project.cli("verify", "--fix")
    assert answer.code == 0, answer
    assert "so a run came first" in answer.stdout
    project.assert_in_step()


def test_only_an_older_backup_is_replaced(shop: Project) -> None:
    before = (shop.root / "db.sqlite").read_bytes()
    for name, why in (
        ("db.sqlite", "this is the database itself"),
        ("app.py", "it exists and is no backup"),
        ("input", "a folder"),
        ("nowhere/backup.sqlite", "cannot be written (No such file or directory)"),
    ):
        answer = shop.cli("backup", name)
        assert answer.code == 2, answer
        assert f"{name}: {why}" in answer.stderr
    assert (shop.root / "db.sqlite").read_bytes() == before
    for _ in range(2):
        assert shop.cli("backup", "b.sqlite", "--json").json["file"] == "b.sqlite"


def test_a_damaged_database_is_not_taken_for_a_backup(shop: Project) -> None:
    assert shop.cli("backup", "good.sqlite").code == 0
    good = (shop.root / "good.sqlite").read_bytes()
    shop.query("SELECT 1")
    with (shop.root / "db.sqlite").open("r+b") as file:
        file.seek(4096 * 8)
        file.write(b"\xff" * 4096 * 8)
    answer = shop.cli("backup", "good.sqlite")
    assert answer.code == 2, answer
    assert (shop.root / "good.sqlite").read_bytes() == good


@pytest.mark.databases
def test_for_postgresql_it_says_the_command_and_that_one_works(
    shop: Project, server_url_of: Callable[[str], str]
) -> None:
    shop.env["PIPELINE_DB"] = server_url_of("postgresql")
    shop.run()
    answer = shop.cli("backup", "backup.dump")
    assert answer.code == 2
    command = shlex.split(answer.stderr.strip().partition("backups: ")[2])
    binaries = server_binaries()
    assert command[0] == "pg_dump"
    assert binaries is not None
    subprocess.run([binaries / command[0], *command[1:]], cwd=shop.root, check=True, timeout=60)
    change_everything(shop)
    back = ("--clean", "--if-exists", "--dbname", command[-1], "backup.dump")
    subprocess.run([binaries / "pg_restore", *back], cwd=shop.root, check=True, timeout=60)
    assert_one_command_helps(shop)
