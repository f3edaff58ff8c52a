"""Servers that want to hold a fetch, fill its memory, or make it take what was not meant for it."""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
import tracemalloc
import warnings

import hostile_routes
import pytest
from loopback import Fetcher, Server, names
from routes import JPEG, ROUTES

from pipeline.fetch import transport as transport_module
from pipeline.fetch.addresses import AllowList
from pipeline.fetch.client import fetch_all
from pipeline.fetch.types import FetchRequest, FetchStatus


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/interim-flood", "failed", "1,048,576 bytes, and no response among them"),
        ("/switching", "failed", "without a pending proposal"),
        ("/huge-header", "failed", "Receive buffer too long"),
        ("/endless-trailers", "failed", "Receive buffer too long"),
        ("/endless-extension", "failed", "Receive buffer too long"),
        ("/tiny-chunks", "refused", "tiny pieces"),
        ("/two-lengths", "failed", "conflicting Content-Length"),
        ("/doubly-coded", "failed", "Transfer-Encoding"),
        ("/endless-name", "refused", "larger than 10,000,000 bytes"),
        ("/endless-padding", "refused", "larger than 10,000,000 bytes"),
        ("/endless-members", "refused", "larger than 10,000,000 bytes"),
    ],
)
def test_a_flood_ends_soon_with_its_reason_and_leaves_no_file(
    fetcher: Fetcher, server: Server, path: str, status: str, reason: str
) -> None:
    # The time in all is not what ends it.
    fetched = fetcher.limit(retries=0, total_timeout_s=90).one(server.url(path))
    assert fetched.status.value == status
    assert reason in fetched.reason
    assert fetcher.files() == []


@pytest.mark.parametrize("path", ["/interim-few", "/trailers", "/both-lengths", "/no-length"])
def test_unusual_answers_that_are_allowed_are_understood(
    fetcher: Fetcher, server: Server, path: str
) -> None:
    fetched = fetcher.one(server.url(path))
    assert (fetched.status, fetched.bytes, fetched.etag) == (FetchStatus.FETCHED, len(JPEG), None)


def test_headers_that_drip_are_ended_by_the_time_in_all(fetcher: Fetcher, server: Server) -> None:
    fetched = fetcher.limit(retries=0, total_timeout_s=0.4).one(server.url("/dripping-headers"))
    assert fetched.reason == "not done within 0.4 s"


def test_memory_does_not_grow_with_tiny_pieces(fetcher: Fetcher, server: Server) -> None:
    fetcher.limit(retries=0)
    tracemalloc.start()
    fetcher.all(*(server.url(f"/tiny-chunks/{i}") for i in range(3)))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 20_000_000


@pytest.mark.parametrize("path", ["/long-tags", "/odd-tags"])
def test_tags_that_no_table_should_keep_are_left_away(
    fetcher: Fetcher, server: Server, path: str
) -> None:
    fetched = fetcher.one(server.url(path))
    assert (fetched.status, fetched.etag, fetched.content_type) == (FetchStatus.FETCHED, None, None)


@pytest.mark.parametrize("path", ["/answers-twice", "/answers-twice-between-reads"])
def test_an_answer_too_many_is_given_to_no_other_url(
    fetcher: Fetcher, server: Server, path: str
) -> None:
    fetcher.limit(concurrent=1, retries=0)
    urls = [server.url(f"{path}/{i}") for i in range(6)]
    results = fetcher.all(*urls)
    assert {r.status for r in results} == {FetchStatus.FETCHED}
    for result in results:
        assert result.path is not None
        assert f"{path}/{result.url[-1]}".encode() in result.path.read_bytes()


def test_a_kept_connection_serves_no_other_name(fetcher: Fetcher, server: Server) -> None:
    """Both names are at the same address, but the second one's must be validated as well."""
    asked = []

    async def resolve(host: str) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if host == "shop.example" else ["127.0.0.1", "10.0.0.1"]

    fetcher.limit(concurrent=1)
    urls = [server.url("/good/1", "shop.example"), server.url("/good/2", "evil.example")]
    first, second = fetcher.all(*urls, resolve=resolve)
    assert (first.status, second.status) == (FetchStatus.FETCHED, FetchStatus.REFUSED)
    assert asked == ["shop.example", "evil.example"]
    assert [request.path for request in server.seen] == ["/good/1"]


