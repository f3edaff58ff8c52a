"""Connections to validated addresses only: the network backend that we give httpcore.

httpcore's own backend takes a host name and connects to whatever it resolves to. This one resolves,
validates every address, and connects to a validated one. It uses asyncio's transports directly,
because httpcore's own streams do not reveal bytes that they have buffered: those that a server
sends after its response would be taken for the response to the next URL. They also take 7 % more
processor time for an image of 100 KB.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

import anyio
import httpcore

from pipeline.fetch.addresses import AllowList
from pipeline.fetch.resolver import Resolver, validated_addresses

# Read no further ahead of the consumer: this, times the connections, is memory.
HIGH_WATER_BYTES = 256 * 1024
# What may come in without a response or a piece of its body coming of it. No protocol ends interim
# answers, pings and settings. An HTTP/2 connection is given a window of 16 MB, and bodies of other
# streams than the reader's own count here until their readers run.
MAX_IDLE_TALK_BYTES = 1024 * 1024
MAX_IDLE_TALK_HTTP2_BYTES = 32 * 1024 * 1024


class _Wire(asyncio.Protocol):
    """Received bytes, and one reader that may wait for them."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.chunks: deque[bytes] = deque()
        self.buffered_bytes = 0
        self.ended = False
        self.error: Exception | None = None
        self._reading_paused = False
        self._readable: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._writing_paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.chunks.append(data)
        self.buffered_bytes += len(data)
        if self.buffered_bytes > HIGH_WATER_BYTES and not self._reading_paused:
            assert self.transport is not None
            self._reading_paused = True
            self.transport.pause_reading()
        _wake(self._readable)

    def eof_received(self) -> bool:
        self.ended = True
        _wake(self._readable)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        self.error = exc
        _wake(self._readable)
        _wake(self._writable)

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        _wake(self._writable)

    async def take(self, max_bytes: int, timeout_s: float | None) -> bytes:
        """The next bytes, at most ``max_bytes``; ``b""`` at the end.

        Raises:
            TimeoutError: nothing came for ``timeout_s`` seconds.
            OSError: the connection was lost.
        """
        if not self.chunks and not self.ended:
            self._readable = asyncio.get_running_loop().create_future()
            await _within(self._readable, timeout_s)
        if not self.chunks:
            if self.error is not None:
                raise self.error
            return b""
        data = self.chunks.popleft()
        if len(data) > max_bytes:
            self.chunks.appendleft(data[max_bytes:])
            data = data[:max_bytes]
        self.buffered_bytes -= len(data)
        if self._reading_paused and self.buffered_bytes <= HIGH_WATER_BYTES // 2:
            assert self.transport is not None
            self._reading_paused = False
            if not self.transport.is_closing():
                self.transport.resume_reading()
        return data

    async def drained(self, timeout_s: float | None) -> None:
        if self._writing_paused and not self.ended:
            self._writable = asyncio.get_running_loop().create_future()
            await _within(self._writable, timeout_s)


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


async def _within(waiter: asyncio.Future[None], timeout_s: float | None) -> None:
    if timeout_s is None:
        await waiter
        return
    loop = asyncio.get_running_loop()
    alarm = loop.call_later(timeout_s, _time_out, waiter)
    try:
        await waiter
    finally:
        alarm.cancel()


def _time_out(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError())


