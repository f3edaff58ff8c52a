"""One attempt to fetch one URL: follow its redirects, read its body, keep its bytes.

Every outcome but success is an exception of this module; ``fetch`` makes results of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import http
import ssl
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

import anyio
import httpx

from pipeline.errors import FetchError, OutputError
from pipeline.fetch.deadline import Watch
from pipeline.fetch.decoding import DecodingFailed, decoder_for
from pipeline.fetch.resolver import AddressRefused
from pipeline.fetch.types import Fetched, FetchLimits, FetchRequest, FetchStatus
from pipeline.fetch.urls import UrlRefused, checked_url, host_of
from pipeline.imaging.sniff import HEAD_BYTES, Sniff
from pipeline.reasons import Code, code_of_http
from pipeline.storage.blobs import BlobWriter
from pipeline.storage.folder_store import FolderStore
from pipeline.text import shortened

T = TypeVar("T")

REDIRECTS = frozenset({301, 302, 303, 307, 308})
# The body of an unwanted response is read up to this size, so that its connection stays usable.
DRAIN_BYTES = 16 * 1024
DRAIN_S = 1.0
# Collected in memory before a thread hashes and writes it: most images are one call.
WRITE_BYTES = 1024 * 1024
# A body in pieces of one byte costs a thousand times the processor of one in ordinary pieces. After
# the first ten thousand, pieces must be this large in the mean; TLS and HTTP/2 cut at 1 KB or more.
FREE_PIECES, MEAN_PIECE_BYTES = 10_000, 256
# Longest header value that is stored. Longer ones, and those that are not plain text, are dropped.
MAX_HEADER_CHARACTERS = 512


class Ended(FetchError):
    """The URL ended without an image, for good."""

    def __init__(self, status: FetchStatus, code: Code, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.code = code


class Again(FetchError):
    """The attempt failed in a way that another may not.

    ``retry_after_s`` is what the server requested; ``connection`` means that nothing responded.
    ``timed_out``: it took all the time that it had, and so might the next.
    """

    def __init__(
        self,
        code: Code,
        reason: str,
        retry_after_s: float | None = None,
        connection: bool = False,
        timed_out: bool = False,
    ) -> None:
        super().__init__(reason)
        self.code = code
        self.retry_after_s = retry_after_s
        self.connection = connection
        self.timed_out = timed_out


class Moved(FetchError):
    """A redirect leads to ``url``, at another host: waiting for a place there must not occupy the
    place of another URL."""

    def __init__(self, url: httpx.URL) -> None:
        super().__init__(f"redirect to {shortened(str(url))}")
        self.url = url


@dataclass
class Trace:
    """What is known of an attempt so far, however it ends, over all the hosts it involves."""

    final_url: str = ""
    http_code: int | None = None
    received_bytes: int = 0
    redirects: int = 0
    spent_s: float = 0.0


class Attempts:
    """Makes attempts over one transport, keeping images in one store."""

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        limits: FetchLimits,
        store: FolderStore,
        sniff: Sniff,
        files: Executor,
    ) -> None:
        self._transport = transport
        self._limits = limits
        self._store = store
        self._sniff = sniff
        self._files = files

    async def make(self, request: FetchRequest, url: httpx.URL, trace: Trace) -> Fetched:
        """One attempt, or the rest of one after ``trace``: redirects included, in the time for one.

        The result describes the response; the caller counts attempts and time.

        Raises:
            Moved: to be continued at another host, with the same ``trace``.
            Ended: another attempt would end the same way.
            Again: another attempt may be made.
            OutputError: the image cannot be written.
        """
        started_s = anyio.current_time()
        left_s = self._limits.total_timeout_s - trace.spent_s
        with anyio.CancelScope(deadline=started_s + left_s) as scope:
            watch = Watch(self._limits, scope)
            try:
                return await self._follow(request, url, trace, watch)
            except Moved:
                trace.spent_s += anyio.current_time() - started_s
                raise
            except (Ended, Again, OutputError):
                raise
            except AddressRefused as error:
                raise Ended(FetchStatus.REFUSED, error.code, _hop(str(error), trace)) from error
            except DecodingFailed as error:
                raise Ended(FetchStatus.FAILED, error.code, str(error)) from error
            except httpx.TransportError as error:
                raise self._network_problem(error) from error
            except Exception as error:
                # Whatever a server can make a library raise costs this URL, not the run.
                reason = f"cannot be fetched ({type(error).__name__}: {shortened(str(error))})"
                raise Ended(FetchStatus.FAILED, Code.BAD_RESPONSE, reason) from error
        raise Again(Code.TIMED_OUT, watch.reason(), timed_out=True)

    async def _follow(
        self,
        request: FetchRequest,
        url: httpx.URL,
        trace: Trace,
        watch: Watch,
    ) -> Fetched:
        while True:
            trace.final_url, trace.http_code = str(url), None
            response = await self._transport.handle_async_request(self._conditional(request, url))
            trace.http_code = response.status_code
            try:
                if response.status_code not in REDIRECTS:
                    return await self._read(request, response, trace, watch)
                await _drain(response)
            finally:
                with anyio.CancelScope(shield=True):
                    await response.aclose()
            trace.redirects += 1
            if trace.redirects > self._limits.max_redirects:
                many = f"more than {self._limits.max_redirects} redirects"
                raise Ended(FetchStatus.FAILED, Code.BAD_REDIRECT, many)
            following = self._next_hop(url, response)
            if host_of(following) != host_of(url):
                raise Moved(following)
            url = following

    def _conditional(self, request: FetchRequest, url: httpx.URL) -> httpx.Request:
        limits = self._limits
        headers = [
            ("Host", url.netloc.decode("ascii")),
            ("User-Agent", limits.user_agent),
            ("Accept", "image/*, */*;q=0.1"),
            ("Accept-Encoding", "identity"),
        ]
        # A server may have sent anything; what is not a valid header is not sent back.
        for name, value in (
            ("If-None-Match", request.etag),
            ("If-Modified-Since", request.last_modified),
        ):
            if (plain := _plain(value)) is not None:
                headers.append((name, plain))
        return httpx.Request("GET", url, headers=headers, extensions=limits.timeouts())

    def _next_hop(self, url: httpx.URL, response: httpx.Response) -> httpx.URL:
        code = response.status_code
        location = response.headers.get("location")
        if not location:
            reason = f"{in_words(code)} without a Location"
            raise Ended(FetchStatus.FAILED, Code.BAD_REDIRECT, reason)
        try:
            joined = str(url.join(location))
        except Exception:
            reason = f"a redirect to {shortened(location)}, which is not a URL"
            raise Ended(FetchStatus.FAILED, Code.BAD_REDIRECT, reason) from None
        try:
            following = checked_url(joined, self._limits.ports)
        except UrlRefused as error:
            reason = f"redirect to {shortened(joined)}: {error}"
            raise Ended(FetchStatus.REFUSED, Code.BAD_REDIRECT, reason) from None
        if url.scheme == "https" and following.scheme == "http":
            reason = f"redirect to {shortened(joined)}: from https to http"
            raise Ended(FetchStatus.REFUSED, Code.BAD_REDIRECT, reason)
        return following

    async def _read(
        self, request: FetchRequest, response: httpx.Response, trace: Trace, watch: Watch
    ) -> Fetched:
        code = response.status_code
        headers = response.headers
        if code == 304 and (request.etag or request.last_modified):
            return Fetched(
                request.url,
                FetchStatus.NOT_MODIFIED,
                code,
                etag=_plain(headers.get("etag")) or request.etag,
                last_modified=_plain(headers.get("last-modified")) or request.last_modified,
            )
        if code not in (200, 203):
            await _drain(response)
            if code in (429, 503):
                wait_s = _retry_after_s(headers.get("retry-after"))
                raise Again(code_of_http(code), in_words(code), wait_s)
            if code >= 500:
                raise Again(code_of_http(code), in_words(code))
            raise Ended(FetchStatus.FAILED, code_of_http(code), in_words(code))
        size_bytes, sha256, path = await self._keep(response, trace, watch)
        return Fetched(
            request.url,
            FetchStatus.FETCHED,
            code,
            bytes=size_bytes,
            sha256=sha256,
            path=path,
            etag=_plain(headers.get("etag")),
            last_modified=_plain(headers.get("last-modified")),
            content_type=_plain(headers.get("content-type")),
        )

    async def _keep(
        self, response: httpx.Response, trace: Trace, watch: Watch
    ) -> tuple[int, str, Path]:
        max_bytes = self._limits.max_bytes
        why = f"larger than {max_bytes:,} bytes"
        too_large = Ended(FetchStatus.REFUSED, Code.TOO_LARGE, why)
        declared = response.headers.get("content-length", "")
        if declared.isascii() and declared.isdigit() and int(declared[:19]) > max_bytes:
            raise too_large
        decoder = decoder_for(response.headers.get("content-encoding", ""))
        writer = BlobWriter(self._store)
        # Not a list of pieces: one of a byte takes 40 there.
        held = bytearray()
        size_bytes = chunk_count = 0
        sniffed = False
        try:
            watch.start()
            body = cast("AsyncGenerator[bytes, None]", response.aiter_raw())
            async with contextlib.aclosing(body) as chunks:
                async for chunk in chunks:
                    trace.received_bytes += len(chunk)
                    # Also where nothing comes out of it: a gzip header may be endless.
                    if trace.received_bytes > max_bytes:
                        raise too_large
                    chunk_count += 1
                    if chunk_count > FREE_PIECES + trace.received_bytes // MEAN_PIECE_BYTES:
                        why = f"sent in {chunk_count:,} tiny pieces"
                        raise Ended(FetchStatus.REFUSED, Code.BAD_RESPONSE, why)
                    if chunk:
                        watch.came(len(chunk))
                    for piece in decoder.pieces(chunk):
                        held += piece
                        size_bytes += len(piece)
                        if size_bytes > max_bytes:
                            raise too_large
                        if not sniffed and size_bytes >= HEAD_BYTES:
                            sniffed = True
                            self._validate(held)
                        if len(held) >= WRITE_BYTES:
                            watch.pause()
                            await self._in_thread(writer.write, bytes(held))
                            watch.start()
                            held.clear()
            decoder.finish()
            if not sniffed:
                self._validate(held)
            watch.pause()
            kept = await self._in_thread(writer.keep, bytes(held))
            assert kept is not None, "nobody discards a writer but this function"
            return size_bytes, *kept
        finally:
            writer.discard()

    def _validate(self, held: bytearray) -> None:
        problem = self._sniff(bytes(held[:HEAD_BYTES]))
        if problem is not None:
            code = Code.NOT_AN_IMAGE if held else Code.EMPTY
            raise Ended(FetchStatus.REFUSED, code, problem)

    async def _in_thread(self, call: Callable[[bytes], T], data: bytes) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._files, call, data)
        except OSError as error:
            raise OutputError(
                f"{self._store.root}: a fetched image cannot be written "
                f"({error.strerror or error}); free space or change the permissions, and run again"
            ) from error

    def _network_problem(self, error: httpx.TransportError) -> Ended | Again:
        limits = self._limits
        if isinstance(error, httpx.ConnectTimeout):
            reason = f"no connection within {limits.connect_timeout_s:g} s"
            return Again(Code.TIMED_OUT, reason, connection=True, timed_out=True)
        if isinstance(error, httpx.TimeoutException):
            reason = f"no bytes for {limits.stall_timeout_s:g} s"
            return Again(Code.TIMED_OUT, reason, timed_out=True)
        if isinstance(error, (httpx.ConnectError, httpx.ProxyError)):
            if _caused_by(error, ssl.SSLCertVerificationError):
                return Ended(FetchStatus.FAILED, Code.BAD_CERTIFICATE, str(error))
            reason = shortened(str(error)) or "no connection"
            return Again(Code.NO_CONNECTION, reason, connection=True)
        if isinstance(error, (httpx.LocalProtocolError, httpx.UnsupportedProtocol)):
            reason = f"cannot be requested: {shortened(str(error))}"
            return Ended(FetchStatus.FAILED, Code.BAD_URL, reason)
        reason = shortened(str(error)) or "the connection was lost"
        is_odd = isinstance(error, httpx.RemoteProtocolError)
        return Again(Code.BAD_RESPONSE if is_odd else Code.NO_CONNECTION, reason)


def in_words(code: int) -> str:
    """The HTTP status in words, as ``404 Not Found``; never the server's own words."""
    try:
        return f"{code} {http.HTTPStatus(code).phrase}"
    except ValueError:
        return f"HTTP status {code}"


