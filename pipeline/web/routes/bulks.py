"""Bulks: one act on many originals, its progress and its list; and many originals as a ZIP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse

from pipeline.errors import LockstepError, NotFoundError
from pipeline.operations.bulks import (
    BulkRepository,
    Chosen,
    Order,
    as_json,
    choose,
    choose_all,
    choose_taken_down,
    item_as_json,
)
from pipeline.states import BulkAct, BulkItemState, BulkState, Role
from pipeline.text import counted
from pipeline.web import models, requests
from pipeline.web.answers import answer, back, wants_json
from pipeline.web.archive import zip_stream
from pipeline.web.background import WORDS
from pipeline.web.documented import page_or
from pipeline.web.lists import AskedList
from pipeline.web.security.keys import clean_key
from pipeline.web.security.roles import needs, person_of, refuse_without
from pipeline.web.service import Service, service_of

router = APIRouter()

PAGE = 50
ITEMS = 200
# Originals that are named one by one; a whole list needs no names.
PATHS_MAX, FIELDS_MAX = 10_000, 10_100
# What may be done by whom; a takedown is a moderator's.
NEEDED = {
    BulkAct.TAKE_DOWN: Role.MODERATOR,
    BulkAct.REINSTATE: Role.MODERATOR,
    BulkAct.PUBLISH: Role.MODERATOR,
    BulkAct.RETRY: Role.UPLOADER,
}


class BulkJson(BaseModel):
    """One act on many originals. ``done`` and ``failed`` count those of ``total`` worked on."""

    id: int
    act: str = Field(description="take_down, reinstate, publish or retry")
    state: str = Field(description="running, stopped or done")
    chosen: str = Field(description="which originals, in words")
    reason: str | None
    who: str
    purge: bool
    total: int
    done: int
    failed: int
    when: str
    ended: str | None
    ended_by: str | None = Field(description="who stopped it")


class Bulks(BaseModel):
    """A page of bulks. Continue with ``before`` = ``next``."""

    bulks: list[BulkJson]
    next: int | None


class BulkItemJson(BaseModel):
    """One original of a bulk."""

    number: int
    source: str
    path: str
    sha256: str | None
    state: str = Field(description="waiting, done or failed")
    note: str | None = Field(description="why it failed")
    takedown: int | None


class BulkStory(BulkJson):
    """One bulk with a page of its originals. Continue with ``after`` = ``next``."""

    items: list[BulkItemJson]
    next: int | None


class ManyRequest(models.Sent):
    """Which originals: ``paths``, or with ``all`` every one of the list that the rest describes.

    ``seen`` is when the list was shown: what was found after it is left out, as nobody saw it.
    """

    paths: list[models.NonEmpty] = Field(default=[], max_length=PATHS_MAX)
    all: bool = False
    seen: models.Text = ""
    state: models.Text = ""
    folder: models.Text = ""
    text: models.Text = ""
    format: models.Text = ""
    recipe: models.Text = ""
    since: models.Text = ""
    until: models.Text = ""
    job: models.Text = ""
    reason: models.Text = ""
    purge: bool = False


class BulkRequest(ManyRequest):
    """What to do with many originals: ``take_down``, which needs a reason, ``publish`` what is
    held, or ``retry``."""

    what: BulkAct


@router.get("/bulks", responses=page_or(Bulks, 422), dependencies=[needs(Role.VIEWER)])
def bulk_list(
    request: Request,
    before: int | None = Query(None, ge=1, le=models.ID_MAX),
    limit: int = Query(PAGE, ge=1, le=500),
) -> Response:
    """What was done with many originals at once; newest first."""
    found = [as_json(row) for row in _repository(request).page(limit, before)]
    more = found[-1]["id"] if len(found) == limit and found[-1]["id"] > 1 else None
    return answer(request, "bulks.html", {"bulks": found, "next": more}, words=WORDS)


@router.post(
    "/bulks",
    status_code=202,
    responses=page_or(BulkJson, 404, 409, 413, 415, 422, status=202),
    openapi_extra=requests.body_of(BulkRequest),
    dependencies=[needs(Role.UPLOADER)],
)
async def begin(request: Request) -> Response:
    """Do something with many originals. It is recorded when this returns, and goes on from there.

    It can be stopped, and survives a restart of the service.
    """
    wanted = await requests.read(request, BulkRequest, FIELDS_MAX)
    refuse_without(request, NEEDED[wanted.what])
    if wanted.purge:
        refuse_without(request, Role.ADMIN, "deleting originals for good")
    if wanted.what is BulkAct.REINSTATE:
        raise HTTPException(422, "reinstate what a bulk took down: POST /bulks/<number>/reinstate")
    if wanted.what is BulkAct.TAKE_DOWN and not wanted.reason.strip():
        raise HTTPException(422, "a takedown needs a reason: it is recorded in the audit")
    asked = AskedList.read(wanted.model_dump())
    order = Order(
        wanted.what,
        person_of(request).name,
        wanted.reason,
        wanted.purge,
        _in_words(asked) if wanted.all else "selected one by one",
    )
    service = service_of(request)
    return await run_in_threadpool(_begin, request, order, _chosen(service, wanted, asked))


@router.get(
    "/bulks/{number}",
    responses=page_or(BulkStory, 404, 422),
    dependencies=[needs(Role.VIEWER)],
)
def one(
    request: Request,
    number: int,
    after: int = Query(0, ge=0, le=models.ID_MAX),
    limit: int = Query(ITEMS, ge=1, le=10_000),
    state: BulkItemState | None = None,
) -> Response:
    """One bulk: how far it is, and each of its originals. Continue with ``after`` = ``next``."""
    repository = _repository(request)
    bulk = _known(request, number)
    items = repository.items_of(number, limit, after, state)
    more = items[-1].number if len(items) == limit else None
    data = {**as_json(bulk), "items": [item_as_json(item) for item in items], "next": more}
    asked = state.value if state else ""
    return answer(request, "bulk.html", data, words=WORDS, after=after, asked_state=asked)


@router.post(
    "/bulks/{number}/stop",
    responses=page_or(BulkJson, 404, 409, 413, 415, 422),
    openapi_extra=requests.body_of(models.Nothing, required=False),
    dependencies=[needs(Role.UPLOADER)],
)
async def stop(request: Request, number: int) -> Response:
    """Stop it after the original that is being worked on; what is done stays done."""
    return await _change(request, number, BulkState.RUNNING, BulkState.STOPPED)


@router.post(
    "/bulks/{number}/resume",
    responses=page_or(BulkJson, 404, 409, 413, 415, 422),
    openapi_extra=requests.body_of(models.Nothing, required=False),
    dependencies=[needs(Role.UPLOADER)],
)
async def resume(request: Request, number: int) -> Response:
    """Go on with what is left of one that was stopped."""
    return await _change(request, number, BulkState.STOPPED, BulkState.RUNNING)


@router.post(
    "/bulks/{number}/reinstate",
    status_code=202,
    responses=page_or(BulkJson, 404, 409, 413, 415, 422, status=202),
    openapi_extra=requests.body_of(models.Nothing, required=False),
    dependencies=[needs(Role.MODERATOR)],
)
async def reinstate_all(request: Request, number: int) -> Response:
    """Put back all that it took down, as another bulk."""
    await requests.read(request, models.Nothing)
    bulk = _known(request, number)
    if bulk.act != BulkAct.TAKE_DOWN.value:
        raise HTTPException(409, "this bulk took nothing down")
    order = Order(
        BulkAct.REINSTATE,
        person_of(request).name,
        chosen=f"what bulk {number} took down",
    )
    chosen = choose_taken_down(_repository(request), number)
    return await run_in_threadpool(_begin, request, order, chosen)


@router.post(
    "/downloads",
    responses={
        **page_or(None, 404, 413, 415, 422),
        200: {"description": "The originals", "content": {"application/zip": {}}},
    },
    openapi_extra=requests.body_of(ManyRequest),
    dependencies=[needs(Role.VIEWER)],
)
async def download(request: Request) -> Response:
    """Many originals in one archive, which is created while it is sent; those gone are left out."""
    wanted = await requests.read(request, ManyRequest, FIELDS_MAX)
    asked = AskedList.read(wanted.model_dump())
    service = service_of(request)
    folder = service.app.render.originals[asked.source]
    chosen = _chosen(service, wanted, asked)

    def files() -> Iterator[tuple[str, str]]:
        for each in chosen:
            file = folder.file(each.path, each.sha256 if asked.job else None)
            if file is not None:
                yield each.path, file

    headers = {"content-disposition": 'attachment; filename="originals.zip"'}
    return StreamingResponse(zip_stream(files()), 200, headers, "application/zip")


def _begin(request: Request, order: Order, chosen: Iterator[Chosen]) -> Response:
    service, repository = service_of(request), _repository(request)
    try:
        number = repository.add(order, chosen)
    except NotFoundError as error:
        raise HTTPException(404, str(error)) from None
    except LockstepError as error:
        raise HTTPException(422, str(error)) from None
    service.bulks.ask()
    bulk = repository.bulk(number)
    assert bulk is not None
    if wants_json(request.scope):
        return answer(request, "", as_json(bulk), 202)
    return back(f"/bulks/{number}")


async def _change(request: Request, number: int, before: BulkState, after: BulkState) -> Response:
    await requests.read(request, models.Nothing)
    bulk = _known(request, number)
    refuse_without(request, NEEDED[BulkAct(bulk.act)])
    who = person_of(request).name
    repository, service = _repository(request), service_of(request)
    changed = await run_in_threadpool(
        repository.change, number, before, after, who if after is BulkState.STOPPED else None
    )
    bulk = _known(request, number)
    if not changed:
        by = f" (by {bulk.ended_by})" if bulk.ended_by else ""
        raise HTTPException(409, f"bulk {number} is {bulk.state} already{by}")
    service.bulks.ask()
    service.listeners.notify()
    if wants_json(request.scope):
        return answer(request, "", as_json(bulk))
    left = counted(bulk.total - bulk.done - bulk.failed, "original")
    return back(
        f"/bulks/{number}", f"Stopped: {left} left" if who and after is BulkState.STOPPED else ""
    )


def _chosen(service: Service, wanted: ManyRequest, asked: AskedList) -> Iterator[Chosen]:
    """What a request chose, as far as it is known; ``all`` says more than ``paths``.

    Raises:
        HTTPException: 422, it chose nothing.
    """
    if not wanted.all and not wanted.paths:
        raise HTTPException(422, "select at least one original: give paths, or all")
    pending = service.app.render.pending_of[asked.source]
    if wanted.all:
        return choose_all(pending, asked.seen_at(wanted.seen))
    return choose(pending, [clean_key(path) for path in wanted.paths])


def _in_words(asked: AskedList) -> str:
    """Which originals a list has, for the audit."""
    said = [f"{name} {value}" for name, value in asked.query.items() if name != "sort"]
    return f"all with {', '.join(said)}" if said else "all originals"


def _repository(request: Request) -> BulkRepository:
    return BulkRepository(service_of(request).app.database)


def _known(request: Request, number: int) -> Any:
    bulk = _repository(request).bulk(number) if 1 <= number <= models.ID_MAX else None
    if bulk is None:
        raise HTTPException(404, "there is no bulk with that number")
    return bulk
