"""Who wants to know of a job's end is told: signed, after the run, and at no cost to it."""

from __future__ import annotations

import json

import pytest
from a_shop import Shop, wait_for
from loopback import Request, Server
from routes import route

from pipeline.fetch.delivery import SIGNATURE_HEADER, signature


@route
async def refusing_hook(server: Server, request: Request) -> None:
    await request.answer("404 Not Found", b"")


@pytest.fixture
def hooked(shop: Shop) -> Shop:
    shop.env |= {
        "PIPELINE_WEBHOOK_URL": shop.urls("/hook/all"),
        "PIPELINE_WEBHOOK_SECRET": "between us",
        "PIPELINE_FETCH_RETRIES": "3",
        "PIPELINE_FETCH_BACKOFF_S": "0.01",
    }
    return shop


def told(shop: Shop, path: str) -> list[Request]:
    return [request for request in shop.server.seen if request.path == path]


def test_the_end_of_a_job_is_posted_signed_and_once(hooked: Shop) -> None:
    reference = hooked.submit(hooked.csv({"1": hooked.urls("/pic/1")}))
    hooked.run()
    (request,) = told(hooked, "/hook/all")
    assert request.method == "POST"
    assert request.headers[SIGNATURE_HEADER.lower()] == signature(request.body, "between us")
    body = json.loads(request.body)
    assert (body["reference"], body["state"]) == (reference, "completed")
    assert body["images"] == {"total": 1, "fetched": 1, "done": 1, "failed": 0}
    assert body["answer"] == f"{reference}.csv"
    assert hooked.job(reference)["webhook"] == {"state": "delivered", "reason": None}
    hooked.run()
    assert len(told(hooked, "/hook/all")) == 1


def test_a_job_may_have_an_address_of_its_own(hooked: Shop) -> None:
    file = hooked.csv({"1": hooked.urls("/pic/1")})
    answer = hooked.cli("job", "submit", str(file), "--wait", "--webhook", hooked.urls("/hook/own"))
    assert answer.code == 0
    assert (len(told(hooked, "/hook/own")), len(told(hooked, "/hook/all"))) == (1, 0)
    refused = hooked.cli("job", "submit", str(file), "--webhook", "ftp://shop.example/x")
    assert refused.code == 2
    assert "--webhook ftp://shop.example/x" in refused.stderr


def test_a_receiver_that_is_busy_is_asked_again(hooked: Shop) -> None:
    hooked.env["PIPELINE_WEBHOOK_URL"] = hooked.urls("/hook-flapping")
    hooked.submit(hooked.csv({"1": hooked.urls("/pic/1")}))
    hooked.run()
    assert len(told(hooked, "/hook-flapping")) == 3
    assert hooked.job()["webhook"]["state"] == "delivered"


def test_a_receiver_that_refuses_spoils_neither_job_nor_run(hooked: Shop) -> None:
    hooked.env["PIPELINE_WEBHOOK_URL"] = hooked.urls("/refusing-hook")
    hooked.submit(hooked.csv({"1": hooked.urls("/pic/1")}))
    hooked.run(code=0)
    job = hooked.job()
    assert (job["state"], job["webhook"]["state"]) == ("completed", "failed")
    assert "404" in job["webhook"]["reason"]


def test_a_rejected_csv_is_told_as_well(hooked: Shop) -> None:
    hooked.csv([["1", "A", "x"]], "input/feed.csv")
    hooked.run(code=1)
    (request,) = told(hooked, "/hook/all")
    body = json.loads(request.body)
    assert body["state"] == "rejected"
    assert body["errors"][0]["line"] == 2


def test_a_private_address_is_told_nothing(hooked: Shop) -> None:
    hooked.env["PIPELINE_FETCH_ALLOW"] = ""
    hooked.csv({"1": hooked.urls("/pic/1")}, "input/feed.csv")
    hooked.run(code=1)
    assert hooked.hits() == {}
    job = hooked.job()
    assert (job["state"], job["webhook"]["state"]) == ("completed_with_errors", "failed")
    assert "127.0.0.1" in hooked.answer()[1][4]


def test_the_lock_is_free_while_a_slow_receiver_is_told(hooked: Shop) -> None:
    hooked.env["PIPELINE_WEBHOOK_URL"] = hooked.urls("/silent")
    hooked.env["PIPELINE_WEBHOOK_TIMEOUT_S"] = "3"
    hooked.submit(hooked.csv({"1": hooked.urls("/pic/1")}))
    process = hooked.start("run")
    wait_for(lambda: told(hooked, "/silent"), "the webhook")
    # The first run is still sending; a second one is not turned away.
    hooked.run(code=0)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert hooked.job()["webhook"]["state"] == "failed"
