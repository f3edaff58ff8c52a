"""Requests byte by byte over sockets, and a small site with limits of its own to send them to."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from pipeline.web import connections
from pipeline.web.connections import AtOnce, ConnectionLimits

HEAD = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = b"POST /login HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
CHUNKED += b"Content-Type: application/json\r\n\r\n"
POST = b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"


def connect(url: str, source: str = "127.0.0.1") -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), 30, (source, 0))


def until_closed(connection: socket.socket) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            received += piece
    return received


def status_of(received: bytes) -> int | None:
    return int(received.split()[1]) if received.startswith(b"HTTP/1.1 ") else None


def ask(url: str, request: bytes, source: str = "127.0.0.1") -> int | None:
    with connect(url, source) as connection:
        connection.sendall(request)
        return status_of(connection.recv(65536))


async def site(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the length of the body; `/now` before it was read, `/stream` for ever."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    request = Request(scope, receive)
    response: PlainTextResponse | StreamingResponse = PlainTextResponse("now")
    if scope["path"] == "/stream":

        async def lines() -> AsyncIterator[bytes]:
            while True:
                yield b"a line\n" * 50_000
                await asyncio.sleep(0.01)

        response = StreamingResponse(lines())
    elif scope["path"] != "/now":
        try:
            response = PlainTextResponse(str(len(await request.body())))
        except ClientDisconnect:
            return
    await response(scope, receive, send)


@contextlib.contextmanager
def limited(at_once: AtOnce | None = None, **limits: float) -> Iterator[str]:
    """The address of a server in this process with limits of our own."""
    listening = socket.create_server(("127.0.0.1", 0))
    settings: dict[str, Any] = {"connections": 20, **limits}
    server = connections.Server(
        site, ConnectionLimits(**settings), at_once, timeout_graceful_shutdown=1
    )
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)


def drip(connection: socket.socket, byte: bytes) -> bytes:
    """Send a byte at a time until the server has closed the connection; what it sent."""
    connection.settimeout(0.02)
    received = b""
    for _ in range(3000):
        try:
            connection.send(byte)
            piece = connection.recv(65536)
        except TimeoutError:
            continue
        except ConnectionError:
            return received
        if not piece:
            return received
        received += piece
    raise AssertionError("the server never closed the connection")
