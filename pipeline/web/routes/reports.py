"""Reports: the "report this picture" button of a shop."""

from __future__ import annotations

import math

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response

from pipeline.errors import DecidedError, NotFoundError
from pipeline.states import Role
from pipeline.takedowns.reviews import report
from pipeline.web import models, requests
from pipeline.web.answers import answer, back, wants_json
from pipeline.web.documented import page_or
from pipeline.web.security.attempts import address_of
from pipeline.web.security.keys import clean_key
from pipeline.web.security.roles import needs, person_of
from pipeline.web.service import service_of

router = APIRouter()


class ReportedJson(BaseModel):
    """The review that a report is part of, and how many reports it has so far."""

    id: int
    sha256: str
    reports: int


class ReportRequest(models.OneOriginal):
    """What is reported: the ``path`` of an original, or the ``sha256`` of its content."""

    reason: models.NonEmpty
    who: models.Text = ""


@router.post(
    "/reports",
    status_code=202,
    responses=page_or(ReportedJson, 404, 410, 413, 415, 422, status=202),
    openapi_extra=requests.body_of(ReportRequest),
    # Everybody who may look may report; PIPELINE_REPORT_TOKEN allows this alone.
    dependencies=[needs(Role.VIEWER)],
)
async def report_one(request: Request) -> Response:
    """Report a picture, for a person to look at. What is unknown or taken down stores nothing."""
    service, address = service_of(request), address_of(request.scope)
    wait_s = service.reports.wait_s(address)
    if wait_s:
        seconds = str(math.ceil(wait_s))
        raise HTTPException(
            429, f"too many reports; try again in {seconds} s", {"retry-after": seconds}
        )
    wanted = await requests.read(request, ReportRequest)
    target = clean_key(wanted.path) if wanted.path else wanted.sha256.lower()
    who = wanted.who.strip() or person_of(request).name
    try:
        done = await run_in_threadpool(
            report, service.app.takedowns, target, wanted.reason.strip(), who
        )
    except NotFoundError:
        raise HTTPException(404, "no original of that name or content is known") from None
    except DecidedError:
        raise HTTPException(410, "this was already taken down") from None
    service.listeners.notify()
    if wants_json(request.scope):
        return answer(request, "", done.as_json(), 202)
    return back("/", "Reported")
