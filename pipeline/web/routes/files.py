"""Files over HTTP: renditions by their rows, and originals for the page that shows them.

A path in a request is a key to look up, never a path to join: what has no row does not exist,
whatever dots, links or NULs it holds. What has a row is opened without following a link, only below
the real folder.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Sequence
from email.utils import formatdate
from typing import Annotated, BinaryIO, NamedTuple
from urllib.parse import quote, unquote

import sqlalchemy as sa
from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import cookie_parser
from starlette.responses import FileResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.app import Lockstep
from pipeline.engine.pending import Pending
from pipeline.engine.render_step import RenderStep
from pipeline.imaging import WEB_FORMATS, format_of_suffix
from pipeline.states import Role, Source, State
from pipeline.storage.folder import inside
from pipeline.storage.opening import open_store, presigned
from pipeline.takedowns import was_taken_down
from pipeline.web.documented import page_or
from pipeline.web.requests import not_modified
from pipeline.web.security.access import Access
from pipeline.web.security.guard import HEADERS
from pipeline.web.security.hosts import Hosts
from pipeline.web.security.keys import PATH
from pipeline.web.security.roles import needs
from pipeline.web.security.sessions import COOKIE
from pipeline.web.service import service_of
from pipeline.web.stored import disposition, redirected, send

router = APIRouter()

# Read and sent in one go, by one thread; what is larger is streamed.
AT_ONCE_BYTES = 1 << 18
REMEMBERED = 20_000
# What has this header is sent by the proxy, which also answers ranges and conditions.
BY_PROXY = "x-accel-redirect"
CONDITIONS = frozenset((b"range", b"if-none-match", b"if-modified-since"))
NOT_AT_ONCE = CONDITIONS | {
    *(b"authorization", b"content-length", b"transfer-encoding", b"upgrade", b"expect")
}

# Which original of a name is meant: one of the input folder, or one that was fetched for a job.
AskedSource = Annotated[Source | None, Query()]
ANSWERS = {
    **page_or(None, 404, 410, 416),
    200: {"description": "The file", "content": {"image/*": {}}},
    206: {"description": "A part of the file", "content": {"image/*": {}}},
    304: {"description": "Not modified"},
}
ANSWERS.pop(303)


class Known(NamedTuple):
    """A rendition that is served: where, what, and the ``stat`` that it had when it was checked."""

    file: str
    media_type: str
    etag: str
    signature: tuple[int, int, int]
    headers: dict[str, str]
    # All of the response before its body, but for what differs from one to the next.
    head: bytes


class Shelf:
    """Recently requested renditions, so that another request costs only a ``stat``.

    A rendition is replaced by a rename, so a new one has another inode or time: nothing has to be
    invalidated here.
    """

    def __init__(self, app: Lockstep, access: Access) -> None:
        """Where people have to log in, no shared cache may store the response."""
        self.app = app
        self._access = access
        self._known: dict[str, Known] = {}

    def remembered(self, key: str) -> tuple[Known, os.stat_result] | None:
        """A rendition that was requested before and has not changed since; costs one ``stat``."""
        known = self._known.get(key)
        if known is None:
            return None
        try:
            status = os.lstat(known.file)
        except OSError:
            return None
        return (known, status) if _signature(status) == known.signature else None

    def find(self, key: str) -> tuple[Known, os.stat_result]:
        """The rendition of a key below the output folder.

        Raises:
            HTTPException: 404, there is none; 410, it was taken down.
        """
        remembered = self.remembered(key)
        if remembered is not None:
            return remembered
        self._known.pop(key, None)
        known, status = self._look_up(key)
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        self._known[key] = known
        return known, status

    def _look_up(self, key: str) -> tuple[Known, os.stat_result]:
        if "\0" in key:
            raise HTTPException(404, "there is no such file")
        for step in self.app.renders:
            if _has_row(step.pending, key):
                file = inside(self.app.settings.output_dir, key)
                if file is None:
                    break
                # The hash of what is there, not the row's: a file takes its place before its row
                # is written, and the new bytes under the old tag would stay in every cache.
                status, digest = _hashed(file)
                form = format_of_suffix(os.path.splitext(key)[1])
                return self._checked(key, file, media_type(form), f'"{digest}"', status), status
        raise self._refusal(key)

    def of_bucket(self, request: Request, key: str) -> Response:
        """A rendition that lies in a bucket; each request asks the store for its version.

        Raises:
            HTTPException: as :meth:`find`.
            StoreError: the bucket does not answer.
        """
        settings, store = self.app.settings, self.app.settings.output_store
        if "\0" in key or not any(_has_row(step.pending, key) for step in self.app.renders):
            raise self._refusal(key)
        if settings.presign_s is not None:
            return redirected(presigned(settings.output_place, key, settings.presign_s))
        form = format_of_suffix(os.path.splitext(key)[1])
        return send(request, store, key, media_type(form), self._policy())

    def _refusal(self, key: str) -> HTTPException:
        if "\0" not in key and was_taken_down(self.app.takedowns, key):
            return HTTPException(410, "this was taken down")
        return HTTPException(404, "there is no such file")

    def _policy(self) -> dict[str, str]:
        return {
            # Revalidated each time, so that a takedown takes effect in every cache on the way.
            "cache-control": "public, no-cache" if self._access.is_open else "private, no-cache",
            "content-security-policy": "default-src 'none'; sandbox",
            "cross-origin-resource-policy": "same-site",
        }

    def _checked(
        self, key: str, file: str, media_type: str, etag: str, status: os.stat_result
    ) -> Known:
        headers = {
            "etag": etag,
            "last-modified": formatdate(status.st_mtime, usegmt=True),
            **self._policy(),
            "accept-ranges": "bytes",
        }
        size_bytes = status.st_size
        if self.app.settings.x_accel:
            # The tag and the time are the proxy's own: it compares them with what it is asked for.
            headers = {"cache-control": headers["cache-control"]}
            headers[BY_PROXY] = self.app.settings.x_accel + quote(key)
            size_bytes = 0
        fields = {name.decode(): value.decode() for name, value in HEADERS} | headers
        fields |= {"content-type": media_type, "content-length": str(size_bytes)}
        lines = ("HTTP/1.1 200 OK", *(f"{name}: {value}" for name, value in fields.items()))
        head = "\r\n".join(lines).encode("latin-1")
        return Known(file, media_type, etag, _signature(status), headers, head)


class FilesAtOnce:
    """Serves renditions from the shelf without the application, at less than half the cost.

    Only a known file, requested under one of our host names by a client that is logged in, with no
    header that changes the response. Everything else is left to the guard and the application.
    """

    def __init__(self, shelf: Shelf, hosts: Hosts, access: Access) -> None:
        self.shelf = shelf
        self.hosts = hosts
        self.access = access
        self._not_at_once = NOT_AT_ONCE | (access.proxy.headers if access.proxy else set())

    def __call__(
        self, url: bytes, headers: list[tuple[bytes, bytes]]
    ) -> tuple[bytes, bytes] | None:
        """The head and the body of the response, if it can be given at once."""
        if not url.startswith(b"/files/") or b"?" in url or b"#" in url or not url.isascii():
            return None
        once: dict[bytes, str] = {}
        for name, value in headers:
            if name in self._not_at_once or name in once:
                return None
            if name in (b"host", b"cookie"):
                once[name] = value.decode("latin-1")
        if not self.hosts.knows(once.get(b"host")):
            return None
        if not self.access.is_current():
            return None
        if not self.access.is_open:
            cookie = cookie_parser(once.get(b"cookie", "")).get(COOKIE, "")
            if not cookie or self.access.of_session(cookie) is None:
                return None
        remembered = self.shelf.remembered(unquote(url[len("/files/") :].decode("ascii")))
        if remembered is None:
            return None
        try:
            body = _read_small(*remembered)
        except HTTPException:
            return None
        if body is None:
            return None
        number = secrets.token_hex(6).encode("ascii")
        return remembered[0].head + b"\r\nx-request-id: " + number, body


class FilesFirst:
    """ASGI middleware that serves renditions from the shelf before routing.

    Those that were not sent at once: requests with a token. Routing costs more than reading. As
    in other servers of files, the read is done at once, in the loop: it is small, and was read
    before. All that is not plain goes on to the route: parts, conditions, large files, errors.
    """

    def __init__(self, site: ASGIApp, shelf: Shelf) -> None:
        self.site = site
        self.shelf = shelf

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "GET":
            path = scope["path"]
            if path.startswith("/files/") and _is_plain(scope):
                remembered = self.shelf.remembered(path[len("/files/") :])
                body = _read_small(*remembered) if remembered is not None else None
                if remembered is not None and body is not None:
                    known = remembered[0]
                    await Response(body, 200, known.headers, known.media_type)(scope, receive, send)
                    return
        await self.site(scope, receive, send)


def _is_plain(scope: Scope) -> bool:
    return not any(name in CONDITIONS for name, _ in scope["headers"])


@router.get(f"/files/{PATH}", responses=ANSWERS, dependencies=[needs(Role.VIEWER)])
async def rendition(request: Request, path: str) -> Response:
    """A rendition, ``/files/<recipe>/<path>``. ``ETag`` is the SHA-256 of its content."""
    shelf: Shelf = request.app.state.shelf
    return await run_in_threadpool(_rendition, request, shelf, path)


def _rendition(request: Request, shelf: Shelf, key: str) -> Response:
    if shelf.app.settings.output_place.is_bucket:
        return shelf.of_bucket(request, key)
    known, status = shelf.find(key)
    if BY_PROXY in known.headers:
        return Response(b"", 200, known.headers, known.media_type)
    if not_modified(request, known.etag, status.st_mtime):
        return Response(None, 304, known.headers)
    if "range" not in request.headers:
        body = _read_small(known, status)
        if body is not None:
            return Response(body, 200, known.headers, known.media_type)
        if status.st_size <= AT_ONCE_BYTES:
            return _rendition(request, shelf, key)
    return FileResponse(known.file, 200, known.headers, known.media_type, stat_result=status)


@router.get(
    f"/originals/{PATH}",
    responses=ANSWERS,
    include_in_schema=False,
    dependencies=[needs(Role.VIEWER)],
)
def original(request: Request, path: str, source: AskedSource = None) -> Response:
    """An original, to be shown beside its renditions; what no browser shows is downloaded."""
    render = service_of(request).app.render
    file, form = None, format_of_suffix(os.path.splitext(path)[1])
    name, is_inline = path.rpartition("/")[2], form in WEB_FORMATS
    headers = {"content-security-policy": "default-src 'none'; sandbox"}
    for each in () if "\0" in path else sources_asked(render, source):
        pending = render.pending_of[each]
        table = pending.original_table
        query = sa.select(table.c.path, table.c.sha256)
        row = pending.meta.dbconn.first(query.where(pending.our_originals, table.c.path == path))
        if row is not None:
            originals = render.originals[each]
            if originals.place.is_bucket:
                headers["content-disposition"] = disposition(name, is_inline)
                key, store = originals.key(row.path, row.sha256), open_store(originals.place)
                return send(request, store, key, media_type(form), headers)
            file = originals.file(row.path, row.sha256)
            break
    if file is None:
        raise HTTPException(404, "there is no such original")
    return FileResponse(
        file,
        headers=headers,
        media_type=media_type(form),
        filename=name,
        content_disposition_type="inline" if is_inline else "attachment",
    )


def sources_asked(render: RenderStep, source: Source | None) -> Sequence[Source]:
    """The sources to look in, in this order, for what a request names."""
    return render.sources if source is None else (source,)


def _has_row(pending: Pending, file: str) -> bool:
    table = pending.table
    query = sa.select(table.c.file).where(table.c.file == file, table.c.state == State.OK.value)
    return pending.meta.dbconn.first(query.limit(1)) is not None


def _descriptor(file: str) -> int:
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    try:
        return os.open(file, flags)
    except OSError:
        raise HTTPException(404, "there is no such file") from None


def _open(file: str) -> BinaryIO:
    return open(_descriptor(file), "rb", buffering=0)


def _hashed(file: str) -> tuple[os.stat_result, str]:
    digest = hashlib.sha256()
    with _open(file) as stream:
        status = os.fstat(stream.fileno())
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return status, digest.hexdigest()


def _read_small(known: Known, status: os.stat_result) -> bytes | None:
    if BY_PROXY in known.headers:
        return b""
    if status.st_size > AT_ONCE_BYTES:
        return None
    descriptor = _descriptor(known.file)
    try:
        # Replaced since it was looked up: tag and bytes must belong together.
        if _signature(os.fstat(descriptor)) != known.signature:
            return None
        body = os.read(descriptor, status.st_size)
    finally:
        os.close(descriptor)
    return body if len(body) == status.st_size else None


def media_type(form: str | None) -> str:
    return f"image/{form}" if form in WEB_FORMATS else "application/octet-stream"


def _signature(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns
