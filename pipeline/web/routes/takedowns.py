"""Takedowns: taking originals down for good, and reinstating them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response

from pipeline.app import Lockstep
from pipeline.errors import AlreadyReinstatedError
from pipeline.near import MAX_DISTANCE
from pipeline.states import Role, TakedownState
from pipeline.storage.moving import is_at
from pipeline.takedowns import TakenDown, reinstate, take_down
from pipeline.takedowns.audit import removed_by
from pipeline.takedowns.context import Takedowns
from pipeline.takedowns.near import lookalikes
from pipeline.text import counted
from pipeline.web import models, requests
from pipeline.web.answers import answer, back, problem, wants_json
from pipeline.web.documented import page_or
from pipeline.web.routes.audit import entry_page, found
from pipeline.web.security.keys import clean_key
from pipeline.web.security.roles import needs, person_of, refuse_without
from pipeline.web.service import service_of

router = APIRouter()


class TakedownRequest(models.OneOriginal):
    """What to take down: the ``path`` of an original below the input folder, or a ``sha256``."""

    reason: models.NonEmpty
    purge: bool = False
    near: int | None = Field(
        default=None,
        ge=0,
        le=MAX_DISTANCE,
        description="block what differs in at most so many bits, too",
    )
    near_originals: bool = Field(
        default=False, description="take those down that look like it, too"
    )


@router.post(
    "/takedowns",
    status_code=201,
    responses=page_or(models.TakenDownJson, 404, 409, 413, 415, 422, status=201),
    openapi_extra=requests.body_of(TakedownRequest),
    dependencies=[needs(Role.MODERATOR)],
)
async def take(request: Request) -> Response:
    """Take an original and its duplicates down: their renditions are gone when this returns.

    409: somebody has taken it down already. ``purge`` deletes the originals for good, and needs the
    role ``admin``.
    """
    wanted = await requests.read(request, TakedownRequest)
    if wanted.purge:
        refuse_without(request, Role.ADMIN, "deleting originals for good")
    service = service_of(request)
    target = wanted.sha256.lower()
    if wanted.path:
        # As a whole path: a key could be mistaken for a path below the working folder.
        target = service.settings.input_store.path_of(clean_key(wanted.path))
        number = await run_in_threadpool(_is_down, service.app, clean_key(wanted.path))
        if number is not None:
            return await run_in_threadpool(_already_down, request, number)
    done = await _take_down(request, target, wanted)
    # Those that look like it are takedowns of their own.
    can_undo = not wanted.purge and not done.near
    return _taken(request, done, undo=f"/takedowns/{done.id}/lift" if can_undo else "")


@router.post(
    "/takedowns/{number}/lift",
    responses=page_or(models.ReinstatedJson, 404, 409, 413, 415, 422),
    openapi_extra=requests.body_of(models.Nothing, required=False),
    dependencies=[needs(Role.MODERATOR)],
)
async def reinstate_one(request: Request, number: int) -> Response:
    """Put the originals back; a run begins at once and renders them.

    409: they were reinstated before; the message says by whom, and when.
    """
    await requests.read(request, models.Nothing)
    service = service_of(request)
    _check(number)
    who = person_of(request).name
    try:
        done = await run_in_threadpool(reinstate, service.app.takedowns, str(number), who)
    except AlreadyReinstatedError as error:
        return await run_in_threadpool(_already_lifted, request, error.number)
    service.changed()
    if wants_json(request.scope):
        return answer(request, "", done.as_json())
    words = f"Reinstated: {counted(len(done.originals), 'original is', 'originals are')} back"
    return back("/takedowns", words, undo=f"/takedowns/{done.takedowns[-1]}/again")


@router.post(
    "/takedowns/{number}/again",
    status_code=201,
    responses=page_or(models.TakenDownJson, 404, 409, 413, 415, 422, status=201),
    openapi_extra=requests.body_of(models.Nothing, required=False),
    dependencies=[needs(Role.MODERATOR)],
)
async def take_again(request: Request, number: int) -> Response:
    """Take what was reinstated down again, for the same reason; 409 if it still is down."""
    await requests.read(request, models.Nothing)
    _check(number)
    entry = await run_in_threadpool(found, request, number)
    if entry["state"] != TakedownState.LIFTED.value:
        return await run_in_threadpool(_already_down, request, number)
    again = TakedownRequest(sha256=entry["sha256"], reason=entry["reason"])
    done = await _take_down(request, again.sha256, again)
    return _taken(request, done, undo=f"/takedowns/{done.id}/lift")


async def _take_down(request: Request, target: str, wanted: TakedownRequest) -> TakenDown:
    service, who = service_of(request), person_of(request).name
    done = await run_in_threadpool(_take_down_now, service.app.takedowns, target, who, wanted)
    service.changed()
    return done


def _take_down_now(context: Takedowns, target: str, who: str, wanted: TakedownRequest) -> TakenDown:
    alike = None
    if wanted.near is not None:
        alike = lookalikes(context, target, wanted.near)
        alike = alike if wanted.near_originals else replace(alike, found=[])
    return take_down(context, target, wanted.reason.strip(), who, wanted.purge, alike)


def _taken(request: Request, done: TakenDown, undo: str) -> Response:
    if wants_json(request.scope):
        return answer(request, "", done.as_json(), 201)
    acts = (done, *done.near)
    originals = counted(sum(len(act.originals) for act in acts), "original")
    renditions = counted(sum(act.renditions for act in acts), "rendition")
    return back("/takedowns", f"Taken down: {originals}, {renditions} deleted", undo)


def _is_down(app: Lockstep, path: str) -> int | None:
    """The takedown that removed this original, unless another one has come under its name."""
    number = removed_by(app.database, path)
    return None if is_at(app.settings.input_place, path) else number


def _already_down(request: Request, number: int) -> Response:
    entry = found(request, number)
    said = f"it was already taken down, by {entry['who']} ({entry['when']}): {entry['reason']}"
    return _told(request, entry, said)


def _already_lifted(request: Request, number: int) -> Response:
    entry = found(request, number)
    return _told(
        request, entry, f"it was already reinstated, by {entry['lifted_by']} ({entry['lifted']})"
    )


def _told(request: Request, entry: dict[str, Any], said: str) -> Response:
    """409: what somebody else has done meanwhile, with the whole story."""
    if wants_json(request.scope):
        return problem(request.scope, 409, f"takedown {entry['id']}: {said}")
    return entry_page(request, entry, 409, said[0].upper() + said[1:])


def _check(number: int) -> None:
    if not 1 <= number <= models.ID_MAX:
        raise HTTPException(404, "there is no such takedown")
