"""What a server answers that wants to hold, fill or fool its client."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from typing import TYPE_CHECKING

from routes import JPEG, route

if TYPE_CHECKING:
    from loopback import Request, Server

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n"


async def _for_ever(request: Request, data: bytes) -> None:
    """Until the client goes; in pieces of about 64 KB."""
    block = data * max(1, 65_536 // len(data))
    while True:
        await request.send(block)


@route
async def interim_flood(server: Server, request: Request) -> None:
    await _for_ever(request, b"HTTP/1.1 102 Processing\r\n\r\n")


@route
async def interim_few(server: Server, request: Request) -> None:
    await request.send(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 3)
    await request.answer()


@route
async def switching(server: Server, request: Request) -> bool:
    await request.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n" + JPEG)
    return False


@route
async def huge_header(server: Server, request: Request) -> None:
    await request.answer(headers=("X-Huge: " + "x" * 200_000,))


@route
async def long_tags(server: Server, request: Request) -> None:
    await request.answer(headers=(f'ETag: "{"x" * 9000}"', "Content-Type: " + "y" * 9000))


@route
async def odd_tags(server: Server, request: Request) -> None:
    await request.answer(headers=('ETag: "\x01\x7f"', "Content-Type: image/\xfcml"))


@route
async def endless_trailers(server: Server, request: Request) -> None:
    await request.send(CHUNKED + b"\r\n5\r\n" + JPEG[:5] + b"\r\n0\r\n")
    await _for_ever(request, b"X-More: and more\r\n")


@route
async def endless_extension(server: Server, request: Request) -> None:
    await request.send(CHUNKED + b"\r\n5")
    await _for_ever(request, b";a=b")


@route
async def trailers(server: Server, request: Request) -> None:
    body = b"%x\r\n%s\r\n0\r\nETag: no\r\nContent-Length: 1\r\n\r\n" % (len(JPEG), JPEG)
    await request.send(CHUNKED + b"\r\n" + body)


@route
async def tiny_chunks(server: Server, request: Request) -> None:
    await request.send(CHUNKED + b"\r\n")
    await request.send(b"4\r\n" + JPEG[:4] + b"\r\n")
    await _for_ever(request, b"1\r\n\xff\r\n")


@route
async def both_lengths(server: Server, request: Request) -> None:
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(JPEG), JPEG)
    await request.send(CHUNKED + b"Content-Length: 3\r\n\r\n" + body)


@route
async def two_lengths(server: Server, request: Request) -> bool:
    await request.send(OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n" + JPEG)
    return False


@route
async def doubly_coded(server: Server, request: Request) -> bool:
    await request.send(OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n")
    return False


@route
async def no_length(server: Server, request: Request) -> bool:
    await request.send(b"HTTP/1.0 200 OK\r\n\r\n" + JPEG)
    await asyncio.sleep(0.05)
    return False


@route
async def answers_twice(server: Server, request: Request) -> None:
    """One answer more than was asked for: the next request must not get it."""
    answers = b""
    for body in (JPEG + request.path.encode(), JPEG + b"poison"):
        answers += OK + b"Content-Length: %d\r\n\r\n" % len(body) + body
    await request.send(answers)


@route
async def answers_twice_between_reads(server: Server, request: Request) -> None:
    """As above, and the answer that was asked for ends exactly where a read of 64 KB does."""
    number = request.path.encode()
    head = OK + b"Content-Length: %d\r\n\r\n"
    length = 65_536 - len(head % 65_536)
    body = (JPEG + number).ljust(length, b"\0")
    poison = JPEG + b"poison"
    await request.send(head % length + body + head % len(poison) + poison)


@route
async def endless_name(server: Server, request: Request) -> None:
    """A gzip header whose file name never ends: nothing ever comes out of it."""
    await request.send(OK + b"Content-Encoding: gzip\r\n\r\n\x1f\x8b\x08\x08\0\0\0\0\0\xff")
    await _for_ever(request, b"n")


@route
async def endless_padding(server: Server, request: Request) -> None:
    await request.send(OK + b"Content-Encoding: deflate\r\n\r\n" + zlib.compress(JPEG))
    await _for_ever(request, b"\0")


@route
async def endless_members(server: Server, request: Request) -> None:
    await request.send(OK + b"Content-Encoding: gzip\r\n\r\n")
    await _for_ever(request, gzip.compress(b""))


@route
async def dripping_headers(server: Server, request: Request) -> None:
    await request.send(OK)
    while True:
        await request.send(b"X")
        await asyncio.sleep(0.01)


@route
async def retry_after(server: Server, request: Request) -> None:
    """/retry-after/n: the first answer asks for the wait that the test has put down."""
    if server.hits[request.path] == 1:
        await request.answer("503 Busy", b"", (f"Retry-After: {server.redirect_to}",))
    else:
        await request.answer()


@route
async def moved(server: Server, request: Request) -> None:
    await request.answer("302 Found", b"", (f"Location: {server.redirect_to}",))


@route
async def moved_raw(server: Server, request: Request) -> None:
    await request.send(
        b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: "
        + server.redirect_to.encode("latin-1")
        + b"\r\n\r\n"
    )
