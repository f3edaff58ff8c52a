"""Reports and reviews over HTTP: who may report what, how often, and what is answered."""

from __future__ import annotations

import io

import pytest
from a_project import Project
from a_review import BEHIND_A_PROXY, by, hold, waiting
from a_server import HTML, serving
from a_takedown import sha256
from PIL import Image

from pipeline.web.security.rates import Rate

TOKEN, REPORTS = "correct-horse-battery", "a-token-for-reports-alone"


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def test_a_rate_counts_by_address_and_in_all() -> None:
    now = 100.0
    rate = Rate(2, 3, 10.0, clock=lambda: now)
    assert [rate.wait_s("a"), rate.wait_s("a"), rate.wait_s("a")] == [0, 0, 10]
    now = 104.0
    assert [rate.wait_s("b"), rate.wait_s("c"), rate.wait_s("a")] == [0, 6, 6]
    now = 110.0
    assert [rate.wait_s("a"), rate.wait_s("a"), rate.wait_s("c")] == [0, 0, 4]


def test_the_token_for_reports_reports_and_does_nothing_else(project: Project) -> None:
    project.env |= {"PIPELINE_TOKEN": TOKEN, "PIPELINE_REPORT_TOKEN": REPORTS}
    project.add("red.png")
    project.add("gone.png")
    project.run()
    project.cli("takedown", "gone.png", "--reason", "flagged")
    digest = sha256(project.input / "red.png")
    named = {"path": "red.png", "reason": "stolen", "who": "Cleo"}
    with serving(project, "--no-watch") as server:
        assert server.post("/reports", json=named).status_code == 401
        for token, count in ((REPORTS, 1), (TOKEN, 2)):
            answer = server.post("/reports", json=named, headers=bearer(token))
            assert (answer.status_code, answer.json()["reports"]) == (202, count)
        form = {"sha256": digest.upper(), "reason": "not nice"}
        assert server.post("/reports", data=form, headers=bearer(REPORTS)).json() == {
            "id": 1,
            "sha256": digest,
            "reports": 3,
        }
        for body, status in (
            ({"path": "nowhere.png", "reason": "x"}, 404),
            ({"sha256": "0" * 64, "reason": "x"}, 404),
            ({"path": "../red.png", "reason": "x"}, 404),
            ({"path": "gone.png", "reason": "x"}, 410),
            ({"path": "red.png"}, 422),
            ({"reason": "x"}, 422),
            ({"path": "red.png", "sha256": digest, "reason": "x"}, 422),
        ):
            answer = server.post("/reports", json=body, headers=bearer(REPORTS))
            assert answer.status_code == status, (body, answer.text)
        for path in ("/review", "/status", "/review/1/picture", "/reports"):
            assert server.get(path, headers=bearer(REPORTS)).status_code in (401, 429), path
        assert server.post("/review", json={}, headers=bearer(REPORTS)).status_code in (401, 429)
    assert [(each["path"], each["reports"]) for each in waiting(project)] == [("red.png", 3)]


def test_reports_of_one_address_are_limited_by_their_number(project: Project) -> None:
    project.add("red.png")
    project.run()
    named = {"path": "red.png", "reason": "stolen"}
    with serving(project, "--no-watch") as server:
        answers = [server.post("/reports", json=named) for _ in range(62)]
    assert [answer.status_code for answer in answers] == [202] * 60 + [429] * 2
    assert 0 < int(answers[-1].headers["retry-after"]) <= 60
    (found,) = waiting(project)
    # All are counted, the first are kept word by word.
    assert (found["reports"], len(found["said"])) == (60, 21)


def test_the_queue_is_decided_over_http(project: Project) -> None:
    names = ("red.png", "blue.png", "green.png", "flat.tif")
    for name in names:
        project.add(name)
    project.run()
    hold(project, *names)
    project.env |= BEHIND_A_PROXY
    with serving(project, "--no-watch") as server:
        server.client.headers.update(by("Cleo"))
        page = server.get("/review?limit=3").json()
        assert ([each["id"] for each in page["reviews"]], page["next"]) == ([1, 2, 3], 3)
        assert page["waiting"] == {"open": 4, "held": 4, "reported": 0}
        assert server.get("/review?after=3").json()["next"] is None
        assert server.get("/review?kind=reported").json()["reviews"] == []
        # What no browser shows is shown all the same, and never as it is.
        shown = server.get("/review/4/picture")
        assert shown.headers["content-type"] == "image/jpeg"
        with Image.open(io.BytesIO(shown.content)) as image:
            assert image.size == (60, 40)
        tag = {"if-none-match": shown.headers["etag"]}
        assert server.get("/review/4/picture", headers=tag).status_code == 304

        ada = {"ids": [1, 4], "act": "take_down", "category": "copyright"}
        assert len(server.post("/review", json=ada, headers=by("Ada")).json()["decided"]) == 2
        # Ben has the same page, and is told who did what; what is left to decide, he decides.
        ben = {"ids": [1], "act": "publish"}
        answer = server.post("/review", json=ben, headers=by("Ben"))
        assert answer.status_code == 409
        assert "already taken down by Ada" in answer.json()["refused"][0]["error"]
        answer = server.post("/review", json=ben | {"ids": [1, 2]})
        assert (answer.status_code, [each["id"] for each in answer.json()["decided"]]) == (200, [2])
        for number in (1, 4):
            assert server.get(f"/review/{number}/picture", headers=tag).status_code == 410
        assert server.get("/review/99/picture").status_code == 404
        for wrong in (
            {"ids": [3], "act": "take_down"},
            {"ids": [3], "act": "take_down", "category": "none of these"},
            {"ids": [], "act": "publish"},
            {"ids": [0], "act": "publish"},
            {"ids": [3], "act": "burn"},
        ):
            assert server.post("/review", json=wrong).status_code == 422, wrong
        answer = server.post("/review", data={"ids": "1", "act": "undo"})
        assert server.get("/review.json").json()["waiting"]["open"] == 2
        assert "2 pictures are waiting for a decision" in server.get("/", headers=HTML).text
        acts = server.get("/takedowns").json()["takedowns"]
        assert [(act["who"], act["reason"]) for act in acts] == [("Ada", "copyright")] * 2
        assert [line for line in server.log if "Traceback" in line] == []


@pytest.mark.parametrize("text", ["", ",", "a\x01b"])
def test_reasons_are_phrases(project: Project, text: str) -> None:
    project.env["PIPELINE_REASONS"] = text
    answer = project.cli("status")
    assert (answer.code, "PIPELINE_REASONS" in answer.stderr) == (
        (0, False) if not text else (2, True)
    )
