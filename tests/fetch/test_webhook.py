"""Telling another system that a job ended."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import json
import ssl
import time

import pytest
from loopback import Fetcher, Request, Server, names

from pipeline.fetch.addresses import AllowList
from pipeline.fetch.delivery import deliver
from pipeline.fetch.signing import key_of, new_secret, signature
from pipeline.fetch.types import FetchLimits

JOB = {"reference": "202502230413203", "state": "completed", "name": "Größe"}


@pytest.fixture
def limits(fetcher: Fetcher) -> FetchLimits:
    return fetcher.limits


def test_a_job_is_posted_and_signed(server: Server, limits: FetchLimits) -> None:
    delivery = deliver(server.url("/hook"), JOB, "s3cret", limits)
    assert (delivery.delivered, delivery.http_code, delivery.attempts) == (True, 200, 1)
    (request,) = server.seen
    assert request.method == "POST"
    assert request.headers["content-type"] == "application/json"
    assert json.loads(request.body) == JOB
    assert is_signed(request, b"s3cret")
    assert not is_signed(request, b"another")
    # For receivers of the release before.
    expected = hmac.new(b"s3cret", request.body, hashlib.sha256).hexdigest()
    assert request.headers["x-lockstep-signature"] == f"sha256={expected}"


def is_signed(request: Request, key: bytes) -> bool:
    """Whether a delivery is genuine: the scheme, written out again."""
    headers = request.headers
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + request.body
    digest = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return headers["webhook-signature"] == f"v1,{digest}"


def test_the_signature_is_the_one_that_other_implementations_give() -> None:
    # The example of Svix, whose scheme became the standard, as its libraries test it.
    assert signature(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    ) == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="  # fmt: skip


def test_a_secret_of_the_scheme_is_the_key_in_base64(server: Server, limits: FetchLimits) -> None:
    key = bytes(range(24))
    secret = "whsec_" + base64.b64encode(key).decode()
    assert deliver(server.url("/hook"), JOB, secret, limits).delivered
    assert is_signed(server.seen[0], key)
    assert len(key_of(new_secret())) == 32
    assert new_secret() != new_secret()


@pytest.mark.parametrize("secret", ["whsec_", "whsec_not base64", "whsec_abc"])
def test_a_secret_that_is_cut_off_is_refused(secret: str) -> None:
    with pytest.raises(ValueError, match="base64"):
        key_of(secret)


def test_the_id_can_be_given_and_the_time_is_now(server: Server, limits: FetchLimits) -> None:
    before = int(time.time())
    assert deliver(server.url("/hook"), JOB, "s", limits, message_id="msg_1").delivered
    headers = server.seen[0].headers
    assert headers["webhook-id"] == headers["x-lockstep-delivery"] == "msg_1"
    assert before <= int(headers["webhook-timestamp"]) <= time.time()


def test_without_a_secret_there_is_no_signature(server: Server, limits: FetchLimits) -> None:
    assert deliver(server.url("/hook"), JOB, "", limits).delivered
    assert not {"x-lockstep-signature", "webhook-signature"} & set(server.seen[0].headers)


def test_a_delivery_is_tried_again_and_is_the_same_delivery(
    server: Server, limits: FetchLimits
) -> None:
    delivery = deliver(server.url("/hook-flapping"), JOB, "s", limits)
    assert (delivery.delivered, delivery.http_code, delivery.attempts) == (True, 204, 3)
    assert len({request.headers["webhook-id"] for request in server.seen}) == 1
    # Each attempt is signed with its own time.
    assert all(is_signed(request, b"s") for request in server.seen)


def test_a_receiver_that_says_no_is_not_asked_again(server: Server, limits: FetchLimits) -> None:
    delivery = deliver(server.url("/not-found"), JOB, "s", limits)
    assert (delivery.delivered, delivery.attempts) == (False, 1)
    assert delivery.reason == "the receiver responded with 404"


def test_redirects_are_not_followed(server: Server, limits: FetchLimits) -> None:
    server.redirect_to = server.url("/hook")
    delivery = deliver(server.url("/redirect"), JOB, "s", limits)
    assert delivery.reason == "the receiver responded with 302"
    assert [request.path for request in server.seen] == ["/redirect"]


def test_a_private_receiver_is_refused(server: Server, limits: FetchLimits) -> None:
    closed = dataclasses.replace(limits, allow=AllowList())
    delivery = deliver(server.url("/hook", "hook.example"), JOB, "s", closed,
                       resolve=names("127.0.0.1"))  # fmt: skip
    assert "is not at a public address" in delivery.reason
    assert server.connections == 0


def test_a_url_against_the_rules_is_refused(limits: FetchLimits) -> None:
    delivery = deliver("ftp://hook.example/", JOB, "s", limits)
    assert (delivery.delivered, delivery.attempts) == (False, 0)


def test_the_deadline_ends_a_delivery(server: Server, limits: FetchLimits) -> None:
    patient = dataclasses.replace(limits, stall_timeout_s=30)
    delivery = deliver(server.url("/silent"), JOB, "s", patient, deadline_s=0.2)
    assert (delivery.delivered, delivery.reason) == (False, "no response within 0.2 s")
    assert delivery.duration_ms < 10_000


def test_a_receiver_that_is_down_is_given_up(server: Server, limits: FetchLimits) -> None:
    server.stop()
    delivery = deliver(server.url("/hook"), JOB, "s", limits)
    assert (delivery.delivered, delivery.attempts) == (False, 3)
    assert delivery.reason == "connection refused"


def test_the_certificate_of_the_receiver_is_checked(
    tls_server: Server, limits: FetchLimits, trusting: ssl.SSLContext
) -> None:
    limits = dataclasses.replace(limits, ports=frozenset({tls_server.port}), retries=0)
    results = [
        deliver(tls_server.url("/hook", host), JOB, "s", limits, resolve=names("127.0.0.1"),
                ssl_context=trusting)
        for host in ("shop.example", "other.example")
    ]  # fmt: skip
    assert [result.delivered for result in results] == [True, False]
    assert results[1].reason.startswith("the certificate is not valid")
