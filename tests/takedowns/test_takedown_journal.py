"""The journal of takedowns in the quarantine folder outlives the database."""

import errno
import json
import os
import shutil
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from a_project import Project, picture
from a_takedown import kept, originals, sha256, take_down
from killing import kill_at

RED = ("red.png", "folder/twin.png")


@pytest.fixture
def shop(project: Project) -> Project:
    """Two originals with the same bytes, and one of its own."""
    project.recipes("[half]\nscale = 0.5\n")
    for path in RED:
        project.add(path, seed=1)
    project.add("blue.png", seed=2)
    project.run()
    return project


def journal(project: Project) -> Path:
    return project.root / "quarantine/journal.jsonl"


def lines(project: Project) -> list[dict[str, Any]]:
    return [json.loads(line) for line in journal(project).read_text("utf-8").splitlines()]


def lose_database(project: Project) -> None:
    for file in project.root.glob("db.sqlite*"):
        file.unlink()


def copied_database(project: Project) -> Callable[[], None]:
    """Copy the database; what is returned puts the copy back."""
    copy = project.root / "copy.sqlite"
    shutil.copy(project.root / "db.sqlite", copy)

    def restore() -> None:
        lose_database(project)
        shutil.copy(copy, project.root / "db.sqlite")

    return restore


def audit(project: Project) -> Any:
    return project.cli("takedown", "list", "--json").json


def test_a_lost_database_takes_the_takedowns_over_and_says_so(shop: Project) -> None:
    digest = take_down(shop, "red.png")["sha256"]
    take_down(shop, "blue.png", "--purge")
    before = audit(shop)
    lose_database(shop)
    for name in ("again.png", "red.png"):
        shop.add(name, seed=1)
    shop.add("blue again.png", seed=2)
    assert "may lack takedowns" in shop.cli("run", "--dry-run").stderr
    answer = shop.cli("run", "--json")
    assert answer.code == 0
    assert f"warning: added 2 takedowns from the journal {journal(shop)}" in answer.stderr
    assert answer.json["renditions"]["taken_down"] == 3
    assert shop.outputs() == {}
    assert audit(shop) == before
    assert "added" not in shop.cli("run").stderr
    # What it kept can be put back still; nothing that is there by now is overwritten.
    lifted = shop.cli("takedown", "lift", digest, "--json").json
    assert lifted["originals"][0] == "folder/twin.png"
    assert list(lifted["set_apart"]) == ["red.png"]
    shop.run()
    assert len(shop.outputs()) == 4


def test_the_list_and_a_new_takedown_take_over_as_well(shop: Project) -> None:
    take_down(shop, "red.png")
    before = audit(shop)
    lose_database(shop)
    answer = shop.cli("takedown", "list", "--json")
    assert "added 1 takedown from" in answer.stderr
    assert answer.json[0] | {"state": "in_force"} == before[0]
    lose_database(shop)
    shop.add("late.png", seed=1)
    answer = shop.cli("takedown", "blue.png", "--reason", "x", "--json")
    assert "added 1 takedown from" in answer.stderr
    assert answer.json["id"] == 2
    assert shop.run()["renditions"]["taken_down"] == 1
    assert [act["state"] for act in audit(shop)] == ["in_force", "in_force"]


def test_a_copy_of_the_database_from_before_the_takedown_forgets_nothing(shop: Project) -> None:
    restore = copied_database(shop)
    take_down(shop, "red.png")
    before = audit(shop)
    restore()
    shutil.copy(shop.root / "quarantine/red.png", shop.input / "again.png")
    assert "added 1 takedown from" in shop.cli("run").stderr
    assert sorted(shop.outputs()) == ["half/blue.png"]
    assert audit(shop) == before
    assert shop.cli("status", "--json").json["taken_down"] == 1
    assert shop.cli("verify", "--deep").code == 0


def test_a_copy_of_the_database_from_before_the_lift_bars_nothing_again(shop: Project) -> None:
    digest = take_down(shop, "red.png")["sha256"]
    shop.add("again.png", seed=1)
    shop.run()
    restore = copied_database(shop)
    shop.cli("takedown", "lift", digest, "--who", "judge")
    shop.run()
    lifted, outputs = audit(shop), shop.outputs()
    restore()
    assert "added 1 reinstatement from" in shop.cli("run").stderr
    assert audit(shop)[0]["lifted"] == lifted[0]["lifted"]
    assert audit(shop)[0]["lifted_by"] == "judge"
    assert (shop.outputs(), kept(shop)) == (outputs, [])
    assert shop.cli("status", "--json").json["taken_down"] == 0
    shop.assert_in_step()


