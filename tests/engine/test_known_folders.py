"""The database knows its folders: its rows never meet the files of another project."""

import shutil
from pathlib import Path

import pytest
from a_project import Project


@pytest.fixture
def shop(project: Project) -> Project:
    """Two originals with their renditions, and another project's folders beside them."""
    for name in ("a.png", "b.png"):
        project.add(name)
    project.run()
    (project.root / "photos").mkdir()
    shutil.copy(project.input / "a.png", project.root / "photos/other.png")
    return project


def restore(folder: Path) -> None:
    """The same files in another folder of the same path."""
    copy = folder.with_name("restored")
    shutil.copytree(folder, copy)
    shutil.rmtree(folder)
    copy.rename(folder)


def assert_refused(project: Project, *command: str) -> str:
    """Exit code 2, the ways on, and not one file or row is touched."""
    before, rows = project.stamps(), project.query("SELECT * FROM lockstep_state ORDER BY name")
    files = sorted(project.root.rglob("*.*g*"))
    answer = project.cli(*command)
    assert answer.code == 2, answer
    assert "belongs to other folders" in answer.stderr
    assert "datapipe run --relocate" in answer.stderr
    assert "PIPELINE_DB" in answer.stderr
    assert project.stamps() == before
    assert project.query("SELECT * FROM lockstep_state ORDER BY name") == rows
    assert sorted(project.root.rglob("*.*g*")) == files
    return answer.stderr


def test_a_run_over_another_input_folder_is_refused(shop: Project) -> None:
    shop.env["PIPELINE_INPUT"] = "photos"
    said = assert_refused(shop, "run")
    was, would_be = shop.input, shop.root / "photos"
    assert f"PIPELINE_INPUT was {was}, and would be {would_be}" in said
    assert "PIPELINE_OUTPUT was" not in said
    del shop.env["PIPELINE_INPUT"]
    assert shop.run()["originals"]["unchanged"] == 2


def test_a_run_into_another_output_folder_is_refused_and_does_not_even_create_it(
    shop: Project,
) -> None:
    shop.env["PIPELINE_OUTPUT"] = "elsewhere"
    assert "PIPELINE_OUTPUT was" in assert_refused(shop, "run")
    assert not (shop.root / "elsewhere").exists()


@pytest.mark.parametrize(
    "command",
    [
        ("run", "--dry-run"),
        ("run", "--allow-removed"),
        ("watch",),
        ("serve", "--port", "0"),
        ("verify", "--fix"),
        ("takedown", "a.png", "--reason", "withdrawn"),
        ("step", "--name=render", "run"),
    ],
    ids=" ".join,
)
def test_whatever_would_write_is_refused(shop: Project, command: tuple[str, ...]) -> None:
    shop.env |= {"PIPELINE_INPUT": "photos", "PIPELINE_OUTPUT": "elsewhere"}
    assert_refused(shop, *command)


def test_the_database_keeps_its_folders_when_the_settings_are_forgotten(shop: Project) -> None:
    """`export`, then cron, which has none of it: the first output folder keeps all its files."""
    (shop.root / "db.sqlite").unlink()
    shop.env |= {"PIPELINE_INPUT": "photos", "PIPELINE_OUTPUT": "renditions"}
    shop.run()
    made = sorted((shop.root / "renditions").rglob("*.*g*"))
    assert made
    shop.env = {"PIPELINE_WORKERS": "2"}
    assert_refused(shop, "run")
    assert sorted((shop.root / "renditions").rglob("*.*g*")) == made


def test_an_output_folder_that_was_moved_is_taken_over_and_its_files_verified(
    shop: Project,
) -> None:
    moved = shop.root / "moved"
    shutil.copytree(shop.output, moved)
    shutil.rmtree(shop.output)
    (moved / "half/a.png").unlink()
    shop.output, shop.env["PIPELINE_OUTPUT"] = moved, str(moved)
    assert_refused(shop, "run")
    answer = shop.cli("run", "--relocate")
    assert answer.code == 0, answer
    assert "1 missing, 0 altered, 0 strays" in answer.stderr
    assert "`datapipe verify --fix`" in answer.stderr
    assert shop.cli("status", "--check").code == 1
    assert shop.cli("verify", "--fix").code == 0
    assert shop.cli("run").stderr == ""
    shop.assert_in_step()


