"""A database that was lost, replaced, or restored from an older copy is noticed by the next run."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from a_project import Project
from killing import killed_run


@pytest.fixture
def shop(project: Project) -> Project:
    for name in ("kept.png", "folder/removed.png", "changed.png"):
        project.add(name)
    project.run()
    return project


def database(project: Project) -> Path:
    return project.root / "db.sqlite"


def note(project: Project) -> dict:
    return json.loads((project.output / ".lockstep.json").read_text("utf-8"))


def assert_told_until_fixed(project: Project, strays: int, missing: int = 0) -> None:
    """The next run warns, `status --check` says so, and `verify --fix` puts it right."""
    answer = project.cli("run")
    assert answer.code == 0, answer
    assert f"{missing} missing, 0 altered, {strays} strays" in answer.stderr
    assert "`datapipe verify --fix`" in answer.stderr
    # Told once; and remembered.
    assert project.cli("run").stderr == ""
    assert project.cli("status", "--check").code == 1
    assert "older than the output folder" in project.cli("status").stdout
    found = {"missing": missing, "altered": 0, "strays": strays}
    assert project.cli("status", "--json").json["unverified"] == found
    assert project.cli("verify").code == 1
    assert project.cli("status", "--check").code == 1
    assert project.cli("verify", "--fix").code == 0
    assert project.cli("status", "--check").code == 0
    assert project.cli("status", "--json").json["unverified"] is None
    assert project.cli("run").stderr == ""
    project.assert_in_step()


def test_renditions_of_removed_originals_are_told_after_a_lost_database(shop: Project) -> None:
    database(shop).unlink()
    (shop.input / "folder/removed.png").unlink()
    assert_told_until_fixed(shop, strays=2)


def test_also_where_the_folder_has_no_note(shop: Project) -> None:
    database(shop).unlink()
    (shop.output / ".lockstep.json").unlink()
    (shop.input / "folder/removed.png").unlink()
    assert_told_until_fixed(shop, strays=2)


def test_also_where_no_original_is_left(shop: Project) -> None:
    database(shop).unlink()
    shutil.rmtree(shop.input)
    shop.input.mkdir()
    assert_told_until_fixed(shop, strays=6)


def test_a_database_restored_from_an_older_copy_is_noticed(shop: Project) -> None:
    copy = shutil.copy(database(shop), shop.root / "backup.sqlite")
    original = shop.add("later.png")
    shop.run()
    shutil.copy(copy, database(shop))
    original.unlink()
    assert_told_until_fixed(shop, strays=2)


def test_so_is_one_that_was_copied_while_a_run_was_at_work(shop: Project) -> None:
    later = shop.add("later.png")
    killed_run(shop, "_settle")
    copy = shutil.copy(database(shop), shop.root / "backup.sqlite")
    shop.run()
    shutil.copy(copy, database(shop))
    later.unlink()
    assert_told_until_fixed(shop, strays=2)


def test_a_restored_database_takes_no_file_at_its_word(project: Project) -> None:
    project.add("a.png", seed=1)
    project.run()
    copy = shutil.copy(database(project), project.root / "backup.sqlite")
    size_bytes = (project.output / "half/a.png").stat().st_size
    project.add("a.png", seed=2)
    project.run()
    # By chance the later rendition has the size of the one that the older row tells of.
    (project.output / "half/a.png").write_bytes(bytes(size_bytes))
    shutil.copy(copy, database(project))
    project.add("a.png", seed=1)
    project.run()
    project.assert_in_step()


def test_a_database_of_another_project_is_noticed(shop: Project) -> None:
    other = Project(shop.root.with_name("other"))
    other.add("other.png")
    other.run()
    shutil.copy(database(other), database(shop))
    (shop.input / "folder/removed.png").unlink()
    # Its originals are gone and the folder is another one: that alone is refused.
    assert shop.cli("run").code == 4
    warning = "the database is new, or older than this folder"
    assert warning in shop.cli("run", "--allow-removed").stderr
    assert shop.cli("status", "--check").code == 1
    assert shop.cli("verify", "--fix").code == 0
    shop.assert_in_step()


def test_a_lost_database_of_a_folder_that_agrees_is_not_told(shop: Project) -> None:
    database(shop).unlink()
    assert shop.cli("run").stderr == ""
    assert shop.cli("status", "--check").code == 0


def test_a_verify_that_finds_nothing_ends_the_doubt(shop: Project) -> None:
    database(shop).unlink()
    (shop.input / "folder/removed.png").unlink()
    shop.run()
    assert shop.cli("status", "--check").code == 1
    shutil.rmtree(shop.output / "half/folder")
    shutil.rmtree(shop.output / "thumb/folder")
    assert shop.cli("verify").code == 0
    assert shop.cli("status", "--check").code == 0


def test_the_doubt_outlives_a_run_that_is_killed(shop: Project) -> None:
    database(shop).unlink()
    (shop.input / "folder/removed.png").unlink()
    killed_run(shop, "_settle")
    assert shop.cli("status", "--check").code == 1
    assert "not compared yet" in shop.cli("status").stdout
    # Nor does the recovery take what was made before the database was lost for its own leavings.
    assert_told_until_fixed(shop, strays=2)


def test_a_database_of_the_release_before_adopts_its_folder_silently(shop: Project) -> None:
    shop.query("DELETE FROM lockstep_state WHERE name IN ('generation', 'writer')")
    (shop.output / ".lockstep.json").unlink()
    assert shop.cli("run").stderr == ""
    assert shop.cli("status", "--check").code == 0
    assert note(shop)["number"] == 1


@pytest.mark.parametrize("time", [1, 2])
def test_a_kill_between_database_and_folder_is_not_taken_for_a_lost_database(
    shop: Project, time: int
) -> None:
    def prepare() -> None:
        from pipeline.engine import recovery

        left, update_folder = time, recovery.update_folder

        def kill_or_tell(run: object) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            update_folder(run)

        recovery.update_folder = kill_or_tell

    shop.add("new.png")
    assert shop.in_child(prepare, "run") == -signal.SIGKILL
    assert shop.cli("run").stderr == ""
    assert shop.cli("status", "--check").code == 0
    shop.assert_in_step()


def test_the_note_moves_with_runs_that_write_alone(shop: Project) -> None:
    before = note(shop)
    shop.run()
    assert note(shop) == before
    shop.add("new.png")
    shop.run()
    after = note(shop)
    assert after["id"] == before["id"]
    assert after["number"] > before["number"]
    (said,) = shop.query("SELECT value FROM lockstep_state WHERE name = 'generation'")[0]
    assert json.loads(said) == after
    assert shop.cli("verify").code == 0


def test_a_folder_that_took_the_place_of_a_file_is_no_obstacle_to_an_older_database(
    shop: Project,
) -> None:
    older = shutil.copy(database(shop), shop.root / "older.sqlite")
    (shop.input / "folder/removed.png").unlink()
    shop.add("folder/removed.png/other.png", size=(90, 60))
    shop.run()
    shutil.move(older, database(shop))
    assert shop.cli("run").code == 0
    assert shop.cli("verify", "--fix").code == 0
    shop.assert_in_step()
