"""What was held or reported waits for a person; whatever they decide is decided once."""

from __future__ import annotations

import itertools
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from a_project import Project
from a_review import ADA, BEN, NEAR, hold, tables, waiting
from a_takedown import audit, kept, originals, sha256
from killing import apart, kill_at
from PIL import Image

from pipeline.errors import DecidedError, LockstepError
from pipeline.takedowns import reviews

_opened: list[Any] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while _opened:
        _opened.pop().database.engine.dispose()


def app_of(project: Project) -> Any:
    """The application of a project, in this process, until the test ends."""
    import runpy

    with project._as_if_started_here():
        _opened.append(runpy.run_path(str(project.root / "app.py"))["app"])
    return _opened[-1]


def report(project: Project, target: str, reason: str = "stolen", who: str = "a buyer") -> Any:
    return reviews.report(app_of(project).takedowns, target, reason, who)


def decision(project: Project) -> list[tuple[Any, ...]]:
    return project.query("SELECT state, decided_by, takedown FROM reviews ORDER BY id")


def test_content_that_is_reported_twice_is_one_review_with_both_reasons(shop: Project) -> None:
    first = report(shop, "red.png", "not for sale", "Cleo")
    # The same bytes under another name, by their hash.
    again = report(shop, sha256(shop.input / "folder/twin.png").upper(), "stolen", "Dan")
    assert (first.id, first.reports, again.id, again.reports) == (1, 1, 1, 2)
    (found,) = waiting(shop)
    assert found["kinds"] == ["reported"]
    assert (found["reports"], found["twins"]) == (2, 2)
    assert [(said["who"], said["reason"]) for said in found["said"]] == [
        ("Cleo", "not for sale"),
        ("Dan", "stolen"),
    ]


def test_a_report_about_something_unknown_or_taken_down_stores_nothing(shop: Project) -> None:
    digest = sha256(shop.input / "red.png")
    shop.cli("takedown", "red.png", "--reason", "flagged")
    for target, words in (
        ("nowhere.png", "there is no such original"),
        ("0" * 64, "there is no such original"),
        (digest, "already taken down (takedown 1)"),
        ("blue.png", "needs a reason"),
    ):
        with pytest.raises(LockstepError, match=words.replace("(", r"\(").replace(")", r"\)")):
            report(shop, target, "" if target == "blue.png" else "stolen")
    assert shop.query("SELECT count(*) FROM reviews") == [(0,)]


def test_what_is_published_is_decided_for_good_and_rendered_by_the_next_run(shop: Project) -> None:
    hold(shop, "red.png")
    assert len(shop.outputs()) == 1
    (found,) = waiting(shop)
    assert found["near"] == {"hash": NEAR, "source": "list of a friend", "distance": 9}
    assert shop.cli("review", "publish", "1", *ADA).code == 0
    assert waiting(shop) == []
    shop.run()
    shop.assert_in_step()
    assert decision(shop) == [("published", "Ada", None)]


def test_what_is_taken_down_can_be_undone_and_waits_again(shop: Project) -> None:
    hold(shop, "red.png")
    done = shop.cli("review", "takedown", "1", "--reason", "not ours", *ADA, "--json").json
    assert (done["state"], done["takedown"], done["decided_by"]) == ("taken_down", 1, "Ada")
    assert (originals(shop), waiting(shop)) == (["blue.png"], [])
    assert (audit(shop)[0]["reason"], audit(shop)[0]["who"]) == ("not ours", "Ada")
    assert shop.cli("review", "undo", "1", *BEN).code == 0
    assert len(originals(shop)) == 3
    (again,) = waiting(shop)
    assert (again["id"], again["undone_by"]) == (1, "Ben")
    assert audit(shop)[0]["lifted_by"] == "Ben"


