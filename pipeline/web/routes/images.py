"""Images: the gallery, and the page of one original."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import datetime
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from fastapi import APIRouter, Query, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from pipeline.app import Lockstep
from pipeline.csvs.writing import output_address
from pipeline.engine.pending import Pending
from pipeline.engine.render_step import RenderStep
from pipeline.imaging import WEB_FORMATS, format_of_suffix
from pipeline.imaging.formats import ORIGINAL_FORMATS
from pipeline.names import WIDTH_SIGN, folder_of
from pipeline.operations import gallery
from pipeline.operations.explain import explain
from pipeline.operations.history import times
from pipeline.operations.listing import PENDING, Place, Sort, Start, count, place_of
from pipeline.states import Role, Source
from pipeline.takedowns import takedowns
from pipeline.takedowns.audit import Wanted, removed_by, story_of
from pipeline.transforms.features import is_feature
from pipeline.web import models
from pipeline.web.addresses import files_url
from pipeline.web.answers import answer, wants_json
from pipeline.web.documented import page_or
from pipeline.web.lists import Asked, AskedList, now
from pipeline.web.routes.audit import entry_page
from pipeline.web.routes.audit import found as taken_down
from pipeline.web.routes.files import AskedSource, sources_asked
from pipeline.web.security.keys import PATH, clean_key
from pipeline.web.security.roles import needs
from pipeline.web.service import Service, service_of

router = APIRouter()

PAGE = 48


@router.get("/images", responses=page_or(models.Images, 422), dependencies=[needs(Role.VIEWER)])
def images(
    request: Request,
    asked: Asked,
    after: models.Text = "",
    before: models.Text = "",
    at: models.Text = "",
    limit: int = Query(PAGE, ge=1, le=500),
) -> Response:
    """Originals, a page at a time, by name, time or size; narrowed down by each field.

    Those of the input folder, or those that were fetched for a ``job``. Continue with ``after`` =
    ``next``, or go back with ``before`` = ``previous``; ``at`` is the name of the first one.
    """
    service = service_of(request)
    pending = service.app.render.pending_of[asked.source]
    order, wanted = asked.order, asked.wanted
    is_shown = not wants_json(request.scope)
    start = _start(pending, order, after, before, at)
    total: int | None = None
    first: int | None = 0
    # For programs, only what is said on a first page: counting may cost more than listing.
    if is_shown or start.place is None:
        total, first = _counted(service, pending, asked, start)
    if at and start.is_at and first is not None and first < limit:
        # A list that begins just before it is shown from its beginning.
        start, first = gallery.BEGINNING, 0
    counts = service.counts.get()
    if asked.state == PENDING and not asked.job and counts and not counts["pending"]:
        # To find that nothing is pending, all would have to be read.
        found, total = gallery.Page([], None), 0
    else:
        found = gallery.page(pending, wanted, start, limit, order)
    files = "/files" if is_shown else files_url(request)
    listed = [with_urls(image, files) for image in found.images]
    ends = _ends(found, listed, start, order, pending)
    data: dict[str, Any] = {"images": listed, "total": total, **ends}
    if not is_shown:
        return answer(request, "", data)
    if first is not None and start.is_back:
        first = max(first - len(listed), 0)  # it ends before the original at its place
    place: dict[str, Any] = {"at": at, "first": None if first is None else first + 1}
    is_first = start.place is None
    return answer(request, "images.html", data, **place, **_shown(pending, asked, data, is_first))


def _shown(
    pending: Pending, asked: AskedList, data: dict[str, Any], is_first: bool
) -> dict[str, Any]:
    """What only a page shows of a list: filters, folders, and what is said of each original."""
    listed, folder = data["images"], asked.wanted.folder
    below = gallery.folders(pending, folder) if is_first and not asked.job else []
    return {
        "asked": asked,
        "order": asked.order.value,
        "source": asked.source.value,
        "earlier": asked.address(before=data["previous"]) if data["previous"] else None,
        "more": asked.address(after=data["next"]) if data["next"] else None,
        "states": gallery.states(),
        "formats": ORIGINAL_FORMATS,
        "recipes": _recipes(pending),
        "thumbs": {image["path"]: smallest(image, asked.recipe) for image in listed},
        "whys": {image["path"]: _why(image) for image in listed},
        "folders": [
            {"name": name, "url": _folder_url(asked, f"{folder}/{name}".strip("/"))}
            for name in below
        ],
        "crumbs": _crumbs(asked, asked.folder),
        "seen": now(),
    }


def _start(pending: Pending, order: Sort, after: str, before: str, at: str) -> Start:
    """Where the page begins that an address asks for; at the beginning where it is gone."""
    if at:
        with pending.meta.dbconn.reading() as con:
            return Start(place_of(con, pending, clean_key(at), order), is_at=True)
    return Start(Place.read(before or after, order), is_back=bool(before))


def _counted(
    service: Service, pending: Pending, asked: AskedList, start: Start
) -> tuple[int | None, int | None]:
    """How many originals the list has, and how many come before the place of a page."""
    with pending.meta.dbconn.reading() as con:
        total, before = count(con, pending, asked.wanted, asked.order, start.place)
    if before is not None and start.place is not None and not start.is_at and not start.is_back:
        before += 1  # the page begins after the original at its place
    counts = service.counts.get()
    if total is None and not asked.is_narrowed and counts is not None:
        total = counts["originals"]
    return total, before


def _ends(
    found: gallery.Page, listed: list[dict[str, Any]], start: Start, order: Sort, pending: Pending
) -> dict[str, str | None]:
    """The places at which the pages before and after this one begin, as far as there are any."""
    if start.place is None:
        return {"next": found.next, "previous": None}
    if start.is_back:
        # It ends before an original, so another page follows.
        last = listed[-1]["path"] if listed else None
        with pending.meta.dbconn.reading() as con:
            place = place_of(con, pending, last, order) if last else None
        return {"next": place and place.as_text(), "previous": found.next}
    with pending.meta.dbconn.reading() as con:
        first = place_of(con, pending, listed[0]["path"], order) if listed else start.place
    return {"next": found.next, "previous": first and first.as_text()}


@router.get(
    f"/images/{PATH}",
    responses=page_or(models.ImageStory, 404, 410),
    dependencies=[needs(Role.VIEWER)],
)
def image(request: Request, path: str, asked: Asked, source: AskedSource = None) -> Response:
    """One original, what was made of it, what the next run would do with it, and its history.

    As a page it also leads to its neighbours in the list that the other fields name.
    """
    service = service_of(request)
    try:
        pending, found = known(service.app, path, source)
    except HTTPException as error:
        number = removed_by(service.app.database, path) if error.status_code == 410 else None
        if number is None or wants_json(request.scope):
            raise
        return entry_page(request, taken_down(request, number), 410, "This was taken down.")
    path = found["path"]
    if pending.source is Source.JOBS:
        asked = asked if asked.job else AskedList(job=path.partition("/")[0])
        story = _story_of_job(service.app.render, found)
        is_there = story["exists"]
    else:
        # As a whole path: a key could be mistaken for a path below the working folder.
        story = explain(service.app, service.settings.input_store.path_of(path)).as_json()
        is_there = story["exists"]
    data = {
        **with_urls(found, files_url(request) if wants_json(request.scope) else "/files"),
        "srcset": srcset(found, service.settings.jobs.public_url or files_url(request)),
        "explain": story,
        "history": _history(service.app, pending, found),
    }
    if wants_json(request.scope):
        return answer(request, "", data)
    return answer(
        request,
        "image.html",
        data,
        original_url=f"/originals/{quote(path)}?source={pending.source.value}",
        shown_inline=is_there and _form(path) in WEB_FORMATS,
        crumbs=_crumbs(AskedList(job=asked.job), path.rpartition("/")[0]),
        of_job=asked.job if pending.source is Source.JOBS else "",
        original_px=_pixel_size(found),
        **_in_list(pending, asked, path),
    )


def _history(app: Lockstep, pending: Pending, found: dict[str, Any]) -> list[dict[str, str]]:
    """What the tables remember of an original, and what people decided about its content."""
    history = times(pending, found["path"])
    if found["sha256"]:
        acts = takedowns(app.takedowns, 100, None, Wanted(sha256=found["sha256"]))
        for event in story_of(app.database, found["sha256"], acts):
            who = f" by {event['who']}" if event["who"] else ""
            note = f": {event['note']}" if event["note"] else ""
            history.append({"at": event["at"], "what": f"{event['what']}{who}{note}"})
    return sorted(history, key=lambda event: datetime.fromisoformat(event["at"]))


def _in_list(pending: Pending, asked: AskedList, path: str) -> dict[str, Any]:
    """Where an image is in the list that it was opened from, and its neighbours there."""
    before, after = gallery.neighbours(pending, asked.wanted, asked.order, path)
    with pending.meta.dbconn.reading() as con:
        place = place_of(con, pending, path, asked.order)
        total, first = count(con, pending, asked.wanted, asked.order, place)
    source = {"source": asked.source.value} if asked.job else {}
    urls = [
        asked.address(f"/images/{quote(key)}", **source) if key is not None else None
        for key in (before, after)
    ]
    return {
        "list_url": asked.address(at=path) + "#at",
        "previous_url": urls[0],
        "next_url": urls[1],
        "number": None if first is None or place is None else first + 1,
        "total": total,
    }


def _story_of_job(render: RenderStep, found: dict[str, Any]) -> dict[str, Any]:
    """A fetched image: only what is known, because no scan looks for it in a folder."""
    file = render.originals[Source.JOBS].file(found["path"], found["sha256"])
    return {
        "verdict": "fetched for a job" if file else "fetched for a job; its file is gone",
        "exists": file is not None,
        "sha256": found["sha256"],
        "renditions": [
            {"recipe": item["recipe"], "verdict": item["reason"] or item["state"]}
            for item in found["renditions"]
        ],
        "features": [],
    }


def known(app: Lockstep, path: str, source: Source | None = None) -> tuple[Pending, dict[str, Any]]:
    """The original of a path from a request, by its row, and the tables of its source.

    Raises:
        HTTPException: 404, there is none; 410, it was taken down. Nothing but a row's key is ever
            looked for on the disk.
    """
    key = clean_key(path)
    for each in sources_asked(app.render, source):
        pending = app.render.pending_of[each]
        found = gallery.describe(pending, key)
        if found is not None:
            return pending, found
    if removed_by(app.database, key) is not None:
        raise HTTPException(410, "this was taken down; the page of takedowns says why")
    raise HTTPException(404, "no original of that name is known")


def with_urls(image: dict[str, Any], files: str = "/files") -> dict[str, Any]:
    """An original whose renditions have their URLs, which begin with ``files``."""
    renditions = [
        {**item, "url": output_address(item["file"], files) if item["file"] else None}
        for item in image["renditions"]
    ]
    return {**image, "renditions": renditions}


def srcset(image: dict[str, Any], public_url: str) -> dict[str, str]:
    """By recipe with several widths: what the attribute `srcset` of an `img` says.

    The addresses are those below ``public_url``.
    """
    found: dict[str, dict[int, str]] = {}
    for item in image["renditions"]:
        if WIDTH_SIGN in item["recipe"] and item["file"]:
            address = output_address(item["file"], public_url)
            found.setdefault(folder_of(item["recipe"]), {})[item["width_px"]] = address
    return {
        recipe: ", ".join(f"{address} {width_px}w" for width_px, address in sorted(widths.items()))
        for recipe, widths in found.items()
    }


def _form(path: str) -> str | None:
    return format_of_suffix(os.path.splitext(path)[1])


def smallest(image: dict[str, Any], recipe: str = "") -> dict[str, Any] | None:
    """The smallest rendition that there is, of ``recipe`` if that has one."""
    there = [item for item in image["renditions"] if item["url"]]
    there = [item for item in there if item["recipe"] == recipe] or there
    return min(there, key=lambda item: item["width_px"] * item["height_px"], default=None)


def _why(image: dict[str, Any]) -> str | None:
    """Why an image is not in step, as the first of its renditions in that state says."""
    reasons = (i["reason"] for i in image["renditions"] if i["state"] == image["state"] != "ok")
    return next(filter(None, reasons), None)


def _pixel_size(image: dict[str, Any]) -> tuple[int, int] | None:
    """The pixels of an original, where a feature of it says them; a browser knows them as well."""
    for value in (item["value"] or {} for item in image["features"]):
        if isinstance(value.get("width"), int) and isinstance(value.get("height"), int):
            return value["width"], value["height"]
    return None


def _recipes(pending: Pending) -> list[str]:
    table = pending.recipe_table
    query = sa.select(table.c.recipe).where(pending.ours_in(table)).order_by(table.c.recipe)
    return [name for name in pending.meta.dbconn.column(query) if not is_feature(name)]


def _folder_url(asked: AskedList, folder: str) -> str:
    return replace(asked, folder=folder).address()


def _crumbs(asked: AskedList, folder: str) -> list[dict[str, str]]:
    """The way to a folder; images of a job are in one, which is the job."""
    if asked.job:
        return []
    parts = folder.split("/") if folder else []
    return [
        {"name": part, "url": _folder_url(asked, "/".join(parts[: number + 1]))}
        for number, part in enumerate(parts)
    ]
