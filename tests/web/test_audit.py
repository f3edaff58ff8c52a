"""The audit on the page: found again, downloaded, undone, and told to whoever comes second."""

from __future__ import annotations

import csv
import hashlib
import importlib
import io
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from a_project import Project, picture
from a_server import HTML, Server, serving

from pipeline.errors import AlreadyReinstatedError
from pipeline.takedowns import acts

NO_ORIGINAL = "f" * 64


def token(project: Project, name: str, role: str = "moderator") -> dict[str, str]:
    added = project.cli("user", "add", name, "--role", role)
    return {"authorization": f"Bearer {added.stdout.strip()}"}


def take_down(project: Project, who: str, target: str, reason: str) -> None:
    answer = project.cli("takedown", target, "--reason", reason, "--who", who)
    assert answer.code == 0, answer


def fill(project: Project) -> None:
    """Three takedowns by two people, one of which is reinstated by a third."""
    for path in ("shoes/red.png", "hats/green.png", "blue.png"):
        project.add(path)
    project.run()
    take_down(project, "Ada", "shoes/red.png", "withdrawn by its owner")
    take_down(project, "Bob", "hats/green.png", "=cmd()")
    take_down(project, "Ada", NO_ORIGINAL, "100 % counterfeit")
    assert project.cli("takedown", "reinstate", "2", "--who", "Eve").code == 0


FILTERS = {
    "": [3, 2, 1],
    "text=SHOES": [1],
    "text=owner": [1],
    "text=ffff": [3],
    "text=100+%25": [3],
    "text=%25": [3],
    "text=_": [],
    "who=Ada": [3, 1],
    "who=Eve": [2],
    "reason=%3Dcmd()": [2],
    "source=input": [2, 1],
    "source=jobs": [],
    "source=hash": [3],
    "state=lifted": [2],
    "state=in_force&who=Ada&text=red": [1],
    "since=2001-01-01&until=2001-01-31": [],
    "since=2001-01-01": [3, 2, 1],
    "until=2001-01-31": [],
    "limit=1": [3],
    "before=3": [2, 1],
}


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    project = Project(tmp_path_factory.mktemp("audit") / "shop")
    fill(project)
    with serving(project, "--no-watch") as server:
        yield server


def numbers(server: Server, query: str) -> list[int]:
    return [act["id"] for act in server.get(f"/takedowns?{query}").json()["takedowns"]]


@pytest.mark.parametrize("query", FILTERS)
def test_takedowns_are_found_again(audited: Server, query: str) -> None:
    assert numbers(audited, query) == FILTERS[query]


def test_takedowns_are_found_again_on_a_server(project: Project, server_url: str) -> None:
    project.env["PIPELINE_DB"] = server_url
    fill(project)
    with serving(project, "--no-watch") as server:
        assert {query: numbers(server, query) for query in FILTERS} == FILTERS
        assert len(server.get("/takedowns/2").json()["story"]) == 2


def test_a_day_that_a_month_does_not_have_is_its_last(audited: Server) -> None:
    assert numbers(audited, "since=2001-02-31&until=2099-02-30") == [3, 2, 1]
    for nonsense in ("yesterday", "2026-13-01", "2026-01-00", "0000-01-01"):
        assert audited.get(f"/takedowns?since={nonsense}").status_code == 422


def test_the_audit_is_downloaded_as_it_is_filtered(audited: Server) -> None:
    answer = audited.get("/takedowns.csv?source=input")
    assert answer.headers["content-type"].startswith("text/csv")
    assert "takedowns.csv" in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [(row["Number"], row["By"], row["Originals"]) for row in rows] == [
        ("2", "Bob", "hats/green.png"),
        ("1", "Ada", "shoes/red.png"),
    ]
    # No spreadsheet runs it.
    assert rows[0]["Reason"] == "'=cmd()"
    assert rows[0]["Reinstated by"] == "Eve"
    assert (
        'href="/takedowns.csv?source=input"'
        in audited.get("/takedowns?source=input", headers=HTML).text
    )


