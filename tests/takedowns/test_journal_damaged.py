"""A journal of takedowns that is cut off, missing, full or shared with another database."""

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest
from a_project import Project, picture
from a_takedown import audit, journal, kept, lines, lose_database, sha256, take_down


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
