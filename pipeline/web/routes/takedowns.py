"""Takedowns: taking originals down for good, the audit, and reinstating them."""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter, Query, Request
from pydantic import ConfigDict, Field, model_validator
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response

from pipeline.names import name_of
from pipeline.near import MAX_DISTANCE
from pipeline.states import Role
from pipeline.takedowns import TakenDown, reinstate, take_down, takedowns
from pipeline.takedowns.context import Takedowns
from pipeline.takedowns.near import lookalikes
from pipeline.text import counted
from pipeline.web import models, requests
from pipeline.web.answers import answer, back, wants_json
from pipeline.web.documented import page_or
from pipeline.web.security.keys import clean_key
from pipeline.web.security.roles import needs, person_of, refuse_without
from pipeline.web.service import service_of

router = APIRouter()

PAGE = 50


class TakedownRequest(models.Sent):
    """What to take down: the ``path`` of an original below the input folder, or a ``sha256``."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"oneOf": [{"required": ["path"]}, {"required": ["sha256"]}]},
    )
    path: models.NonEmpty = ""
    sha256: models.Sha256 = ""
    reason: models.NonEmpty
    purge: bool = False
    near: int | None = Field(
        None, ge=0, le=MAX_DISTANCE, description="block what differs in at most so many bits, too"
    )
    near_originals: bool = Field(False, description="take those down that look like it, too")

    @model_validator(mode="after")
    def _one_of_both(self) -> TakedownRequest:
        if bool(self.path) == bool(self.sha256):
            raise ValueError("give either path or sha256")
        return self


class ReinstateRequest(models.Sent):
    """Nothing: the audit names whoever sends it."""


@router.get(
    "/takedowns", responses=page_or(models.Takedowns, 422), dependencies=[needs(Role.VIEWER)]
)
def takedown_list(
    request: Request,
    before: int | None = Query(None, ge=1, le=models.ID_MAX),
    limit: int = Query(PAGE, ge=1, le=500),
) -> Response:
    """What was taken down: when, who, why, and which files; newest first.

    The page has one entry for many that were taken down at once.
    """
    is_page = not wants_json(request.scope)
    acts = takedowns(service_of(request).app.takedowns, limit, before, folded=is_page)
    more = acts[-1]["id"] if len(acts) == limit and acts[-1]["id"] > 1 else None
    return answer(request, "takedowns.html", {"takedowns": acts, "next": more})


@router.post(
    "/takedowns",
    status_code=201,
    responses=page_or(models.TakenDownJson, 404, 413, 415, 422, status=201),
    openapi_extra=requests.body_of(TakedownRequest),
    dependencies=[needs(Role.MODERATOR)],
)
async def take(request: Request) -> Response:
    """Take an original and its duplicates down: their renditions are gone when this returns.

    ``purge`` deletes the originals for good, and needs the role ``admin``.
    """
    wanted = await requests.read(request, TakedownRequest)
    if wanted.purge:
        refuse_without(request, Role.ADMIN, "deleting originals for good")
    service = service_of(request)
    if wanted.path:
        # As a whole path: a key could be mistaken for a path below the working folder.
        target = str(service.settings.input_dir / name_of(clean_key(wanted.path)))
    else:
        target = wanted.sha256.lower()
    who = person_of(request).name
    done = await run_in_threadpool(_take_down, service.app.takedowns, target, who, wanted)
    service.changed()
    if wants_json(request.scope):
        return answer(request, "", done.as_json(), 201)
    acts = (done, *done.near)
    originals, renditions = (sum(len(a.originals) for a in acts), sum(a.renditions for a in acts))
    said = counted(originals, "original"), counted(renditions, "rendition")
    words = f"Taken down: {said[0]}, {said[1]} deleted"
    return back("/takedowns", words)


def _take_down(context: Takedowns, target: str, who: str, wanted: TakedownRequest) -> TakenDown:
    alike = None
    if wanted.near is not None:
        alike = lookalikes(context, target, wanted.near)
        alike = alike if wanted.near_originals else replace(alike, found=[])
    return take_down(context, target, wanted.reason.strip(), who, wanted.purge, alike)


@router.post(
    "/takedowns/{number}/lift",
    responses=page_or(models.ReinstatedJson, 404, 413, 415, 422),
    openapi_extra=requests.body_of(ReinstateRequest, required=False),
    dependencies=[needs(Role.MODERATOR)],
)
async def reinstate_one(request: Request, number: int) -> Response:
    """Put the originals back; a run begins at once and renders them."""
    await requests.read(request, ReinstateRequest)
    if not 1 <= number <= models.ID_MAX:
        raise HTTPException(404, "there is no such takedown")
    service = service_of(request)
    who = person_of(request).name
    done = await run_in_threadpool(reinstate, service.app.takedowns, str(number), who)
    service.changed()
    if wants_json(request.scope):
        return answer(request, "", done.as_json())
    originals = len(done.originals)
    is_or_are = "is" if originals == 1 else "are"
    return back("/takedowns", f"Reinstated: {counted(originals, 'original')} {is_or_are} back")
