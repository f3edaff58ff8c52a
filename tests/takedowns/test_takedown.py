"""What is taken down is gone at once, stays gone under any name, and can be put back."""

import hashlib
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from a_project import Project, picture
from a_takedown import kept, originals, sha256, take_down
from a_watcher import DEADLINE_S, wait_until


@pytest.fixture
def shop(project: Project) -> Project:
    """Two originals with the same bytes, and one of its own."""
    project.add("shoes/red.jpg", seed=1)
    project.add("copy of red.jpg", seed=1)
    project.add("blue.jpg", seed=2)
    project.run()
    return project


def test_an_original_goes_with_its_twins_and_their_renditions(shop: Project) -> None:
    digest = sha256(shop.input / "shoes/red.jpg")
    done = take_down(shop, "shoes/red.jpg")
    assert done == {
        "id": 1,
        "sha256": digest,
        "originals": ["copy of red.jpg", "shoes/red.jpg"],
        "renditions": 4,
        "near": [],
    }
    # At once, with no run in between.
    assert originals(shop) == ["blue.jpg"]
    assert sorted(shop.outputs()) == ["half/blue.jpg", "thumb/blue.jpg.webp"]
    assert kept(shop) == ["copy of red.jpg", "shoes/red.jpg"]
    assert sha256(shop.root / "quarantine/shoes/red.jpg") == digest
    shop.run()
    shop.assert_in_step()
    assert shop.cli("verify", "--deep").code == 0


def test_the_same_bytes_never_get_renditions_again_whatever_their_name(shop: Project) -> None:
    take_down(shop, "shoes/red.jpg")
    shop.add("innocent.jpg", seed=1)
    said = shop.run("--dry-run")["renditions"]
    assert (said["taken_down"], said["rendered"]) == (2, 0)
    report = shop.run()["renditions"]
    assert (report["taken_down"], report["rendered"], report["reused"]) == (2, 0, 0)
    assert sorted(shop.outputs()) == ["half/blue.jpg", "thumb/blue.jpg.webp"]
    status = shop.cli("status", "--json").json
    assert (status["taken_down"], status["failed"], status["pending"]) == (2, 0, 0)
    assert shop.cli("status", "--check").code == 0
    assert "2 taken down" in shop.cli("status").stdout
    (first, _) = shop.cli("errors", "--json").json
    assert (first["path"], first["state"]) == ("innocent.jpg", "taken_down")
    assert first["reason"] == "taken down (takedown 1)"
    story = shop.cli("explain", "innocent.jpg", "--json").json
    assert {r["state"] for r in story["renditions"]} == {"taken_down"}
    assert "would not be rendered: taken down" in story["renditions"][0]["verdict"]
    # Nor after a touch, a retry, a new recipe.
    os.utime(shop.input / "innocent.jpg")
    shop.run()
    shop.cli("retry", "--older")
    shop.run()
    shop.recipes("[half]\nscale = 0.5\nquality = 50\n[new]\nscale = 0.25\n")
    shop.run("--rehash")
    assert sorted(shop.outputs()) == ["half/blue.jpg", "new/blue.jpg"]
    assert shop.cli("status", "--json").json["taken_down"] == 2


def test_other_content_under_the_old_name_is_rendered(shop: Project) -> None:
    take_down(shop, "shoes/red.jpg")
    shop.add("shoes/red.jpg", seed=3)
    shop.run()
    assert "half/shoes/red.jpg" in shop.outputs()
    shop.assert_in_step()


def test_a_name_that_is_no_text_can_be_given_as_the_shell_gives_it(shop: Project) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    (shop.input / name).write_bytes(picture(".jpg", 5))
    shop.run()
    assert len(take_down(shop, name)["originals"]) == 1
    assert not (shop.input / name).exists()


def test_bytes_that_no_original_has_are_barred_for_the_future(shop: Project) -> None:
    digest = hashlib.sha256(picture(".png", 7)).hexdigest()
    answer = shop.cli("takedown", digest.upper(), "--reason", "known elsewhere")
    assert answer.code == 0
    assert "no original has these bytes now" in answer.stdout
    (shop.input / "late.png").write_bytes(picture(".png", 7))
    assert shop.run()["renditions"]["taken_down"] == 2
    assert not any("late" in name for name in shop.outputs())


