"""The watcher: whatever happens to the input folder, the renditions follow."""

import os
import random
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from a_project import Project, picture
from a_watcher import DEADLINE_S, Watching, wait_until
from killing import alive_in_group

from pipeline.live.changes import LATEST_S


def test_whatever_changes_is_followed(
    project: Project, watch: Callable[..., Watching], tmp_path: Any
) -> None:
    project.add("a.jpg")
    project.add("shoes/red.jpg")
    watching = watch()
    watching.wait_for("a.jpg", "shoes/red.jpg")
    watching.wait_for_start()
    project.add("new.png")
    watching.wait_for("a.jpg", "new.png", "shoes/red.jpg")
    (project.input / "new.png").rename(project.input / "shoes/old.png")
    watching.wait_for("a.jpg", "shoes/old.png", "shoes/red.jpg")
    (project.input / "shoes").rename(project.input / "boots")
    watching.wait_for("a.jpg", "boots/old.png", "boots/red.jpg")
    outside = Project(tmp_path / "elsewhere")
    outside.add("deep/er/b.jpg")
    (outside.input / "deep").rename(project.input / "deep")
    watching.wait_for("a.jpg", "boots/old.png", "boots/red.jpg", "deep/er/b.jpg")
    shutil.rmtree(project.input / "boots")
    watching.wait_for("a.jpg", "deep/er/b.jpg")
    # A write in place.
    before = project.outputs()["half/a.jpg"]
    project.add("a.jpg", seed=99)
    wait_until(lambda: project.outputs().get("half/a.jpg") not in (None, before))
    project.recipes("[half]\nscale = 0.25\n")
    wait_until(lambda: not (project.output / "thumb").exists())
    assert watching.stop() == 0
    # All but the first look and that for the recipes (cut off, maybe) were at some paths alone.
    assert [run["partial"] for run in watching.runs].count(False) in (1, 2)
    assert sum(run["renditions"]["failed"] for run in watching.runs) == 0
    project.run()
    project.assert_in_step()
    assert project.cli("verify", "--deep").code == 0


def test_a_bad_file_is_told_and_its_mending_as_well(
    project: Project, watch: Callable[..., Watching]
) -> None:
    project.add("a.jpg")
    watching = watch()
    watching.wait_for_start()
    (project.input / "bad.jpg").write_bytes(b"no image")
    watching.wait_for_words("failed  bad.jpg: not an image")
    project.add("bad.jpg")
    watching.wait_for("a.jpg", "bad.jpg")
    project.recipes("[half]\nscale = -1\n")
    watching.wait_for_words("scale")
    project.recipes("[half]\nscale = 0.5\nquality = 60\n")
    wait_until(lambda: not (project.output / "thumb").exists())
    assert watching.stop(signal.SIGINT) == 130


def test_a_file_that_is_still_growing_is_left_until_it_is_still(
    project: Project, watch: Callable[..., Watching]
) -> None:
    project.env["PIPELINE_SETTLE_MS"] = "1500"
    project.add("a.jpg")
    watching = watch()
    watching.wait_for_start()
    data = picture(".png", 5, (400, 400))
    until = time.monotonic() + 2 * LATEST_S
    with open(project.input / "slow.png", "wb", buffering=0) as file:
        written = 0
        while written < len(data) - 1 or time.monotonic() < until:
            piece = data[written : min(written + 2_000, len(data) - 1)]
            written += file.write(piece) if piece else 0
            os.utime(project.input / "slow.png")
            time.sleep(0.05)
        assert not any("slow" in name for name in project.outputs())
        file.write(data[written:])
    watching.wait_for("a.jpg", "slow.png")
    assert sum(run["renditions"]["failed"] for run in watching.runs) == 0
    assert watching.stop() == 0


def test_it_waits_for_a_run_that_holds_the_lock(
    project: Project, watch: Callable[..., Watching]
) -> None:

    from pipeline.database.locks import RUN_LOCK
    from pipeline.tables import connect

    project.add("a.jpg")
    watching = watch()
    watching.wait_for_start()
    connection = connect(f"sqlite:///{project.root / 'db.sqlite'}")
    with connection.lock(RUN_LOCK, wait=True):
        project.add("b.jpg")
        watching.wait_for_words("another run is in progress")
        assert "half/b.jpg" not in project.outputs()
    connection.engine.dispose()
    watching.wait_for("a.jpg", "b.jpg")
    assert watching.stop() == 0


