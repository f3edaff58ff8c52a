"""Open pages: many of them cost no more than one, and beyond the limit a page polls."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import httpx
import pytest
import sqlalchemy as sa
from a_project import Project
from a_server import Server, serving

from pipeline.web.listeners import STREAMS, Listeners


class Table:
    """The clock of the tables, and how often it was read; the poll goes on when the test says."""

    def __init__(self) -> None:
        self.clock = "1"
        self.reads = 0
        self.is_gone = False
        self._next = asyncio.Semaphore(0)
        self._paused = asyncio.Event()

    def read(self) -> str:
        self.reads += 1
        if self.is_gone:
            raise sa.exc.OperationalError("SELECT", {}, Exception("gone"))
        return self.clock

    async def pause(self, seconds: float) -> None:
        self._paused.set()
        await self._next.acquire()

    async def poll(self) -> None:
        """Let the poll read once more, and wait until it has."""
        self._paused.clear()
        self._next.release()
        await asyncio.wait_for(self._paused.wait(), 30)

    async def begun(self) -> None:
        await asyncio.wait_for(self._paused.wait(), 30)


def test_all_open_pages_share_one_poll() -> None:
    async def many() -> None:
        table = Table()
        listeners = Listeners(table.read, table.pause)
        with contextlib.ExitStack() as stack:
            pages = [stack.enter_context(listeners.one()) for _ in range(300)]
            await table.begun()
            assert table.reads == 1
            for _ in range(3):
                await table.poll()
            assert table.reads == 4
            assert not any(page.is_set() for page in pages)
            table.clock = "2"
            await table.poll()
            assert table.reads == 5
            assert all(page.is_set() for page in pages)
        # Nobody listens any more, so nothing is read any more.
        table._next.release()
        await asyncio.wait_for(listeners._looking, 30)  # type: ignore[arg-type]
        assert table.reads == 5
        # A page that comes later hears of what moved meanwhile.
        table.clock = "3"
        with listeners.one() as page:
            await table.poll()
            assert page.is_set()

    asyncio.run(many())


def test_a_page_that_polls_hears_of_the_same_moves() -> None:
    async def polling() -> None:
        table = Table()
        listeners = Listeners(table.read, table.pause)
        before = listeners.polled()
        await table.begun()
        assert [listeners.polled() for _ in range(50)] == [before] * 50
        assert table.reads == 1
        table.clock = "2"
        await table.poll()
        assert listeners.polled() > before
        assert table.reads == 2

    asyncio.run(polling())


def test_a_database_that_is_gone_for_a_while_ends_no_poll(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def failing() -> None:
        table = Table()
        listeners = Listeners(table.read, table.pause)
        with listeners.one() as page:
            await table.begun()
            table.is_gone = True
            for _ in range(5):
                await table.poll()
            assert len(caplog.records) == 1
            table.is_gone, table.clock = False, "2"
            await table.poll()
            assert page.is_set()

    asyncio.run(failing())


@pytest.fixture
def server(project: Project) -> Iterator[Server]:
    with serving(project, "--no-watch") as server:
        yield server


def opened(server: Server) -> socket.socket:
    """A stream of events whose answer is still to be read."""
    url = httpx.URL(server.url)
    stream = socket.create_connection((url.host, url.port), 30)
    stream.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
    return stream


def test_beyond_the_limit_a_page_is_told_to_poll(server: Server) -> None:
    # All at once: none may slip in between another's question and its answer.
    streams = [opened(server) for _ in range(STREAMS + 20)]
    answers = [stream.recv(12) for stream in streams]
    try:
        assert answers.count(b"HTTP/1.1 200") == STREAMS
        assert answers.count(b"HTTP/1.1 204") == 20
        polled = server.get("/events.json")
        assert polled.headers["cache-control"] == "no-store"
        moves = polled.json()["moves"]
        assert server.get("/healthz").status_code == 200
        server.project.add("a.png")
        assert server.project.process("run").code == 0
        server.until(lambda: server.get("/events.json").json()["moves"] > moves)
        # A page that is closed makes room.
        streams[answers.index(b"HTTP/1.1 200")].close()
        server.until(lambda: _is_heard(server))
    finally:
        for stream in streams:
            stream.close()


def _is_heard(server: Server) -> bool:
    with opened(server) as stream:
        return stream.recv(12) == b"HTTP/1.1 200"