def test_an_original_that_no_run_has_seen_is_hashed_on_the_spot(project: Project) -> None:
    project.add("a.jpg", seed=1)
    project.run()
    (project.input / "bad.jpg").write_bytes(b"no image at all")
    project.run(code=1)
    project.add("new.jpg", seed=1)
    # The duplicate is found by its row, the new one by its path; the broken one by its bytes.
    assert take_down(project, "new.jpg")["originals"] == ["a.jpg", "new.jpg"]
    assert take_down(project, str(project.input / "bad.jpg"))["originals"] == ["bad.jpg"]
    assert originals(project) == []
    project.run()
    assert project.outputs() == {}


def test_purge_deletes_what_would_be_kept(shop: Project) -> None:
    assert len(take_down(shop, "blue.jpg", "--purge")["originals"]) == 1
    assert kept(shop) == []
    assert not (shop.input / "blue.jpg").exists()
    lifted = shop.cli("takedown", "lift", "1", "--json").json
    assert (lifted["originals"], lifted["missing"]) == ([], ["blue.jpg"])


def test_a_lift_puts_the_originals_back_and_the_next_run_renders(shop: Project) -> None:
    before = shop.outputs()
    digest = take_down(shop, "shoes/red.jpg")["sha256"]
    shop.add("again.jpg", seed=1)
    shop.run()
    answer = shop.cli("takedown", "reinstate", digest, "--who", "judge", "--json")
    assert answer.json["originals"] == ["copy of red.jpg", "shoes/red.jpg"]
    assert kept(shop) == []
    (act,) = shop.cli("takedown", "list", "--json").json
    assert (act["state"], act["who"], act["reason"]) == ("lifted", "mod", "flagged")
    assert act["lifted_by"] == "judge"
    shop.run()
    shop.assert_in_step()
    assert before.items() <= shop.outputs().items()
    assert shop.cli("status", "--json").json["taken_down"] == 0
    assert shop.cli("takedown", "lift", "1").code == 2


def test_neither_way_overwrites_what_is_there(shop: Project) -> None:
    take_down(shop, "blue.jpg")
    shop.add("blue.jpg", seed=8)
    take_down(shop, "blue.jpg")
    assert len(kept(shop)) == 2
    mine = shop.add("blue.jpg", seed=9).read_bytes()
    lifted = shop.cli("takedown", "lift", "2", "--json").json
    ((old, new),) = lifted["set_apart"].items()
    assert old == "blue.jpg"
    assert new.startswith("blue~")
    assert (shop.input / "blue.jpg").read_bytes() == mine
    assert (shop.input / new).read_bytes() == picture(".jpg", 8)
    assert "another file is now called" in shop.cli("takedown", "lift", "1").stdout
    shop.run()
    shop.assert_in_step()


def test_a_folder_where_the_file_was_kept_is_no_obstacle(shop: Project) -> None:
    take_down(shop, "blue.jpg")
    shop.add("blue.jpg/inside.jpg", seed=8)
    take_down(shop, "blue.jpg/inside.jpg")
    assert len(kept(shop)) == 2
    assert shop.cli("takedown", "lift", "1").code == 0
    shop.run()
    shop.assert_in_step()


@pytest.mark.parametrize(
    "target", ["../outside.jpg", "/etc/hostname", ".hidden.jpg", "shoes", "none.jpg", "a\0b", ""]
)
def test_what_is_no_original_is_refused(shop: Project, target: str) -> None:
    shutil.copy(shop.input / "blue.jpg", shop.root / "outside.jpg")
    shutil.copy(shop.input / "blue.jpg", shop.input / ".hidden.jpg")
    before = shop.outputs(), originals(shop)
    answer = shop.cli("takedown", "--reason", "x", target)
    assert answer.code == 2
    assert shop.cli("takedown", "list").stdout == "nothing was taken down\n"
    assert (shop.outputs(), originals(shop)) == before
    assert (shop.root / "outside.jpg").exists()