def test_a_run_gets_its_turn_under_constant_change(
    project: Project, watch: Callable[..., Watching]
) -> None:
    project.add("a.jpg")
    watching = watch()
    watching.wait_for_start()
    done = threading.Event()

    def change_all_the_time() -> None:
        seed = 0
        while not done.is_set():
            seed += 1
            project.add(f"{seed % 7}.jpg", seed=seed)
            done.wait(0.02)

    changing = threading.Thread(target=change_all_the_time)
    changing.start()
    try:
        # Not told to wait, and still not refused; 1 is a file that it read half written.
        assert {project.process("run").code for _ in range(2)} <= {0, 1}
    finally:
        done.set()
        changing.join()
    watching.wait_for("a.jpg", *(f"{n}.jpg" for n in range(7)))
    assert watching.stop() == 0
    project.run()
    project.assert_in_step()


def test_a_folder_that_vanishes_and_comes_back_deletes_nothing(
    project: Project, watch: Callable[..., Watching]
) -> None:
    names = ["a.jpg", "b/c.jpg"]
    for name in names:
        project.add(name)
    watching = watch()
    watching.wait_for(*names)
    watching.wait_for_start()
    away = project.root / "away"
    project.input.rename(away)
    watching.wait_for_words("the input folder is not there; waiting")
    # The mount point that an unmounted disk leaves behind.
    project.input.mkdir()
    watching.wait_for_words("was replaced by an empty one; waiting")
    assert len(project.outputs()) == 4
    project.input.rmdir()
    shutil.copy(away / "a.jpg", away / "while away.jpg")
    away.rename(project.input)
    watching.wait_for_words("is there again")
    watching.wait_for(*names, "while away.jpg")
    # Its events are heard again.
    (project.input / "a.jpg").unlink()
    watching.wait_for("b/c.jpg", "while away.jpg")
    assert watching.stop() == 0
    assert sum(run["originals"]["removed"] for run in watching.runs) == 1


def test_a_stop_leaves_no_process_and_no_half_work(
    project: Project, watch: Callable[..., Watching]
) -> None:
    for number in range(24):
        project.add(f"{number}.jpg", size=(2400, 1800))
    watching = watch()
    wait_until(lambda: any(project.output.rglob(".lockstep-*")), lambda: watching.said)
    assert watching.stop() == 0
    for row in project.query("SELECT file FROM renditions"):
        assert (project.output / row[0]).exists()
    project.run()
    assert project.cli("verify", "--deep").code == 0
    assert len(project.outputs()) == 48


def test_one_that_was_killed_leaves_no_worker_and_the_next_one_heals(
    project: Project, watch: Callable[..., Watching]
) -> None:
    for number in range(12):
        project.add(f"{number}.jpg", size=(2400, 1800))
    killed = watch()
    wait_until(lambda: any(project.output.rglob(".lockstep-*")), lambda: killed.said)
    killed.process.kill()
    wait_until(lambda: not alive_in_group(killed.process.pid))
    again = watch()
    again.wait_for(*(f"{number}.jpg" for number in range(12)))
    again.wait_for_start()
    assert again.stop() == 0
    assert project.cli("verify", "--deep").code == 0


def test_a_look_at_the_whole_folder_finds_what_no_event_told(
    project: Project, watch: Callable[..., Watching]
) -> None:
    project.env["PIPELINE_RESCAN_S"] = "1"
    (project.input / "bad.jpg").write_bytes(b"no image")
    watching = watch()
    watching.wait_for_start()
    # A look at one path alone, and then something that happens in the tables.
    project.add("a.jpg")
    watching.wait_for("a.jpg")
    project.cli("retry")
    wait_until(
        lambda: (
            [run["renditions"]["failed"] for run in watching.runs if not run["partial"]][:2]
            == [2, 2]
        ),
        lambda: (watching.said, watching.runs),
    )
    assert watching.stop() == 0


def test_without_events_it_polls(project: Project, watch: Callable[..., Watching]) -> None:
    project.add("a.jpg")
    watching = watch("--poll")
    watching.wait_for_start()
    project.add("b.jpg")
    watching.wait_for("a.jpg", "b.jpg")
    (project.input / "a.jpg").unlink()
    watching.wait_for("b.jpg")
    assert watching.stop() == 0


