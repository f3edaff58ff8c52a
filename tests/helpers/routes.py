"""What the loopback server answers: a function a path, each a manner of the internet."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loopback import Request, Server

JPEG = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 40
HTML = b"<!doctype html><html><body>Sorry</body></html>"

Route = Callable[["Server", "Request"], Awaitable["bool | None"]]
ROUTES: dict[str, Route] = {}


def route(function: Route) -> Route:
    ROUTES[function.__name__] = function  # type: ignore[attr-defined]
    return function


@route
async def good(server: Server, request: Request) -> None:
    """Its own bytes for each path."""
    await request.answer(body=JPEG + request.path.encode(), headers=("Content-Type: image/jpeg",))


@route
async def same(server: Server, request: Request) -> None:
    await request.answer()


@route
async def slow_answer(server: Server, request: Request) -> None:
    await asyncio.sleep(0.05)
    await request.answer(body=JPEG + request.path.encode())


@route
async def silent(server: Server, request: Request) -> None:
    await asyncio.sleep(60)


@route
async def stalling(server: Server, request: Request) -> None:
    await request.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n" + JPEG[:100])
    await asyncio.sleep(60)


@route
async def dripping(server: Server, request: Request) -> None:
    await request.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
    for byte in JPEG:
        await request.send(bytes([byte]))
        await asyncio.sleep(0.01)


@route
async def endless(server: Server, request: Request) -> None:
    await request.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunk = JPEG[:4096]
    while True:
        await request.send(b"1000\r\n" + chunk + b"\r\n")


@route
async def endless_headers(server: Server, request: Request) -> None:
    await request.send(b"HTTP/1.1 200 OK\r\n")
    while True:
        await request.send(b"X-More: " + b"x" * 1000 + b"\r\n")


@route
async def claims_more(server: Server, request: Request) -> bool:
    await request.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n" + JPEG)
    return False


@route
async def claims_huge(server: Server, request: Request) -> bool:
    await request.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n" + JPEG)
    return False


@route
async def claims_nonsense(server: Server, request: Request) -> bool:
    await request.send(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n" + JPEG)
    return False


@route
async def claims_less(server: Server, request: Request) -> bool:
    await request.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + JPEG)
    return False


@route
async def truncated_chunks(server: Server, request: Request) -> bool:
    await request.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\n" + JPEG[:99])
    return False


@route
async def no_http(server: Server, request: Request) -> bool:
    await request.send(b"SSH-2.0-OpenSSH_9.6\r\n")
    return False


@route
async def redirect(server: Server, request: Request) -> None:
    await request.answer("302 Found", b"moved", (f"Location: {server.redirect_to}",))


@route
async def redirect_body_endless(server: Server, request: Request) -> None:
    await request.send(
        b"HTTP/1.1 302 Found\r\nLocation: /same\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    while True:
        await request.send(b"1000\r\n" + JPEG[:4096] + b"\r\n")


@route
async def hops(server: Server, request: Request) -> None:
    """/hops/3 leads to /hops/2 and so on; /hops/0 is an image."""
    left = int(request.path.split("/")[2])
    if left:
        await request.answer("301 Moved Permanently", b"", (f"Location: {left - 1}",))
    else:
        await request.answer()


@route
async def loop(server: Server, request: Request) -> None:
    await request.answer("307 Temporary Redirect", b"", ("Location: /loop",))


@route
async def nowhere(server: Server, request: Request) -> None:
    await request.answer("302 Found", b"")


@route
async def not_found(server: Server, request: Request) -> None:
    await request.answer("404 <script>alert(1)</script>", HTML)


@route
async def broken(server: Server, request: Request) -> None:
    await request.answer("500 Internal Server Error", HTML)


@route
async def flapping(server: Server, request: Request) -> None:
    """500 twice, then an image."""
    if server.hits[request.path] <= 2:
        await request.answer("502 Bad Gateway", HTML)
    else:
        await request.answer()


@route
async def busy(server: Server, request: Request) -> None:
    """/busy/429/0.0: asks to wait once, then an image."""
    _, _, code, wait = request.path.split("/")
    if server.hits[request.path] == 1:
        await request.answer(f"{code} Busy", b"", (f"Retry-After: {wait}",))
    else:
        await request.answer()


@route
async def always_busy(server: Server, request: Request) -> None:
    await request.answer("429 Too Many Requests", b"", ("Retry-After: 3600",))


@route
async def dropped_once(server: Server, request: Request) -> bool:
    """The connection breaks without a word the first time."""
    if server.hits[request.path] == 1:
        return False
    await request.answer()
    return True


@route
async def then_closes(server: Server, request: Request) -> bool:
    """Says nothing of closing, and closes: what breaks kept connections."""
    await request.answer(body=JPEG + request.path.encode())
    return False


@route
async def html(server: Server, request: Request) -> None:
    await request.answer(body=HTML, headers=("Content-Type: image/jpeg",))


@route
async def mislabelled(server: Server, request: Request) -> None:
    await request.answer(headers=("Content-Type: text/html",))


@route
async def empty(server: Server, request: Request) -> None:
    await request.answer(body=b"")


@route
async def no_content(server: Server, request: Request) -> None:
    await request.send(b"HTTP/1.1 204 No Content\r\n\r\n")


@route
async def gzipped(server: Server, request: Request) -> None:
    await request.answer(body=gzip.compress(JPEG), headers=("Content-Encoding: gzip",))


@route
async def deflated(server: Server, request: Request) -> None:
    await request.answer(body=zlib.compress(JPEG), headers=("Content-Encoding: deflate",))


@route
async def gzip_bomb(server: Server, request: Request) -> None:
    packed = gzip.compress(JPEG + bytes(30_000_000))
    await request.answer(body=packed, headers=("Content-Encoding: gzip",))


@route
async def gzip_torn(server: Server, request: Request) -> None:
    packed = gzip.compress(JPEG)[:-12]
    await request.answer(body=packed, headers=("Content-Encoding: gzip",))


@route
async def brotli(server: Server, request: Request) -> None:
    await request.answer(headers=("Content-Encoding: br",))


@route
async def tagged(server: Server, request: Request) -> None:
    """304 for the right tag."""
    if request.headers.get("if-none-match") == '"v1"':
        await request.send(b'HTTP/1.1 304 Not Modified\r\nETag: "v1"\r\n\r\n')
    else:
        date = "Last-Modified: Sun, 23 Feb 2025 04:13:20 GMT"
        await request.answer(headers=('ETag: "v1"', date, "Set-Cookie: id=1"))


@route
async def always_304(server: Server, request: Request) -> None:
    await request.send(b"HTTP/1.1 304 Not Modified\r\n\r\n")


@route
async def large(server: Server, request: Request) -> None:
    await request.answer(body=JPEG * 300)


@route
async def hook(server: Server, request: Request) -> None:
    await request.answer("200 OK", b"ok")


@route
async def hook_flapping(server: Server, request: Request) -> None:
    if server.hits[request.path] <= 2:
        await request.answer("503 Busy", b"")
    else:
        await request.answer("204 No Content", b"")