def test_the_second_one_is_told_who_did_what(shop: Project) -> None:
    hold(shop, "red.png")
    report(shop, "blue.png")
    shop.cli("review", "publish", "1", *ADA)
    shop.cli("review", "takedown", "2", "--reason", "no", *ADA)
    for number, what in (("1", "published"), ("2", "taken down")):
        for command in (["publish", number], ["takedown", number, "--reason", "no"]):
            answer = shop.cli("review", *command, *BEN)
            assert answer.code == 2
            assert f"already {what} by Ada" in answer.stderr
    shop.cli("review", "undo", "1", *ADA)
    assert "Ada has undone it" in shop.cli("review", "undo", "1", *BEN).stderr
    assert "no such review" in shop.cli("review", "undo", "9", *BEN).stderr
    assert len(audit(shop)) == 1


def test_of_many_at_once_one_alone_decides(shop: Project) -> None:
    report(shop, "red.png")
    context = app_of(shop).takedowns
    told: list[str] = []
    refused: list[str] = []
    begin = threading.Barrier(6)

    def decide(who: str) -> None:
        begin.wait()
        try:
            if int(who) % 2:
                reviews.publish(context, 1, who)
            else:
                reviews.take_down_reviewed(context, 1, who, "other", "")
            told.append(who)
        except DecidedError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=decide, args=(str(number),)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 1
    assert [f"by {told[0]} (" in words for words in refused] == [True] * 5
    assert shop.query("SELECT decided_by FROM reviews") == [(told[0],)]
    assert len(audit(shop)) == (0 if int(told[0]) % 2 else 1)


def test_held_and_reported_content_is_one_entry_and_decided_as_one(shop: Project) -> None:
    report(shop, "red.png")
    hold(shop, "red.png")
    (found,) = waiting(shop)
    assert found["kinds"] == ["held", "reported"]
    assert shop.cli("review", "publish", str(found["id"]), *ADA).code == 0
    assert waiting(shop) == []
    assert {state for state, _, _ in decision(shop)} == {"published"}


def test_what_is_taken_down_or_reinstated_elsewhere_is_so_in_the_queue(shop: Project) -> None:
    report(shop, "red.png")
    shop.cli("takedown", "red.png", "--reason", "flagged", *BEN)
    assert "already taken down by Ben" in shop.cli("review", "publish", "1", *ADA).stderr
    assert decision(shop) == [("taken_down", "Ben", 1)]
    shop.cli("takedown", "reinstate", "1", *BEN)
    shop.run()
    assert [each["undone_by"] for each in waiting(shop)] == ["Ben"]
    shop.cli("takedown", "red.png", "--reason", "flagged", *BEN)
    shop.run()
    assert decision(shop) == [("taken_down", "Ben", 2)]


def test_what_a_list_blocks_cannot_be_published(shop: Project, tmp_path: Path) -> None:
    report(shop, "red.png")
    (tmp_path / "known.csv").write_text(f"sha256\n{sha256(shop.input / 'red.png')}\n")
    assert shop.cli("blocklist", "import", str(tmp_path / "known.csv"), "--source", "us").code == 0
    answer = shop.cli("review", "publish", "1", *ADA)
    assert (answer.code, "list us" in answer.stderr) == (2, True)
    assert len(waiting(shop)) == 1


def test_a_takedown_that_is_impossible_leaves_the_review_open(shop: Project) -> None:
    report(shop, "red.png")
    shop.env["PIPELINE_QUARANTINE"] = str(shop.root / "blocked/quarantine")
    (shop.root / "blocked").write_bytes(b"")
    app = app_of(shop)
    # Its bytes are blocked before anything else: then it stays decided, and a run finishes it.
    with pytest.raises(LockstepError):
        reviews.take_down_reviewed(app.takedowns, 1, "Ada", "", "no")
    assert decision(shop) == [("taken_down", "Ada", 1)]
    (shop.root / "blocked").unlink()
    shop.run()
    assert originals(shop) == ["blue.png"]