def test_a_takedown_has_a_page_with_its_picture_from_the_quarantine(audited: Server) -> None:
    page = audited.get("/takedowns/1", headers=HTML)
    assert "/takedowns/1/picture" in page.text
    shown = audited.get("/takedowns/1/picture")
    assert shown.content == picture(".png", "shoes/red.png")
    assert shown.headers["cache-control"] == "no-store"
    assert shown.headers["content-type"] == "image/png"
    # Put back, never there, never taken down.
    for number, status in ((2, 404), (3, 404), (4, 404), (0, 404), (2**40, 404)):
        assert audited.get(f"/takedowns/{number}/picture").status_code == status
    assert audited.get("/takedowns/4", headers=HTML).status_code == 404


def test_only_moderators_see_what_was_taken_down(project: Project) -> None:
    project.add("red.png")
    project.run()
    take_down(project, "Ada", "red.png", "flagged")
    viewer, moderator = token(project, "Vic", "viewer"), token(project, "Mo")
    with serving(project, "--no-watch") as server:
        for headers, sees in ((viewer, False), (moderator, True)):
            for path in ("/takedowns", "/takedowns/1"):
                page = server.get(path, headers=headers | HTML).text
                assert ("/takedowns/1/picture" in page) == sees
                assert ('action="/takedowns/1/lift"' in page) == sees
            status = server.get("/takedowns/1/picture", headers=headers).status_code
            assert status == (200 if sees else 403)


def test_the_story_of_a_takedown_begins_with_its_report(project: Project) -> None:
    red = project.add("red.png")
    digest = hashlib.sha256(red.read_bytes()).hexdigest()
    project.run()
    now = time.time()
    own = f"'{digest}', 'input', 'red.png'"
    columns = (
        "kind, state, sha256, source, path, near_source, distance, category, reason, who, reports"
    )
    project.query(
        f"INSERT INTO reviews ({columns}, created_ts, decided_ts, decided_by, takedown) VALUES "
        f"('reported', 'taken_down', {own}, NULL, NULL, 'theft', 'mine', 'Zoe', 1, {now - 90}, "
        f"{now - 5}, 'Ada', 1), "
        f"('held', 'published', {own}, 'takedown 7', 12, NULL, NULL, NULL, 0, "
        f"{now - 80}, {now - 70}, 'Bob', NULL)"
    )
    take_down(project, "Ada", "red.png", "stolen")
    with serving(project, "--no-watch") as server:
        story = server.get("/takedowns/1").json()["story"]
        assert [(event["what"], event["who"], event["note"]) for event in story] == [
            ("reported", "Zoe", "theft: mine"),
            ("held", None, "near to what takedown 7 blocks, 12 of 256 bits apart"),
            ("published", "Bob", None),
            ("decided", "Ada", "to take it down"),
            ("taken down", "Ada", "stolen"),
        ]
        server.post("/takedowns/1/lift")
        story = server.get("/takedowns/1").json()["story"]
        assert "reinstated" in [event["what"] for event in story]
        page = server.get("/takedowns/1", headers=HTML).text
        assert "near to what takedown 7 blocks" in page


def test_an_act_is_undone_from_the_page_that_comes_after_it(project: Project) -> None:
    project.add("red.png")
    project.run()
    with serving(project, "--no-watch") as server:

        def act(address: str, **form: str) -> str:
            """The address of *Undo* on the page after this act."""
            answer = server.post(address, data=form, headers=HTML)
            assert answer.status_code == 303, answer.text
            page = server.get(answer.headers["location"], headers=HTML).text
            return re.search(r'toast.*action="([^"]*)"', page)[1]

        undo = act("/takedowns", path="red.png", reason="flagged")
        assert undo == "/takedowns/1/lift"
        # Once: the next page says nothing of it.
        assert "toast" not in server.get("/takedowns", headers=HTML).text
        undo = act(undo)
        assert undo == "/takedowns/1/again"
        assert (project.input / "red.png").exists()
        undo = act(undo)
        assert undo == "/takedowns/2/lift"
        assert not (project.input / "red.png").exists()
        assert server.get("/takedowns/2").json()["reason"] == "flagged"
        # A cookie that somebody else has set sends nobody's click anywhere else.
        for made_up in ('["x", "//evil.example"]', '["x", 7]', '{"a": 1}', "x", '["x"]', "[[]]"):
            server.client.cookies.set("lockstep_said", made_up.replace('"', "%22"))
            page = server.get("/takedowns", headers=HTML)
            assert page.status_code == 200
            assert "toast" not in page.text
            server.client.cookies.clear()


