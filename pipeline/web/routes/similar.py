"""Similar originals: those that look like one, with thumbnails, and what is blocked near to it."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from pipeline.near import DISTANCE, MAX_DISTANCE
from pipeline.operations import gallery
from pipeline.states import Role, Source
from pipeline.takedowns.near import hash_of, similar_listed
from pipeline.web import models
from pipeline.web.answers import answer
from pipeline.web.documented import page_or
from pipeline.web.routes.files import AskedSource
from pipeline.web.routes.images import known, smallest, with_urls
from pipeline.web.security.roles import needs
from pipeline.web.service import service_of

router = APIRouter()

SHOWN = 100


@router.get(
    "/similar",
    responses=page_or(models.Similar, 404, 410, 422),
    dependencies=[needs(Role.VIEWER)],
)
def similar(
    request: Request,
    path: models.NonEmpty,
    source: AskedSource = None,
    distance: int = Query(DISTANCE, ge=0, le=MAX_DISTANCE),
) -> Response:
    """Originals that look like one, the nearest first, and what is blocked near to it.

    ``distance`` is in how many of the 256 bits of their PDQ hashes they may differ.
    """
    app = service_of(request).app
    pending, image = known(app, path, source)
    key = image["path"]
    digest = hash_of(app.takedowns, pending.source, key)
    found = similar_listed(app.takedowns, digest, distance, pending.source, key)[:SHOWN]
    data = {"path": key, "pdq": digest, "similar": found}
    thumbs: dict[tuple[str, str], Any] = {}
    for each in found:
        if each["path"] is not None:
            shown = gallery.describe(app.render.pending_of[Source(each["source"])], each["path"])
            thumbs[each["source"], each["path"]] = shown and smallest(with_urls(shown))
    return answer(
        request,
        "similar.html",
        data,
        thumbs=thumbs,
        image_url=f"/images/{quote(key)}?source={pending.source.value}",
    )
