"""httpx over connections to validated addresses, kept open and reused.

Besides the checks, there is a reason of speed. httpx's pool compares every connection with every
other at every request: with 32 open connections it moves 240 images of 100 KB a second on a core
that moves 770 with 6. Here a request looks at the idle connections of its own host only; how many
may be open is the scheduler's business (``schedule``), and a cap on idle ones.
"""

from __future__ import annotations

import contextlib
import ssl
from collections import Counter, OrderedDict
from collections.abc import AsyncIterable, AsyncIterator

import anyio
import httpcore
import httpx
from h2.exceptions import ProtocolError

from pipeline.fetch.addresses import AllowList
from pipeline.fetch.network import Stream, ValidatedBackend
from pipeline.fetch.resolver import Resolver, validated_addresses

KEEP_ALIVE_S = 15.0
MAX_IDLE_CONNECTIONS = 64
# For one request. A few are ordinary: one that was hoped to speak HTTP/2 and does not, kept ones
# that the server has closed. Without a limit, a server that says goodbye on each would be retried
# forever.
MAX_CONNECTIONS_TRIED = 100

# From httpcore's errors to httpx's, which go by the same names.
_ERRORS = {
    kind: getattr(httpx, name)
    for name, kind in vars(httpcore).items()
    if isinstance(kind, type) and issubclass(kind, Exception) and hasattr(httpx, name)
}
# How a request ends whose connection does. Over HTTP/2 it is our own fault as well, in httpcore's
# eyes, to speak after a goodbye that has just come.
_STALE = (
    httpcore.ReadError,
    httpcore.WriteError,
    httpcore.RemoteProtocolError,
    httpcore.LocalProtocolError,
)

Connection = httpcore.AsyncHTTPConnection
_Key = tuple[bytes, bytes, int]  # scheme, host, port


