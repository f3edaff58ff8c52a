"""Review: what was held or reported, one at a time or as a grid, and deciding about it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from pipeline.app import Lockstep
from pipeline.errors import DecidedError, LockstepError
from pipeline.states import Kind, ReviewKind, ReviewState, Role, Source
from pipeline.takedowns import reviews
from pipeline.takedowns.repository import TakedownRepository
from pipeline.takedowns.review_rows import ReviewRepository
from pipeline.takedowns.twins import places_of
from pipeline.web import models, requests
from pipeline.web.answers import answer, back, wants_json
from pipeline.web.documented import page_or
from pipeline.web.previews import Place
from pipeline.web.problems import public
from pipeline.web.requests import not_modified
from pipeline.web.security.roles import needs, person_of
from pipeline.web.service import service_of

log = logging.getLogger("lockstep.web")
router = APIRouter()

# One at a time: the one that is shown, and those whose pictures are there before they are.
AHEAD, GRID, DECIDED = 4, 24, 5
PLACES = 5
GONE = "this is not waiting for a decision any more"


class NearJson(BaseModel):
    """The blocked content that something is near to; ``distance`` in bits of 256."""

    hash: str | None
    source: str | None
    distance: int | None


class SaidJson(BaseModel):
    """One report."""

    reason: str
    who: str
    when: str


class ReviewJson(BaseModel):
    """Content that a person has to decide about, or what was decided."""

    model_config = ConfigDict(extra="allow")
    id: int
    state: str
    kinds: list[str] = Field(description="held, reported")
    sha256: str
    path: str
    when: str
    near: NearJson | None
    reports: int
    said: list[SaidJson] = Field(description="the reports, the first of them word by word")
    decided: str | None
    decided_by: str | None
    takedown: int | None
    undone_by: str | None


class Reviews(BaseModel):
    """A page of what waits, oldest first. Continue with ``after`` = ``next``."""

    reviews: list[ReviewJson]
    next: int | None
    waiting: dict[str, int] = Field(description="how much: open in all, held, reported")


class RefusedJson(BaseModel):
    """Why a review could not be decided: who did what before, and when."""

    id: int
    error: str


class DecidedJson(BaseModel):
    """What was decided, and what was not."""

    decided: list[ReviewJson]
    refused: list[RefusedJson]


class DecisionRequest(models.Sent):
    """What to do with some reviews. To take down, a ``category`` or a ``reason`` is needed."""

    ids: list[Annotated[int, Field(ge=1, le=models.ID_MAX)]] = Field(min_length=1, max_length=500)
    act: Literal["publish", "take_down", "undo"]
    category: models.Text = ""
    reason: models.Text = ""


@router.get("/review", responses=page_or(Reviews, 422), dependencies=[needs(Role.MODERATOR)])
def review(
    request: Request,
    after: int = Query(0, ge=0, le=models.ID_MAX),
    at: int = Query(0, ge=0, le=models.ID_MAX),
    kind: str = Query("", pattern=f"^({'|'.join(kind.value for kind in ReviewKind)})?$"),
    view: str = Query("", pattern="^(grid)?$"),
    limit: int | None = Query(None, ge=1, le=500),
) -> Response:
    """What waits for a decision, oldest first: what was held, and what was reported."""
    service = service_of(request)
    context = service.app.takedowns
    size = limit or (GRID if view or wants_json(request.scope) else AHEAD)
    is_one = not view and not wants_json(request.scope)
    found = reviews.open_reviews(context, after, size + 1, kind, at, look_alike=is_one)
    listed, more = found[:size], len(found) > size
    data: dict[str, Any] = {
        "reviews": listed,
        "next": listed[-1]["id"] if more else None,
        "waiting": service.waiting(),
    }
    if wants_json(request.scope):
        return answer(request, "", data)

    def address(**values: Any) -> str:
        query = urlencode({k: v for k, v in ({"kind": kind, "view": view} | values).items() if v})
        return f"/review?{query}" if query else "/review"

    return answer(
        request,
        "review.html",
        # Its name is that of what every page is given to count with.
        {"reviews": listed, "left": data["waiting"]},
        view=view,
        kind=kind,
        first=not after and not at,
        more=address(after=listed[-1]["id"]) if more else None,
        next_one=address(after=listed[0]["id"]) if len(found) > 1 and not view else None,
        again=address(after=after, at=at),
        views={name: address(view=name) for name in ("", "grid")},
        kinds_urls={
            name: address(kind=name) for name in ("", *(each.value for each in ReviewKind))
        },
        reasons=service.settings.reasons,
        decided=reviews.decided_reviews(context, DECIDED),
        pictures={item["id"]: _near_takedown(item) for item in listed},
    )


@router.post(
    "/review",
    responses={
        **page_or(DecidedJson, 413, 415, 422),
        409: {"description": "Others have decided all of them", "model": DecidedJson},
    },
    openapi_extra=requests.body_of(DecisionRequest),
    dependencies=[needs(Role.MODERATOR)],
)
async def decide(request: Request) -> Response:
    """Publish reviews, take them down, or undo that. 409: others have decided all of them."""
    wanted = await requests.read(request, DecisionRequest)
    service = service_of(request)
    if wanted.act == "take_down":
        if not (wanted.category.strip() or wanted.reason.strip()):
            raise HTTPException(422, "choose a category, or say why")
        if wanted.category and wanted.category not in service.settings.reasons:
            raise HTTPException(422, "the category is not one of PIPELINE_REASONS")
    who = person_of(request).name
    done = await run_in_threadpool(_decide_all, service.app, wanted, who)
    service.changed()
    if wants_json(request.scope):
        status = 409 if done["refused"] and not done["decided"] else 200
        return JSONResponse(done, status, headers={"vary": "Accept"})
    words = [_in_words(wanted.act, done["decided"])] if done["decided"] else []
    words += [each["error"] for each in done["refused"]]
    query = request.url.query
    return back(f"/review?{query}" if query else "/review", "; ".join(words)[:1_000])


def _decide_all(app: Lockstep, wanted: DecisionRequest, who: str) -> dict[str, Any]:
    context = app.takedowns
    acts: dict[str, Callable[[int], dict[str, Any]]] = {
        "publish": lambda number: reviews.publish(context, number, who, wanted.reason),
        "take_down": lambda number: reviews.take_down_reviewed(
            context, number, who, wanted.category, wanted.reason
        ),
        "undo": lambda number: reviews.undo(context, number, who),
    }
    done: dict[str, Any] = {"decided": [], "refused": []}
    for number in dict.fromkeys(wanted.ids):
        try:
            done["decided"].append(acts[wanted.act](number))
        except LockstepError as error:
            if not isinstance(error, DecidedError):
                log.warning("review %d: %s", number, error)
            done["refused"].append({"id": number, "error": public(error)[1]})
    return done


def _in_words(act: str, decided: list[dict[str, Any]]) -> str:
    what = {"publish": "Published", "take_down": "Taken down", "undo": "Open again"}[act]
    return f"{what}: {decided[0]['path']}" if len(decided) == 1 else f"{what}: {len(decided):,}"


@router.get(
    "/review/{number}/picture", include_in_schema=False, dependencies=[needs(Role.MODERATOR)]
)
async def picture(request: Request, number: int) -> Response:
    """What is to be decided about, as a JPEG."""
    app = service_of(request).app
    sha256, places = await run_in_threadpool(_places, app, number)
    return await _picture(request, sha256, places)


@router.get("/review/{number}/near", include_in_schema=False, dependencies=[needs(Role.MODERATOR)])
async def near(request: Request, number: int) -> Response:
    """What it is near to, from the quarantine, as a JPEG."""
    app = service_of(request).app
    sha256, places = await run_in_threadpool(_near_places, app, number)
    return await _picture(request, sha256, places)


async def _picture(request: Request, sha256: str, places: list[Place]) -> Response:
    headers = {
        "etag": f'"{sha256}"',
        # Asked for again each time: once it is taken down, no browser shows it any more.
        "cache-control": "private, no-cache",
        "content-security-policy": "default-src 'none'; sandbox",
    }
    if not_modified(request, headers["etag"], 0):
        return Response(None, 304, headers)
    found = await service_of(request).previews.of(sha256, places)
    if found is None:
        raise HTTPException(404, "there is no picture of this any more")
    return Response(found, 200, headers, "image/jpeg")


def _open_row(app: Lockstep, number: int) -> Any:
    row = None
    if 1 <= number <= models.ID_MAX:
        row = ReviewRepository(app.database).get(number)
    if row is None:
        raise HTTPException(404, "there is no such review")
    if row.state == ReviewState.TAKEN_DOWN.value:
        raise HTTPException(410, GONE)
    return row


def _places(app: Lockstep, number: int) -> tuple[str, list[Place]]:
    row = _open_row(app, number)
    known = places_of(app.takedowns, row.sha256, PLACES)
    places = []
    for source, path in dict.fromkeys([(row.source, row.path), *known]):
        originals = app.render.originals.get(Source(source))
        is_bucket = originals is not None and originals.place.is_bucket
        if originals and (is_bucket or originals.file(path, row.sha256) is not None):
            key = originals.key(path, row.sha256)
            places.append(Place(originals.place.text, key, originals.max_pixels))
    return row.sha256, places


def _near_places(app: Lockstep, number: int) -> tuple[str, list[Place]]:
    row = _open_row(app, number)
    takedown = _number_of(row.near_source)
    repository = TakedownRepository(app.database)
    act = repository.act(takedown) if takedown else None
    if act is None:
        raise HTTPException(404, "there is no picture of what it is near to")
    folder = app.settings.quarantine_place.text
    places = [
        Place(folder, file.kept)
        for file in repository.files_of([act.id])
        if file.kind == Kind.ORIGINAL.value and file.kept and file.restored is None
    ]
    return act.sha256, places[:PLACES]


def _near_takedown(item: dict[str, Any]) -> int | None:
    """The takedown whose picture can be shown beside it; ``None`` where a list has its hash."""
    return _number_of(item["near"]["source"]) if item["near"] else None


def _number_of(source: str | None) -> int | None:
    word, _, number = (source or "").partition(" ")
    return int(number) if word == "takedown" and number.isdigit() and len(number) < 10 else None
