"""Answers: one route, and either a page for people or JSON for programs.

A browser accepts ``text/html``; every other client gets JSON.
"""

from __future__ import annotations

import gzip
import json
import re
from datetime import datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.datastructures import Headers
from starlette.requests import Request, cookie_parser
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import Scope

from pipeline.states import Role
from pipeline.text import counted, printable
from pipeline.web.security.roles import known_person

HERE = Path(__file__).parent
# Smaller pages are one packet on the wire anyway.
WORTH_PACKING_BYTES = 1_200


def wants_json(scope: Scope) -> bool:
    """Whether the client prefers JSON to a page."""
    headers = Headers(scope=scope)
    return "text/html" not in headers.get("accept", "") and "hx-request" not in headers


def answer(
    request: Request, template: str, data: dict[str, Any], status: int = 200, **page: Any
) -> Response:
    """``data`` as JSON, or in ``template`` together with ``page``, which is only for people."""
    if wants_json(request.scope):
        return JSONResponse(data, status, headers={"vary": "Accept"})
    return show(request.scope, template, status, **data, **page)


def show(scope: Scope, template: str, status: int = 200, **values: Any) -> Response:
    """A page."""
    said, undo = _said(scope)
    # Called by the navigation alone: what has none, such as the login, asks for nothing.
    waiting = scope["app"].state.service.waiting
    page = _rendered(scope, template, said=said, undo=undo, waiting=waiting, **values)
    answer = _packed(scope, page, status)
    if said:
        answer.delete_cookie(SAID, httponly=True, samesite="strict")
    return answer


def problem(scope: Scope, status: int, message: str) -> Response:
    """What went wrong, in public words, with the request number under which the log has the
    rest."""
    number = scope["state"]["request_id"]
    if wants_json(scope):
        return JSONResponse({"error": message, "request_id": number}, status)
    text = _rendered(
        scope,
        "problem.html",
        said="",
        undo="",
        waiting=lambda: {"open": 0},
        status=status,
        heading=HEADINGS.get(status, "That did not work"),
        message=message,
        request_id=number,
    )
    return _packed(scope, text, status)


def _rendered(scope: Scope, template: str, **values: Any) -> bytes:
    """A page with what every page shows: where it is, who sees it, and what they may do."""
    person = known_person(scope)
    text = (
        _environment()
        .get_template(template)
        .render(
            here=scope["path"],
            person=person,
            may=lambda role: person is not None and person.may(Role(role)),
            shows_person=person is not None and "is_open" not in scope["state"],
            can_log_out="session" in scope["state"],
            **values,
        )
    )
    return text.encode()


HEADINGS = {
    401: "Please log in",
    403: "Not permitted",
    404: "Not found",
    405: "Not allowed",
    409: "Not possible now",
    410: "Taken down",
    413: "Too large",
    421: "Unknown name",
    422: "Something is missing",
    429: "Too many attempts",
    500: "Something went wrong",
    503: "Temporarily unavailable",
}


SAID = "lockstep_said"
UNDO = re.compile(r"/[a-z]+/[0-9]+/[a-z]+")


def back(to: str, said: str = "", undo: str = "") -> Response:
    """Send a browser on to a page, which then says what was done, once.

    ``undo`` is the address of a form that takes it back: the page offers it beside the words.
    """
    answer = RedirectResponse(to, 303)
    if said:
        # Not in the address: anybody could make up a link that lets the page say anything.
        told = quote(json.dumps([said, undo]))
        answer.set_cookie(SAID, told, max_age=20, httponly=True, samesite="strict")
    return answer


def _said(scope: Scope) -> tuple[str, str]:
    """What the page says was done, and the address that takes it back."""
    cookie = unquote(cookie_parser(Headers(scope=scope).get("cookie", "")).get(SAID, ""))
    try:
        said, undo = json.loads(cookie or "[]")
        # Whatever else sets cookies for this name must not send people's clicks anywhere else.
        return str(said), undo if UNDO.fullmatch(undo) else ""
    except (ValueError, TypeError, RecursionError):
        return "", ""


def _packed(scope: Scope, body: bytes, status: int) -> Response:
    headers = {"vary": "Accept, Accept-Encoding, HX-Request"}
    if len(body) >= WORTH_PACKING_BYTES and "gzip" in Headers(scope=scope).get(
        "accept-encoding", ""
    ):
        body = gzip.compress(body, 5)
        headers["content-encoding"] = "gzip"
    return Response(body, status, headers, "text/html; charset=utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=lambda value: f"{value:,}",
        counted=counted,
        folded=folded,
        size=size,
        when=when,
        seconds=seconds,
        name=printable,
        key=lambda key: quote(key, safe="/"),
        quoted=lambda text: quote(text, safe=""),
        fields=fields,
    )
    environment.globals.update(asset=asset)
    return environment


def size(count: int | None) -> str:
    """Bytes as people read them, in units of 1,000."""
    if count is None:
        return "unknown"
    value = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:,.0f} {unit}" if unit == "bytes" else f"{value:,.1f} {unit}"
        value /= 1000
    raise AssertionError


def seconds(value: float | None) -> str:
    """A duration as people read it."""
    if value is None:
        return "unknown"
    if value < 10:
        return f"{value:.1f} s"
    if value < 100:
        return f"{value:.0f} s"
    minutes = round(value / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def when(iso: str | None) -> Markup:
    """A time as an element, with its zone: ours, until a script writes it in the reader's own."""
    if not iso:
        return Markup("never")
    moment = datetime.fromisoformat(iso)
    zone = "" if moment.tzinfo is None else f" {moment:%Z}"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        iso, escape(iso), f"{moment:%Y-%m-%d %H:%M:%S}{zone}"
    )


def folded(key: str) -> Markup:
    """A path as text that may break after each "/"."""
    return Markup("/<wbr>").join(escape(printable(part)) for part in key.split("/"))


def fields(schema: dict[str, Any]) -> str:
    """The fields of a JSON schema, a line each: name, type, and what it is."""
    lines = []
    for name, what in schema.get("properties", {}).items():
        kinds = [item.get("type", _named(item)) for item in what.get("anyOf", [what])]
        note = f"  {what['description']}" if "description" in what else ""
        lines.append(f"{name}: {' or '.join(kinds)}{note}")
    return "\n".join(lines)


def _named(item: dict[str, Any]) -> str:
    return str(item.get("$ref", "anything")).rpartition("/")[2]


class Asset:
    """A file of ``static/``: its bytes, also packed, and a tag that changes with them."""

    def __init__(self, file: Path) -> None:
        self.body = file.read_bytes()
        self.packed = gzip.compress(self.body, 9, mtime=0)
        self.tag = sha256(self.body).hexdigest()[:12]
        self.media_type = MEDIA_TYPES[file.suffix]


MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".csv": "text/csv; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
}


@cache
def assets() -> dict[str, Asset]:
    """Every file of ``static/``, by name."""
    return {file.name: Asset(file) for file in sorted((HERE / "static").iterdir())}


def asset(name: str) -> str:
    """The address of a file of ``static/``; it changes with the bytes, so it may be cached
    forever."""
    return f"/static/{name}?{assets()[name].tag}"
