"""What a hostile URL, name server or web server may try, and does not get."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

import pytest
import trustme
from http2_server import Http2Server
from loopback import Fetcher, Server, names
from routes import JPEG

from pipeline.fetch.addresses import AllowList
from pipeline.fetch.types import FetchStatus

NOT_PUBLIC = "is not at a public address"


class Rebinding:
    """A name server that changes its answer with each question."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def test_a_name_at_a_private_address_is_refused_before_any_connection(
    fetcher: Fetcher, server: Server
) -> None:
    fetcher.limit(allow=AllowList())
    fetched = fetcher.one(server.url("/same", "shop.example"), resolve=names("127.0.0.1"))
    assert fetched.status is FetchStatus.REFUSED
    assert fetched.reason.startswith("shop.example is not at a public address")
    assert "127.0.0.1" not in fetched.reason
    assert fetched.attempts == 1
    assert server.connections == 0


def test_one_private_address_among_public_ones_refuses_the_name(
    fetcher: Fetcher, server: Server
) -> None:
    resolver = names("93.184.216.34", "10.0.0.1")
    fetched = fetcher.one(server.url("/same", "shop.example"), resolve=resolver)
    assert fetched.status is FetchStatus.REFUSED


def test_rebinding_between_check_and_connection_changes_nothing(
    fetcher: Fetcher, server: Server
) -> None:
    # The first answer is validated and connected to. Were the name asked again for the connection,
    # that would go to the second, where nobody is.
    resolver = Rebinding(["127.0.0.1"], ["127.0.0.99"])
    fetched = fetcher.one(server.url("/same", "rebind.example"), resolve=resolver)
    assert fetched.status is FetchStatus.FETCHED
    assert resolver.asked == ["rebind.example"]


def test_rebinding_to_a_private_address_is_refused_at_the_next_connection(
    fetcher: Fetcher, server: Server
) -> None:
    fetcher.limit(allow=AllowList.parse("127.0.0.1"), concurrent=1)
    resolver = Rebinding(["127.0.0.1"], ["127.0.0.2"])
    urls = [server.url(f"/then-closes/{i}", "rebind.example") for i in range(2)]
    first, second = fetcher.all(*urls, resolve=resolver)
    assert first.status is FetchStatus.FETCHED
    assert (second.status, NOT_PUBLIC in second.reason) == (FetchStatus.REFUSED, True)


def test_the_request_names_the_host_and_not_its_address(fetcher: Fetcher, server: Server) -> None:
    fetcher.one(server.url("/same", "shop.example"), resolve=names("127.0.0.1"))
    assert server.seen[0].headers["host"] == f"shop.example:{server.port}"


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "127.0.0.1.", "[::1]",
     "[::ffff:127.0.0.1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "0",
     "169.254.169.254", "[fd00:ec2::254]", "127。0。0。1"],
)  # fmt: skip
def test_no_spelling_of_a_private_address_is_connected_to(
    fetcher: Fetcher, server: Server, host: str
) -> None:
    fetcher.limit(allow=AllowList())
    fetched = fetcher.one(server.url("/same", host), resolve=names())
    # httpx takes the octal spelling for no URL at all; all others are validated by their address.
    reason = "not a valid URL" if host.startswith("0177") else NOT_PUBLIC
    assert (fetched.status, reason in fetched.reason) == (FetchStatus.REFUSED, True)
    assert server.connections == 0


def test_an_odd_spelling_of_an_allowed_address_is_that_address(
    fetcher: Fetcher, server: Server
) -> None:
    results = fetcher.all(server.url("/same", "127.1"), server.url("/same", "2130706433"))
    assert {r.status for r in results} == {FetchStatus.FETCHED}


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("http://10.0.0.1/", NOT_PUBLIC),
        ("http://[::1]/", NOT_PUBLIC),
        ("http://169.254.169.254/latest/meta-data/", NOT_PUBLIC),
        ("http://0x7f.2/", NOT_PUBLIC),
        ("//127.0.0.2/", NOT_PUBLIC),
        ("http://internal.example/", "internal.example does not resolve"),
        ("file:///etc/passwd", "only http and https"),
        ("ftp://example.com/", "only http and https"),
        ("http://user:pw@example.com/", "user name or password"),
        ("http://example.com:22/", "port 22 is not fetched from"),
        ("http://example.com/" + "a" * 3000, "at most 2048"),
        ("http://[::1", "not a URL"),
    ],
)
def test_every_redirect_is_judged_anew(
    fetcher: Fetcher, server: Server, target: str, reason: str
) -> None:
    server.redirect_to = target
    fetched = fetcher.limit(retries=0).one(server.url("/redirect"), resolve=names())
    assert fetched.status in (FetchStatus.REFUSED, FetchStatus.FAILED)
    assert reason in fetched.reason
    assert [request.path for request in server.seen] == ["/redirect"]