@pytest.mark.parametrize(
    "target",
    ["http://[fe80::1%25lo]/", "http://[::1%25lo]:80/", "http://[::ffff:7f00:2]/",
     "http://127.0.0.2:80/", "http://0177.0.0.2/", "http://127.0.0.2%00.example/",
     "http://example.com@127.0.0.2/", "http://127.0.0.2\\@example.com/", "\\\\127.0.0.2\\",
     "/\\127.0.0.2/", "//127.0.0.2\\..\\", "http:\\\\127.0.0.2", "http://127。0。0。2/",
     "http://①②⑦.0.0.2/", "javascript:alert(1)", "http://127.0.0.2#@example.com/",
     "http://[0:0:0:0:0:ffff:127.0.0.2]", "http://2130706434/", "ht\ttp://127.0.0.2/",
     "http://127.0.0.2:0/", "http://127.0.0.2:99999/", "http://127.1.2/x\x00"],
)  # fmt: skip
def test_no_location_leads_to_an_address_that_is_not_allowed(
    fetcher: Fetcher, server: Server, target: str
) -> None:
    server.redirect_to = target
    text = target.encode("utf-8").decode("latin-1")
    server.redirect_to = text
    fetched = fetcher.limit(retries=0).one(server.url("/moved-raw"), resolve=names("127.0.0.2"))
    assert fetched.status in (FetchStatus.REFUSED, FetchStatus.FAILED)
    assert {r.path.split("?")[0] for r in server.seen} <= {"/moved-raw", *_of_this_host(target)}
    assert fetched.reason.isprintable()


def _of_this_host(target: str) -> list[str]:
    """A backslash is no separator for us: such a target is a path of the host that sent it."""
    return [
        r for r in ("/%5C%5C127.0.0.2%5C", "/%5C127.0.0.2/", "/%5C%5C127.0.0.2") if "\\" in target
    ]


@pytest.mark.parametrize(
    "wait", ["-5", "1e9", "0x10", "9" * 400, "Sun, 99 Foo 9999", "Fri, 31 Dec 9999 23:59:59 GMT",
             "Mon, 01 Jan 0001 00:00:00 -0000", "nan", "1, 2", '"1"', "\x01"],
)  # fmt: skip
def test_no_retry_after_holds_or_breaks_a_fetch(
    fetcher: Fetcher, server: Server, wait: str
) -> None:
    server.redirect_to = wait
    fetched = fetcher.limit(retry_after_max_s=0.01).one(server.url("/retry-after/1"))
    assert (fetched.status, fetched.attempts) == (FetchStatus.FETCHED, 2)


def test_redirects_to_a_stalling_host_leave_places_to_the_others(
    fetcher: Fetcher, server: Server
) -> None:
    fetcher.limit(
        retries=0, stall_timeout_s=1.5, total_timeout_s=60, concurrent=4, concurrent_per_host=2
    )
    server.redirect_to = server.url("/silent", "slow.test")
    moved = [server.url("/moved", f"shop{i}.test") for i in range(4)]
    good = [server.url(f"/good/{i}", "quick.test") for i in range(20)]
    results = fetcher.all(*moved, *good, resolve=names("127.0.0.1"))
    assert {r.url for r in results[:20]} == set(good)
    assert {(r.reason, r.attempts) for r in results[20:]} == {("no bytes for 1.5 s", 1)}


