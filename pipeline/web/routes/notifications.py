"""Notifications: the store of a bucket tells which originals have changed."""

from __future__ import annotations

import asyncio
import hashlib
import hmac

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from pipeline.live.notifications import changed_keys
from pipeline.web import models
from pipeline.web.documented import page_or
from pipeline.web.security.attempts import TOO_MANY, WRONG_TOKEN_S, address_of
from pipeline.web.security.roles import needs
from pipeline.web.service import service_of

router = APIRouter()


class NotedJson(BaseModel):
    """How many keys will be looked at."""

    keys: int


@router.post(
    "/notifications",
    responses=page_or(NotedJson, 401, 404, 413, 422, 429),
    # Not for people: it has a token of its own, which allows nothing else.
    dependencies=[needs(None)],
)
async def note(request: Request, token: models.Text = "") -> Response:
    """Look at the objects that these records of S3's form name.

    The token is `PIPELINE_NOTIFICATIONS_TOKEN`, as a bearer or as `?token=`.
    """
    service = service_of(request)
    expected, place = service.settings.notifications_token, service.settings.input_place
    if not expected or not place.is_bucket:
        raise HTTPException(
            404,
            "notifications are not taken here: they need a bucket in PIPELINE_INPUT, and "
            "PIPELINE_NOTIFICATIONS_TOKEN",
        )
    kind, _, bearer = request.headers.get("authorization", "").partition(" ")
    given = bearer.strip() if kind.lower() == "bearer" else token
    attempts, address = service.access.attempts, address_of(request.scope)
    if not attempts.may_try(address):
        raise HTTPException(429, TOO_MANY, {"retry-after": "1"})
    is_right = hmac.compare_digest(_digest(given), _digest(expected))
    attempts.note(address, is_right)
    if not is_right:
        await asyncio.sleep(WRONG_TOKEN_S)
        raise HTTPException(401, "the token of notifications is wrong")
    try:
        keys = changed_keys(await request.body(), place)
    except ValueError:
        raise HTTPException(422, "this is not a notification in S3's form") from None
    service.worker.report(keys)
    return JSONResponse({"keys": len(keys)})


def _digest(token: str) -> bytes:
    # Of one length: the comparison does not even reveal that of the token.
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
