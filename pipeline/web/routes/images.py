"""Images: the gallery, and the page of one original."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Query, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from pipeline.app import Lockstep
from pipeline.csvs.writing import output_address
from pipeline.engine.pending import Pending
from pipeline.imaging import WEB_FORMATS, format_of_suffix
from pipeline.names import WIDTH_SIGN, folder_of, name_of
from pipeline.operations import gallery
from pipeline.operations.explain import explain
from pipeline.operations.gallery import Filter
from pipeline.operations.history import times
from pipeline.states import Role, Source
from pipeline.takedowns import takedowns
from pipeline.takedowns.audit import Wanted, removed_by, story_of
from pipeline.web import models
from pipeline.web.answers import answer, wants_json
from pipeline.web.documented import page_or
from pipeline.web.routes.audit import entry_page
from pipeline.web.routes.audit import found as taken_down
from pipeline.web.routes.files import AskedSource, sources_asked
from pipeline.web.security.keys import PATH, clean_key
from pipeline.web.security.roles import needs
from pipeline.web.service import service_of

router = APIRouter()

PAGE = 48


@router.get("/images", responses=page_or(models.Images, 422), dependencies=[needs(Role.VIEWER)])
def images(
    request: Request,
    state: str = Query("", pattern=f"^({'|'.join(gallery.states())})?$"),
    folder: models.Text = "",
    text: models.Text = "",
    job: str = Query("", pattern=r"^[0-9]{0,40}$"),
    after: models.Text = "",
    limit: int = Query(PAGE, ge=1, le=500),
) -> Response:
    """Originals by name, a page at a time; by state, folder, and a text in the name.

    Those of the input folder, or those that were fetched for a ``job``.
    """
    service = service_of(request)
    source = Source.JOBS if job else Source.INPUT
    pending = service.app.render.pending_of[source]
    # All images of a job are in one folder named by its reference.
    wanted = Filter(state, job or folder.strip("/"), text.strip())
    counts = service.counts.get()
    if state == gallery.PENDING and not job and counts is not None and not counts["pending"]:
        # To find that nothing is pending, all would have to be read.
        found = gallery.Page([], None)
    else:
        found = gallery.page(pending, wanted, after, limit)
    listed = [with_urls(image) for image in found.images]
    data: dict[str, Any] = {"images": listed, "next": found.next}
    if wants_json(request.scope):
        return answer(request, "", data)
    asked = {"state": state, "folder": "" if job else wanted.folder, "text": text, "job": job}
    narrowed = {name: value for name, value in asked.items() if value}
    more = f"/images?{urlencode({**narrowed, 'after': found.next})}" if found.next else None
    below = [] if after or job else gallery.folders(pending, wanted.folder)
    return answer(
        request,
        "images.html",
        data,
        asked=asked,
        narrowed=bool(narrowed),
        source=source.value,
        after=after,
        more=more,
        states=gallery.states(),
        thumbs={image["path"]: smallest(image) for image in listed},
        folders=[
            {"name": name, "url": _folder_url(asked, f"{wanted.folder}/{name}".strip("/"))}
            for name in below
        ],
        crumbs=_crumbs(asked, asked["folder"]),
    )


@router.get(
    f"/images/{PATH}",
    responses=page_or(models.ImageStory, 404, 410),
    dependencies=[needs(Role.VIEWER)],
)
def image(request: Request, path: str, source: AskedSource = None) -> Response:
    """One original, what was made of it, what the next run would do with it, and its history."""
    service = service_of(request)
    try:
        pending, found = known(service.app, path, source)
    except HTTPException as error:
        number = removed_by(service.app.database, path) if error.status_code == 410 else None
        if number is None or wants_json(request.scope):
            raise
        return entry_page(request, taken_down(request, number), 410, "This was taken down.")
    if pending.source is Source.JOBS:
        return _image_of_job(request, service.app, found)
    # As a whole path: a key could be mistaken for a path below the working folder.
    story = explain(service.app, str(service.settings.input_dir / name_of(path)))
    data = {
        **with_urls(found),
        "srcset": srcset(found, service.settings.jobs.public_url),
        "explain": story.as_json(),
        "history": _history(service.app, pending, found),
    }
    return answer(
        request,
        "image.html",
        data,
        original_url=f"/originals/{quote(path)}?source={pending.source.value}",
        shown_inline=story.exists and _form(path) in WEB_FORMATS,
        folder_url=_folder_url({}, path.rpartition("/")[0]),
        of_job="",
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


def _image_of_job(request: Request, app: Lockstep, found: dict[str, Any]) -> Response:
    """A fetched image: only what is known, because no scan looks for it in a folder."""
    path, render = found["path"], app.render
    file = render.originals[Source.JOBS].file(path, found["sha256"])
    verdict = "fetched for a job" if file else "fetched for a job; its file is gone"
    renditions = [
        {"recipe": item["recipe"], "verdict": item["reason"] or item["state"]}
        for item in found["renditions"]
    ]
    data = {
        **with_urls(found),
        "srcset": srcset(found, render.settings.jobs.public_url),
        "explain": {
            "verdict": verdict,
            "exists": file is not None,
            "sha256": found["sha256"],
            "renditions": renditions,
            "features": [],
        },
        "history": _history(app, render.pending_of[Source.JOBS], found),
    }
    return answer(
        request,
        "image.html",
        data,
        original_url=f"/originals/{quote(path)}?source={Source.JOBS.value}",
        shown_inline=file is not None and _form(path) in WEB_FORMATS,
        folder_url=_folder_url({"job": path.partition("/")[0]}, ""),
        of_job=path.partition("/")[0],
    )


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


def with_urls(image: dict[str, Any]) -> dict[str, Any]:
    """An original whose renditions have their URLs."""
    renditions = [
        {**item, "url": f"/files/{quote(item['file'])}" if item["file"] else None}
        for item in image["renditions"]
    ]
    return {**image, "renditions": renditions}


def srcset(image: dict[str, Any], public_url: str) -> dict[str, str]:
    """By recipe with several widths: what the attribute `srcset` of an `img` says.

    The addresses are those below ``public_url``, or without one those of this server.
    """
    found: dict[str, dict[int, str]] = {}
    for item in image["renditions"]:
        if WIDTH_SIGN in item["recipe"] and item["file"]:
            address = output_address(item["file"], public_url or "/files")
            found.setdefault(folder_of(item["recipe"]), {})[item["width_px"]] = address
    return {
        recipe: ", ".join(f"{address} {width_px}w" for width_px, address in sorted(widths.items()))
        for recipe, widths in found.items()
    }


def _form(path: str) -> str | None:
    return format_of_suffix(os.path.splitext(path)[1])


def smallest(image: dict[str, Any]) -> dict[str, Any] | None:
    """The smallest rendition that there is."""
    there = [item for item in image["renditions"] if item["url"]]
    return min(there, key=lambda item: item["width_px"] * item["height_px"], default=None)


def _folder_url(asked: dict[str, str], folder: str) -> str:
    values = {**asked, "folder": folder}
    query = urlencode({name: value for name, value in values.items() if value})
    return f"/images?{query}" if query else "/images"


def _crumbs(asked: dict[str, str], folder: str) -> list[dict[str, str]]:
    parts = folder.split("/") if folder else []
    return [
        {"name": part, "url": _folder_url(asked, "/".join(parts[: number + 1]))}
        for number, part in enumerate(parts)
    ]