@pytest.mark.parametrize("folder", ["input/q", "output/q", "."])
def test_a_quarantine_among_originals_or_renditions_is_refused(shop: Project, folder: str) -> None:
    shop.env["PIPELINE_QUARANTINE"] = folder
    answer = shop.cli("takedown", "blue.jpg", "--reason", "x")
    assert answer.code == 2
    assert "PIPELINE_QUARANTINE" in answer.stderr
    assert (shop.input / "blue.jpg").exists()


def test_a_takedown_needs_a_reason(shop: Project) -> None:
    assert shop.cli("takedown", "blue.jpg").code == 2
    answer = shop.cli("takedown", "blue.jpg", "--reason", "  ")
    assert (answer.code, (shop.input / "blue.jpg").exists()) == (2, True)


def test_the_quarantine_may_be_on_another_file_system(shop: Project) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == shop.root.stat().st_dev:
        pytest.skip("needs a second file system at /dev/shm")
    folder = memory / f"lockstep-test-{os.getpid()}"
    shop.env["PIPELINE_QUARANTINE"] = str(folder)
    try:
        mtime_ns = (shop.input / "blue.jpg").stat().st_mtime_ns
        take_down(shop, "blue.jpg")
        assert sorted(f.name for f in folder.iterdir()) == ["blue.jpg", "journal.jsonl"]
        assert shop.cli("takedown", "lift", "1").code == 0
        assert (shop.input / "blue.jpg").stat().st_mtime_ns == mtime_ns
        assert [f.name for f in folder.iterdir()] == ["journal.jsonl"]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_many_copies_that_were_taken_down_are_no_missing_disk(project: Project) -> None:
    first = project.add("0.png", size=(8, 8))
    for number in range(1, 120):
        shutil.copy(first, project.input / f"{number}.png")
    project.add("other.png", seed=2)
    project.run()
    assert len(take_down(project, "0.png")["originals"]) == 120
    assert project.run()["originals"]["removed"] == 120
    project.assert_in_step()


# --- beside a run in progress ---------------------------------------------------------------------


def paused(method: str, project: Project) -> Callable[[], None]:
    """Have a run, in a child, come to a halt before ``method`` of the publisher, until `go`."""

    def prepare() -> None:
        from pipeline.engine import publish

        original = getattr(publish.Publisher, method)

        def wait(self: Any, *args: Any) -> Any:
            if args or self._batch:
                (project.root / "halted").touch()
                wait_until((project.root / "go").exists)
            return original(self, *args)

        setattr(publish.Publisher, method, wait)

    return prepare


@pytest.mark.parametrize("again", [False, True])
def test_a_run_at_work_does_not_publish_what_was_taken_down_meanwhile(
    shop: Project, again: bool
) -> None:
    digest = sha256(shop.add("late.jpg", seed=1 if again else 5))
    child = threading.Thread(target=shop.in_child, args=(paused("flush", shop), "run"))
    child.start()
    wait_until((shop.root / "halted").exists)
    # The run has the lock, and the renditions lie finished beside their targets.
    assert take_down(shop, digest)["sha256"] == digest
    (shop.root / "go").touch()
    child.join()
    assert not any("late" in name for name in shop.outputs())
    assert take_down(shop, "late.jpg")["renditions"] == 0
    shop.run()
    shop.assert_in_step()


def test_a_takedown_finds_what_a_run_is_just_publishing(shop: Project) -> None:
    shop.add("late.jpg", seed=5)
    child = threading.Thread(target=shop.in_child, args=(paused("_record", shop), "run"))
    child.start()
    wait_until((shop.root / "halted").exists)
    # The files have their places, the rows are not written yet.
    assert (shop.output / "half/late.jpg").exists()
    process = shop.start("takedown", "late.jpg", "--reason", "flagged")
    try:
        wait_until(lambda: is_blocked(shop))
        (shop.root / "go").touch()
        assert process.wait(DEADLINE_S) == 0
    finally:
        process.kill()
        process.communicate()
        child.join()
    assert not any("late" in name for name in shop.outputs())
    shop.run()
    shop.assert_in_step()


def is_blocked(project: Project) -> bool:
    return bool(project.query("SELECT 1 FROM takedowns"))
