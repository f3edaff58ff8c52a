"""Limits on connections and on the form of requests, which apply before anybody has logged in.

uvicorn has none of them: its parser takes headers without end, waits for them without end, and
keeps accepting until the process has no descriptor left, which the worker needs too. The protocol
here is uvicorn's own for httptools, with counts in its parser's callbacks and a deadline that the
server checks at every tick.

Stands on these parts of uvicorn that are not documented: the callbacks of ``HttpToolsProtocol``,
its ``parser``, ``transport``, ``flow``, ``url``, ``headers``, ``cycle``, ``pipeline``,
``server_state``, ``timeout_keep_alive`` and ``send_400_response``, the events of its cycle, and
``on_tick`` and ``startup`` of the server. ``tests/web/test_connections.py`` says so when one of
them is gone.
"""

from __future__ import annotations

import asyncio
import functools
import http
import ipaddress
import logging
import math
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# asyncio accepts as many in one go, beyond any cap; more may wait in the kernel.
ACCEPTED_AT_ONCE = 128
WAITING = 2048
# A body that brings less than this between two deadlines has stalled.
PROGRESS_BYTES = 1024
# What may come after a refusal; closed at once, the kernel would take the refusal back.
LINGER_S = 2.0
ACCEPT_ERROR_EVERY_S = 60.0
# Copying more than this costs more than a second call of the system.
SENT_WITH_HEAD_BYTES = 32 << 10
# Enough for any file, and short enough for Python to read as a number.
LENGTH_DIGITS = 18
# A proxy on this machine connects from here for everybody, and has limits of its own.
OF_PROXIES = ("127.0.0.1", "::1")

# From a URL and headers to the head of a response, without its last line end, and its body.
# ``None``: the application answers.
AtOnce = Callable[[bytes, list[tuple[bytes, bytes]]], tuple[bytes, bytes] | None]

log = logging.getLogger("lockstep.web")