@pytest.mark.parametrize(("command", "step"), [("takedown", 19), ("undo", 15)])
def test_a_decision_that_is_cut_off_is_finished_by_the_next_run(
    shop: Project, tmp_path: Path, command: str, step: int
) -> None:
    (shop.input / "blue.png").unlink()
    shop.run()
    report(shop, "red.png")
    arguments = ["review", "takedown", "1", "--reason", "flagged", *ADA]
    if command == "undo":
        shop.cli(*arguments)
        arguments = ["review", "undo", "1", *ADA]
    template = tmp_path / "template"
    shutil.copytree(shop.root, template, symlinks=True)
    for moment in itertools.count(2, apart(step)):
        shutil.rmtree(shop.root)
        shutil.copytree(template, shop.root, symlinks=True)
        code = shop.in_child(kill_at(moment), *arguments)
        assert code in (0, -signal.SIGKILL)
        shop.run()
        (state, _, takedown), acts = decision(shop)[0], audit(shop)
        # What the review says is what is so.
        is_down = state == "taken_down"
        assert (kept(shop) == [], len(originals(shop))) == (not is_down, 0 if is_down else 2)
        assert (takedown is not None) == is_down
        assert [act["state"] == "in_force" for act in acts] == ([is_down] if acts else [])
        if code == 0:
            break
    assert moment > 2


def test_on_a_server_the_queue_is_the_same(shop: Project, server_url: str) -> None:
    shop.env["PIPELINE_DB"] = server_url
    shop.run("--allow-removed")
    report(shop, "red.png", who="Cleo")
    report(shop, "red.png", who="Dan")
    hold(shop, "blue.png")
    assert [each["path"] for each in waiting(shop)] == ["blue.png", "red.png"]
    with tables(shop) as database:
        repository = reviews.ReviewRepository(database)
        assert repository.waiting() == {"open": 2, "held": 1, "reported": 1}
        assert [row.path for row in repository.page(2, 5)[0]] == ["red.png"]
    assert shop.cli("review", "takedown", "1", "--reason", "no", *ADA).code == 0
    assert "already taken down by Ada" in shop.cli("review", "publish", "1", *BEN).stderr
    assert shop.cli("review", "publish", "2", *ADA).code == 0
    shop.run()
    assert (originals(shop), len(shop.outputs())) == (["blue.png"], 1)
    assert shop.cli("review", "undo", "1", *BEN).code == 0
    assert shop.cli("review", "undo", "2", *BEN).code == 0
    assert len(waiting(shop)) == 2


def test_the_queue_is_read_page_by_page(shop: Project) -> None:
    for number in range(7):
        shop.add(f"many/{number}.png")
    shop.run()
    hold(shop, *(f"many/{number}.png" for number in range(7)))
    pages, after = [], 0
    while page := shop.cli("review", "list", "--json", "--limit", "3", "--after", str(after)).json:
        pages.append([each["path"] for each in page])
        after = page[-1]["id"]
    assert [len(page) for page in pages] == [3, 3, 1]
    assert list(itertools.chain(*pages)) == [f"many/{number}.png" for number in range(7)]


def test_what_looks_like_a_takedown_is_reviewed(shop: Project) -> None:
    shop.cli("takedown", "red.png", "--reason", "flagged", "--near", "--yes", *ADA)
    for name in ("copy.jpg", "another.jpg"):
        with Image.open(shop.root / "quarantine/red.png") as image:
            size = (120, 80) if name == "copy.jpg" else (90, 60)
            image.convert("RGB").resize(size).save(shop.input / name, quality=80)
    shop.run()
    found = reviews.open_reviews(app_of(shop).takedowns, look_alike=True)
    assert sorted((each["path"], each["near"]["source"]) for each in found) == [
        ("another.jpg", "takedown 1"),
        ("copy.jpg", "takedown 1"),
    ]
    assert [(each["twins"], each["lookalikes"]) for each in found] == [(1, 1), (1, 1)]
    assert sorted(shop.outputs()) == ["half/blue.png"]
    first, second = (each["id"] for each in found)
    assert shop.cli("review", "publish", str(first), *ADA).code == 0
    shop.run()
    assert len(shop.outputs()) == 2
    # Taken back, it is held again.
    assert shop.cli("review", "undo", str(first), *ADA).code == 0
    shop.run()
    assert sorted(shop.outputs()) == ["half/blue.png"]
    report(shop, found[1]["path"])
    # Nothing is near to it any more, but somebody has reported it.
    assert shop.cli("takedown", "reinstate", "1", *ADA).code == 0
    assert [(each["id"], each["kinds"]) for each in waiting(shop)] == [(second, ["reported"])]
    shop.run()
    shop.assert_in_step()