class ValidatedTransport(httpx.AsyncBaseTransport):
    """A transport for httpx that reaches public (and allowed) addresses only.

    It has no cookies, credentials or redirects, and knows no proxy but ``proxy_url``.
    """

    def __init__(
        self,
        resolve: Resolver,
        allow: AllowList,
        ssl_context: ssl.SSLContext | None = None,
        http2: bool = True,
        proxy_url: str | None = None,
    ) -> None:
        self._resolve = resolve
        self._allow = allow
        # trust_env=False: SSL_CERT_FILE and its like must not widen what a fetch trusts.
        self._ssl = ssl_context or httpx.create_ssl_context(trust_env=False)
        self._http2 = http2
        self._backend = ValidatedBackend(resolve, allow)
        self._open: dict[_Key, list[Connection]] = {}
        self._idle: OrderedDict[Connection, _Key] = OrderedDict()
        self._retired: set[Connection] = set()
        # Requests in progress. httpcore calls an HTTP/2 connection idle while one waits for its
        # turn.
        self._users: Counter[Connection] = Counter()
        self._proxy = (
            httpcore.AsyncHTTPProxy(
                proxy_url, ssl_context=self._ssl, http2=http2, max_connections=None
            )
            if proxy_url
            else None
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; the response's body is still to be read.

        Raises:
            AddressRefused: the host is not at public addresses only.
            httpx.TransportError: the network or the server failed.
        """
        url = request.url
        # A trailing dot makes a name absolute; certificates are made out without it.
        server_name = url.raw_host.decode("ascii").strip("[]").rstrip(".")
        assert isinstance(request.stream, AsyncIterable)
        core = httpcore.Request(
            request.method,
            httpcore.URL(
                scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
            ),
            headers=request.headers.raw,
            content=request.stream,
            extensions={**request.extensions, "sni_hostname": server_name},
        )
        try:
            response, stream = await (self._by_proxy(core) if self._proxy else self._direct(core))
        except Exception as error:
            raise mapped(error) from error
        if not 100 <= response.status <= 999:
            # Over HTTP/2 it may have a thousand digits, which no database takes.
            await stream.aclose()
            raise httpx.RemoteProtocolError("the response has no HTTP status")
        return httpx.Response(
            response.status,
            headers=response.headers,
            stream=stream,
            extensions=response.extensions,
            request=request,
        )

    async def aclose(self) -> None:
        """Close every connection."""
        connections = {c for listed in self._open.values() for c in listed}
        connections |= set(self._idle) | self._retired
        self._open.clear()
        self._idle.clear()
        self._retired.clear()
        for connection in connections:
            await connection.aclose()
        if self._proxy:
            await self._proxy.aclose()

    async def _direct(self, request: httpcore.Request) -> tuple[httpcore.Response, _Body]:
        origin = request.url.origin
        key = (origin.scheme, origin.host, origin.port)
        for _ in range(MAX_CONNECTIONS_TRIED):
            await self._close_expired(key)
            connection, used_before = self._take(key, origin)
            self._users[connection] += 1
            try:
                response = await connection.handle_async_request(request)
                return response, _Body(response, (self, connection, key))
            except httpcore.ConnectionNotAvailable:
                # HTTP/2 was hoped for, and the server speaks HTTP/1.1; or it sent GOAWAY.
                await self._released(connection, key, whole=True)
            except _STALE:
                # The server closed a kept connection just as we used it: its right (RFC 9112,
                # 9.3.1), and no failure of the image. A fresh connection cannot be in this case,
                # nor one that goes on: there the server refused this one request (HTTP/2).
                stale = used_before and not connection.is_available()
                await self._released(connection, key, whole=False)
                if not stale:
                    raise
            except BaseException:
                with anyio.CancelScope(shield=True):
                    await self._released(connection, key, whole=False)
                raise
        raise httpcore.ConnectError("no connection takes the request")

    async def _by_proxy(self, request: httpcore.Request) -> tuple[httpcore.Response, _Body]:
        # The proxy resolves the name again, so this is a check, not a guarantee. A name that only
        # the proxy can resolve is left to it.
        assert self._proxy is not None
        with contextlib.suppress(OSError):
            await validated_addresses(request.url.host.decode(), self._resolve, self._allow)
        response = await self._proxy.handle_async_request(request)
        return response, _Body(response)

    def _take(self, key: _Key, origin: httpcore.Origin) -> tuple[Connection, bool]:
        listed = self._open.setdefault(key, [])
        for connection in listed:
            if connection.is_available():
                self._idle.pop(connection, None)
                return connection, True
        connection = Connection(
            origin,
            ssl_context=self._ssl,
            keepalive_expiry=KEEP_ALIVE_S,
            http2=self._http2,
            network_backend=self._backend,
        )
        listed.append(connection)
        return connection, False

    async def _close_expired(self, key: _Key) -> None:
        for connection in list(self._open.get(key, ())):
            if connection.is_closed():
                self._forget(connection, key)
            elif connection.has_expired() and connection not in self._users:
                # Closed, not only forgotten: the event loop would keep its socket open.
                self._forget(connection, key)
                await connection.aclose()

    def _release(self, connection: Connection, key: _Key) -> None:
        if connection.is_closed():
            self._forget(connection, key)
            self._retired.discard(connection)
        elif connection.is_idle() and connection not in self._users:
            self._idle[connection] = key
            self._idle.move_to_end(connection)

    def _forget(self, connection: Connection, key: _Key) -> None:
        self._idle.pop(connection, None)
        listed = self._open.get(key, [])
        if connection in listed:
            listed.remove(connection)
        if not listed:
            self._open.pop(key, None)

    async def _released(self, connection: Connection, key: _Key, whole: bool) -> None:
        """A request ended, with its ``whole`` body read (or never begun), or before that."""
        self._users[connection] -= 1
        if not self._users[connection]:
            del self._users[connection]
        if not whole and not connection.is_closed():
            # HTTP/2: the rest of an abandoned stream stays in the connection's flow control, until
            # after some hundred of them nothing moves any more. No new request goes there.
            self._forget(connection, key)
            self._retired.add(connection)
        elif connection.is_idle() and _left_over(connection):
            # Bytes after the end of the response would be taken for the response to the next URL.
            self._forget(connection, key)
            self._retired.add(connection)
        if connection in self._retired and connection not in self._users:
            self._retired.discard(connection)
            await connection.aclose()
            return
        self._release(connection, key)
        while len(self._idle) > MAX_IDLE_CONNECTIONS:
            oldest, its_key = self._idle.popitem(last=False)
            self._forget(oldest, its_key)
            await oldest.aclose()


class _Body(httpx.AsyncByteStream):
    """The body of a response; closing it gives its connection back."""

    def __init__(
        self,
        response: httpcore.Response,
        back: tuple[ValidatedTransport, Connection, _Key] | None = None,
    ) -> None:
        self._response = response
        self._back = back
        self._whole = False
        wire = response.extensions.get("network_stream")
        self._wire = wire if isinstance(wire, Stream) else None
        if self._wire:
            self._wire.came_to_something()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        assert isinstance(self._response.stream, AsyncIterable)
        try:
            async for chunk in self._response.stream:
                if chunk and self._wire:
                    self._wire.came_to_something()
                yield chunk
            self._whole = True
        except Exception as error:
            raise mapped(error) from error

    async def aclose(self) -> None:
        await self._response.aclose()
        back, self._back = self._back, None
        if back:
            transport, connection, key = back
            await transport._released(connection, key, self._whole)


def _left_over(connection: Connection) -> bool:
    """Whether an HTTP/1.1 connection between two requests holds bytes that were read already.

    httpcore has no public way to ask; bytes that were not read yet end a connection in its own
    ``has_expired``.
    """
    state = getattr(getattr(connection, "_connection", None), "_h11_state", None)
    return state is not None and bool(state.trailing_data[0])


def mapped(error: Exception) -> Exception:
    """httpx's error for one of httpcore's or h2's; any other error is returned as it is."""
    if isinstance(error, ProtocolError):
        # httpcore lets these through while a body is read: a protocol violation, or GOAWAY.
        return httpx.RemoteProtocolError(str(error) or "the connection violated HTTP/2")
    kind = _ERRORS.get(type(error))
    return error if kind is None else kind(str(error))