class Stream(httpcore.AsyncNetworkStream):
    """One connection, plain or under TLS."""

    def __init__(self, wire: _Wire) -> None:
        self._wire = wire
        self._idle_talk_bytes = 0
        self._max_idle_talk_bytes = MAX_IDLE_TALK_BYTES

    def came_to_something(self) -> None:
        """What was read yielded a response, or a piece of its body."""
        self._idle_talk_bytes = 0

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """The next bytes; ``b""`` when the other side ended. ``timeout`` in seconds."""
        try:
            data = await self._wire.take(max_bytes, timeout)
        except TimeoutError as error:
            raise httpcore.ReadTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.ReadError(_words(error)) from error
        self._idle_talk_bytes += len(data)
        if self._idle_talk_bytes > self._max_idle_talk_bytes:
            raise httpcore.RemoteProtocolError(
                f"{self._max_idle_talk_bytes:,} bytes, and no response among them"
            )
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Hand ``buffer`` to the connection; waits while the other side does not take it."""
        wire = self._wire
        if not buffer:
            return
        if wire.transport is None or wire.transport.is_closing():
            raise httpcore.WriteError("the connection is closed")
        wire.transport.write(buffer)
        try:
            await wire.drained(timeout)
        except TimeoutError as error:
            raise httpcore.WriteTimeout(str(error)) from error

    async def aclose(self) -> None:
        """Close at once: there is nothing worth waiting for."""
        if self._wire.transport is not None:
            self._wire.transport.abort()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Switch to TLS; the certificate must be valid for ``server_hostname``.

        Raises:
            httpcore.ConnectError: the certificate or the handshake failed.
            httpcore.ConnectTimeout: not done within ``timeout`` seconds.
        """
        wire = self._wire
        assert wire.transport is not None
        if wire.chunks:
            # A man in the middle could send a plain-text response before the handshake, and it
            # would be read as if it had come over TLS.
            wire.transport.abort()
            raise httpcore.ConnectError("bytes came before the TLS handshake")
        try:
            with anyio.fail_after(timeout):
                transport = await asyncio.get_running_loop().start_tls(
                    wire.transport, wire, ssl_context, server_hostname=server_hostname
                )
        except TimeoutError as error:
            wire.transport.abort()
            raise httpcore.ConnectTimeout("no TLS handshake in time") from error
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            wire.transport.abort()
            raise httpcore.ConnectError(_words(error)) from error
        except BaseException:
            wire.transport.abort()
            raise
        if transport is None:
            raise httpcore.ConnectError("the connection ended during the TLS handshake")
        wire.transport = transport
        if transport.get_extra_info("ssl_object").selected_alpn_protocol() == "h2":
            self._max_idle_talk_bytes = MAX_IDLE_TALK_HTTP2_BYTES
        return self

    def get_extra_info(self, info: str) -> Any:
        """What httpcore queries about a connection: its TLS, its ends, and whether it was
        dropped."""
        wire = self._wire
        if info == "is_readable":
            return bool(wire.chunks) or wire.ended or wire.transport is None
        names = {"ssl_object": "ssl_object", "client_addr": "sockname", "server_addr": "peername"}
        if wire.transport is None or info not in names:
            return None
        return wire.transport.get_extra_info(names[info])


class ValidatedBackend(httpcore.AsyncNetworkBackend):
    """Resolves a name once, validates every address, connects to one of them.

    Raises :class:`~pipeline.fetch.resolver.AddressRefused` where one of them is not public.
    """

    def __init__(self, resolve: Resolver, allow: AllowList) -> None:
        self._resolve = resolve
        self._allow = allow

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to ``host`` within ``timeout`` seconds, the resolving of the name included."""
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            with anyio.fail_after(timeout):
                addresses = await validated_addresses(host, self._resolve, self._allow)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(f"{host} did not resolve in time") from error
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} does not resolve: {_words(error)}") from error
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            # The remaining time is shared, so that one dead address leaves some to the next.
            share_s = None if deadline is None else max(0.0, deadline - time.monotonic()) / left
            try:
                return await _connect(address, port, share_s)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Always refuses: a local socket is not a public address."""
        raise httpcore.ConnectError("local sockets are not fetched from")

    async def sleep(self, seconds: float) -> None:
        """Wait ``seconds``."""
        await asyncio.sleep(seconds)


async def _connect(address: str, port: int, timeout_s: float | None) -> Stream:
    wire = _Wire()
    try:
        with anyio.fail_after(timeout_s):
            await asyncio.get_running_loop().create_connection(lambda: wire, address, port)
    except TimeoutError as error:
        raise httpcore.ConnectTimeout("no connection in time") from error
    except OSError as error:
        raise httpcore.ConnectError(_words(error)) from error
    return Stream(wire)


def _words(error: Exception) -> str:
    """The error in words, without the address that asyncio writes into some of its messages."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not valid: {error.verify_message}"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, OSError) and error.strerror and "('" not in error.strerror:
        return error.strerror
    return type(error).__name__
