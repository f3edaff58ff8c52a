"""The fetch over HTTP/2, with servers that follow its rules and servers that do not."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator

import pytest
import trustme
from http2_server import Http2Server
from loopback import Fetcher, names
from routes import JPEG

from pipeline.fetch.delivery import deliver
from pipeline.fetch.types import Fetched, FetchStatus

Start = Callable[..., Http2Server]


@pytest.fixture
def start(authority: trustme.CA) -> Iterator[Start]:
    running: list[Http2Server] = []

    def start(body: bytes = JPEG, max_streams: int | None = None) -> Http2Server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("shop.example").configure_cert(context)
        running.append(Http2Server(context, body, max_streams))
        return running[-1]

    yield start
    for server in running:
        server.stop()


def fetch(
    fetcher: Fetcher, server: Http2Server, trusting: ssl.SSLContext, *paths: str
) -> dict[str, Fetched]:
    fetcher.limit(ports=frozenset({server.port}))
    urls = {f"https://shop.example:{server.port}{path}": path for path in paths}
    results = fetcher.all(*urls, resolve=names("127.0.0.1"), ssl_context=trusting)
    return {urls[result.url]: result for result in results}


def test_a_server_that_allows_one_stream_at_a_time_is_waited_for(
    fetcher: Fetcher, start: Start, trusting: ssl.SSLContext
) -> None:
    server = start(max_streams=1)
    results = fetch(fetcher, server, trusting, *(f"/{i}" for i in range(12)))
    assert {(r.status, r.attempts) for r in results.values()} == {(FetchStatus.FETCHED, 1)}
    assert server.connections == 1


def test_a_refused_stream_does_not_end_the_others_of_its_connection(
    fetcher: Fetcher, start: Start, trusting: ssl.SSLContext
) -> None:
    server = start(body=JPEG * 5)
    good = [f"/{i}" for i in range(12)]
    results = fetch(fetcher, server, trusting, *good[:6], "/reset/1", *good[6:], "/reset/2")
    assert {(results[p].reason, results[p].attempts) for p in good} == {("", 1)}
    assert results["/reset/1"].status is FetchStatus.FAILED
    assert results["/reset/1"].attempts == 3


def test_a_server_that_says_goodbye_after_some_requests_costs_no_image(
    fetcher: Fetcher, start: Start, trusting: ssl.SSLContext
) -> None:
    server = start()
    # A goodbye ends what is under way as well, and this server says it at every fifth request.
    fetcher.limit(retries=20)
    results = fetch(fetcher, server, trusting, *(f"/goodbye/{i}" for i in range(40)))
    assert {(r.status, r.reason) for r in results.values()} == {(FetchStatus.FETCHED, "")}
    assert 1 < server.connections < 40


def test_headers_that_no_table_can_keep_are_left_away(
    fetcher: Fetcher, start: Start, trusting: ssl.SSLContext
) -> None:
    fetched = fetch(fetcher, start(), trusting, "/nul")["/nul"]
    assert (fetched.status, fetched.etag, fetched.content_type) == (FetchStatus.FETCHED, None, None)


def test_a_status_of_a_thousand_digits_is_none(
    fetcher: Fetcher, start: Start, trusting: ssl.SSLContext
) -> None:
    fetched = fetch(fetcher, start(), trusting, "/status")["/status"]
    assert (fetched.status, fetched.http_code) == (FetchStatus.FAILED, None)
    assert fetched.reason == "the response has no HTTP status"


def test_a_webhook_survives_whatever_its_receiver_says(
    fetcher: Fetcher, start: Start, trusting: ssl.SSLContext
) -> None:
    server = start()
    limits = fetcher.limit(ports=frozenset({server.port}), retries=0).limits
    for path in ("/status", "/reset", "/nul"):
        url = f"https://shop.example:{server.port}{path}"
        delivery = deliver(
            url, {"a": 1}, "s", limits, resolve=names("127.0.0.1"), ssl_context=trusting
        )
        assert delivery.delivered == (path == "/nul")