@dataclass(frozen=True)
class ConnectionLimits:
    """What one connection may take, and how many there may be."""

    connections: int
    headers: int = 100
    head_bytes: int = 64 << 10
    url_bytes: int = 8 << 10
    # Chunk extensions and trailers, beyond what a body in chunks of any size needs.
    framing_bytes: int = 16 << 10
    # Requests that wait for the response to the one before them.
    pipelined: int = 16
    head_s: float = 10.0
    body_s: float = 30.0
    # For a client that does not read its response.
    unread_s: float = 60.0

    @property
    def of_one_address(self) -> int:
        """One address leaves room for others."""
        return max(1, self.connections // 2)


class Connections:
    """Those that are open, in the order in which they came."""

    def __init__(self, limits: ConnectionLimits, at_once: AtOnce | None = None) -> None:
        self.limits = limits
        self.at_once = at_once
        self._open: dict[Connection, None] = {}
        self._of: dict[str, dict[Connection, None]] = {}

    def admit(self, connection: Connection) -> bool:
        """Whether there is room for it, if need be in place of the oldest without a request."""
        address = connection.address
        of_it = self._of.get(address, {})
        of_all = self.limits.connections
        of_one = of_all if address in OF_PROXIES else self.limits.of_one_address
        for those, most in ((of_it, of_one), (self._open, of_all)):
            if len(those) >= most:
                idle = next((each for each in those if each.is_idle), None)
                if idle is None:
                    return False
                idle.transport.abort()
                self.forget(idle)
        self._open[connection] = None
        self._of.setdefault(address, {})[connection] = None
        return True

    def forget(self, connection: Connection) -> None:
        """It is closed."""
        self._open.pop(connection, None)
        of_it = self._of.get(connection.address, {})
        of_it.pop(connection, None)
        if not of_it:
            self._of.pop(connection.address, None)

    def check(self) -> None:
        """Close those whose time is over."""
        now = time.monotonic()
        for connection in list(self._open):
            connection.check(now)


class Refused(Exception):
    """Stops the parser."""


class Connection(HttpToolsProtocol):
    """uvicorn's protocol, within limits."""

    def __init__(self, connections: Connections, **options: Any) -> None:
        super().__init__(**options)
        self.known = connections
        self.limits = connections.limits
        self.address = ""
        self.status = 400
        self.is_refused = self.is_answered = False
        self.in_head = self.in_body = False
        self.deadline = math.inf
        # Bytes since the last whole head or body, and those of the headers that are complete.
        self.unparsed_bytes = self.header_bytes = self.header_count = 0
        self.framing_bytes = self.fresh_bytes = 0
        self.unread_bytes, self.unread_until = 0, math.inf

    @property
    def is_idle(self) -> bool:
        """No request has been received whole that is not answered."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.address = _network(self.client[0] if self.client else "")
        self._within(self.limits.head_s)
        if not self.known.admit(self):
            transport.write(_response(503))
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.known.forget(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.is_refused:
            return
        self.unparsed_bytes += len(data)
        if self.in_body:
            self.framing_bytes += len(data)
        super().data_received(data)
        if self.is_refused:
            return
        self.framing_bytes = max(0, self.framing_bytes)
        if self.in_body:
            if self.framing_bytes > self.limits.framing_bytes:
                self._refuse(400)
        elif self.unparsed_bytes > self.limits.head_bytes + self.limits.url_bytes:
            self._refuse(431)

    def send_400_response(self, msg: str) -> None:
        # The parser has stopped, by itself or by `_stop`.
        self._refuse(self.status)

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= self.limits.pipelined:
            self._stop(503)
        self.in_head = True
        self.header_bytes = self.header_count = 0
        if self.is_idle:
            self._within(self.limits.head_s)
        super().on_message_begin()
        # The address that is connected, whatever a header says of the client behind it.
        self.scope["state"]["peer"] = self.client[0] if self.client else ""

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > self.limits.url_bytes:
            self._stop(414)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.header_count += 1
        self.header_bytes += len(name) + len(value) + len(": \r\n")
        if self.header_count > self.limits.headers or self.header_bytes > self.limits.head_bytes:
            self._stop(431)
        if self.in_body:
            return  # a trailer: the guard has seen the headers, and nothing may be added to them
        if len(value) > LENGTH_DIGITS and name.lower() == b"content-length":
            self._stop(400)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self.in_head, self.in_body = False, True
        self.unparsed_bytes = self.framing_bytes = self.fresh_bytes = 0
        self.is_answered = self._answer_at_once()
        if not self.is_answered:
            super().on_headers_complete()
        self._within(self.limits.body_s)

    def on_chunk_header(self) -> None:
        # Room for its size in digits, and for the line ends.
        self.framing_bytes -= 16

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self.framing_bytes -= 3 * len(body)
        self.fresh_bytes += len(body)
        # The rest of a body that has been answered already gets no more time.
        if self.fresh_bytes >= PROGRESS_BYTES and not self.cycle.response_complete:
            self.fresh_bytes = 0
            self._within(self.limits.body_s)

    def on_message_complete(self) -> None:
        self.in_body = False
        self.unparsed_bytes = 0
        if self.is_answered:
            self._within(self.timeout_keep_alive)
            return
        super().on_message_complete()
        self._within(self.limits.head_s if self.is_idle else math.inf)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.pipeline:
            self._within(self.limits.head_s)

    def check(self, now: float) -> None:
        """Close this connection if its time is over."""
        unread_bytes = self.transport.get_write_buffer_size()
        if unread_bytes != self.unread_bytes:
            self.unread_bytes, self.unread_until = unread_bytes, now + self.limits.unread_s
        if unread_bytes:
            if now >= self.unread_until:
                self.transport.abort()
        elif now >= self.deadline:
            if self.flow.read_paused:
                self._within(self.limits.body_s)  # it is we who do not read
            elif self.in_head or self.in_body:
                self._refuse(408)
            else:
                self.transport.abort()

    def _answer_at_once(self) -> bool:
        """Send what needs no application; its task and events cost more than a small file."""
        # A client that does not read must not fill the memory with responses.
        if self.known.at_once is None or not self.is_idle or self.flow.write_paused:
            return False
        if self.parser.get_method() != b"GET" or self.transport.is_closing():
            return False
        found = self.known.at_once(self.url, self.headers)
        if found is None:
            return False
        head, body = found
        stays = self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive()
        fields = [name + b": " + value for name, value in self.server_state.default_headers]
        if not stays:
            fields.append(b"connection: close")
        start = b"\r\n".join((head, *fields, b"", b""))
        if len(body) < SENT_WITH_HEAD_BYTES:
            self.transport.write(start + body)
        else:
            self.transport.write(start)
            self.transport.write(body)
        if not stays:
            self.transport.close()
        return True

    def _within(self, seconds: float) -> None:
        if not self.is_refused:
            self.deadline = time.monotonic() + seconds

    def _stop(self, status: int) -> NoReturn:
        self.status = status
        raise Refused

    def _refuse(self, status: int) -> None:
        if self.is_refused:
            self.transport.abort()
            return
        cycle, is_idle = self.cycle, self.is_idle
        # A request whose body is refused is not answered yet; any other one will be.
        is_its_own = self.in_body and not (self.pipeline or is_idle or cycle.response_started)
        self._within(LINGER_S)
        self.is_refused = True
        if not is_idle:
            cycle.disconnected = True
            cycle.message_event.set()
        if not (is_idle or is_its_own):
            self.transport.abort()
            return
        if not (self.in_body and is_idle):
            self.transport.write(_response(status))
        self.flow.resume_reading()
        self.transport.write_eof()


class Server(uvicorn.Server):
    """uvicorn's server, which checks its connections at every tick, ten times a second."""

    def __init__(
        self, app: ASGIApp, limits: ConnectionLimits, at_once: AtOnce | None = None, **options: Any
    ) -> None:
        self.connections = Connections(limits, at_once)
        config = uvicorn.Config(
            app,
            http=functools.partial(Connection, self.connections),  # type: ignore[arg-type]
            # A library for them that happens to be installed must not open a door without limits.
            ws="none",
            loop="asyncio",
            backlog=min(ACCEPTED_AT_ONCE, limits.connections),
            log_config=None,
            # Its warnings are about single requests: anybody could fill the log.
            log_level=logging.ERROR,
            access_log=False,
            server_header=False,
            **options,
        )
        super().__init__(config)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().set_exception_handler(Accepting())
        await super().startup(sockets)
        for listening in sockets or ():
            listening.listen(WAITING)

    async def on_tick(self, counter: int) -> bool:
        self.connections.check()
        return await super().on_tick(counter)


class Accepting:
    """The loop's handler of errors. asyncio reports each failed accept thousands of times."""

    def __init__(self) -> None:
        self.silent_until = -math.inf

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log a failed accept at most once a minute, and everything else as usual."""
        if "accept" not in context["message"].lower():
            loop.default_exception_handler(context)
        elif time.monotonic() >= self.silent_until:
            self.silent_until = time.monotonic() + ACCEPT_ERROR_EVERY_S
            log.warning(
                "connections cannot be accepted now (%s); if this goes on, raise the limit of open "
                "files (LimitNOFILE)",
                context.get("exception"),
            )


def _network(address: str) -> str:
    """What counts as one address: of IPv6, the 64 bits that one customer has for himself."""
    if ":" not in address:
        return address
    if address in OF_PROXIES:
        return address
    known = ipaddress.IPv6Address(address.partition("%")[0])
    if known.ipv4_mapped is not None:
        return str(known.ipv4_mapped)
    return f"{int(known) >> 64:x}::/64"


def _response(status: int) -> bytes:
    words = http.HTTPStatus(status).phrase
    return (
        f"HTTP/1.1 {status} {words}\r\ncontent-type: text/plain; charset=utf-8\r\n"
        f"content-length: {len(words)}\r\nx-content-type-options: nosniff\r\n"
        f"connection: close\r\n\r\n{words}"
    ).encode("ascii")
