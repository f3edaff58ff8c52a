"""Images: the gallery, and the page of one original."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Query, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from pipeline.engine import gallery
from pipeline.engine.explain import explain
from pipeline.engine.gallery import Wanted
from pipeline.imaging import format_of_suffix
from pipeline.names import name_of
from pipeline.takedowns.book import Kind, TakedownBook
from pipeline.web import models
from pipeline.web.answers import answer, wants_json
from pipeline.web.documented import page_or
from pipeline.web.files import INLINE
from pipeline.web.home import service_of
from pipeline.web.keys import clean_key

router = APIRouter()

PAGE = 48


@router.get("/images", responses=page_or(models.Images, 422))
def images(
    request: Request,
    state: str = Query("", pattern=f"^({'|'.join(gallery.states())})?$"),
    folder: models.Text = "",
    text: models.Text = "",
    after: models.Text = "",
    limit: int = Query(PAGE, ge=1, le=500),
) -> Response:
    """Originals by name, a page at a time; by state, folder, and a text in the name."""
    service = service_of(request)
    pending = service.app.render.pending
    wanted = Wanted(state, folder.strip("/"), text.strip())
    counts = service.counts.get()
    if state == gallery.PENDING and counts is not None and not counts["pending"]:
        # To find that nothing is pending, all would have to be looked through.
        found = gallery.Page([], None)
    else:
        found = gallery.page(pending, wanted, after, limit)
    listed = [with_urls(image) for image in found.images]
    data: dict[str, Any] = {"images": listed, "next": found.next}
    if wants_json(request.scope):
        return answer(request, "", data)
    asked = {"state": state, "folder": wanted.folder, "text": wanted.text}
    narrowed = {name: value for name, value in asked.items() if value}
    more = f"/images?{urlencode({**narrowed, 'after': found.next})}" if found.next else None
    inside = [] if after else gallery.folders(pending, wanted.folder)
    return answer(
        request,
        "images.html",
        data,
        asked=asked,
        narrowed=bool(narrowed),
        after=after,
        more=more,
        states=gallery.states(),
        thumbs={image["path"]: _thumb(image) for image in listed},
        folders=[
            {"name": name, "url": _folder_url(asked, f"{wanted.folder}/{name}".strip("/"))}
            for name in inside
        ],
        crumbs=_crumbs(asked, wanted.folder),
    )


@router.get("/images/{path:path}", responses=page_or(models.ImageStory, 404, 410))
def image(request: Request, path: str) -> Response:
    """One original and its renditions, what the next run would do with it, and its history."""
    service = service_of(request)
    found = known(service.app, path)
    # As a whole path: a key could be mistaken for a path below the working folder.
    story = explain(service.app, str(service.settings.input_dir / name_of(path)))
    suffix = "." + path.rpartition(".")[2]
    data = {
        **with_urls(found),
        "explain": story.as_json(),
        "history": gallery.times(service.app.render.pending, path),
    }
    return answer(
        request,
        "image.html",
        data,
        original_url=f"/originals/{quote(path)}",
        shown_inline=story.exists and format_of_suffix(suffix) in INLINE,
        folder_url=_folder_url({}, path.rpartition("/")[0]),
    )


def known(app: Any, path: str) -> dict[str, Any]:
    """The original of a path from a request, by its row.

    Raises:
        HTTPException: 404, there is none; 410, it was taken down. Nothing but a row's key is ever
            looked for on the disk.
    """
    found = gallery.describe(app.render.pending, clean_key(path))
    if found is None and TakedownBook(app.connection).has_removed(Kind.ORIGINAL, path):
        raise HTTPException(410, "this was taken down; the page of takedowns says why")
    if found is None:
        raise HTTPException(404, "no original of that name is known")
    return found


def with_urls(image: dict[str, Any]) -> dict[str, Any]:
    """An original whose renditions say where they are served."""
    renditions = [
        {**item, "url": f"/files/{quote(item['file'])}" if item["file"] else None}
        for item in image["renditions"]
    ]
    return {**image, "renditions": renditions}


def _thumb(image: dict[str, Any]) -> dict[str, Any] | None:
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
