"""Health and metrics, for those who watch the service."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from pipeline.app import Lockstep
from pipeline.database.state import CLOCK, StateRepository
from pipeline.states import Role
from pipeline.takedowns.sharing import sharing
from pipeline.web import models
from pipeline.web.metrics import exposition
from pipeline.web.security.roles import needs, refuse_without
from pipeline.web.service import service_of

router = APIRouter()


@router.get(
    "/healthz",
    responses={
        200: {"description": "It works", "content": {"application/json": {}}},
        401: {"description": "With `verbose`: log in"},
        503: {"description": "The database does not respond"},
    },
    dependencies=[needs(None)],
)
def healthz(request: Request, verbose: models.Text | None = None) -> Response:
    """Whether the service and its database respond, and, with PIPELINE_BLOCKLIST_DB, since when
    that one does not. Needs no token.

    With ``?verbose`` for viewers: the verdict and the counts of Home as well.
    """
    service = service_of(request)
    StateRepository(service.app.database).get(CLOCK)
    if verbose is None:
        return JSONResponse({"status": "ok", **_sharing(service.app)})
    refuse_without(request, Role.VIEWER)
    state = service.state()
    said = {name: state[name] for name in ("in_step", "verdict", "counts", "last_error")}
    return JSONResponse({"status": "ok", **_sharing(service.app), **said})


def _sharing(app: Lockstep) -> dict[str, Any]:
    """Since when other instances cannot be told of takedowns, without the address of the database:
    anybody may read this."""
    found = sharing(app.takedowns)
    shown = ("failing_since", "unsent_takedowns")
    return {} if found is None else {"sharing": {name: found[name] for name in shown}}


@router.get(
    "/metrics",
    responses={200: {"description": "Prometheus's text format", "content": {"text/plain": {}}}},
    dependencies=[needs(Role.VIEWER)],
)
def metrics(request: Request) -> Response:
    """Originals, renditions, failed, pending, and how long runs take, for Prometheus."""
    body, media_type = exposition(service_of(request).metrics)
    return PlainTextResponse(body, media_type=media_type)
