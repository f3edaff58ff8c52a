"""The whole pipeline with originals and renditions in a bucket of a real server."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest
from a_bucket_project import Make
from a_project import HALF_AND_THUMB
from a_takedown import take_down

pytest.importorskip("obstore", reason="obstore is not installed (pip install 'lockstep[cloud]')")
pytestmark = pytest.mark.buckets


@pytest.mark.parametrize("folders", [(), ("INPUT",), ("OUTPUT",)], ids=["both", "output", "input"])
def test_what_changes_in_a_bucket_changes_its_renditions(
    make: Make, folders: tuple[str, ...]
) -> None:
    project = make(*folders)
    for path in ("a.jpg", "shoes/b c.png", "shoes/ü.jpg"):
        project.put(path)
    first = project.run()
    assert counts(first) == {"new": 3, "rendered": 6, "in_step": 6}
    project.assert_in_step()
    assert counts(project.run()) == {"unchanged": 3, "in_step": 6}
    project.put("a.jpg", seed="other")
    project.take("shoes/b c.png")
    project.put("new.png")
    project.put("twice.jpg", seed="shoes/ü.jpg")
    assert counts(project.run()) == {
        **{"new": 2, "changed": 1, "removed": 1, "unchanged": 1},
        **{"rendered": 4, "reused": 2, "deleted": 2, "in_step": 8},
    }
    project.assert_in_step()


def counts(report: dict[str, Any]) -> dict[str, int]:
    """What a run did to originals and renditions, without zeros."""
    said = report["originals"] | report["renditions"]
    return {name: count for name, count in said.items() if count}


def test_a_changed_recipe_changes_its_renditions_alone(make: Make) -> None:
    project = make()
    project.put("a.png")
    project.run()
    before = project.written()["half/a.png"]
    project.recipes(HALF_AND_THUMB.replace("40, 40", "30, 30"))
    assert counts(project.run()) == {"unchanged": 1, "rendered": 1, "in_step": 2}
    assert project.written()["half/a.png"] == before
    project.assert_in_step()


@pytest.mark.parametrize("folders", [(), ("QUARANTINE",)], ids=["bucket", "folder"])
def test_what_is_taken_down_is_gone_with_all_its_versions_and_can_be_reinstated(
    make: Make, folders: tuple[str, ...]
) -> None:
    project = make(*folders, versions=True)
    for path, seed in (("a.jpg", 1), ("twin.jpg", 1), ("other.jpg", 2)):
        project.put(path, seed)
    project.run()
    done = take_down(project, "a.jpg")
    assert sorted(done["originals"]) == ["a.jpg", "twin.jpg"]
    left = [name for name in project.bucket.names() if "a.jpg" in name or "twin" in name]
    assert left == ([] if folders else ["kept/a.jpg", "kept/twin.jpg"])
    for name in ("in/a.jpg", "in/twin.jpg", "out/half/a.jpg", "out/thumb/twin.jpg.webp"):
        assert project.bucket.versions(name) == []
    project.put("again.jpg", seed=1)
    assert counts(project.run())["taken_down"] == 2
    answer = project.cli("takedown", "lift", str(done["id"]), "--who", "mod")
    assert answer.code == 0, answer
    project.run()
    assert len(project.outputs()) == 8
    project.assert_in_step()


def test_verify_finds_and_fixes_what_others_did_to_a_bucket(make: Make) -> None:
    project = make()
    for number in range(4):
        project.put(f"{number}.png")
    project.run()
    want = project.outputs()
    project.bucket.delete("out/half/0.png")
    project.bucket.put("out/half/1.png", b"other")
    project.bucket.put("out/thumb/2.png.webp", bytes(len(want["thumb/2.png.webp"])))
    project.bucket.put("out/half/stray.png")
    found = project.cli("verify", "--deep", "--json").json
    assert (found["missing"], found["strays"]) == (["half/0.png"], ["half/stray.png"])
    assert found["altered"] == ["half/1.png", "thumb/2.png.webp"]
    assert project.cli("verify", "--deep", "--fix").code == 0
    assert project.outputs() == want


def test_a_bucket_that_is_empty_or_missing_never_counts_as_all_removed(make: Make) -> None:
    project = make()
    project.put("a.jpg")
    project.put("b.jpg")
    project.run()
    want = project.outputs()
    place = project.env["PIPELINE_INPUT"]
    for path in ("a.jpg", "b.jpg"):
        project.take(path)
    answer = project.cli("run")
    assert (answer.code, place in answer.stderr) == (4, True), answer
    project.env["PIPELINE_INPUT"] = "s3://there-is-no-such-bucket/in"
    assert project.cli("run").code == 2  # the database belongs to another
    answer = project.cli("run", "--relocate", "--allow-removed")
    assert (answer.code, "s3://there-is-no-such-bucket" in answer.stderr) == (4, True), answer
    assert project.outputs() == want


def test_a_run_that_is_killed_leaves_nothing_that_the_next_one_does_not_fix(make: Make) -> None:
    project = make()
    for number in range(30):
        project.put(f"{number:02}.jpg")
    for seen in (1, 20):
        run = project.start("run")
        until = time.monotonic() + 60
        while len(project.bucket.names()) < 30 + seen and run.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.02)
        if run.poll() is None:
            run.send_signal(signal.SIGKILL)
        run.wait(30)
        run.stdout.close()
        run.stderr.close()
    project.run()
    project.assert_in_step()
    assert [name for name in project.bucket.names() if ".lockstep-staged" in name] == []
    assert list((project.root / ".lockstep/carried").glob("*")) == []


def test_what_is_no_picture_or_has_an_odd_key_costs_itself_alone(make: Make) -> None:
    project = make()
    project.put("a.jpg")
    for name in ("in/bad.jpg", "in/odd//a.jpg", "in/.hidden.jpg", "in/notes.txt"):
        project.bucket.put(name, b"no picture")
    report = project.run(code=1)
    assert counts(report) == {"new": 2, "rendered": 2, "failed": 2, "in_step": 2}
    assert sum(report["ignored"].values()) == 3
    assert sorted(project.outputs()) == ["half/a.jpg", "thumb/a.jpg.webp"]
    assert counts(project.run()) == {"unchanged": 2, "failed_before": 2, "in_step": 2}
