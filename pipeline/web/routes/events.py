"""Server-sent events: a page learns that something has changed, and fetches what it shows again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from pipeline.states import Role
from pipeline.web.listeners import Listeners
from pipeline.web.security.roles import needs
from pipeline.web.service import service_of

router = APIRouter()

# Pages fetch changes at most this often.
AT_MOST_EVERY_S = 0.5
# A proxy that hears nothing for a minute takes the connection for dead.
BEAT_EVERY_S = 20.0
NO_STORE = {"cache-control": "no-store"}


@router.get(
    "/events",
    include_in_schema=False,
    dependencies=[needs(Role.VIEWER)],
)
async def events(request: Request) -> Response:
    """Sends ``moved`` whenever there is something new to show.

    Beyond the limit of streams the answer is 204, after which a browser does not try again: the
    page polls ``/events.json``, whose ``moves`` differs whenever there is something new.
    """
    service = service_of(request)
    if request.headers.get("accept") == "application/json":
        return JSONResponse({"moves": service.listeners.polled()}, headers=NO_STORE)
    cookie, token = (request.scope["state"].get(name) for name in ("session", "token"))
    access = service.access

    async def may_hear() -> bool:
        await access.refresh()
        if cookie is not None:
            return access.of_session(cookie) is not None
        return token is None or access.person(token) is not None

    return Stream(service.listeners, may_hear)


class Stream(Response):
    """A stream of events as long as there is room for one, which is seen when it begins."""

    def __init__(self, listeners: Listeners, may_hear: Callable[[], Awaitable[bool]]) -> None:
        """``may_hear`` says whether its session goes on."""
        super().__init__(None, 204, NO_STORE)
        self.listeners = listeners
        self.may_hear = may_hear

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events, or 204."""
        if self.listeners.is_full:
            await super().__call__(scope, receive, send)
            return
        with self.listeners.one() as moved:
            stream = StreamingResponse(
                _moves(self.listeners, moved, self.may_hear),
                media_type="text/event-stream",
                headers=NO_STORE | {"x-accel-buffering": "no"},
            )
            await stream(scope, receive, send)


async def _moves(
    listeners: Listeners, moved: asyncio.Event, may_hear: Callable[[], Awaitable[bool]]
) -> AsyncIterator[str]:
    # Something may have changed between the page and this stream: refresh once.
    yield "retry: 2000\nevent: moved\ndata:\n\n"
    while True:
        try:
            await asyncio.wait_for(moved.wait(), BEAT_EVERY_S)
            told = "event: moved\ndata:\n\n"
        except asyncio.TimeoutError:
            told = ": still here\n\n"
        moved.clear()
        # It may have been logged out meanwhile, or its user removed.
        if listeners.closing or not await may_hear():
            return
        yield told
        await asyncio.sleep(AT_MOST_EVERY_S)