def test_five_redirects_over_as_many_hosts_are_followed_and_six_are_not(
    fetcher: Fetcher, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts: dict[str, str] = {}
    for count in (5, 6):
        chain = [f"h{i}.of{count}.test" for i in range(count + 1)]
        hosts |= {
            f"{here}:{server.port}": server.url(
                "/" + ("same" if i == count - 1 else "chain"), there
            )
            for i, (here, there) in enumerate(itertools.pairwise(chain))
        }

    async def chain_route(server: Server, request: object) -> None:
        server.redirect_to = hosts[request.headers["host"]]  # type: ignore[attr-defined]
        await hostile_routes.moved(server, request)  # type: ignore[arg-type]

    monkeypatch.setitem(ROUTES, "chain", chain_route)
    urls = [server.url("/chain", f"h0.of{count}.test") for count in (5, 6)]
    results = {r.url: r for r in fetcher.all(*urls, resolve=names("127.0.0.1"))}
    five, six = (results[url] for url in urls)
    assert (five.status, five.attempts) == (FetchStatus.FETCHED, 1)
    assert five.final_url == server.url("/same", "h5.of5.test")
    assert (six.status, six.reason) == (FetchStatus.FAILED, "more than 5 redirects")


def test_hops_over_hosts_share_the_time_of_one_attempt(fetcher: Fetcher, server: Server) -> None:
    fetcher.limit(retries=0, total_timeout_s=0.5)
    server.redirect_to = server.url("/dripping-headers", "b.test")
    fetched = fetcher.one(server.url("/moved", "a.test"), resolve=names("127.0.0.1"))
    assert fetched.reason == "not done within 0.5 s"
    assert fetched.final_url == server.redirect_to


def test_spellings_of_one_address_share_its_places(fetcher: Fetcher, server: Server) -> None:
    fetcher.limit(concurrent_per_host=2)
    spelled = ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "127.0.0.1."]
    fetcher.all(*(server.url(f"/slow-answer/{i}", host) for i in range(4) for host in spelled))
    assert server.most_at_once == 2


def test_the_rate_of_a_host_holds_over_redirects_too(fetcher: Fetcher, server: Server) -> None:
    fetcher.limit(rate_per_host_per_s=20.0)
    server.redirect_to = server.url("/same", "cdn.test")
    started = time.monotonic()
    urls = [server.url("/moved", f"shop{i}.test") for i in range(6)]
    results = fetcher.all(*urls, resolve=names("127.0.0.1"))
    assert {r.status for r in results} == {FetchStatus.FETCHED}
    assert time.monotonic() - started >= 5 / 20


def test_connections_that_expired_are_closed(
    fetcher: Fetcher, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport_module, "KEEP_ALIVE_S", 0.0)
    fetcher.limit(concurrent=1, rate_per_host_per_s=100.0)

    async def run() -> int:
        requests = [FetchRequest(server.url(f"/good/{i}")) for i in range(8)]
        async for _ in fetch_all(requests, fetcher.limits, fetcher.store):
            pass
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        return len(loop._selector.get_map())  # type: ignore[attr-defined]

    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        watched = asyncio.run(run())
        gc.collect()
    assert server.connections == 8
    assert watched == 1  # the loop's own


def test_a_hundred_slow_names_do_not_stop_another(
    fetcher: Fetcher, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's resolver blocks a thread for each; the good name still gets one."""
    import socket
    import threading

    over = threading.Event()
    real = socket.getaddrinfo

    def slow(host: str, *args: object, **options: object) -> object:
        if str(host).startswith("slow"):
            over.wait(20)
            raise OSError("no such name")
        return real("127.0.0.1" if host == "good.test" else host, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    fetcher.limit(retries=0, connect_timeout_s=1, concurrent=40)
    urls = [server.url("/same", f"slow{i}.test") for i in range(39)]
    try:
        results = fetcher.all(*urls, server.url("/same", "good.test"))
    finally:
        over.set()
    assert results[0].url == server.url("/same", "good.test")
    assert results[0].status is FetchStatus.FETCHED
    assert {r.reason for r in results[1:]} == {"no connection within 1 s"}


def test_a_url_with_line_ends_is_never_sent(fetcher: Fetcher, server: Server) -> None:
    urls = [
        server.url("/x") + tail for tail in ("\r\nX-Evil: 1", "\n", " HTTP/1.1\r\n\r\nGET /y", "\0")
    ]
    results = fetcher.all(*urls)
    assert {r.status for r in results} == {FetchStatus.REFUSED}
    assert server.seen == []


def test_a_url_of_2048_characters_is_asked_for_and_one_of_2049_is_not(
    fetcher: Fetcher, server: Server
) -> None:
    url = server.url("/same?")
    longest = url + "a" * (2048 - len(url))
    first, second = fetcher.all(longest, longest + "a")
    by_url = {first.url: first, second.url: second}
    assert by_url[longest].status is FetchStatus.FETCHED
    assert by_url[longest + "a"].status is FetchStatus.REFUSED


def test_the_allow_list_does_not_open_the_next_address(fetcher: Fetcher, server: Server) -> None:
    fetcher.limit(allow=AllowList.parse("127.0.0.2"))
    assert fetcher.one(server.url("/same")).status is FetchStatus.REFUSED
    assert server.connections == 0
