"""The guard before every request: its name, its origin, its token, its size; and after it, headers.

A request passes these in turn: Host, Origin, token or session, length. What is refused never
reaches a page. Errors behind it are answered in public words with the number of the request, and
logged in full under that number.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import cookie_parser
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.web.answers import problem, wants_json
from pipeline.web.security.access import Access
from pipeline.web.security.attempts import TOO_MANY, WRONG_TOKEN_S, TokenCheck
from pipeline.web.security.hosts import UNSAFE, Hosts, comes_from_us
from pipeline.web.security.sessions import COOKIE

log = logging.getLogger("lockstep.web")

# What must work before logging in. Notifications have a token of their own.
OPEN = ("/login", "/healthz", "/notifications")
OPEN_BELOW = "/static/"
# So that the log shows what was requested, and how it was answered.
CHANGED = "request %s: %s %r answered with %d"
# Forms and JSON; an upload may be as large as PIPELINE_JOB_MAX_BYTES and its envelope.
MAX_BODY_BYTES = 1 << 20
UPLOADS = "/jobs"
# Room for the names of two routes that end in .json themselves: those of files do.
NEVER_JSON = ("/files/", "/originals/", "/static/", "/openapi.json")

# Defaults of every response; in lower case, as ASGI has them.
HEADERS = [
    (name.encode(), value.encode())
    for name, value in {
        "content-security-policy": (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
            "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        ),
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "referrer-policy": "same-origin",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "permissions-policy": "camera=(), microphone=(), geolocation=()",
        "cache-control": "private, no-cache",
    }.items()
]


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, hosts: Hosts, access: Access, max_upload_bytes: int) -> None:
        """``access`` says who sends a request."""
        self.app = app
        self.hosts = hosts
        self.access = access
        self.max_upload_bytes = max_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        number = secrets.token_hex(6)
        scope.setdefault("state", {})["request_id"] = number
        started = ended = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started, ended
            ended = message["type"] == "http.response.body" and not message.get("more_body")
            if message["type"] == "http.response.start":
                started = True
                if scope["method"] in UNSAFE:
                    log.info(CHANGED, number, scope["method"], scope["path"], message["status"])
                given = message["headers"]
                names = {name for name, _ in given}
                message["headers"] = [
                    *given,
                    *(pair for pair in HEADERS if pair[0] not in names),
                    (b"x-request-id", number.encode()),
                ]
            await send(message)

        try:
            refusal = await self._refusal(scope)
            if refusal is not None:
                await refusal(scope, receive, send_with_headers)
                return
            _ask_for_json(scope)
            if scope["method"] == "HEAD":
                # Like GET; the server, which has the original scope, omits the body.
                scope = {**scope, "method": "GET"}
            await self.app(scope, self._counted(scope, receive), send_with_headers)
        except Exception:
            # A name may contain line breaks, and the log is read by line.
            log.exception("request %s: %s %r", number, scope["method"], scope["path"])
            if started and not ended:
                raise  # the server cuts the connection: half a response must not look complete
            if started:
                return
            answer = problem(scope, 500, "something went wrong here; the log says what")
            await answer(scope, receive, send_with_headers)

    async def _refusal(self, scope: Scope) -> ASGIApp | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self.hosts.knows(hosts[0]):
            return problem(
                scope,
                421,
                "this service does not know that host name; add it to PIPELINE_HOSTS",
            )
        path = scope["path"]
        # The counts of `/healthz?verbose` are for people who may see Home.
        is_verbose = path == "/healthz" and b"verbose" in scope["query_string"]
        needs_nobody = (path in OPEN and not is_verbose) or path.startswith(OPEN_BELOW)
        try:
            refusal = None if needs_nobody else await self._find_person(scope, headers)
        except HTTPException as error:
            return problem(scope, error.status_code, error.detail)
        is_told_by_a_browser = "token" not in scope["state"]
        if scope["method"] in UNSAFE and is_told_by_a_browser and not comes_from_us(headers):
            return problem(scope, 403, "this request came from a page of another site")
        if refusal is not None:
            return refusal
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit():
            return problem(scope, 400, "the length of the request is not a number")
        if int(length) > self._max_bytes(scope):
            return problem(scope, 413, self._too_large(scope))
        return None

    async def _find_person(self, scope: Scope, headers: Headers) -> ASGIApp | None:
        """Note who sends a request; a response if nobody does.

        Raises:
            HTTPException: a proxy names somebody who has no access, or it is not the proxy.
        """
        access, state = self.access, scope["state"]
        await access.refresh()
        person = access.of_proxy(scope, headers)
        check = None
        if person is None and access.is_open:
            person, state["is_open"] = access.of_nobody(scope), True
        if person is None:
            kind, _, token = headers.get("authorization", "").partition(" ")
            if kind.lower() == "bearer":
                check, account = await access.check(token.strip(), scope)
                if person := access.person(account):
                    state["token"] = account
        if person is None and (person := access.of_session(session_in(headers))):
            state["session"] = session_in(headers)
        if person is None:
            return await self._log_in_first(scope, check)
        state["person"] = person
        return None

    async def _log_in_first(self, scope: Scope, check: TokenCheck | None) -> ASGIApp:
        if check is TokenCheck.NOT_CHECKED:
            answer = problem(scope, 429, TOO_MANY)
            answer.headers["retry-after"] = "1"
            return answer
        if check is TokenCheck.WRONG:
            await asyncio.sleep(WRONG_TOKEN_S)
        if not self.access.has_tokens:
            return problem(scope, 401, "log in at the proxy: this service is reached through it")
        if wants_json(scope) or scope["method"] not in ("GET", "HEAD"):
            answer = problem(scope, 401, "a token is needed: send it as a bearer, or log in")
            answer.headers["www-authenticate"] = 'Bearer realm="Lockstep"'
            return answer
        target = scope["path"]
        if scope["query_string"]:
            target += "?" + scope["query_string"].decode("latin-1")
        return RedirectResponse(f"/login?next={quote(target, safe='')}", 303)

    def _max_bytes(self, scope: Scope) -> int:
        return MAX_BODY_BYTES + (self.max_upload_bytes if scope["path"] == UPLOADS else 0)

    def _too_large(self, scope: Scope) -> str:
        if scope["path"] == UPLOADS:
            return f"the file is larger than the {self.max_upload_bytes:,} bytes that are allowed"
        return f"the request is larger than {MAX_BODY_BYTES:,} bytes"

    def _counted(self, scope: Scope, receive: Receive) -> Receive:
        """``receive`` that stops when more comes than allowed, even without a content length."""
        left = self._max_bytes(scope)

        async def counted() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(413, self._too_large(scope))
            return message

        return counted


def session_in(headers: Headers) -> str:
    """The cookie of the session, or an empty text."""
    return cookie_parser(headers.get("cookie", "")).get(COOKIE, "")


def _ask_for_json(scope: Scope) -> None:
    """``/images.json`` is ``/images`` with ``Accept: application/json``."""
    path = scope["path"]
    if not path.endswith(".json") or path.startswith(NEVER_JSON):
        return
    scope["path"] = path.removesuffix(".json")
    scope["raw_path"] = quote(scope["path"]).encode("ascii")
    others = [(name, value) for name, value in scope["headers"] if name != b"accept"]
    scope["headers"] = [*others, (b"accept", b"application/json")]
