"""The unmounted disk: so much is gone at once that nothing is deleted until a person says so."""

import os
import shutil
from pathlib import Path

import pytest
from a_mount import MountNamespace
from a_project import Project
from a_watcher import Watching

from pipeline.engine.report import Report
from pipeline.storage import mounts as mounts_of
from pipeline.storage import walking


@pytest.fixture
def shop(project: Project) -> Project:
    """101 originals of the least work: one recipe, copies of one another."""
    project.recipes("[half]\nscale = 0.5\n")
    data = project.add("000.png").read_bytes()
    for number in range(1, 101):
        (project.input / f"{number:03}.png").write_bytes(data)
    project.run()
    return project


def test_a_missing_folder_deletes_nothing(shop: Project) -> None:
    before = shop.stamps()
    shop.input.rename(shop.root / "unplugged")
    for command in (("run", "--json"), ("run", "--dry-run")):
        answer = shop.cli(*command)
        assert answer.code == 4, answer
        assert answer.stdout == ""
        assert "cannot be read" in answer.stderr
        assert "--allow-removed" in answer.stderr
    assert shop.stamps() == before
    assert shop.process("run").code == 4

    (shop.root / "unplugged").rename(shop.input)
    report = shop.run()
    assert report["originals"]["unchanged"] == 101
    assert shop.stamps() == before

    shutil.rmtree(shop.input)
    assert shop.run("--allow-removed")["renditions"]["deleted"] == 101
    assert shop.outputs() == {}


def test_an_empty_mount_point_deletes_nothing(shop: Project) -> None:
    before = shop.stamps()
    shop.input.rename(shop.root / "unplugged")
    shop.input.mkdir()
    answer = shop.cli("run")
    assert answer.code == 4
    assert "101 of 101 originals are gone" in answer.stderr
    assert "PIPELINE_MAX_REMOVED" in answer.stderr
    assert shop.stamps() == before
    assert shop.cli("status", "--json").json["originals"] == 101

    said = shop.run("--dry-run", "--allow-removed")
    assert (said["originals"]["removed"], said["renditions"]["deleted"]) == (101, 101)
    assert shop.stamps() == before
    assert shop.run("--allow-removed")["renditions"]["deleted"] == 101
    assert shop.outputs() == {}


def test_the_share_and_the_least_number_are_both_needed(shop: Project) -> None:
    for number in range(99):
        (shop.input / f"{number:03}.png").unlink()
    # 99 of 101: fewer than a hundred.
    assert shop.run()["renditions"]["deleted"] == 99
    data = (shop.input / "100.png").read_bytes()
    for number in range(300):
        (shop.input / f"{number:03}.png").write_bytes(data)
    shop.run()
    for number in range(150):
        (shop.input / f"{number:03}.png").unlink()
    # 150 of 300: half, and not more.
    shop.env["PIPELINE_MAX_REMOVED"] = "49"
    assert shop.cli("run").code == 4
    shop.env["PIPELINE_MAX_REMOVED"] = "50"
    assert shop.run()["renditions"]["deleted"] == 150


def test_renaming_most_of_a_refused_folder_costs_no_decode_later(shop: Project) -> None:
    (shop.input / "moved").mkdir()
    for number in range(101):
        (shop.input / f"{number:03}.png").rename(shop.input / f"moved/{number:03}.png")
    assert shop.cli("run").code == 4
    done = shop.run("--allow-removed")["renditions"]
    assert (done["rendered"], done["reused"], done["deleted"]) == (0, 101, 101)
    shop.assert_in_step()


def test_thousands_are_removed_and_made_again_at_once(project: Project) -> None:
    project.recipes("[half]\nscale = 0.5\n")
    data = project.add("0.bmp", size=(8, 8)).read_bytes()
    for number in range(1, 5_200):
        (project.input / f"{number}.bmp").write_bytes(data)
    done = project.run()["renditions"]
    assert (done["rendered"], done["reused"]) == (1, 5_199)
    for number in range(0, 5_200, 2):
        (project.input / f"{number}.bmp").unlink()
    (project.input / "1.bmp").unlink()
    assert project.cli("run").code == 4
    assert project.run("--allow-removed")["renditions"]["deleted"] == 2_601
    assert len(project.outputs()) == 2_599
    assert project.cli("verify").code == 0


@pytest.fixture
def few(project: Project) -> Project:
    """Three originals, two of them in a folder."""
    for name in ("a.png", "disk/b.png", "disk/c.png"):
        project.add(name)
    project.run()
    return project


def assert_refused(project: Project, *words: str) -> None:
    """Neither a run nor its preview deletes anything; both say why, and what to do."""
    remembered = "SELECT value FROM lockstep_state WHERE name = 'input'"
    before, folder = project.stamps(), project.query(remembered)
    for command in (("run", "--json"), ("run", "--dry-run")):
        answer = project.cli(*command)
        assert (answer.code, answer.stdout) == (4, ""), answer
        for word in (*words, "nothing was deleted", "mount it", "--allow-removed"):
            assert word in answer.stderr, answer.stderr
    assert project.stamps() == before
    assert project.query(remembered) == folder