def test_whoever_comes_second_is_told_what_happened_by_whom_and_when(project: Project) -> None:
    project.add("red.png")
    project.run()
    ada, bob = token(project, "Ada"), token(project, "Bob")
    wanted = {"path": "red.png", "reason": "flagged"}
    with serving(project, "--no-watch") as server:
        assert server.post("/takedowns", json=wanted, headers=ada).status_code == 201
        second = server.post("/takedowns", json=wanted, headers=bob)
        assert second.status_code == 409
        told = second.json()["error"]
        assert told.startswith("takedown 1: it was already taken down, by Ada (20")
        assert told.endswith("): flagged")
        again = server.post("/takedowns/1/again", headers=bob | HTML)
        assert (again.status_code, "It was already taken down, by Ada" in again.text) == (409, True)

        assert server.post("/takedowns/1/lift", headers=bob).status_code == 200
        second = server.post("/takedowns/1/lift", headers=ada)
        assert second.status_code == 409
        assert "it was already reinstated, by Bob (20" in second.json()["error"]
        page = server.post("/takedowns/1/lift", headers=ada | HTML)
        assert page.status_code == 409
        assert "It was already reinstated, by Bob (20" in page.text
        assert "Reinstated</b> by Bob" in page.text
        # What never was is not found.
        assert server.post("/takedowns/7/lift", headers=ada).status_code == 404
        assert server.post("/takedowns/7/again", headers=ada).status_code == 404
    answer = project.cli("takedown", "reinstate", "1")
    assert answer.code == 2
    assert "already reinstated, by Bob" in answer.stderr


def test_images_shows_what_was_taken_down_and_its_history_is_true(project: Project) -> None:
    for path in ("shoes/red.png", "shoes/blue.png"):
        project.add(path)
    project.run()
    take_down(project, "Ada", "shoes/red.png", "stolen")
    project.run()
    # The same picture comes back under another name: it is blocked, and never was rendered.
    project.add("again.png", seed="shoes/red.png")
    project.run()
    with serving(project, "--no-watch") as server:

        def listed(query: str) -> list[str]:
            found = server.get(f"/images?state=taken_down{query}").json()["images"]
            assert {image["state"] for image in found} <= {"taken_down"}
            return [image["path"] for image in found]

        assert listed("") == ["again.png", "shoes/red.png"]
        assert listed("&folder=shoes") == listed("&text=RED") == ["shoes/red.png"]
        assert listed("&limit=1") == ["again.png"]
        assert listed("&limit=1&after=again.png") == ["shoes/red.png"]
        assert server.get("/images/shoes/red.png").status_code == 410
        page = server.get("/images/shoes/red.png", headers=HTML)
        assert page.status_code == 410
        assert "stolen" in page.text

        history = [event["what"] for event in server.get("/images/again.png").json()["history"]]
        assert "taken down by Ada: stolen" in history
        assert "half: blocked, taken down (takedown 1)" in history
        assert not [what for what in history if "rendered" in what]
        server.post("/takedowns/1/lift")
        server.until_counted(originals=3, pending=0)
        assert listed("") == []
        history = [event["what"] for event in server.get("/images/again.png").json()["history"]]
        assert [what for what in history if what.startswith("reinstated by ")]
        assert "half: first rendered" in history


def test_of_two_who_reinstate_at_once_the_audit_names_the_one_who_did(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.add("red.png")
    project.run()
    take_down(project, "Ada", "red.png", "flagged")
    told: list[BaseException] = []
    seconds: list[threading.Thread] = []

    with project._as_if_started_here():
        context = importlib.import_module("app").app.takedowns

        def second() -> None:
            try:
                acts.reinstate(context, "1", "Bob")
            except AlreadyReinstatedError as error:
                told.append(error)

        found = acts._acts_to_reinstate

        def found_by_both(*args: Any) -> Any:
            rows = found(*args)
            if not seconds:
                seconds.append(threading.Thread(target=second))
                seconds[0].start()
                # Long enough for all of it, if nothing kept it from that.
                seconds[0].join(1)
            return rows

        monkeypatch.setattr(acts, "_acts_to_reinstate", found_by_both)
        assert acts.reinstate(context, "1", "Ada").originals == ["red.png"]
        seconds[0].join()
    assert "already reinstated, by Ada" in str(told[0])
    (act,) = project.cli("takedown", "list", "--json").json
    assert act["lifted_by"] == "Ada"
