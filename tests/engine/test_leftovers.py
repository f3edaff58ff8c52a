"""What a run that was interrupted leaves in the output folder is gone after the next command."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from a_project import HALF_AND_THUMB, Project
from killing import killed_run, place_of, temporary_files

THREE = f"{HALF_AND_THUMB}\n[tiny]\nwidth = 10\n"
THREE_DAYS_S = 3 * 86_400


def killed_at_removal(number: int) -> Callable[[], None]:
    """Kill this process right before it removes the ``number``-th folder of the output."""

    def prepare() -> None:
        left = number

        def on_event(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            if event == "os.rmdir" and "output" in place_of(arguments):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(on_event)

    return prepare


def folders(project: Project) -> list[str]:
    return sorted(
        path.relative_to(project.output).as_posix()
        for path in project.output.rglob("*")
        if path.is_dir()
    )


def below_output(project: Project) -> set[bytes]:
    """The bytes of every file below `output/`, whatever its name."""
    return {path.read_bytes() for path in project.output.rglob("*") if path.is_file()}


@pytest.fixture
def twins(project: Project) -> Project:
    """Two originals with the same bytes, in step."""
    shutil.copy(project.add("p001.png"), project.input / "twin.png")
    project.run()
    return project


def touch(project: Project) -> None:
    for file in project.input.iterdir():
        file.chmod(0o600)


def test_twins_that_were_touched_leave_no_temporary_file(twins: Project) -> None:
    touch(twins)
    twins.recipes(THREE)
    done = twins.run()["renditions"]
    # What is in place already is not linked again.
    assert (done["rendered"], done["reused"]) == (1, 1)
    assert temporary_files(twins) == []
    twins.assert_in_step()


def test_touched_twins_with_no_new_recipe_are_left_as_they_are(twins: Project) -> None:
    before = twins.stamps()
    touch(twins)
    report = twins.run()
    assert (report["renditions"]["reused"], report["originals"]["unchanged"]) == (0, 2)
    assert twins.stamps() == before
    assert temporary_files(twins) == []


def test_a_takedown_of_the_same_size_leaves_no_temporary_file(project: Project) -> None:
    for number in range(3):
        project.add(f"{number}.bmp")
    shutil.copy(project.input / "0.bmp", project.input / "twin.bmp")
    project.run()
    assert project.cli("takedown", "1.bmp", "--reason", "flagged").code == 0
    touch(project)
    project.recipes(THREE)
    project.run()
    assert temporary_files(project) == []
    project.assert_in_step()


@pytest.mark.parametrize("cut_off_before", ["_settle", "_record"])
def test_a_takedown_after_a_killed_run_leaves_no_file_with_the_picture(
    project: Project, cut_off_before: str
) -> None:
    original = project.add("folder/p001.jpg")
    project.run()
    whole = below_output(project)
    shutil.rmtree(project.output)
    (project.root / "db.sqlite").unlink()
    killed_run(project, cut_off_before)
    assert below_output(project) & whole
    assert project.cli("takedown", str(original), "--reason", "flagged").code == 0
    assert not below_output(project) & whole
    assert temporary_files(project) == []


def test_verify_reports_temporary_files_of_the_dead_and_removes_them(project: Project) -> None:
    project.add("a.jpg")
    project.run()
    project.add("folder/b.jpg")
    killed_run(project, "_settle")
    left = sorted(path.relative_to(project.output).as_posix() for path in temporary_files(project))
    assert len(left) == 2
    answer = project.cli("verify", "--json")
    assert (answer.code, sorted(answer.json["strays"])) == (1, left)
    assert project.cli("verify", "--fix").code == 0
    assert temporary_files(project) == []
    assert project.cli("verify", "--json").json["strays"] == []


def test_temporary_files_of_an_earlier_release_go_with_the_first_takedown(
    project: Project,
) -> None:
    project.add("a.jpg")
    project.run()
    # As left behind by a release that noted no generation, whose process id is in use again.
    project.query("DELETE FROM lockstep_state WHERE name IN ('generation', 'writer')")
    (project.output / ".lockstep.json").unlink()
    shutil.copy(project.output / "half/a.jpg", project.output / f"half/.lockstep-{os.getpid()}-2")
    assert project.cli("verify").code == 1
    assert project.cli("takedown", "a.jpg", "--reason", "flagged").code == 0
    assert temporary_files(project) == []


def test_temporary_files_of_an_earlier_release_go_with_the_first_run_that_writes(
    project: Project,
) -> None:
    project.add("a.jpg")
    project.run()
    project.query("DELETE FROM lockstep_state WHERE name IN ('generation', 'writer')")
    (project.output / ".lockstep.json").unlink()
    (project.output / "half/.lockstep-1-2").write_bytes(b"old")
    project.add("b.jpg")
    assert project.cli("run").stderr == ""
    assert temporary_files(project) == []
    assert project.cli("status", "--check").code == 0


def test_what_a_living_process_is_writing_is_let_be(tmp_path: Path) -> None:
    from pipeline.storage.folder_store import FolderStore
    from pipeline.storage.owners import is_alive, owner

    store = FolderStore(tmp_path)
    ours = tmp_path / store.stage("deep/a.jpg", b"half of a picture", owner()).temporary
    of_another = "from pipeline.storage.owners import owner; print(owner())"
    done = subprocess.run([sys.executable, "-c", of_another], capture_output=True, check=True)
    store.stage("deep/a.jpg", b"left behind", done.stdout.decode().strip())
    # The same process id, which another process has by now.
    reused = Path(str(ours).replace(f".{os.getpid()}.", f".{os.getpid()}.1"))
    reused.write_bytes(b"left behind")
    assert store.sweep(is_alive) == 2
    assert [path.name for path in ours.parent.iterdir()] == [ours.name]
    # With the lock held and nothing running, all are left behind.
    assert store.sweep() == 1
    assert list(tmp_path.iterdir()) == []


def test_a_run_with_no_change_does_not_walk_the_output_folder(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        project.add(f"{number}/a.jpg")
    project.run()
    walked: list[str] = []
    scandir = os.scandir

    def note(folder: str) -> object:
        walked.append(os.fspath(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", note)
    project.run()
    project.add("new.jpg")
    project.run()
    monkeypatch.undo()
    below = [folder for folder in walked if folder.startswith(f"{project.output}/")]
    # The folder of each recipe is opened once a run, to see that it is not empty.
    assert {Path(folder).name for folder in below} <= {"half", "thumb"}


def test_a_clock_that_ran_ahead_once_hides_no_file_without_a_row(project: Project) -> None:
    project.add("kept.png")
    project.run()
    original = project.add("folder/gone.png")
    killed_run(project, "_record", skew_s=THREE_DAYS_S)
    assert "half/folder/gone.png" in project.outputs()
    original.unlink()
    project.run()
    project.assert_in_step()
    assert folders(project) == ["half", "thumb"]


def test_a_rehash_that_is_killed_leaves_no_file_unlike_its_row(project: Project) -> None:
    file = project.add("a.bmp", seed=1)
    project.run()
    stamp = file.stat()
    other = project.add("b.bmp", seed=2).read_bytes()
    (project.input / "b.bmp").unlink()
    # Other bytes that no stat tells from those before: only a rehash finds them.
    file.write_bytes(other)
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    project.query(f"UPDATE originals SET ctime_ns = {file.stat().st_ctime_ns}")
    killed_run(project, "_record", "run", "--rehash")
    project.run()
    project.assert_in_step()
    assert project.cli("verify", "--deep").code == 0


@pytest.mark.parametrize("number", [1, 2, 3])
def test_empty_folders_go_after_a_recovery_that_was_killed(project: Project, number: int) -> None:
    project.add("kept.png")
    project.run()
    original = project.add("deep/er/gone.png")
    killed_run(project, "_record")
    original.unlink()
    assert project.in_child(killed_at_removal(number), "run") == -signal.SIGKILL
    assert len(folders(project)) > 2
    project.run()
    assert folders(project) == ["half", "thumb"]
    project.assert_in_step()


def test_verify_removes_empty_folders(project: Project) -> None:
    project.add("kept.png")
    project.run()
    (project.output / "half/deep/er").mkdir(parents=True)
    assert project.cli("verify", "--fix").code == 0
    assert folders(project) == ["half", "thumb"]


def test_renditions_of_bytes_that_are_barred_leave_no_empty_folder(project: Project) -> None:
    project.add("bag.png")
    project.run()
    blocked = project.add("shop/shoe.png")
    digest = hashlib.sha256(blocked.read_bytes()).hexdigest()
    # Of which size the bytes are is not known, so a worker renders before anybody can tell.
    assert project.cli("takedown", "add", digest, "--reason", "flagged").code == 0
    assert blocked.exists()
    assert project.run()["renditions"]["taken_down"] == 2
    assert folders(project) == ["half", "thumb"]


def test_an_empty_mount_point_with_renditions_on_its_disk_stays(project: Project) -> None:
    project.add("a.png")
    project.run()
    (project.output / "half").rename(project.root / "unplugged")
    (project.output / "half").mkdir()
    assert "gone with all its renditions" in project.cli("run").stderr
    project.add("thumb-only.png")
    killed_run(project, "_settle")
    (project.input / "thumb-only.png").unlink()
    project.run()
    assert (project.output / "half").is_dir()