def test_a_few_originals_of_an_unmounted_disk_are_kept(few: Project) -> None:
    few.input.rename(few.root / "unplugged")
    few.input.mkdir()
    assert_refused(few, "not the folder that was here in the last run", "3 originals are gone")
    few.input.rmdir()
    (few.root / "unplugged").rename(few.input)
    assert few.run()["originals"]["unchanged"] == 3


def test_another_disk_with_one_original_less_deletes_nothing(few: Project) -> None:
    few.input.rename(few.root / "unplugged")
    shutil.copytree(few.root / "unplugged", few.input)
    (few.input / "disk/c.png").unlink()
    assert_refused(few, "another device or inode", "an original is gone")
    said = few.run("--dry-run", "--allow-removed")
    assert said["renditions"]["deleted"] == 2
    # Once it is allowed, the folder is the known one.
    assert few.run("--allow-removed")["renditions"]["deleted"] == 2
    (few.input / "disk/b.png").unlink()
    assert few.run()["renditions"]["deleted"] == 2
    few.assert_in_step()


def test_another_disk_with_the_same_originals_is_adopted(few: Project) -> None:
    few.input.rename(few.root / "unplugged")
    shutil.copytree(few.root / "unplugged", few.input)
    few.add("d.png")
    assert few.run()["originals"]["removed"] == 0
    (few.input / "a.png").unlink()
    assert few.run()["renditions"]["deleted"] == 2
    few.assert_in_step()


def test_the_last_originals_of_the_same_folder_need_a_word(few: Project) -> None:
    shutil.rmtree(few.input / "disk")
    assert few.run()["renditions"]["deleted"] == 4
    (few.input / "a.png").unlink()
    (few.input / "NOT MOUNTED.txt").touch()
    assert_refused(few, "is empty now", "an original is gone")
    assert few.run("--allow-removed")["renditions"]["deleted"] == 2
    assert few.outputs() == {}
    assert few.run()["originals"]["removed"] == 0


def test_other_originals_in_place_of_all_that_were_known_need_a_word(few: Project) -> None:
    shutil.rmtree(few.input / "disk")
    (few.input / "a.png").unlink()
    few.add("of another shop.png")
    assert_refused(few, "not one of the 3 originals known before is there", "PIPELINE_MAX_REMOVED")
    # Nor does it pass the next time, when the new one is known as well.
    assert_refused(few, "not one of the 3 originals known before is there")
    assert few.run("--allow-removed")["renditions"]["deleted"] == 6
    few.assert_in_step()


def test_originals_that_were_all_renamed_are_no_others(few: Project) -> None:
    (few.input / "disk").rename(few.input / "2026")
    (few.input / "a.png").rename(few.input / "2026/a.png")
    done = few.run()["renditions"]
    assert (done["reused"], done["deleted"]) == (6, 6)
    few.assert_in_step()


def test_all_may_be_replaced_where_the_limit_is_all_of_them(few: Project) -> None:
    shutil.rmtree(few.input / "disk")
    (few.input / "a.png").unlink()
    few.add("new.png")
    few.env["PIPELINE_MAX_REMOVED"] = "100"
    assert few.run()["renditions"]["deleted"] == 6


def test_the_only_original_may_be_replaced(project: Project) -> None:
    project.add("a.png")
    project.run()
    (project.input / "a.png").unlink()
    project.add("b.png")
    assert project.run()["renditions"]["deleted"] == 2
    project.assert_in_step()


def test_what_came_with_a_refused_scan_does_not_outweigh_what_is_gone(shop: Project) -> None:
    for number in range(1, 101):
        (shop.input / f"{number:03}.png").rename(shop.input / f"{number:03}.jpg")
    for number in range(101, 250):
        shutil.copy(shop.input / "000.png", shop.input / f"{number:03}.png")
    for _ in range(2):
        assert "100 of 101 originals are gone" in shop.cli("run").stderr
    assert shop.run("--allow-removed")["originals"]["removed"] == 100


def test_an_original_that_a_takedown_took_out_may_be_the_last_one(project: Project) -> None:
    project.add("a.png")
    project.run()
    assert project.cli("takedown", "a.png", "--reason", "withdrawn").code == 0
    project.run("--dry-run")
    project.run()
    assert project.outputs() == {}