def test_a_redirect_to_another_name_resolves_that_name(fetcher: Fetcher, server: Server) -> None:
    server.redirect_to = server.url("/same", "cdn.example")
    resolver = Rebinding(["127.0.0.1"])
    fetched = fetcher.one(server.url("/redirect", "shop.example"), resolve=resolver)
    assert fetched.status is FetchStatus.FETCHED
    assert fetched.final_url == server.url("/same", "cdn.example")
    assert resolver.asked == ["shop.example", "cdn.example"]


def test_the_limits_of_the_host_that_a_redirect_leads_to_hold(
    fetcher: Fetcher, server: Server
) -> None:
    fetcher.limit(concurrent_per_host=2, concurrent=16)
    server.redirect_to = server.url("/slow-answer", "cdn.example")
    urls = [server.url(f"/redirect?{i}", f"shop{i}.example") for i in range(12)]
    results = fetcher.all(*urls, resolve=names("127.0.0.1"))
    assert {r.status for r in results} == {FetchStatus.FETCHED}
    hosts = [request.headers["host"] for request in server.seen]
    assert hosts.count(f"cdn.example:{server.port}") == 12


def test_waiting_for_the_host_of_a_redirect_is_not_held_against_it(
    fetcher: Fetcher, server: Server
) -> None:
    fetcher.limit(concurrent_per_host=1, total_timeout_s=1.0, retry_after_max_s=1.2)
    server.redirect_to = server.url("/busy/429/1", "cdn.example")
    urls = [server.url("/redirect", f"shop{i}.example") for i in range(2)]
    results = fetcher.all(*urls, resolve=names("127.0.0.1"))
    assert {r.status for r in results} == {FetchStatus.FETCHED}
    assert sorted(r.attempts for r in results) == [1, 2]


@pytest.fixture
def tls_fetcher(fetcher: Fetcher, server: Server, tls_server: Server) -> Fetcher:
    return fetcher.limit(ports=frozenset({server.port, tls_server.port}), retries=0)


def test_tls_is_checked_against_the_name_not_the_address(
    tls_fetcher: Fetcher, tls_server: Server, trusting: ssl.SSLContext
) -> None:
    results = {
        host: tls_fetcher.one(
            tls_server.url("/same", host), resolve=names("127.0.0.1"), ssl_context=trusting
        )
        for host in ("shop.example", "shop.example.", "other.example", "127.0.0.1")
    }
    assert results["shop.example"].status is FetchStatus.FETCHED
    assert results["shop.example."].status is FetchStatus.FETCHED
    for host in ("other.example", "127.0.0.1"):
        assert results[host].status is FetchStatus.FAILED
        assert results[host].reason.startswith("the certificate is not valid")


def test_an_unknown_authority_is_not_believed_and_not_asked_again(
    tls_fetcher: Fetcher, tls_server: Server, monkeypatch: pytest.MonkeyPatch, authority: object
) -> None:
    fetched = tls_fetcher.limit(retries=3).one(
        tls_server.url("/same", "shop.example"), resolve=names("127.0.0.1")
    )
    assert fetched.reason.startswith("the certificate is not valid")
    assert fetched.attempts == 1


def test_the_name_is_sent_for_the_certificate(
    tls_fetcher: Fetcher, tls_server: Server, trusting: ssl.SSLContext
) -> None:
    sent: list[str | None] = []
    assert tls_server._tls is not None
    tls_server._tls.sni_callback = lambda _, name, __: sent.append(name)
    url = tls_server.url("/same", "shop.example")
    tls_fetcher.one(url, resolve=names("127.0.0.1"), ssl_context=trusting)
    assert sent == ["shop.example"]


