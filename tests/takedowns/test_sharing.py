"""Instances that share a blocklist: what one takes down is gone from every other, and comes back.

Each instance is a project with a folder and a database of its own. The poll of ``serve`` and
``watch`` is called here as their thread calls it, so that "within two polls" needs no clock.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from a_blocklist import block
from a_project import Project
from a_shared_blocklist import url
from a_takedown import audit, kept, lose_database, originals, sha256, take_down
from a_watcher import Watching, wait_until
from killing import apart, kill_at
from own_steps import PLACEHOLDER, PLACEHOLDERS, declare, rows
from PIL import Image, ImageDraw

from pipeline.live.instances import POLL_S
from pipeline.takedowns.shared import SharedBlocklist

# A fixture that these tests share with those of the database itself.
__all__ = ["url"]

SHA256 = ("--kind", "sha256")
RECIPES = "[half]\nscale = 0.5\n\n[features.size]\nfunction = 'size'\n"


@pytest.fixture
def instances(tmp_path: Path, url: str) -> tuple[Project, Project]:
    """Two instances with one original in common, under two names, and one of its own each."""
    found = []
    for name, common in (("shop-a", "red.png"), ("shop-b", "folder/rouge.png")):
        project = Project(tmp_path / name / "shop", RECIPES)
        project.env |= {"PIPELINE_BLOCKLIST_DB": url, "PIPELINE_INSTANCE": name}
        project.add(common, seed=1)
        project.add(f"{name}.png")
        project.run()
        found.append(project)
    return found[0], found[1]


def follow(project: Project) -> None:
    """What ``serve`` and ``watch`` do once a second."""
    from pipeline.takedowns import following

    in_app(project, lambda app: following.follow(app.app.takedowns))


def in_app(project: Project, work: Callable[[Any], Any]) -> Any:
    """Work with the application of a project, in this process."""
    import importlib
    import sys

    with project._as_if_started_here():
        importlib.invalidate_caches()
        app = importlib.import_module("app")
        assert Path(str(app.__file__)).parent == project.root, sys.path
        app.tables.make_tables(app.database)
        return work(app)


def halves(project: Project) -> list[str]:
    return sorted(project.outputs())


def states(project: Project, path: str) -> set[str]:
    found = f"SELECT state FROM renditions WHERE path = '{path}'"
    features = f"SELECT state FROM features WHERE path = '{path}' AND name = 'size'"
    return {state for (state,) in project.query(f"{found} UNION ALL {features}")}


def test_a_takedown_in_one_instance_is_in_force_in_the_other_after_one_poll(
    instances: tuple[Project, Project],
) -> None:
    here, there = instances
    declare(there, PLACEHOLDERS, PLACEHOLDER)
    there.run()
    own = "SELECT path FROM placeholders"
    assert rows(there, own) == [("folder/rouge.png",), ("shop-b.png",)]
    digest = sha256(here.input / "red.png")
    take_down(here, "red.png")
    follow(there)
    # Rendition, features, original and the audit, with no run in between.
    assert halves(there) == ["half/shop-b.png"]
    assert states(there, "folder/rouge.png") == {"taken_down"}
    assert originals(there) == ["shop-b.png"]
    assert kept(there) == ["folder/rouge.png"]
    (act,) = audit(there)
    assert (act["sha256"], act["who"], act["reason"]) == (digest, "mod", "flagged")
    assert (act["instance"], act["state"], act["target"]) == ("shop-a", "in_force", "red.png")
    assert "mod at shop-a: flagged" in there.cli("takedown", "list").stdout
    assert audit(here)[0]["instance"] is None
    # Users' steps see it; the same bytes are blocked there under any name.
    there.add("innocent.png", seed=1)
    report = there.run()
    assert report["renditions"]["taken_down"] == 1
    assert halves(there) == ["half/shop-b.png"]
    assert rows(there, own) == [("shop-b.png",)]
    assert there.cli("verify", "--deep").code == 0
    # It is the same in a database made anew from the journal, and told to nobody a second time.
    lose_database(there)
    there.run()
    (act,) = audit(there)
    assert (act["instance"], act["who"]) == ("shop-a", "mod")


@pytest.mark.databases
def test_reinstating_in_either_instance_puts_the_originals_of_both_back(
    instances: tuple[Project, Project],
) -> None:
    here, there = instances
    take_down(here, "red.png", "--legal-hold")
    follow(there)
    assert [event["what"] for event in audit(there)[0]["events"]] == ["legal_hold"]
    assert there.cli("takedown", "reinstate", "1", "--who", "Ada").code == 0
    assert originals(there) == ["folder/rouge.png", "shop-b.png"]
    follow(here)
    assert originals(here) == ["red.png", "shop-a.png"]
    (act,) = audit(here)
    assert (act["state"], act["lifted_by"]) == ("lifted", "Ada (shop-b)")
    (act,) = audit(there)
    assert (act["state"], act["lifted_by"]) == ("lifted", "Ada")
    for project in (here, there):
        project.run()
        project.assert_in_step()
    # And down again: a second takedown of the same content.
    take_down(there, "folder/rouge.png")
    follow(here)
    assert [act["state"] for act in audit(here)] == ["in_force", "lifted"]
    assert halves(here) == ["half/shop-a.png"]


@pytest.mark.databases
def test_an_instance_that_was_down_catches_up_before_its_run_publishes_anything(
    instances: tuple[Project, Project],
) -> None:
    here, there = instances
    fresh = sha256(here.add("fresh.png", seed=9))
    take_down(here, "red.png")
    take_down(here, "fresh.png")
    for number in range(3):
        take_down(here, "sha256:" + f"{number}" * 64)
    assert here.cli("takedown", "reinstate", "1").code == 0
    # The content of one came there meanwhile; the other is allowed again.
    there.add("new.png", seed=9)
    there.run()
    assert halves(there) == ["half/folder/rouge.png", "half/shop-b.png"]
    acts = {act["sha256"]: act["state"] for act in audit(there)}
    assert (len(acts), acts[fresh]) == (5, "in_force")
    assert sorted(acts.values()) == ["in_force"] * 4 + ["lifted"]


def test_a_takedown_while_the_shared_database_is_away_is_done_here_and_sent_later(
    instances: tuple[Project, Project], tmp_path: Path
) -> None:
    here, there = instances
    here.env["PIPELINE_BLOCKLIST_DB"] = f"sqlite:///{tmp_path}/gone.sqlite"
    (tmp_path / "gone.sqlite").mkdir()
    answer = here.cli("takedown", "red.png", "--reason", "flagged", "--who", "mod")
    assert (answer.code, halves(here)) == (2, ["half/red.png", "half/shop-a.png"])
    (tmp_path / "gone.sqlite").rmdir()
    (tmp_path / "gone.sqlite").write_bytes(b"no database" * 100)
    answer = here.cli("takedown", "red.png", "--reason", "flagged", "--who", "mod")
    assert (answer.code, halves(here)) == (0, ["half/shop-a.png"])
    said = "1 takedown or reinstatement of this instance not known there"
    assert "warning: PIPELINE_BLOCKLIST_DB" in answer.stderr
    assert said in answer.stderr
    block(here, *SHA256, "--source", "partner", of=f"{'a' * 64}\n")
    sharing = here.cli("status", "--json").json["sharing"]
    assert (sharing["unsent_takedowns"], sharing["unsent_lists"]) == (1, ["partner"])
    assert sharing["failing_since"] is not None
    said = "1 takedown or reinstatement and the list partner of this instance not known there"
    assert said in here.cli("status").stderr
    assert said in here.cli("run").stderr
    # Nothing may be allowed elsewhere that nobody can be told of.
    refused = here.cli("blocklist", "remove", "partner")
    assert (refused.code, "PIPELINE_BLOCKLIST_DB" in refused.stderr) == (2, True)
    assert len(here.cli("blocklist", "list", "--json").json) == 1

    here.env["PIPELINE_BLOCKLIST_DB"] = there.env["PIPELINE_BLOCKLIST_DB"]
    assert "PIPELINE_BLOCKLIST_DB" not in here.cli("run").stderr
    sharing = here.cli("status", "--json").json["sharing"]
    assert (sharing["unsent_takedowns"], sharing["unsent_lists"]) == (0, [])
    assert sharing["failing_since"] is None
    follow(there)
    assert halves(there) == ["half/shop-b.png"]
    assert there.cli("blocklist", "list", "--json").json[0]["source"] == "partner"


@pytest.mark.databases
def test_a_list_blocks_in_every_instance_until_the_last_list_that_names_it_is_removed(
    instances: tuple[Project, Project],
) -> None:
    here, there = instances
    digest, own = sha256(here.input / "red.png"), sha256(there.input / "shop-b.png")
    block(here, *SHA256, "--source", "one", "--reason", "shared list", of=f"{digest}\n{own}\n")
    follow(there)
    assert halves(there) == []
    block(there, *SHA256, "--source", "two", of=f"{digest}\n")
    # Imported by both: nothing is added, and nothing told a second time.
    number = head(here).number
    block(there, *SHA256, "--source", "one", "--reason", "shared list", of=f"{digest}\n{own}\n")
    assert head(here).number == number
    follow(here)
    removed = there.cli("blocklist", "remove", "one", "--json").json
    assert removed["removed"] == 2
    follow(here)
    assert [each["source"] for each in here.cli("blocklist", "list", "--json").json] == ["two"]
    for project in (here, there):
        project.run()
    assert (halves(here), halves(there)) == (["half/shop-a.png"], ["half/shop-b.png"])
    # Removed and imported once more, it blocks again; with another reason as well.
    block(here, *SHA256, "--source", "one", "--reason", "again", of=f"{own}\n")
    follow(there)
    assert halves(there) == []
    assert "again" in there.cli("blocklist", "export").stdout


def head(project: Project) -> Any:
    shared = SharedBlocklist(project.env["PIPELINE_BLOCKLIST_DB"], "test")
    try:
        return shared.head()
    finally:
        shared.close()


@pytest.mark.databases
def test_what_looks_like_a_picture_that_another_instance_took_down_is_held(
    instances: tuple[Project, Project],
) -> None:
    here, there = instances
    scene, chance = Image.new("RGB", (240, 160), (90, 120, 160)), random.Random(1)
    for _ in range(30):
        x, y, side = chance.randrange(240), chance.randrange(160), chance.randrange(8, 90)
        colour = tuple(chance.randrange(256) for _ in range(3))
        ImageDraw.Draw(scene).rectangle((x, y, x + side, y + side // 2), fill=colour)
    scene.save(here.input / "scene.png")
    here.run()
    take_down(here, "scene.png", "--near")
    follow(there)
    scene.resize((180, 120)).save(there.input / "copy.png")
    report = there.run()
    assert report["renditions"]["held"] == 1
    assert "half/copy.png" not in halves(there)


@pytest.mark.databases
def test_killed_at_any_moment_an_exchange_loses_nothing(
    instances: tuple[Project, Project],
) -> None:
    here, there = instances
    other = sha256(there.input / "shop-b.png")
    (here.root / "list.txt").write_text(f"{other}\n{'b' * 64}\n")
    moment = 0
    # Killed while it takes down and imports ...
    for command in (
        ("takedown", "red.png", "--reason", "flagged", "--who", "mod"),
        ("blocklist", "import", "list.txt", *SHA256),
    ):
        moment = 3
        while here.in_child(kill_at(moment), *command) == -signal.SIGKILL:
            moment += apart(9)
    # ... and while the other takes it over: the next run of each ends it.
    moment = 2
    while there.in_child(kill_at(moment), "takedown", "list") == -signal.SIGKILL:
        moment += apart(7)
    here.run()
    there.run()
    assert (halves(here), halves(there)) == (["half/shop-a.png"], [])
    # Each command that was killed had begun a takedown of its own, or none.
    known = [[(act["when"], act["state"]) for act in audit(each)] for each in (here, there)]
    assert sorted(known[0]) == sorted(known[1])
    assert {state for _, state in known[0]} == {"in_force"}
    assert there.cli("verify", "--deep").code == 0
    sharing = here.cli("status", "--json").json["sharing"]
    assert (sharing["unsent_takedowns"], sharing["unsent_lists"]) == (0, [])


@pytest.mark.databases
def test_another_shared_database_gets_all_that_is_known_here(
    instances: tuple[Project, Project], tmp_path: Path
) -> None:
    here, there = instances
    take_down(here, "red.png")
    block(here, *SHA256, "--source", "partner", of=f"{'c' * 64}\n")
    for project in (here, there):
        project.env["PIPELINE_BLOCKLIST_DB"] = f"sqlite:///{tmp_path / 'other.sqlite'}"
    here.run()
    follow(there)
    assert [act["instance"] for act in audit(there)] == ["shop-a"]
    assert len(there.cli("blocklist", "list", "--json").json) == 1


@pytest.mark.databases
def test_the_database_of_an_instance_cannot_be_the_shared_one(
    instances: tuple[Project, Project],
) -> None:
    here, there = instances
    here.env["PIPELINE_BLOCKLIST_DB"] = f"sqlite:///{there.root / 'db.sqlite'}"
    assert "needs a database of its own" in here.cli("run").stderr
    here.env["PIPELINE_BLOCKLIST_DB"] = "sqlite:///db.sqlite"
    answer = here.cli("status")
    assert (answer.code, "name the same database" in answer.stderr) == (2, True)


@pytest.mark.databases
def test_a_watcher_follows_the_other_instance_by_itself(
    instances: tuple[Project, Project],
) -> None:
    here, there = instances
    watcher = Watching(there)
    try:
        watcher.wait_for_start()
        # Two polls are less than the two seconds that others may see it.
        assert POLL_S <= 1
        take_down(here, "red.png")
        watcher.wait_for("shop-b.png")
        wait_until(lambda: originals(there) == ["shop-b.png"])
        assert here.cli("takedown", "reinstate", "1").code == 0
        watcher.wait_for("folder/rouge.png", "shop-b.png")
        assert watcher.stop() == 0
    finally:
        watcher.kill()
