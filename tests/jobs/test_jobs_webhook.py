"""Who wants to know of a job's end is told: signed, after the run, and at no cost to it."""

from __future__ import annotations

import hashlib
import hmac
import json

import pytest
from a_shop import Shop, wait_for
from loopback import Request, Server
from routes import route

from pipeline.fetch.signing import signature


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


def is_signed(request: Request, secret: str) -> bool:
    headers = request.headers
    message_id, sent = headers["webhook-id"], int(headers["webhook-timestamp"])
    return headers["webhook-signature"] == signature(message_id, sent, request.body, secret)


def told(shop: Shop, path: str) -> list[Request]:
    return [request for request in shop.server.seen if request.path == path]


def test_the_end_of_a_job_is_posted_signed_and_once(hooked: Shop) -> None:
    reference = hooked.submit(hooked.csv({"1": hooked.urls("/pic/1")}))
    hooked.run()
    (request,) = told(hooked, "/hook/all")
    assert request.method == "POST"
    assert is_signed(request, "between us")
    body = json.loads(request.body)
    assert (body["reference"], body["state"]) == (reference, "completed")
    assert body["images"] == {"total": 1, "fetched": 1, "done": 1, "failed": 0, "withdrawn": 0}
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


def test_what_its_own_address_is_sent_is_signed_with_a_secret_shown_once(hooked: Shop) -> None:
    file = hooked.csv({"1": hooked.urls("/pic/1")})
    own = ("--webhook", hooked.urls("/hook/own"))
    answer = hooked.cli("job", "submit", str(file), "--json", *own)
    assert answer.json.keys() == {"reference", "state", "webhook_secret"}
    secrets = [answer.json["webhook_secret"]]
    for words in ((), ("--wait",), ("--wait", "--json")):
        answer = hooked.cli("job", "submit", str(file), *words, *own)
        (line,) = [line for line in answer.stderr.splitlines() if "secret" in line]
        assert line.startswith("webhook secret, shown only now: whsec_")
        secrets.append(line.rpartition(" ")[2])
        assert "whsec_" not in answer.stdout
    hooked.run()
    requests = told(hooked, "/hook/own")
    assert len(requests) == len(set(secrets)) == 4
    for secret in secrets:
        assert len([request for request in requests if is_signed(request, secret)]) == 1
    between_us = hmac.new(b"between us", digestmod=hashlib.sha256)
    for request in requests:
        assert not is_signed(request, "between us")
        digest = between_us.copy()
        digest.update(request.body)
        assert digest.hexdigest() not in request.headers["x-lockstep-signature"]
        assert b"whsec_" not in request.body
    for command in (("job", "list"), ("job", "status", json.loads(requests[0].body)["reference"])):
        shown = hooked.cli(*command).stdout + hooked.cli(*command, "--json").stdout
        assert not any(secret in shown for secret in secrets)


def test_an_own_address_without_a_secret_of_its_own_gets_no_signature(hooked: Shop) -> None:
    """A job of the release before: better unsigned than signed with what is not its own."""
    file = hooked.csv({"1": hooked.urls("/pic/1")})
    hooked.submit(file, "--webhook", hooked.urls("/hook/own"))
    hooked.query("UPDATE jobs SET webhook_secret = NULL")
    hooked.run()
    (request,) = told(hooked, "/hook/own")
    assert not {"webhook-signature", "x-lockstep-signature"} & set(request.headers)


def test_a_delivery_that_the_next_run_repeats_has_the_same_id(hooked: Shop) -> None:
    reference = hooked.submit(hooked.csv({"1": hooked.urls("/pic/1")}))
    hooked.run()
    # As if the process had been killed before it could record the delivery.
    hooked.query("UPDATE jobs SET webhook_state = 'pending'")
    hooked.run()
    first, second = told(hooked, "/hook/all")
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert hooked.cli("job", "refresh", reference).code == 0
    hooked.run()
    assert told(hooked, "/hook/all")[2].headers["webhook-id"] != first.headers["webhook-id"]


def test_a_secret_that_is_cut_off_is_refused_and_not_shown(hooked: Shop) -> None:
    hooked.env["PIPELINE_WEBHOOK_SECRET"] = "whsec_c2Vjcm"
    answer = hooked.cli("status")
    assert answer.code == 2
    assert "PIPELINE_WEBHOOK_SECRET: must be base64 after whsec_" in answer.stderr
    assert "c2Vjcm" not in answer.stderr


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