async def _drain(response: httpx.Response) -> None:
    """Read a short body to its end, so that the connection can be used again."""
    declared = response.headers.get("content-length", "")
    if not (declared.isascii() and declared.isdigit() and int(declared[:19]) <= DRAIN_BYTES):
        return
    with anyio.move_on_after(DRAIN_S), contextlib.suppress(httpx.TransportError):
        async for _ in response.aiter_raw():
            pass


def _retry_after_s(value: str | None) -> float | None:
    """Seconds from a ``Retry-After`` header, which is a number or a date (RFC 9110, 10.2.3)."""
    if not value:
        return None
    if value.strip().isdecimal():
        return float(value.strip()[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def _plain(value: str | None) -> str | None:
    """A header's value that can be stored and sent back, or None.

    HTTP/2 headers come unchecked: one with a NUL would end the run in a database that takes none.
    """
    if not value or len(value) > MAX_HEADER_CHARACTERS:
        return None
    return value if value.isascii() and value.isprintable() else None


def _hop(reason: str, trace: Trace) -> str:
    """``reason``, with the address that a redirect led to where it is about that."""
    if not trace.redirects:
        return reason
    return f"redirect to {shortened(trace.final_url)}: {reason}"


def _caused_by(error: BaseException | None, kind: type[BaseException]) -> bool:
    while error is not None:
        if isinstance(error, kind):
            return True
        error = error.__cause__
    return False
