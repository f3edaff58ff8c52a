"""Near duplicates: a picture that looks like a blocked one is held, and never published."""

from __future__ import annotations

import io
import random
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from a_project import Project
from a_takedown import lose_database, originals, sha256, take_down
from killing import kill_at
from PIL import Image, ImageDraw, ImageOps

RECIPES = "[half]\nscale = 0.5\n"


def scene(seed: int, size: tuple[int, int] = (240, 160)) -> Image.Image:
    """Shapes in colours: what a photo is to PDQ."""
    chance = random.Random(seed)
    image = Image.new("RGB", size, (90, 120, 160))
    draw = ImageDraw.Draw(image)
    for _ in range(30):
        x, y, side = chance.randrange(size[0]), chance.randrange(size[1]), chance.randrange(8, 90)
        colour = tuple(chance.randrange(256) for _ in range(3))
        draw.rectangle((x, y, x + side, y + side // 2), fill=colour)
    return image


def save(project: Project, path: str, image: Image.Image, quality: int = 95) -> Path:
    file = project.input / path
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file, quality=quality)
    return file


def copies(seed: int = 1) -> dict[str, Image.Image]:
    """The picture saved again, reduced and flipped."""
    image = scene(seed)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=84)
    return {
        "again.jpg": Image.open(stream),
        "small.jpg": image.resize((180, 120)),
        "flipped.jpg": ImageOps.mirror(image),
    }


def states(project: Project) -> dict[str, set[str]]:
    """The states of the renditions of each original."""
    found: dict[str, set[str]] = {}
    for path, state in project.query("SELECT path, state FROM renditions"):
        found.setdefault(path, set()).add(state)
    return found


def reviews(project: Project) -> list[tuple[Any, ...]]:
    return project.query("SELECT path, kind, state, near_source FROM reviews ORDER BY path")


@pytest.fixture
def project(project: Project) -> Project:
    """A picture that was taken down with what looks like it, and another one."""
    project.recipes(RECIPES)
    save(project, "bad.jpg", scene(1))
    save(project, "other.jpg", scene(2))
    project.run()
    take_down(project, "bad.jpg", "--near")
    return project


def test_copies_of_what_was_taken_down_are_held(project: Project) -> None:
    for path, image in copies().items():
        save(project, path, image, quality=84)
    report = project.run()
    assert report["renditions"]["held"] == 3
    assert states(project) == {"other.jpg": {"ok"}} | {path: {"held"} for path in copies()}
    assert set(project.outputs()) == {"half/other.jpg"}
    held = [(path, "held", "open", "takedown 1") for path in sorted(copies())]
    assert reviews(project) == held
    assert project.run()["renditions"]["held"] == 0
    assert "held for review" in project.cli("explain", "again.jpg").stdout


def test_no_rendition_of_a_held_copy_is_there_at_any_moment(project: Project) -> None:
    """Whatever is published is moved into its place, or linked there."""
    save(project, "again.jpg", copies()["again.jpg"], quality=84)
    project.own_step(
        "import os\n"
        "def own():\n"
        "    replace = os.replace\n"
        "    def noted(source, target, **options):\n"
        "        with open('moved.txt', 'a') as file:\n"
        "            print(target, file=file)\n"
        "        return replace(source, target, **options)\n"
        "    os.replace = noted\n"
    )
    save(project, "third.jpg", scene(3))
    assert project.process("run").code == 0
    moved = (project.root / "moved.txt").read_text()
    assert "third.jpg" in moved
    assert "again.jpg" not in moved


def test_a_duplicate_and_a_renamed_original_stay_held(project: Project) -> None:
    file = save(project, "again.jpg", scene(1), quality=84)
    project.run()
    (project.input / "twin.jpg").write_bytes(file.read_bytes())
    file.rename(project.input / "moved.jpg")
    project.run()
    assert states(project) == {"other.jpg": {"ok"}, "moved.jpg": {"held"}, "twin.jpg": {"held"}}
    assert [state for _, _, state, _ in reviews(project)] == ["open"]


def test_a_changed_recipe_publishes_nothing_that_was_blocked_meanwhile(project: Project) -> None:
    """The copy was published before the picture was blocked, and nobody agreed to take it down."""
    save(project, "again.jpg", scene(3), quality=84)
    save(project, "third.jpg", scene(3))
    project.run()
    take_down(project, "third.jpg", "--near")
    assert states(project)["again.jpg"] == {"ok"}
    project.run()
    assert states(project)["again.jpg"] == {"ok"}
    project.recipes("[half]\nscale = 0.4\n")
    project.run()
    assert states(project)["again.jpg"] == {"held"}
    assert set(project.outputs()) == {"half/other.jpg"}