def test_what_is_taken_down_stays_away(project: Project, watch: Callable[..., Watching]) -> None:
    project.add("a.jpg", seed=1)
    project.add("b.jpg", seed=2)
    watching = watch()
    watching.wait_for("a.jpg", "b.jpg")
    watching.wait_for_start()
    assert project.cli("takedown", "a.jpg", "--reason", "flagged").code == 0
    project.add("c.jpg", seed=1)
    watching.wait_for_row("SELECT 1 FROM renditions WHERE state = 'taken_down'")
    watching.wait_for("b.jpg")
    assert project.cli("takedown", "lift", "1").code == 0
    wait_until(lambda: (project.output / "half/a.jpg").exists())
    # What came meanwhile with the same bytes is shown again at the next look at the whole folder.
    assert project.cli("run", "--wait").code == 0
    watching.wait_for("a.jpg", "b.jpg", "c.jpg")
    assert watching.stop() == 0


def test_a_look_at_some_paths_finds_what_a_look_at_all_finds(project: Project) -> None:
    """Random changes of a tree; the table of originals agrees with the folder after each."""
    chance = random.Random(4)
    names = ["a", "a.jpg", "a0", "a/b.jpg", "a/b", "a/b/c.jpg", "a0/x.jpg", "z.png", ".h.jpg"]
    project.recipes("[half]\nscale = 0.5\n")
    project.add("a.jpg")
    project.run()
    with project._as_if_started_here():
        import app as declared
        from pipeline.engine.context import RunOptions
        from pipeline.engine.run import run_once
        from pipeline.storage.walking import Passed, walk

        app = declared.app
        for _ in range(40):
            changed = {change_something(project, chance, names) for _ in range(2)}
            steps = [app.load_recipes, app.scan, app.render]
            options = RunOptions(only=frozenset(changed), allow_removed=True)
            report = run_once(app.plan, options, steps=steps)
            assert report.partial
            there = [
                row for files in walk(project.input, app.scan.suffixes, Passed()) for row in files
            ]
            rows = project.query(
                "SELECT path, size_bytes, mtime_ns, ctime_ns, inode FROM originals ORDER BY path"
            )
            assert rows == there
            have = {row[0] for row in project.query("SELECT path FROM renditions")}
            assert have == {row[0] for row in there}
    project.assert_in_step()
    # Nothing is left that a later query would stumble over.
    assert project.query("SELECT 1 FROM originals_meta WHERE delete_ts IS NOT NULL") == []


def change_something(project: Project, chance: random.Random, names: list[str]) -> str:
    """Make or remove a file or a folder of files; the key that an event would tell."""
    name = chance.choice(names)
    target = project.input / name
    if target.is_dir():
        shutil.rmtree(target)
    elif target.exists():
        target.unlink()
    else:
        for parent in target.relative_to(project.input).parents[:-1]:
            if (project.input / parent).is_file():
                (project.input / parent).unlink()
                name = parent.as_posix()
        target.parent.mkdir(parents=True, exist_ok=True)
        if chance.random() < 0.5 or "." in name:
            target.write_bytes(picture(".png", chance.random()))
        else:
            project.add(f"{target.relative_to(project.input).as_posix()}/in.jpg")
    return name


def test_two_interrupts_end_it_at_once(project: Project, watch: Callable[..., Watching]) -> None:
    project.add("a.jpg")
    watching = watch()
    watching.wait_for_start()
    for _ in range(2):
        watching.process.send_signal(signal.SIGINT)
    assert watching.process.wait(DEADLINE_S) == 130


def test_the_help_tells_how_it_ends(project: Project) -> None:
    answer = project.cli("watch", "--help")
    assert answer.code == 0
    assert "SIGTERM (exit code 0) and Ctrl-C (130)" in " ".join(answer.stdout.split())


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems take no such names")
def test_names_that_are_no_text_are_seen_and_change_nothing_for_others(
    project: Project, watch: Callable[..., Watching]
) -> None:
    project.add("a.jpg")
    watching = watch()
    watching.wait_for_start()
    names = ["a.jpg"]
    for number in range(3):
        with open(os.fsencode(project.input) + b"/\xff%d.jpg" % number, "wb") as file:
            file.write(picture(".jpg", number))
        project.add(f"{number}.jpg")
        names += [f"{number}.jpg", os.fsdecode(b"\xff%d.jpg" % number)]
        watching.wait_for(*names)
    assert watching.stop() == 0
    # It still listens to events: there is nothing to tell of.
    assert not [line for line in watching.said if "watched" in line or "trying again" in line]
    project.run()
    project.assert_in_step()
