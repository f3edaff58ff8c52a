"""Uploads that are made to keep the service busy: nothing else waits for them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from a_project import Project
from a_server import Server, serving
from starlette.exceptions import HTTPException

from pipeline.web.checks import THREADS, WAITING, Checks

HEADER = "S. No.,Product Name,Input Image Urls\n"
GOOD = HEADER + "1,SKU1,https://www.example.com/a.jpg\n"
# Each check waits until the file `go` is there.
HELD = """
import time
from pathlib import Path

import pipeline.web.submissions as page

submit_now = page.submit


def submit_later(*args, **named):
    with open("begun", "a") as begun:
        begun.write("x")
    while not Path("go").exists():
        time.sleep(0.02)
    return submit_now(*args, **named)


page.submit = submit_later
"""


def upload(server: Server, csv: bytes | str) -> httpx.Response:
    # A client of its own: the answers of the shared one wait for one another.
    with httpx.Client(base_url=server.url, timeout=120) as client:
        return client.post("/jobs", files={"file": ("products.csv", csv)})


@pytest.fixture
def held(project: Project) -> Iterator[Server]:
    project.add("a.png")
    project.run()
    text = (project.root / "app.py").read_text("utf-8")
    (project.root / "app.py").write_text(text + HELD, "utf-8")
    project.env["PYTHONPATH"] = str(project.root)
    with serving(project, "--no-watch") as server:
        try:
            yield server
        finally:
            (project.root / "go").touch()


def test_nothing_waits_for_csvs_and_only_so_many_wait(held: Server) -> None:
    project = held.project
    allowed = THREADS + WAITING
    with ThreadPoolExecutor(allowed + 2) as pool:
        answers = [pool.submit(upload, held, GOOD) for _ in range(allowed + 2)]
        begun = project.root / "begun"
        held.until(lambda: [item for item in answers if item.done()][1:])
        held.until(lambda: begun.exists() and begun.read_text() == "x" * THREADS)
        refused = [item.result() for item in answers if item.done()]
        assert [answer.status_code for answer in refused] == [503, 503]
        assert int(refused[0].headers["retry-after"]) > 0
        assert "being checked" in refused[0].json()["error"]

        assert held.get("/healthz").json() == {"status": "ok"}
        assert held.get("/status").status_code == 200
        assert held.get("/jobs").json()["jobs"] == []
        assert held.get("/files/half/a.png").status_code == 200
        taken = held.post("/takedowns", json={"path": "a.png", "reason": "withdrawn"})
        assert taken.status_code == 201
        assert held.get("/files/half/a.png").status_code == 410
        assert begun.read_text() == "x" * THREADS

        (project.root / "go").touch()
        done = sorted(item.result().status_code for item in answers)
    assert done == [202] * allowed + [503, 503]
    assert upload(held, GOOD).status_code == 202


def test_csvs_that_come_at_once_find_no_more_room_than_there_is() -> None:
    async def at_once() -> None:
        checks, go = Checks(), threading.Event()
        count = THREADS + WAITING + 5
        runs = [asyncio.ensure_future(checks.run(lambda: go.wait(60))) for _ in range(count)]
        refused, _ = await asyncio.wait(runs, return_when=asyncio.FIRST_COMPLETED)
        go.set()
        answers = await asyncio.gather(*runs, return_exceptions=True)
        assert len(refused) == 5
        assert answers.count(True) == THREADS + WAITING
        assert {type(each) for each in answers} == {bool, HTTPException}
        assert await checks.run(lambda: 1) == 1

    asyncio.run(at_once())


def test_a_person_is_told_to_try_again_when_many_csvs_are_waiting(held: Server) -> None:
    with ThreadPoolExecutor(THREADS + WAITING + 1) as pool:
        answers = [pool.submit(upload, held, GOOD) for _ in range(THREADS + WAITING + 1)]
        held.until(lambda: any(item.done() for item in answers))
        shown = held.post("/jobs", files={"file": ("a.csv", GOOD)}, headers={"accept": "text/html"})
        assert shown.status_code == 503
        assert "many CSVs are being checked right now" in shown.text
        (held.project.root / "go").touch()
        assert sum(item.result().status_code == 202 for item in answers) == THREADS + WAITING


def test_twelve_uploads_of_blank_lines_stop_nothing(project: Project) -> None:
    attack = b"\n" * 3_900_000 + HEADER.encode()
    with serving(project, "--no-watch") as server, ThreadPoolExecutor(12) as pool:
        over = threading.Event()
        answers = [pool.submit(upload, server, attack) for _ in range(12)]
        for answer in answers:
            answer.add_done_callback(lambda _: over.set())
        # The client gives up after half a minute, as a proxy or a load balancer does.
        while not over.is_set():
            assert server.get("/healthz").status_code == 200
        told = [answer.result() for answer in answers]
        assert {answer.status_code for answer in told} == {422}
        assert told[0].json()["errors"] == [
            {
                "line": 3_900_001,
                "column": "",
                "message": "no rows; add a product below the header",
                "code": "",
            }
        ]
