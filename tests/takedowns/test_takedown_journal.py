"""The journal of takedowns in the quarantine folder outlives the database."""

import os
import shutil
import stat
from collections.abc import Callable
from typing import Any

import pytest
from a_project import Project
from a_takedown import RED, audit, journal, kept, lines, lose_database, originals, take_down


def copied_database(project: Project) -> Callable[[], None]:
    """Copy the database; what is returned puts the copy back."""
    copy = project.root / "copy.sqlite"
    shutil.copy(project.root / "db.sqlite", copy)

    def restore() -> None:
        lose_database(project)
        shutil.copy(copy, project.root / "db.sqlite")

    return restore


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
