"""What a stranger can do to the server with connections alone, before logging in.

Every attack is made over real sockets, bounded in bytes and connections. Those whose defence is a
time limit meet the same server in this process, with limits of a fraction of a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import uvicorn
from a_project import Project
from a_server import Server, serving
from raw_requests import CHUNKED, HEAD, POST, ask, connect, drip, limited, status_of, until_closed
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from pipeline.web import connections
from pipeline.web.connections import ConnectionLimits

TOKEN = "a-token-that-nobody-guesses"
CONNECTIONS = 40
# More than any limit, and little enough for a test.
FLOOD_BYTES = 16 << 20
GROWTH_BYTES = 24 << 20

needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads Linux's /proc")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    project = Project(tmp_path_factory.mktemp("connections") / "shop")
    project.env |= {"PIPELINE_TOKEN": TOKEN, "PIPELINE_MAX_CONNECTIONS": str(CONNECTIONS)}
    with serving(project, "--no-watch") as server:
        yield server


def flood(url: str, first: bytes, again: bytes) -> int | None:
    """Send ``first`` and then ``again`` as if without end; the status that comes back, if any."""
    piece = again * (65536 // len(again))
    with connect(url) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(first)
            for _ in range(FLOOD_BYTES // len(piece)):
                connection.sendall(piece)
        return status_of(until_closed(connection))


def peak_bytes(server: Server) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text("ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


def open_files(server: Server) -> int:
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


ENDLESS = {
    "headers": (HEAD, b"a: b\r\n", 431),
    "header": (HEAD + b"a: ", b"b", 431),
    "name of a header": (HEAD, b"b", 431),
    "URL": (b"GET /", b"a", 414),
    "query": (b"GET /?", b"a", 414),
    "method": (b"", b"A", 400),
    "blank lines": (b"", b"\r\n", 431),
    "chunk extension": (CHUNKED + b"1;", b"a", 400),
    "chunk extensions": (CHUNKED, b"1;" + b"a" * 500 + b"\r\nx\r\n", 400),
    "chunk size": (CHUNKED, b"0", 400),
    "trailer": (CHUNKED + b"0\r\na: ", b"b", 400),
    "trailers": (CHUNKED + b"0\r\n", b"a: b\r\n", 431),
    "requests in one go": (b"", HEAD + b"\r\n", None),
}


@needs_proc
@pytest.mark.parametrize("what", ENDLESS)
def test_what_never_ends_takes_no_memory_and_is_refused(server: Server, what: str) -> None:
    first, again, status = ENDLESS[what]
    server.get("/healthz")
    before_bytes = peak_bytes(server)
    # 429: so many have tried to log in from this address that this one is not even read.
    refused = (status, 429) if first.startswith(b"POST /login") else (status,)
    assert flood(server.url, first, again) in refused
    assert peak_bytes(server) - before_bytes < GROWTH_BYTES
    assert server.get("/healthz").status_code == 200
    assert "Traceback" not in "".join(server.log)


def test_headers_below_the_limits_pass_and_above_them_are_refused(server: Server) -> None:
    def of(count: int, size: int) -> bytes:
        return HEAD + b"".join(b"x-%d: %s\r\n" % (n, b"y" * size) for n in range(count)) + b"\r\n"

    assert ask(server.url, of(99, 600)) == 200
    assert ask(server.url, of(100, 1)) == 431
    assert ask(server.url, of(99, 700)) == 431


def test_a_url_below_the_limit_passes_and_above_it_is_refused(server: Server) -> None:
    def of(size: int) -> bytes:
        return b"GET /healthz?%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % (b"a" * size)

    assert ask(server.url, of(8000)) == 200
    assert ask(server.url, of(8200)) == 414


@pytest.mark.parametrize("digits", [b"9" * 5000, b"0" * 5000, b"0" * 4999 + b"1"])
def test_a_content_length_of_5000_digits_is_a_bad_request(server: Server, digits: bytes) -> None:
    post = b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: %s\r\n\r\n" % digits
    assert ask(server.url, post) == 400
    assert "Traceback" not in "".join(server.log)


def test_a_body_in_many_small_chunks_is_no_attack(server: Server) -> None:
    # One wrong token of an address is looked at in a second.
    assert server.until(lambda: (found := in_small_chunks(server)) != 429 and found) == 401


def in_small_chunks(server: Server) -> int | None:
    with connect(server.url) as connection:
        form = CHUNKED.replace(b"\r\n\r\n", b"\r\nOrigin: %s\r\n\r\n" % server.url.encode())
        form = form.replace(b"localhost", server.url.partition("//")[2].encode())
        kind = b"\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\n"
        connection.sendall(form.replace(b"\r\n\r\n", kind))
        for byte in b"token=" + b"a" * 20_000:
            connection.send(b"1\r\n%c\r\n" % byte)
        connection.sendall(b"0\r\nTrailer: one\r\n\r\n")
        return status_of(connection.recv(65536))


def test_a_client_that_leaves_in_the_middle_of_its_body_leaves_no_traceback(server: Server) -> None:
    with connect(server.url) as connection:
        post = b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
        connection.sendall(post + b"Content-Type: application/json\r\n\r\n{")
        time.sleep(0.1)
    assert server.get("/healthz").status_code == 200
    time.sleep(0.2)
    assert "Traceback" not in "".join(server.log)


@needs_proc
def test_idle_connections_beyond_the_cap_make_room_for_a_request(server: Server) -> None:
    before = open_files(server)
    with contextlib.ExitStack() as stack:
        for _ in range(4 * CONNECTIONS):
            stack.enter_context(connect(server.url))
        for path in ("/healthz", "/login"):
            get = b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path.encode()
            assert ask(server.url, get) == 200
        assert open_files(server) - before <= CONNECTIONS


SLOW = {
    "headers": (HEAD + b"a: ", b"b", 408),
    "blank lines": (b"", b"\n", None),
    "body": (POST % (b"/", 10_000_000), b"a", 408),
    "body in chunks": (CHUNKED + b"ffff\r\n", b"a", 408),
    "body after its answer": (POST % (b"/now", 10_000_000), b"a" * 5000, 200),
    "headers after a request": (HEAD + b"\r\n" + HEAD, b"b", 200),
}


@pytest.mark.parametrize("what", SLOW)
def test_what_comes_in_drips_is_given_up(what: str) -> None:
    first, again, status = SLOW[what]
    with limited(head_s=0.3, body_s=0.5) as url, connect(url) as connection:
        connection.sendall(first)
        assert status_of(drip(connection, again)) == status


@pytest.mark.parametrize("first", [b"", HEAD, HEAD + b"\r\n", POST % (b"/", 10)])
def test_a_connection_that_does_nothing_more_is_closed(first: bytes) -> None:
    with limited(head_s=0.3, body_s=0.3) as url, connect(url) as connection:
        connection.sendall(first)
        until_closed(connection)


def test_a_client_that_does_not_read_its_response_is_cut_off() -> None:
    with limited(unread_s=0.5) as url, connect(url) as connection:
        connection.sendall(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(3)
        # What the kernel holds is all that is left of an endless stream.
        until_closed(connection)


def test_a_slow_body_that_goes_on_and_a_long_response_are_no_attack() -> None:
    with limited(head_s=0.3, body_s=0.5) as url, connect(url) as connection:
        connection.sendall(POST % (b"/", 20 * 2000))
        for _ in range(20):
            connection.sendall(b"a" * 2000)
            time.sleep(0.05)
        assert connection.recv(65536).endswith(b"40000")
        connection.sendall(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        until = time.monotonic() + 1
        while time.monotonic() < until:
            assert connection.recv(65536)


def busy(url: str, source: str) -> socket.socket:
    """A connection whose request is not answered yet."""
    connection = connect(url, source)
    connection.sendall(POST % (b"/", 10))
    return connection


def test_one_address_leaves_room_for_others() -> None:
    with limited(connections=10) as url, contextlib.ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(busy(url, "127.0.0.2"))
        time.sleep(0.2)
        assert ask(url, HEAD + b"\r\n", "127.0.0.2") == 503
        # Not even one that sends nothing gets in for longer.
        with connect(url, "127.0.0.2") as connection:
            assert status_of(until_closed(connection)) == 503
        assert ask(url, HEAD + b"\r\n", "127.0.0.3") == 200


def test_a_proxy_on_this_machine_may_have_all_connections() -> None:
    with limited(connections=10) as url, contextlib.ExitStack() as stack:
        for _ in range(9):
            stack.enter_context(busy(url, "127.0.0.1"))
        time.sleep(0.2)
        assert ask(url, HEAD + b"\r\n") == 200
        stack.enter_context(busy(url, "127.0.0.1"))
        time.sleep(0.2)
        assert ask(url, HEAD + b"\r\n") == 503


def test_an_ipv6_customer_is_one_address() -> None:
    assert connections._network("2001:db8:1:2::1") == connections._network("2001:db8:1:2:ffff::2")
    assert connections._network("2001:db8:1:2::1") != connections._network("2001:db8:1:3::1")
    assert connections._network("::ffff:192.0.2.1") == "192.0.2.1"
    assert connections._network("fe80::1%eth0") == connections._network("fe80::1")


def test_a_failed_accept_is_logged_once_and_does_not_end_the_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    with limited() as url, contextlib.ExitStack() as stack:
        parts = urlsplit(url)
        waiting = [stack.enter_context(socket.socket()) for _ in range(20)]
        lowest_free = os.dup(0)
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, files[1]))
        try:
            for each in waiting:
                each.connect((parts.hostname, parts.port))
            for _ in range(500):
                if caplog.records:
                    break
                time.sleep(0.01)
            time.sleep(2.5)  # asyncio tries again every second
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, files)
        assert ["accepted" in record.message for record in caplog.records] == [True]
        assert ask(url, HEAD + b"\r\n") == 200


def test_other_errors_of_the_loop_are_logged_as_ever(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.new_event_loop()
    connections.Accepting()(loop, {"message": "a task failed"})
    loop.close()
    assert [record.message for record in caplog.records] == ["a task failed"]


def test_a_websocket_opens_no_door_without_limits(server: Server) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    key = b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    assert ask(server.url, HEAD + upgrade + key) == 200


def test_the_limits_are_those_that_the_documentation_names() -> None:
    assert ConnectionLimits(connections=300) == ConnectionLimits(
        300, 100, 65536, 8192, 16384, 16, 10, 30, 60
    )
    assert ConnectionLimits(connections=300).of_one_address == 150


def test_more_connections_than_descriptors_allow_are_refused_at_start(tmp_path: Path) -> None:
    project = Project(tmp_path / "shop")
    project.env["PIPELINE_MAX_CONNECTIONS"] = "999999"
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    answer = project.script(
        "serve",
        "--port",
        "0",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1024, files[1])),
    )
    assert answer.code == 2
    assert "PIPELINE_MAX_CONNECTIONS=999999" in answer.stderr
    assert "at most 512" in answer.stderr


def test_uvicorn_still_has_the_parts_that_the_limits_stand_on() -> None:
    callbacks = ("message_begin", "url", "header", "headers_complete", "body", "message_complete")
    for name in (*callbacks, "response_complete"):
        assert callable(getattr(HttpToolsProtocol, f"on_{name}")), name
    # Called by the parser if it is there, so uvicorn must not have one of its own.
    assert not hasattr(HttpToolsProtocol, "on_chunk_header")
    refusing = inspect.signature(HttpToolsProtocol.send_400_response)
    assert list(refusing.parameters) == ["self", "msg"]
    known = inspect.getsource(HttpToolsProtocol)
    names = ("transport", "flow", "url", "headers", "cycle", "pipeline", "client", "parser")
    for name in (*names, "server_state", "timeout_keep_alive"):
        assert f"self.{name}" in known, name
    assert "self.send_400_response(msg)" in inspect.getsource(HttpToolsProtocol.data_received)
    cycle = inspect.getsource(RequestResponseCycle.__init__)
    for name in ("disconnected", "message_event", "response_started", "response_complete"):
        assert f"self.{name}" in cycle, name
    assert "self.read_paused" in inspect.getsource(FlowControl)
    assert asyncio.iscoroutinefunction(uvicorn.Server.on_tick)
    assert asyncio.iscoroutinefunction(uvicorn.Server.startup)