def test_a_lift_that_is_taken_over_leaves_the_originals_of_a_later_takedown(shop: Project) -> None:
    take_down(shop, "red.png")
    restore = copied_database(shop)
    shop.cli("takedown", "lift", "1")
    take_down(shop, "red.png")
    assert len(kept(shop)) == 2
    restore()
    said = shop.cli("run").stderr
    assert "added 1 takedown and 1 reinstatement from" in said
    assert (kept(shop), originals(shop)) == (sorted(RED), ["blue.png"])
    assert [act["state"] for act in audit(shop)] == ["in_force", "lifted"]
    assert sorted(shop.outputs()) == ["half/blue.png"]


def test_not_even_for_a_moment_is_there_a_rendition_of_what_was_taken_down(
    shop: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_down(shop, "red.png")
    shop.add("again.png", seed=1)
    lose_database(shop)
    placed: list[str] = []
    replace = os.replace

    def watched(source: Any, target: Any, **folders: int) -> None:
        placed.append(os.path.basename(target))
        replace(source, target, **folders)

    monkeypatch.setattr(os, "replace", watched)
    report = shop.run()["renditions"]
    assert (report["rendered"], report["taken_down"]) == (1, 1)
    assert "blue.png" in placed
    assert "again.png" not in placed


def test_a_single_step_takes_over_as_well(shop: Project) -> None:
    take_down(shop, "red.png")
    shop.add("again.png", seed=1)
    shutil.rmtree(shop.output / "half")
    lose_database(shop)
    for name in ("load_recipes", "scan", "render"):
        assert shop.cli("step", f"--name={name}", "run").code == 0
    assert sorted(shop.outputs()) == ["half/blue.png"]


def test_a_rendition_goes_when_the_journal_is_on_the_disk(
    shop: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.storage.folder_store import FolderStore

    synced: list[int] = []
    fsync, remove = os.fsync, FolderStore.remove

    def watched_sync(handle: int) -> None:
        fsync(handle)
        synced.append(os.fstat(handle).st_ino)

    def watched_remove(self: FolderStore, key: str) -> bool:
        assert journal(shop).stat().st_ino in synced
        noted = {file["path"] for line in lines(shop) for file in line["files"]}
        assert key in noted
        return remove(self, key)

    monkeypatch.setattr(os, "fsync", watched_sync)
    monkeypatch.setattr(FolderStore, "remove", watched_remove)
    assert take_down(shop, "red.png")["renditions"] == 2
    # The names as well: of the file in its folder, and of the folder.
    assert {journal(shop).parent.stat().st_ino, shop.root.stat().st_ino} <= set(synced)
    assert stat.S_IMODE(journal(shop).stat().st_mode) == 0o600
    assert stat.S_IMODE(journal(shop).parent.stat().st_mode) == 0o700


def test_a_run_with_no_change_does_not_read_the_journal(
    shop: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.takedowns.journal import Journal

    take_down(shop, "red.png")
    shop.run()
    take_down(shop, "blue.png")  # its lines are known to the database that wrote them
    monkeypatch.delattr(Journal, "read")
    before = shop.query("SELECT * FROM lockstep_state ORDER BY name")
    shop.run()
    shop.run()
    assert shop.query("SELECT * FROM takedowns WHERE state <> 'in_force'") == []
    stamp = [row for row in before if row[0] == "takedown_journal"]
    assert stamp == [("takedown_journal", f"{journal(shop).stat().st_size}:{inode(shop)}")]


def inode(project: Project) -> int:
    return journal(project).stat().st_ino


def test_a_line_that_was_cut_off_costs_itself_alone(shop: Project) -> None:
    take_down(shop, "red.png")
    count = len(lines(shop))
    with open(journal(shop), "ab") as file:
        file.write('{"takedown":"12","target":"ü'.encode()[:-1])
    assert f"{journal(shop)}: line {count + 1} cannot be read" in shop.cli("run").stderr
    take_down(shop, "blue.png")
    assert "cannot be read" not in shop.cli("run").stderr
    lose_database(shop)
    answer = shop.cli("run")
    assert "added 2 takedowns from" in answer.stderr
    assert f"line {count + 1} cannot be read" in answer.stderr
    assert {act["state"] for act in audit(shop)} == {"in_force"}


@pytest.mark.parametrize(
    "line",
    [
        b"[]",
        b"{}",
        b'"text"',
        b"\xff\xfe",
        b'{"takedown": 1}',
        b'{"takedown": "a", "files": [1]}',
        b'{"takedown": "a", "files": 1}',
        b'{"takedown": "a", "state": "gone"}',
        b'{"takedown": "a", "who": "\\udcff"}',
        b'{"takedown": "a", "sha256": "12"}',
        b"[" * 100_000,
    ],
)
def test_whatever_stands_in_a_line_ends_no_run(shop: Project, line: bytes) -> None:
    journal(shop).parent.mkdir()
    journal(shop).write_bytes(line + b"\n")
    answer = shop.cli("run")
    assert (answer.code, "line 1 cannot be read" in answer.stderr) == (0, True)
    assert len(shop.outputs()) == 3


def test_originals_in_a_quarantine_that_nobody_knows_of_are_reported(shop: Project) -> None:
    take_down(shop, "red.png")
    lose_database(shop)
    journal(shop).unlink()
    for command in ("run", "verify"):
        answer = shop.cli(command)
        assert answer.code == 0
        assert "originals are kept here, but there is no journal.jsonl" in answer.stderr
        assert "take the originals down again" in answer.stderr
    take_down(shop, sha256(shop.root / "quarantine/red.png"))
    assert "no journal" not in shop.cli("run").stderr


def test_takedowns_of_a_release_without_a_journal_are_written_into_one(shop: Project) -> None:
    take_down(shop, "red.png")
    take_down(shop, "blue.png")
    shop.cli("takedown", "lift", "2")
    before = audit(shop)
    journal(shop).unlink()
    shop.query("DELETE FROM lockstep_state WHERE name = 'takedown_journal'")
    answer = shop.cli("run")
    assert (answer.code, answer.stderr) == (0, "")
    lose_database(shop)
    shop.add("again.png", seed=1)
    assert "added 2 takedowns from" in shop.cli("run").stderr
    assert audit(shop) == before
    assert sorted(shop.outputs()) == ["half/blue.png"]


def test_a_journal_that_is_gone_is_written_anew_and_the_old_one_is_welcome(shop: Project) -> None:
    take_down(shop, "red.png")
    shop.run()
    old = journal(shop).rename(shop.root / "old.jsonl")
    assert "the journal of takedowns was missing; 1 takedown written" in shop.cli("run").stderr
    take_down(shop, "blue.png")
    old.rename(journal(shop))  # its disk is mounted again
    assert shop.cli("run").stderr == ""
    lose_database(shop)
    assert "added 2 takedowns from" in shop.cli("run").stderr


def test_two_databases_with_one_quarantine_are_told_and_keep_their_own_renditions(
    shop: Project, make_project: Callable[[str], Project]
) -> None:
    other = make_project("other")
    other.recipes("[half]\nscale = 0.5\n")
    other.add("red.png", seed=7)
    other.add("sold.png", seed=1)
    other.run()
    before = other.outputs()["half/red.png"]
    other.env["PIPELINE_QUARANTINE"] = str(shop.root / "quarantine")
    take_down(shop, "red.png")
    said = other.cli("run").stderr
    assert "added 1 takedown from" in said
    assert "give each its own PIPELINE_QUARANTINE" in said
    assert other.outputs() == {"half/red.png": before}
    assert (other.input / "red.png").exists()
    assert other.cli("verify", "--deep").code == 0


def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No byte more goes into the journal."""
    write = os.write

    def refused(handle: int, data: Any) -> int:
        if b'"takedown"' in bytes(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(handle, data)

    monkeypatch.setattr(os, "write", refused)


def test_with_no_room_for_the_journal_the_bytes_are_barred_and_nothing_is_removed(
    shop: Project,
) -> None:
    outputs = shop.outputs()
    with pytest.MonkeyPatch.context() as patch:
        full_disk(patch)
        answer = shop.cli("takedown", "red.png", "--reason", "flagged")
        assert answer.code == 2
        assert "the disk is full: free some space and run again" in answer.stderr
        assert "blocked from now on" in answer.stderr
        assert shop.outputs() == outputs
        shop.add("again.png", seed=1)
        answer = shop.cli("run")
        assert (answer.code, "the disk is full" in answer.stderr) == (0, True)
        assert shop.outputs() == outputs
    shop.run()
    assert sorted(shop.outputs()) == ["half/blue.png"]
    lose_database(shop)
    shop.run()
    assert sorted(shop.outputs()) == ["half/blue.png"]
    with pytest.MonkeyPatch.context() as patch:
        full_disk(patch)
        assert shop.cli("takedown", "lift", "1").code == 2
    assert audit(shop)[0]["state"] == "in_force"
    assert "red.png" in kept(shop)


def test_takedowns_at_the_same_time_write_whole_lines(shop: Project) -> None:
    names = [f"{number}.png" for number in range(4)]
    for name in names:
        shop.add(name, seed=name)
    shop.run()
    started = [shop.start("takedown", name, "--reason", "x" * 2_000) for name in names]
    for process in started:
        process.communicate(timeout=90)
    assert [process.returncode for process in started] == [0] * 4
    assert len({line["takedown"] for line in lines(shop)}) == 4
    acts = audit(shop)
    lose_database(shop)
    assert "added 4 takedowns from" in shop.cli("run").stderr
    assert {act["target"] for act in audit(shop)} == {act["target"] for act in acts} == {*names}


def test_a_name_that_is_no_text_is_taken_over(shop: Project) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    (shop.input / name).write_bytes(picture(".png", 1))
    shop.run()
    assert len(take_down(shop, name)["originals"]) == 3
    before = audit(shop)
    lose_database(shop)
    shop.run()
    assert audit(shop) == before
    assert len(shop.cli("takedown", "lift", "1", "--json").json["originals"]) == 3
    assert (shop.input / name).exists()


# --- cut off, and then the database is lost ------------------------------------------------------


def torn_at(number: int) -> Callable[[], None]:
    """Kill this process in the middle of its ``number``-th line of the journal."""

    def prepare() -> None:
        write, left = os.write, number

        def half(handle: int, data: Any) -> int:
            nonlocal left
            if b'"takedown"' in bytes(data):
                left -= 1
                if left == 0:
                    write(handle, data[: len(data) // 2])
                    os.kill(os.getpid(), signal.SIGKILL)
            return write(handle, data)

        os.write = half

    return prepare


@pytest.mark.parametrize("command", ["takedown", "lift"])
@pytest.mark.parametrize(("killer", "step"), [(kill_at, 5), (torn_at, 1)], ids=["kill", "torn"])
def test_cut_off_anywhere_nothing_is_forgotten_with_the_database(
    shop: Project,
    tmp_path: Path,
    command: str,
    killer: Callable[[int], Callable[[], None]],
    step: int,
) -> None:
    (shop.input / "blue.png").unlink()
    shop.run()
    arguments = ["takedown", "red.png", "--reason", "flagged"]
    if command == "lift":
        take_down(shop, "red.png")
        arguments = ["takedown", "lift", "1"]
    template = tmp_path / "template"
    shutil.copytree(shop.root, template, symlinks=True)

    def was_cut_off(moment: int) -> bool:
        shutil.rmtree(shop.root)
        shutil.copytree(template, shop.root, symlinks=True)
        code = shop.in_child(killer(moment), *arguments)
        assert code in (0, -signal.SIGKILL)
        was_noted = journal(shop).exists() and b"\n" in journal(shop).read_bytes()
        lose_database(shop)
        assert shop.cli("run").code == 0
        acts = audit(shop)
        state = acts[0]["state"] if acts else None
        if command == "lift":
            assert state in ("in_force", "lifted")
            assert code != 0 or state == "lifted"
        else:
            assert code != 0 or state == "in_force"
            assert not was_noted or acts
        is_down = state == "in_force"
        # Each original is at exactly one place.
        assert sorted(kept(shop) + originals(shop)) == sorted(RED)
        if not is_down:
            assert originals(shop) == sorted(RED)
        assert len(shop.outputs()) == (0 if is_down else 2)
        assert shop.cli("verify", "--deep").code == 0
        if is_down:
            assert shop.cli("takedown", "lift", "1").code == 0
            shop.run()
            assert (kept(shop), originals(shop)) == ([], sorted(RED))
            assert len(shop.outputs()) == 2
        return code != 0

    moment = 1
    while was_cut_off(moment):
        moment += step
    assert moment > 4
