"""Notify another system that a job ended: its JSON, signed, by POST.

The receiver checks the headers of :mod:`pipeline.fetch.signing`. ``webhook-id`` is the same in
every attempt of one delivery, because a receiver may get it twice: a lost response counts as none.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import anyio
import httpx

from pipeline.fetch.resolver import AddressRefused, Resolver, system_resolver
from pipeline.fetch.signing import signed_headers
from pipeline.fetch.transport import ValidatedTransport
from pipeline.fetch.types import FetchLimits
from pipeline.fetch.urls import UrlRefused, checked_url
from pipeline.text import shortened

# What `webhook-id` was called in the release before.
DELIVERY_HEADER = "X-Lockstep-Delivery"


@dataclass(frozen=True)
class Delivery:
    """How a delivery ended; ``reason`` is empty if it was accepted."""

    delivered: bool
    http_code: int | None = None
    reason: str = ""
    attempts: int = 0
    duration_ms: int = 0


def deliver(
    url: str,
    job: Mapping[str, Any],
    secret: str,
    limits: FetchLimits,
    *,
    message_id: str | None = None,
    deadline_s: float = 60.0,
    resolve: Resolver | None = None,
    ssl_context: ssl.SSLContext | None = None,
) -> Delivery:
    """POST the job's JSON to ``url``; at most ``deadline_s`` seconds, retries included.

    ``message_id`` is by what a receiver knows a delivery that it has had; by default a new one.

    To be called in a thread of its own, with no event loop in it. The rules for URLs and addresses
    are the fetch's. A 2xx response is a success; redirects are not followed, because a POST must
    not go where nobody intended. Connection errors, time-outs, 429 and 5xx are retried with
    backoff. Without a ``secret`` there is no signature. Never raises for anything the receiver
    does.
    """
    started = time.perf_counter()
    names = ThreadPoolExecutor(1, "webhook")
    try:
        delivery = asyncio.run(
            _deliver(
                url,
                job,
                secret,
                limits,
                message_id or f"msg_{uuid.uuid4().hex}",
                deadline_s,
                resolve or system_resolver(names),
                ssl_context,
            )
        )
    finally:
        names.shutdown(wait=False, cancel_futures=True)
    return replace(delivery, duration_ms=round((time.perf_counter() - started) * 1000))


async def _deliver(
    url: str,
    job: Mapping[str, Any],
    secret: str,
    limits: FetchLimits,
    message_id: str,
    deadline_s: float,
    resolve: Resolver,
    ssl_context: ssl.SSLContext | None,
) -> Delivery:
    try:
        target = checked_url(url, limits.ports)
    except UrlRefused as error:
        return Delivery(False, reason=str(error))
    body = json.dumps(job, ensure_ascii=False, separators=(",", ":")).encode()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": limits.user_agent,
        "Accept-Encoding": "identity",
        DELIVERY_HEADER: message_id,
    }
    transport = ValidatedTransport(
        resolve, limits.allow, ssl_context, http2=limits.http2, proxy_url=limits.proxy_url
    )
    last = Delivery(False, reason="not sent")
    try:
        with anyio.move_on_after(deadline_s):
            for attempt in range(1, limits.retries + 2):
                last = Delivery(False, None, f"no response within {deadline_s:g} s", attempt)
                # Each attempt has its own time: a receiver refuses one that was long ago.
                signed = headers | signed_headers(message_id, int(time.time()), body, secret)
                last, again = await _post(transport, target, body, signed, limits, attempt)
                if not again or attempt > limits.retries:
                    break
                await asyncio.sleep(limits.backoff_after_s(attempt))
    finally:
        await transport.aclose()
    return last


async def _post(
    transport: ValidatedTransport,
    target: httpx.URL,
    body: bytes,
    headers: Mapping[str, str],
    limits: FetchLimits,
    attempt: int,
) -> tuple[Delivery, bool]:
    """One attempt, and whether another may end otherwise."""
    request = httpx.Request(
        "POST", target, headers=headers, content=body, extensions=limits.timeouts()
    )
    try:
        response = await transport.handle_async_request(request)
    except AddressRefused as error:
        return Delivery(False, None, str(error), attempt), False
    except httpx.TransportError as error:
        reason = shortened(str(error)) or type(error).__name__
        return Delivery(False, None, reason, attempt), True
    except Exception as error:
        # Whatever a receiver can make a library raise must not end the run.
        reason = f"cannot be delivered ({type(error).__name__}: {shortened(str(error))})"
        return Delivery(False, None, reason, attempt), False
    with anyio.CancelScope(shield=True), contextlib.suppress(Exception):
        await response.aclose()
    code = response.status_code
    if 200 <= code < 300:
        return Delivery(True, code, "", attempt), False
    return Delivery(False, code, f"the receiver responded with {code}", attempt), (
        code == 429 or code >= 500
    )
