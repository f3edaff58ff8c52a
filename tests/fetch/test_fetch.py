"""The fetch against a real server with every manner there is."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import pytest
from loopback import Fetcher, Server, names
from routes import JPEG

from pipeline.fetch.types import Fetched, FetchRequest, FetchStatus


def test_an_image_is_kept_under_its_hash(fetcher: Fetcher, server: Server) -> None:
    fetched = fetcher.one(server.url("/same"))
    sha256 = hashlib.sha256(JPEG).hexdigest()
    assert fetched.status is FetchStatus.FETCHED
    assert fetched.reason == ""
    assert (fetched.http_code, fetched.attempts) == (200, 1)
    assert (fetched.bytes, fetched.sha256) == (len(JPEG), sha256)
    assert fetched.path == fetcher.folder / sha256[:2] / sha256
    assert fetched.path.read_bytes() == JPEG
    assert fetched.final_url == fetched.url == server.url("/same")


def test_a_request_carries_no_cookie_no_credentials_and_asks_for_identity(
    fetcher: Fetcher, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text("default login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    fetcher.all(server.url("/tagged"), server.url("/tagged?again"))
    for request in server.seen:
        assert set(request.headers) == {"host", "user-agent", "accept", "accept-encoding"}
        assert request.headers["accept-encoding"] == "identity"


def test_equal_bytes_are_stored_once(fetcher: Fetcher, server: Server) -> None:
    results = fetcher.all(*(server.url(f"/same?{i}") for i in range(20)))
    assert {r.status for r in results} == {FetchStatus.FETCHED}
    assert len(fetcher.files()) == 1


def test_an_equal_url_is_asked_for_once(fetcher: Fetcher, server: Server) -> None:
    url = server.url("/good/1")
    assert [r.url for r in fetcher.all(url, url, url)] == [url]
    assert server.hits["/good/1"] == 1


def test_connections_are_used_again(fetcher: Fetcher, server: Server) -> None:
    results = fetcher.all(*(server.url(f"/good/{i}") for i in range(60)))
    assert len({r.sha256 for r in results}) == 60
    assert server.connections <= fetcher.limits.concurrent_per_host


def test_no_more_than_six_at_once_at_one_host(fetcher: Fetcher, server: Server) -> None:
    fetcher.all(*(server.url(f"/slow-answer/{i}") for i in range(30)))
    assert server.most_at_once == 6


def test_the_limit_in_all_holds_over_hosts(fetcher: Fetcher, server: Server) -> None:
    fetcher.limit(concurrent=4, allow=fetcher.limits.allow.parse("127.0.0.0/8"))
    fetcher.all(
        *(server.url(f"/slow-answer/{i}", f"127.0.0.1.{i}.test") for i in range(12)),
        resolve=names("127.0.0.1"),
    )
    assert server.most_at_once == 4


def test_a_rate_spaces_the_requests_of_a_host(fetcher: Fetcher, server: Server) -> None:
    fetcher.limit(rate_per_host_per_s=50.0)
    started = time.monotonic()
    fetcher.all(*(server.url(f"/good/{i}") for i in range(10)))
    # Ten starts are nine intervals, and a slow machine only makes it longer.
    assert time.monotonic() - started >= 9 / 50


def test_another_host_goes_on_beside_a_stalling_one(fetcher: Fetcher, server: Server) -> None:
    fetcher.limit(retries=0, stall_timeout_s=1.0, concurrent=8)
    silent = [server.url(f"/silent/{i}", "slow.test") for i in range(6)]
    good = [server.url(f"/good/{i}", "quick.test") for i in range(20)]
    results = fetcher.all(*silent, *good, resolve=names("127.0.0.1"))
    assert {r.url for r in results[:20]} == set(good)
    assert {r.reason for r in results[20:]} == {"no bytes for 1 s"}


@pytest.mark.parametrize(
    ("path", "status", "http_code", "code", "reason"),
    [
        ("/not-found", "failed", 404, "not_found", "404 Not Found"),
        ("/broken", "failed", 500, "server_error", "500 Internal Server Error"),
        ("/html", "refused", 200, "not_an_image", "not an image (text/html)"),
        ("/empty", "refused", 200, "empty", "not an image (empty)"),
        ("/no-content", "failed", 204, "http_error", "204 No Content"),
        ("/always-304", "failed", 304, "http_error", "304 Not Modified"),
        ("/endless", "refused", 200, "too_large", "larger than 10,000,000 bytes"),
        ("/claims-huge", "refused", 200, "too_large", "larger than 10,000,000 bytes"),
        ("/gzip-bomb", "refused", 200, "too_large", "larger than 10,000,000 bytes"),
        ("/gzip-torn", "failed", 200, "bad_response", "the compressed body ends too early"),
        ("/brotli", "failed", 200, "bad_response", "sent as br, which was not requested"),
        ("/stalling", "failed", 200, "timed_out", "no bytes for 0.3 s"),
        ("/silent", "failed", None, "timed_out", "no bytes for 0.3 s"),
        ("/loop", "failed", 307, "bad_redirect", "more than 5 redirects"),
        ("/nowhere", "failed", 302, "bad_redirect", "302 Found without a Location"),
    ],
)
def test_each_end_has_its_status_code_and_reason(
    fetcher: Fetcher,
    server: Server,
    path: str,
    status: str,
    http_code: int | None,
    code: str,
    reason: str,
) -> None:
    if path in ("/stalling", "/silent"):
        fetcher.limit(stall_timeout_s=0.3)
    fetched = fetcher.limit(retries=0).one(server.url(path))
    assert (fetched.status.value, fetched.http_code, fetched.reason) == (status, http_code, reason)
    assert fetched.code is not None
    assert fetched.code.value == code
    assert fetched.sha256 is None
    assert fetched.path is None
    assert fetcher.files() == []


@pytest.mark.parametrize(
    "path",
    ["/claims-more", "/claims-nonsense", "/truncated-chunks", "/no-http", "/endless-headers"],
)
def test_a_lying_or_broken_server_fails_with_words(
    fetcher: Fetcher, server: Server, path: str
) -> None:
    fetched = fetcher.limit(retries=0).one(server.url(path))
    assert fetched.status is FetchStatus.FAILED
    assert fetched.reason
    assert "\n" not in fetched.reason
    assert fetcher.files() == []


def test_a_content_length_that_is_too_short_ends_the_image_there(
    fetcher: Fetcher, server: Server
) -> None:
    assert fetcher.one(server.url("/claims-less")).bytes == 5_000


def test_a_dripping_server_is_too_slow(fetcher: Fetcher, server: Server) -> None:
    fetcher.limit(retries=0, slow_for_s=0.3, slow_bytes_per_s=1_000, stall_timeout_s=2)
    assert fetcher.one(server.url("/dripping")).reason == "under 1,000 bytes/s for 0.3 s"


def test_a_dripping_server_is_ended_by_the_time_in_all(fetcher: Fetcher, server: Server) -> None:
    fetcher.limit(retries=0, total_timeout_s=0.3, slow_bytes_per_s=1, stall_timeout_s=2)
    assert fetcher.one(server.url("/dripping")).reason == "not done within 0.3 s"


def test_redirects_with_endless_bodies_are_followed_without_reading_them(
    fetcher: Fetcher, server: Server
) -> None:
    assert fetcher.one(server.url("/redirect-body-endless")).status is FetchStatus.FETCHED


def test_five_redirects_are_followed_and_six_are_not(fetcher: Fetcher, server: Server) -> None:
    five, six = fetcher.all(server.url("/hops/5"), server.url("/hops/6"))
    results = {r.url: r for r in (five, six)}
    assert results[server.url("/hops/5")].status is FetchStatus.FETCHED
    assert results[server.url("/hops/5")].final_url == server.url("/hops/0")
    assert results[server.url("/hops/6")].reason == "more than 5 redirects"


def test_content_is_judged_by_its_bytes_not_by_its_type(fetcher: Fetcher, server: Server) -> None:
    fetched = fetcher.one(server.url("/mislabelled"))
    assert fetched.status is FetchStatus.FETCHED
    assert fetched.content_type == "text/html"


def test_the_judge_of_content_can_be_another(fetcher: Fetcher, server: Server) -> None:
    fetched = fetcher.one(server.url("/same"), sniff=lambda head: "not today")
    assert (fetched.status, fetched.reason) == (FetchStatus.REFUSED, "not today")


@pytest.mark.parametrize("path", ["/gzipped", "/deflated"])
def test_a_server_that_compresses_all_the_same_is_understood(
    fetcher: Fetcher, server: Server, path: str
) -> None:
    fetched = fetcher.one(server.url(path))
    assert fetched.path is not None
    assert fetched.path.read_bytes() == JPEG


def test_a_large_image_is_written_piece_by_piece(fetcher: Fetcher, server: Server) -> None:
    fetched = fetcher.one(server.url("/large"))
    assert fetched.sha256 == hashlib.sha256(JPEG * 300).hexdigest()
    assert fetched.path is not None
    assert fetched.path.stat().st_size == fetched.bytes == len(JPEG) * 300


def test_a_flapping_server_is_asked_again(fetcher: Fetcher, server: Server) -> None:
    fetched = fetcher.one(server.url("/flapping"))
    assert (fetched.status, fetched.attempts) == (FetchStatus.FETCHED, 3)


def test_retries_end(fetcher: Fetcher, server: Server) -> None:
    fetched = fetcher.one(server.url("/broken"))
    assert (fetched.attempts, server.hits["/broken"]) == (3, 3)


def test_a_404_is_not_asked_again(fetcher: Fetcher, server: Server) -> None:
    fetched = fetcher.one(server.url("/not-found"))
    assert (fetched.attempts, server.hits["/not-found"]) == (1, 1)


def test_a_connection_that_breaks_is_tried_again(fetcher: Fetcher, server: Server) -> None:
    assert fetcher.one(server.url("/dropped-once")).attempts == 2


def test_a_server_that_closes_kept_connections_costs_no_attempt(
    fetcher: Fetcher, server: Server
) -> None:
    fetcher.limit(retries=0)
    results = fetcher.all(*(server.url(f"/then-closes/{i}") for i in range(40)))
    assert {(r.status, r.attempts) for r in results} == {(FetchStatus.FETCHED, 1)}


@pytest.mark.parametrize("code", [429, 503])
def test_retry_after_pauses_the_host(fetcher: Fetcher, server: Server, code: int) -> None:
    fetcher.limit(retry_after_max_s=0.3, concurrent_per_host=1)
    urls = [server.url(f"/busy/{code}/1"), server.url("/good/1")]
    results = fetcher.all(*urls)
    assert {r.status for r in results} == {FetchStatus.FETCHED}
    # The wait is the host's: no other of its URLs was asked for in between.
    assert [r.path for r in server.seen] == [f"/busy/{code}/1", f"/busy/{code}/1", "/good/1"]


def test_retry_after_may_be_a_date_and_may_be_nonsense(fetcher: Fetcher, server: Server) -> None:
    results = fetcher.all(
        server.url("/busy/429/Sun, 23 Feb 2025 04:13:20 GMT".replace(" ", "%20")),
        server.url("/busy/503/soon"),
        server.url("/busy/429/%C2%B2"),
    )
    assert {r.status for r in results} == {FetchStatus.FETCHED}


def test_a_host_that_always_asks_to_wait_does_not_hold_the_run(
    fetcher: Fetcher, server: Server
) -> None:
    fetcher.limit(retry_after_max_s=0.05, host_wait_max_s=0.1)
    results = fetcher.all(*(server.url(f"/always-busy/{i}") for i in range(30)))
    assert {r.reason for r in results} == {"429 Too Many Requests"}
    assert sum(server.hits.values()) < 60


def test_a_host_that_is_down_is_given_up(fetcher: Fetcher, server: Server) -> None:
    fetcher.limit(retries=0, host_faults_max=5, concurrent_per_host=1)
    server.stop()
    results = fetcher.all(*(server.url(f"/good/{i}") for i in range(20)))
    assert {r.status for r in results} == {FetchStatus.FAILED}
    assert [r.attempts for r in results] == [1] * 5 + [0] * 15
    assert results[0].reason == "connection refused"
    assert "was unreachable 5 times" in results[-1].reason


def test_what_was_not_modified_costs_nothing_more(fetcher: Fetcher, server: Server) -> None:
    first = fetcher.one(server.url("/tagged"))
    assert (first.etag, first.last_modified) == ('"v1"', "Sun, 23 Feb 2025 04:13:20 GMT")
    again = fetcher.one(FetchRequest(first.url, first.etag, first.last_modified))
    assert (again.status, again.http_code, again.bytes) == (FetchStatus.NOT_MODIFIED, 304, 0)
    assert (again.etag, again.last_modified) == (first.etag, first.last_modified)
    asked = server.seen[-1].headers
    assert (asked["if-none-match"], asked["if-modified-since"]) == (first.etag, first.last_modified)


def test_a_tag_that_cannot_be_a_header_is_not_sent_back(fetcher: Fetcher, server: Server) -> None:
    fetched = fetcher.one(FetchRequest(server.url("/same"), 'ü"', "a\r\nX-Evil: 1"))
    assert fetched.status is FetchStatus.FETCHED
    assert not {"if-none-match", "if-modified-since", "x-evil"} & set(server.seen[0].headers)


def test_proxies_from_the_environment_are_ignored(
    fetcher: Fetcher, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert fetcher.one(server.url("/same")).status is FetchStatus.FETCHED


def test_a_proxy_is_used_when_asked_for(fetcher: Fetcher, server: Server) -> None:
    fetcher.limit(proxy_url=server.url("/"), ports=frozenset({80}))
    fetcher.one("http://8.8.8.8/same", resolve=names())
    assert server.seen[0].path == "http://8.8.8.8/same"


def test_a_private_address_is_refused_through_a_proxy_too(fetcher: Fetcher, server: Server) -> None:
    fetcher.limit(proxy_url=server.url("/"), ports=frozenset({80}))
    assert fetcher.one("http://10.0.0.1/same").status is FetchStatus.REFUSED
    assert not server.seen


def test_an_attempt_that_timed_out_is_repeated_once(fetcher: Fetcher, server: Server) -> None:
    fetcher.limit(retries=3, stall_timeout_s=0.3)
    fetched = fetcher.one(server.url("/stalling"))
    assert (fetched.status, fetched.attempts) == (FetchStatus.FAILED, 2)
    assert server.hits["/stalling"] == 2


def test_results_say_how_long_and_how_often(fetcher: Fetcher, server: Server) -> None:
    fetched: Fetched = fetcher.one(server.url("/slow-answer"))
    assert fetched.duration_ms >= 40
    assert fetched.attempts == 1