def test_what_a_person_published_is_never_held_again(project: Project) -> None:
    file = save(project, "again.jpg", scene(1), quality=84)
    project.run()
    publish(project, sha256(file))
    assert project.run()["renditions"]["rendered"] == 1
    assert states(project)["again.jpg"] == {"ok"}
    file.rename(project.input / "moved.jpg")
    project.recipes(RECIPES + "[thumb]\nfit = [40, 40]\n")
    project.run()
    assert states(project)["moved.jpg"] == {"ok"}
    assert [state for _, _, state, _ in reviews(project)] == ["published"]


def publish(project: Project, digest: str) -> None:
    """What a person decides on the page of reviews."""
    project.query(f"UPDATE reviews SET state = 'published' WHERE sha256 = '{digest}'")
    project.env["PYTHONPATH"] = str(project.root)
    code = (
        "import app\n"
        "from pipeline.takedowns.holds import release\n"
        f"release(app.app.takedowns, {digest!r})\n"
    )
    process = project.python(code)
    with process:
        assert process.wait() == 0


def test_reinstating_lets_go_what_was_held(project: Project) -> None:
    save(project, "again.jpg", scene(1), quality=84)
    project.run()
    assert project.cli("takedown", "reinstate", "1").code == 0
    project.run()
    assert reviews(project) == []
    assert states(project) == {path: {"ok"} for path in ("again.jpg", "bad.jpg", "other.jpg")}
    assert project.query("SELECT * FROM blocked_hashes") == []


def test_a_takedown_closes_the_review_of_what_was_held(project: Project) -> None:
    save(project, "again.jpg", scene(1), quality=84)
    project.run()
    take_down(project, "again.jpg")
    assert reviews(project) == [("again.jpg", "held", "taken_down", "takedown 1")]


def test_near_originals_are_taken_down_if_a_person_agrees(project: Project) -> None:
    for path in ("a.jpg", "b.jpg"):
        save(project, path, scene(3), quality={"a.jpg": 95, "b.jpg": 60}[path])
    save(project, "c.jpg", ImageOps.flip(scene(3)))
    project.run()
    shown = project.cli("takedown", "a.jpg", "--near", "--reason", "flagged")
    assert "2 originals look like it" in shown.stderr
    assert "b.jpg: " in shown.stderr
    assert originals(project) == ["b.jpg", "c.jpg", "other.jpg"]
    done = take_down(project, "b.jpg", "--near", "--yes")
    assert [near["originals"] for near in done["near"]] == [["c.jpg"]]
    assert (originals(project), set(project.outputs())) == (["other.jpg"], {"half/other.jpg"})
    audit = project.cli("takedown", "list", "--json").json
    assert "looks like b.jpg" in audit[0]["reason"]


def test_a_picture_can_be_blocked_by_its_hash_alone(project: Project) -> None:
    (value,) = project.query("SELECT value FROM features WHERE path = 'other.jpg'")
    digest = value[0].split('"')[3]
    done = take_down(project, f"pdq:{digest}")
    assert (done["originals"], originals(project)) == ([], ["other.jpg"])
    save(project, "again.jpg", scene(2), quality=84)
    project.run()
    assert states(project) == {"other.jpg": {"ok"}, "again.jpg": {"held"}}
    assert project.cli("takedown", "pdq:12", "--reason", "x").code == 2
    answer = project.cli("takedown", digest, "--near", "--reason", "x")
    assert (answer.code, "no original has these bytes" in answer.stderr) == (2, True)


def test_a_flat_picture_is_matched_by_its_bytes_alone(project: Project) -> None:
    save(project, "flat.png", Image.new("RGB", (80, 60), (200, 30, 30)))
    project.run()
    answer = project.cli("takedown", "flat.png", "--near", "--reason", "x")
    assert (answer.code, "nearly flat" in answer.stderr) == (2, True)
    take_down(project, "flat.png")
    save(project, "flat2.png", Image.new("RGB", (80, 60), (201, 30, 30)))
    project.run()
    assert states(project)["flat2.png"] == {"ok"}


def test_held_copies_are_taken_down_by_themselves_if_that_is_set(project: Project) -> None:
    project.env["PIPELINE_NEAR"] = "takedown"
    save(project, "again.jpg", scene(1), quality=84)
    report = project.run()
    assert (report["renditions"]["held"], report["renditions"]["taken_down"]) == (0, 1)
    assert originals(project) == ["other.jpg"]
    audit = project.cli("takedown", "list", "--json").json
    assert audit[0]["who"] == "PIPELINE_NEAR=takedown"
    assert "looks like blocked content (takedown 1;" in audit[0]["reason"]
    assert reviews(project) == [("again.jpg", "held", "taken_down", "takedown 1")]


def test_without_near_duplicates_copies_are_published(project: Project) -> None:
    project.env["PIPELINE_NEAR"] = "off"
    save(project, "again.jpg", scene(1), quality=84)
    project.run()
    assert states(project) == {"other.jpg": {"ok"}, "again.jpg": {"ok"}}
    assert project.query("SELECT * FROM features") == []