def test_an_input_folder_that_was_moved_is_taken_over_and_nothing_is_rendered_again(
    shop: Project,
) -> None:
    moved = shop.root / "moved"
    shutil.copytree(shop.input, moved)
    shutil.rmtree(shop.input)
    before = shop.stamps()
    shop.input, shop.env["PIPELINE_INPUT"] = moved, str(moved)
    assert_refused(shop, "run")
    said = shop.run("--relocate")
    assert (said["originals"]["removed"], said["renditions"]["rendered"]) == (0, 0)
    assert shop.stamps() == before
    assert shop.run()["originals"]["unchanged"] == 2


def test_relocating_to_the_wrong_folder_deletes_nothing_and_is_not_remembered(
    shop: Project,
) -> None:
    shop.env["PIPELINE_INPUT"] = "photos"
    before = shop.stamps()
    assert shop.cli("run", "--relocate").code == 4
    assert shop.stamps() == before
    assert_refused(shop, "run")
    del shop.env["PIPELINE_INPUT"]
    assert shop.run()["originals"]["unchanged"] == 2


def test_a_folder_that_was_renamed_is_still_the_same(shop: Project) -> None:
    shop.input.rename(shop.root / "renamed")
    shop.output.rename(shop.root / "renamed output")
    shop.output = shop.root / "renamed output"
    before = shop.stamps()
    shop.env |= {"PIPELINE_INPUT": "renamed", "PIPELINE_OUTPUT": "renamed output"}
    assert shop.run()["originals"]["unchanged"] == 2
    assert shop.cli("run").stderr == ""
    assert shop.stamps() == before


def test_another_folder_of_the_same_path_blocks_nobody(shop: Project) -> None:
    """Mounted again, restored from a backup, a new volume: what is there is compared."""
    restore(shop.output)
    (shop.output / "half/a.png").write_bytes(b"of an older backup")
    answer = shop.cli("run")
    assert answer.code == 0, answer
    assert "0 missing, 1 altered, 0 strays" in answer.stderr
    assert shop.cli("verify", "--fix").code == 0
    assert shop.cli("run").stderr == ""
    restore(shop.input)
    assert shop.run()["renditions"]["rendered"] == 0
    shop.assert_in_step()


def test_a_project_that_was_copied_as_a_whole_is_the_same_project(shop: Project) -> None:
    copied = Project(shop.root.with_name("copied"))
    shutil.rmtree(copied.root)
    shutil.copytree(shop.root, copied.root)
    assert copied.run()["originals"]["removed"] == 0
    copied.assert_in_step()
    shop.assert_in_step()


def test_a_database_of_the_release_before_takes_its_present_folders_for_known(
    shop: Project,
) -> None:
    shop.query("DELETE FROM lockstep_state WHERE name = 'folders'")
    assert shop.cli("run").stderr == ""
    shop.env["PIPELINE_INPUT"] = "photos"
    assert_refused(shop, "run")


def test_a_database_that_knows_no_original_belongs_to_no_folder_yet(project: Project) -> None:
    project.run()
    photos = project.root / "photos"
    photos.mkdir()
    project.add("a.png").rename(photos / "a.png")
    project.input, project.env["PIPELINE_INPUT"] = photos, "photos"
    assert project.run()["originals"]["new"] == 1
    project.assert_in_step()


def test_a_run_without_a_change_writes_no_folder(shop: Project) -> None:
    before = (shop.root / "db.sqlite").stat().st_mtime_ns
    shop.run()
    assert (shop.root / "db.sqlite").stat().st_mtime_ns == before


def test_a_server_knows_its_folders_too(project: Project, server_url: str) -> None:
    project.env["PIPELINE_DB"] = server_url
    project.add("a.png")
    project.run()
    before = project.stamps()
    project.env["PIPELINE_OUTPUT"] = "elsewhere"
    answer = project.cli("run")
    assert (answer.code, answer.stdout) == (2, ""), answer
    assert f"PIPELINE_OUTPUT was {project.output}" in answer.stderr
    assert project.stamps() == before
    assert not (project.root / "elsewhere").exists()
    project.output = project.output.rename(project.root / "elsewhere")
    assert project.run()["originals"]["unchanged"] == 1


def test_the_state_folder_belongs_to_the_database_once_there_is_a_job(shop: Project) -> None:
    shop.env["PIPELINE_STATE"] = "elsewhere"
    shop.run()
    shop.env["PIPELINE_CSV_DROP"] = "strict"
    (shop.input / "feed.csv").write_text("a,b\n1,2\n")
    shop.run(code=1)
    del shop.env["PIPELINE_STATE"]
    assert "PIPELINE_STATE was" in assert_refused(shop, "run")
    assert_refused(shop, "job", "submit", str(shop.input / "feed.csv"))
