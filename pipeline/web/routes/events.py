"""Server-sent events: a page learns that something has changed, and fetches what it shows again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from pipeline.web.service import Service, service_of

router = APIRouter()

# Pages fetch changes at most this often.
AT_MOST_EVERY_S = 0.5
# Runs of other processes notify nobody: the tables are polled this often while a page is open.
LOOK_EVERY_S = 2.0
# A proxy that hears nothing for a minute takes the connection for dead.
BEAT_EVERY_S = 20.0


@router.get(
    "/events",
    include_in_schema=False,
)
async def events(request: Request) -> StreamingResponse:
    """Sends ``moved`` whenever there is something new to show."""
    return StreamingResponse(
        _moves(service_of(request)),
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )


async def _moves(service: Service) -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    with service.listeners.one() as moved:
        # Something may have changed between the page and this stream: refresh once.
        yield "retry: 2000\nevent: moved\ndata:\n\n"
        clock = await run_in_threadpool(service.counts.clock)
        last_sent = loop.time()
        while not service.listeners.closing:
            try:
                await asyncio.wait_for(moved.wait(), LOOK_EVERY_S)
            except asyncio.TimeoutError:
                now = await run_in_threadpool(service.counts.clock)
                if now == clock:
                    if loop.time() - last_sent >= BEAT_EVERY_S:
                        last_sent = loop.time()
                        yield ": still here\n\n"
                    continue
                clock = now
            moved.clear()
            if service.listeners.closing:
                return
            last_sent = loop.time()
            yield "event: moved\ndata:\n\n"
            await asyncio.sleep(AT_MOST_EVERY_S)