def test_a_redirect_from_https_to_http_is_refused(
    tls_fetcher: Fetcher, tls_server: Server, server: Server, trusting: ssl.SSLContext
) -> None:
    tls_server.redirect_to = server.url("/same")
    fetched = tls_fetcher.one(
        tls_server.url("/redirect", "shop.example"),
        resolve=names("127.0.0.1"),
        ssl_context=trusting,
    )
    assert fetched.status is FetchStatus.REFUSED
    assert "from https to http" in fetched.reason
    assert not server.seen


def test_a_redirect_from_http_to_https_is_followed(
    tls_fetcher: Fetcher, tls_server: Server, server: Server, trusting: ssl.SSLContext
) -> None:
    server.redirect_to = tls_server.url("/same", "shop.example")
    fetched = tls_fetcher.one(
        server.url("/redirect"), resolve=names("127.0.0.1"), ssl_context=trusting
    )
    assert fetched.status is FetchStatus.FETCHED


def test_plain_http_where_tls_is_expected_fails_with_words(
    fetcher: Fetcher, server: Server
) -> None:
    fetched = fetcher.limit(retries=0).one(server.url("/same").replace("http://", "https://"))
    assert fetched.status is FetchStatus.FAILED
    assert fetched.reason


def test_a_name_that_does_not_resolve_fails_with_words(fetcher: Fetcher) -> None:
    fetched = fetcher.one("http://nowhere.example/a.jpg", resolve=names())
    assert fetched.status is FetchStatus.FAILED
    assert fetched.reason == "nowhere.example does not resolve: OSError"
    assert fetched.attempts == 3


def test_a_resolver_that_hangs_is_a_time_out(fetcher: Fetcher) -> None:
    async def hanging(host: str) -> list[str]:
        import asyncio

        await asyncio.sleep(60)
        return []

    fetched = fetcher.limit(retries=0, connect_timeout_s=0.05).one(
        "http://nowhere.example/a.jpg", resolve=hanging
    )
    assert fetched.reason == "no connection within 0.05 s"


def test_a_dead_address_leaves_time_for_the_next_one(fetcher: Fetcher, server: Server) -> None:
    fetcher.limit(allow=AllowList.parse("127.0.0.0/8"))
    fetched = fetcher.one(
        server.url("/same", "shop.example"), resolve=names("127.0.0.9", "127.0.0.1")
    )
    assert fetched.status is FetchStatus.FETCHED


def test_urls_that_are_refused_cost_no_question(fetcher: Fetcher) -> None:
    resolver = Rebinding(["127.0.0.1"])
    results = fetcher.all("ftp://x/", "http://u:p@x/", "http://x:22/", "nonsense", resolve=resolver)
    assert {(r.status, r.attempts) for r in results} == {(FetchStatus.REFUSED, 0)}
    assert resolver.asked == []


def test_http_2_is_spoken_where_the_server_does(
    fetcher: Fetcher, authority: trustme.CA, trusting: ssl.SSLContext
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("shop.example").configure_cert(context)
    server = Http2Server(context, JPEG)
    try:
        fetcher.limit(ports=frozenset({server.port}), retries=0)
        urls = [f"https://shop.example:{server.port}/{i}.jpg" for i in range(30)]
        results = fetcher.all(*urls, resolve=names("127.0.0.1"), ssl_context=trusting)
    finally:
        server.stop()
    assert {(r.status, r.bytes, r.reason) for r in results} == {
        (FetchStatus.FETCHED, len(JPEG), "")
    }
    assert sorted(server.paths) == sorted(f"/{i}.jpg" for i in range(30))
    assert server.connections == 1


def test_an_http_2_connection_with_an_abandoned_body_is_not_used_again(
    fetcher: Fetcher, authority: trustme.CA, trusting: ssl.SSLContext
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("shop.example").configure_cert(context)
    server = Http2Server(context, b"<html>" + bytes(60_000))
    try:
        fetcher.limit(ports=frozenset({server.port}), retries=0, concurrent=1)
        urls = [f"https://shop.example:{server.port}/{i}.jpg" for i in range(5)]
        results = fetcher.all(*urls, resolve=names("127.0.0.1"), ssl_context=trusting)
    finally:
        server.stop()
    assert {r.reason for r in results} == {"not an image (text/html)"}
    assert server.connections == 5