def test_a_disk_below_the_input_folder_is_known_as_well(
    few: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on a system that keeps no list of what is mounted: the folder itself is asked.
    monkeypatch.setattr(walking, "MOUNTS", few.root / "none")
    monkeypatch.setattr(mounts_of, "MOUNTS", few.root / "none")
    disk, mounted = few.input / "disk", True
    monkeypatch.setattr(
        "os.path.ismount", lambda path: mounted and os.fspath(path) == os.fspath(disk)
    )
    few.run()
    disk.rename(few.root / "unplugged")
    disk.mkdir()
    mounted = False
    assert_refused(few, f"{disk}: the disk that was mounted here", "2 originals are gone")
    # Another disk in its place is as bad.
    mounted = True
    shutil.copy(few.root / "unplugged/b.png", disk)
    assert_refused(few, f"{disk}: the disk that was mounted here", "an original is gone")
    # What lies elsewhere may go; what it holds comes back with it.
    shutil.rmtree(disk)
    (few.root / "unplugged").rename(disk)
    (few.input / "a.png").unlink()
    assert few.run()["renditions"]["deleted"] == 2
    few.assert_in_step()


def test_mount_points_are_read_from_the_list_of_the_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts, root = tmp_path / "mountinfo", tmp_path / "in"
    here = os.fsencode(root)
    lines = [
        b"36 35 98:0 /mnt1 %s rw,noatime master:1 - ext3 /dev/root rw" % place
        for place in (
            b"/",
            here,
            here + b"side",
            here + b"/b/c",
            here + rb"/two\040words\011\134\012",
            here + b"/\xff",
            here + b"/.snapshots/1",
        )
    ]
    mounts.write_bytes(b"\n".join(lines) + b"\n")
    monkeypatch.setattr(mounts_of, "MOUNTS", mounts)
    root.mkdir()
    assert mounts_of.mount_points(root, ()) == ["b/c", "two words\t\\\n", "\uefff"]


def test_a_look_at_a_few_files_deletes_nothing_of_an_unmounted_disk(few: Project) -> None:
    from pipeline.engine.context import RunOptions
    from pipeline.engine.run import run_once
    from pipeline.errors import TooManyRemovedError

    def look(*keys: str) -> Report:
        with few._as_if_started_here():
            import app as declared

            app = declared.app
            steps = [app.load_recipes, app.scan, app.render]
            return run_once(app.plan, RunOptions(only=frozenset(keys)), steps=steps)

    few.input.rename(few.root / "unplugged")
    shutil.copytree(few.root / "unplugged", few.input)
    (few.input / "disk/c.png").unlink()
    with pytest.raises(TooManyRemovedError, match="an original is gone"):
        look("disk/c.png")
    # Nothing is wrong with a, but the folder is not adopted by a look at one file.
    look("a.png")
    with pytest.raises(TooManyRemovedError, match="an original is gone"):
        look("disk")
    shutil.rmtree(few.input)
    (few.root / "unplugged").rename(few.input)
    (few.input / "a.png").unlink()
    assert look("a.png").deleted == 2
    shutil.rmtree(few.input / "disk")
    with pytest.raises(TooManyRemovedError, match="empty now: 2 originals are gone"):
        look("disk")
    # One that is not in the tables yet shows that the folder is not empty.
    few.add("new.png")
    with pytest.raises(TooManyRemovedError, match="not one of the 2 originals"):
        look("disk")
    few.run("--allow-removed")
    few.assert_in_step()


def test_a_real_disk_is_unmounted(project: Project, namespace: MountNamespace) -> None:
    (project.root / "disk").mkdir()
    namespace.mounted("--bind", "disk", "input")
    for name in ("a.png", "b.png"):
        project.add(name).rename(project.root / "disk" / name)
    assert namespace.datapipe("run").code == 0
    before = project.stamps()
    namespace.unmounted("input")
    for command in (("run",), ("run", "--dry-run")):
        answer = namespace.datapipe(*command)
        assert (answer.code, answer.stdout) == (4, ""), answer
        assert "not the folder that was here in the last run" in answer.stderr
    assert project.stamps() == before
    namespace.mounted("--bind", "disk", "input")
    assert namespace.datapipe("run").code == 0
    assert project.stamps() == before


@pytest.mark.parametrize("kind", ["--bind disk", "-t tmpfs tmpfs"])
def test_a_real_disk_below_the_input_folder_is_unmounted(
    project: Project, namespace: MountNamespace, kind: str
) -> None:
    place = "input/two words"
    for folder in ("disk", place):
        (project.root / folder).mkdir()
    project.add("a.png")
    project.add("b.png").rename(project.root / "b.png")
    namespace.mounted(*kind.split(), place)
    assert namespace.sh(f"mv b.png '{place}'").code == 0
    assert namespace.datapipe("run").code == 0
    before = project.stamps()
    assert len(before) == 4
    namespace.unmounted(place)
    answer = namespace.datapipe("run")
    assert answer.code == 4, answer
    assert "two words: the disk that was mounted here in the last run is gone" in answer.stderr
    assert project.stamps() == before
    done = namespace.datapipe("run", "--allow-removed", "--json")
    assert done.json["renditions"]["deleted"] == 2
    (project.input / "a.png").rename(project.root / "a.png")
    project.add("c.png")
    assert namespace.datapipe("run").code == 0


def test_a_watcher_that_starts_without_the_disk_deletes_nothing(few: Project) -> None:
    before = few.stamps()
    few.input.rename(few.root / "unplugged")
    few.input.mkdir()
    watching = Watching(few)
    try:
        watching.wait_for_words("not the folder that was here in the last run")
        assert few.stamps() == before
        few.input.rmdir()
        (few.root / "unplugged").rename(few.input)
        few.add("d.png")
        watching.wait_for("a.png", "d.png", "disk/b.png", "disk/c.png")
        assert watching.stop() == 0
    finally:
        watching.kill()
    few.assert_in_step()