def test_a_lost_database_loses_no_blocked_picture(project: Project) -> None:
    lose_database(project)
    save(project, "again.jpg", scene(1), quality=84)
    project.run()
    assert states(project) == {"other.jpg": {"ok"}, "again.jpg": {"held"}}
    assert project.query("SELECT count(*) FROM blocked_hashes WHERE distance = 31") == [(8,)]


def test_a_killed_takedown_takes_all_down_or_nothing(project: Project, tmp_path: Path) -> None:
    save(project, "a.jpg", scene(3))
    save(project, "b.jpg", scene(3), quality=60)
    project.run()
    shutil.copytree(project.root, tmp_path / "template", symlinks=True)
    ended = set()
    for moment in (2, 9, 16, 23, 30):
        shutil.rmtree(project.root)
        shutil.copytree(tmp_path / "template", project.root, symlinks=True)
        arguments = ("takedown", "a.jpg", "--near", "--yes", "--reason", "flagged")
        assert project.in_child(kill_at(moment), *arguments) in (0, -signal.SIGKILL)
        project.run()
        left = [path for path in originals(project) if path != "other.jpg"]
        assert left in ([], ["a.jpg", "b.jpg"])
        assert set(project.outputs()) == {f"half/{path}" for path in (*left, "other.jpg")}
        blocked = project.query("SELECT count(*) FROM blocked_hashes WHERE source <> 'takedown 1'")
        assert blocked == [(0 if left else 8,)]
        ended.add(bool(left))
    assert False in ended


def test_hashes_of_originals_that_were_there_before_render_nothing_again(project: Project) -> None:
    project.env["PIPELINE_NEAR"] = "off"
    project.run()
    before = project.stamps()
    del project.env["PIPELINE_NEAR"]
    answer = project.cli("run")
    assert "renditions  1 in step\nhashes      1 made, to find near duplicates\n" in answer.stdout
    assert project.stamps() == before
    assert "hashes" not in project.cli("run").stdout


def test_nobody_is_told_of_hashes_that_nobody_asked_for(project: Project) -> None:
    project.add("broken.jpg").write_bytes(b"no picture")
    save(project, "third.jpg", scene(3))
    answer = project.cli("run")
    assert "features" not in answer.stdout
    assert "hashes" not in answer.stdout
    assert answer.stdout.count("broken.jpg") == 1
    status = project.cli("status", "--json").json
    assert (status["features"], list(status["recipes"])) == ({}, ["half"])
    assert [error["recipe"] for error in project.cli("errors", "--json").json] == ["half"]
    assert project.cli("features", "--json").json == []
    assert project.cli("explain", "third.jpg", "--json").json["features"] == []
    assert project.cli("retry", "--json").json == {"retried": 1}


def test_a_feature_of_the_same_function_is_a_users_own(project: Project) -> None:
    project.recipes(RECIPES + '[features.pdq]\nfunction = "pdq"\n')
    assert project.run()["features"]["made"] == 1
    rows = project.query("SELECT name FROM features WHERE path = 'other.jpg' ORDER BY name")
    assert rows == [("lockstep:pdq",), ("pdq",)]
    assert [row["name"] for row in project.cli("features", "--json").json] == ["pdq"]


def test_similar_originals_are_listed_the_nearest_first(project: Project) -> None:
    save(project, "again.jpg", scene(2), quality=60)
    save(project, "small.jpg", scene(2).resize((150, 100)))
    save(project, "held.jpg", scene(1), quality=84)
    project.run()
    found = project.cli("similar", "other.jpg", "--json").json
    assert {each["path"] for each in found} == {"again.jpg", "small.jpg"}
    assert [each["distance"] for each in found] == sorted(each["distance"] for each in found)
    assert "again.jpg: " in project.cli("similar", "other.jpg").stdout
    assert project.cli("similar", "other.jpg", "--distance", "128").stdout.count("\n") > 2
    (blocked,) = project.cli("similar", "held.jpg", "--json").json
    assert (blocked["path"], blocked["blocked"]) == (None, "takedown 1")
    (near,) = project.cli("similar", "--blocked", "--json").json
    assert (near["path"], near["blocked"]) == ("held.jpg", "takedown 1")
    assert project.cli("similar").code == 2
    assert project.cli("similar", "none.jpg").code == 2


def test_on_a_server_copies_are_held_and_let_go(tmp_path: Path, server_url: str) -> None:
    project = Project(tmp_path / "pg", RECIPES)
    project.env["PIPELINE_DB"] = server_url
    save(project, "bad.jpg", scene(1))
    project.run()
    take_down(project, "bad.jpg", "--near")
    save(project, "again.jpg", scene(1), quality=84)
    assert project.run()["renditions"]["held"] == 1
    assert project.cli("similar", "--blocked", "--json").json[0]["path"] == "again.jpg"
    assert project.outputs() == {}
    assert project.cli("takedown", "reinstate", "1").code == 0
    assert project.run()["renditions"]["rendered"] == 2
