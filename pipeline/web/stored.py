"""Objects of a bucket over HTTP: passed on as they come, whole or a part, or by a signed address.

The tag of an object is of its version in the store, so that it is never that of other bytes.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator, Mapping
from email.utils import formatdate
from urllib.parse import quote

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response, StreamingResponse

from pipeline.errors import Unstable
from pipeline.storage.base import Store
from pipeline.storage.walking import FoundFile
from pipeline.web.requests import not_modified

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
TRIES = 3


def send(
    request: Request, store: Store, key: str, media_type: str, headers: Mapping[str, str]
) -> Response:
    """An object, or the part of it that was requested; 304 where the client has it.

    Raises:
        HTTPException: 404, there is none; 416, it is shorter than that.
        StoreError: the bucket does not answer.
    """
    for _ in range(TRIES):
        found = store.look_at(key)
        if found is None:
            break
        try:
            return _sent(request, store, found, media_type, headers)
        except (FileNotFoundError, Unstable):
            continue  # replaced between two requests
    raise HTTPException(404, "there is no such file")


def redirected(address: str) -> Response:
    """To an address that the store itself answers, for as long as it is signed for."""
    # Kept by nobody: the next request may have another answer.
    return RedirectResponse(address, 307, {"cache-control": "no-store"})


def disposition(name: str, inline: bool) -> str:
    """The header that says what a file is called when it is stored."""
    return f"{'inline' if inline else 'attachment'}; filename*=utf-8''{quote(name)}"


def encoded(pieces: Iterator[str], held: contextlib.ExitStack) -> Iterator[bytes]:
    """Text as bytes, where what is no UTF-8 passes as it is; ``held`` is closed at the end."""
    with held:
        for piece in pieces:
            yield piece.encode("utf-8", "surrogateescape")


def _sent(
    request: Request, store: Store, found: FoundFile, media_type: str, headers: Mapping[str, str]
) -> Response:
    etag, mtime_s = f'"{found.inode:x}-{found.size_bytes:x}"', found.mtime_ns / 1e9
    fields = {
        "etag": etag,
        "last-modified": formatdate(mtime_s, usegmt=True),
        "accept-ranges": "bytes",
        **headers,
    }
    if not_modified(request, etag, mtime_s):
        return Response(None, 304, fields)
    part = _part(request, found.size_bytes, etag)
    first, end = part or (0, found.size_bytes)
    fields["content-length"] = str(end - first)
    if part is not None:
        fields["content-range"] = f"bytes {first}-{end - 1}/{found.size_bytes}"
    if request.method == "HEAD":
        return Response(None, 200, fields, media_type)
    pieces = store.pieces(found.path, first, end, found)
    # Before the head is sent: what has just been replaced or deleted is noticed here.
    pieces = itertools.chain((next(pieces, b""),), pieces)
    return StreamingResponse(pieces, 200 if part is None else 206, fields, media_type)


def _part(request: Request, size_bytes: int, etag: str) -> tuple[int, int] | None:
    """The first byte of the part that is requested, and the one behind it; ``None`` for all.

    Raises:
        HTTPException: 416, there is no such part.
    """
    asked = _RANGE.fullmatch(request.headers.get("range", ""))
    if asked is None or request.headers.get("if-range", etag) != etag or not any(asked.groups()):
        return None
    if not asked[1]:
        first, end = max(0, size_bytes - int(asked[2])), size_bytes
    else:
        first, end = int(asked[1]), min(int(asked[2] or size_bytes) + 1, size_bytes)
    if first >= end:
        raise HTTPException(
            416, "there is no such part", {"content-range": f"bytes */{size_bytes}"}
        )
    return first, end
