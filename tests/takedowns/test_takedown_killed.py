"""A takedown or a reinstatement that is cut off anywhere is finished by the next run."""

import contextlib
import itertools
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from a_project import Project
from a_takedown import RED, audit, journal, kept, lose_database, originals, take_down
from killing import apart, kill_at


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


def cut_off(
    shop: Project,
    template: Path,
    command: str,
    killer: Callable[[int], Callable[[], None]],
    step: int,
) -> Iterator[int]:
    """Cut ``command`` off at every ``step``-th moment, until it ends by itself; the exit codes.

    Each time it is given the same shop, of which ``template`` is a copy.
    """
    (shop.input / "blue.png").unlink()
    shop.run()
    arguments = ["takedown", "red.png", "--reason", "flagged"]
    if command == "lift":
        take_down(shop, "red.png")
        arguments = ["takedown", "lift", "1"]
    shutil.copytree(shop.root, template, symlinks=True)
    for moment in itertools.count(1, apart(step)):
        shutil.rmtree(shop.root)
        shutil.copytree(template, shop.root, symlinks=True)
        code = shop.in_child(killer(moment), *arguments)
        assert code in (0, -signal.SIGKILL)
        yield code
        if code == 0:
            return


@pytest.mark.parametrize(("command", "step"), [("takedown", 29), ("lift", 19)])
def test_whatever_cuts_it_off_the_next_run_finishes_it(
    shop: Project, tmp_path: Path, command: str, step: int
) -> None:
    cuts = 0
    for code in cut_off(shop, tmp_path / "template", command, kill_at, step):
        shop.run()
        acts = audit(shop)
        state = acts[0]["state"] if acts else None
        is_down = state == "in_force"
        assert state in ("in_force", "lifted" if command == "lift" else None)
        assert (kept(shop), originals(shop)) == ((RED, []) if is_down else ([], RED))
        assert len(shop.outputs()) == (0 if is_down else 2)
        assert shop.cli("verify", "--deep").code == 0
        with contextlib.suppress(IndexError):
            assert len(acts[0]["originals"]) == 2
        cuts += code != 0
    assert cuts * apart(step) >= 18


@pytest.mark.parametrize("command", ["takedown", "lift"])
@pytest.mark.parametrize(("killer", "step"), [(kill_at, 31), (torn_at, 3)], ids=["kill", "torn"])
def test_cut_off_anywhere_nothing_is_forgotten_with_the_database(
    shop: Project,
    tmp_path: Path,
    command: str,
    killer: Callable[[int], Callable[[], None]],
    step: int,
) -> None:
    cuts = 0
    for code in cut_off(shop, tmp_path / "template", command, killer, step):
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
        assert sorted(kept(shop) + originals(shop)) == RED
        if not is_down:
            assert originals(shop) == RED
        assert len(shop.outputs()) == (0 if is_down else 2)
        assert shop.cli("verify", "--deep").code == 0
        if is_down:
            assert shop.cli("takedown", "lift", "1").code == 0
            shop.run()
            assert (kept(shop), originals(shop)) == ([], RED)
            assert len(shop.outputs()) == 2
        cuts += code != 0
    assert cuts * apart(step) >= 4
