"""Failed: what failed, by reason, and retrying it."""

from __future__ import annotations

import os
from functools import partial
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response

from pipeline.errors import LockstepError
from pipeline.imaging import WEB_FORMATS, format_of_suffix
from pipeline.operations.failures import by_reason
from pipeline.operations.listing import Sort, count
from pipeline.operations.retry import retry
from pipeline.reasons import Code
from pipeline.states import Role, State
from pipeline.text import counted
from pipeline.web import failed_models as models
from pipeline.web import requests
from pipeline.web.answers import answer, back, wants_json
from pipeline.web.documented import page_or
from pipeline.web.lists import AskedList, now
from pipeline.web.security.keys import clean_key
from pipeline.web.security.roles import needs
from pipeline.web.service import service_of

router = APIRouter()

# An original that failed has no small rendition: itself is shown, unless it is larger than this.
PICTURE_BYTES = 2_000_000
NO_PICTURE = (Code.EMPTY.value, Code.NOT_AN_IMAGE.value, Code.UNREADABLE.value)


@router.get("/failed", responses=page_or(models.Failed), dependencies=[needs(Role.VIEWER)])
def failed(request: Request) -> Response:
    """What failed, grouped by reason."""
    app = service_of(request).app
    found = by_reason(app)
    asked = AskedList(state=State.FAILED.value)
    with app.database.reading() as con:
        total, _ = count(con, app.render.pending, asked.wanted, Sort.NAME, None)
    hints = {code.value: code.hint for code in Code}
    shown: dict[str, Any] = {"asked": asked, "originals": total, "seen": now()}
    shown |= {"hints": hints, "pictures": _pictures(found)}
    return answer(request, "failed.html", found, **shown)


@router.post(
    "/retries",
    status_code=202,
    responses=page_or(models.Retried, 404, 413, 415, 422, status=202),
    openapi_extra=requests.body_of(models.RetryRequest, required=False),
    dependencies=[needs(Role.UPLOADER)],
)
async def retries(request: Request) -> Response:
    """Retry what failed, all of it or some originals; a run begins at once."""
    wanted = await requests.read(request, models.RetryRequest)
    service = service_of(request)
    store = service.settings.input_store
    # As whole paths: a key could be mistaken for a path below the working folder.
    paths = [store.path_of(clean_key(path)) for path in wanted.paths]
    try:
        work = partial(retry, service.app, paths, code=wanted.code, step=wanted.step)
        retried = await run_in_threadpool(work)
    except LockstepError:
        raise HTTPException(404, "no original of that name is known") from None
    service.changed()
    if wants_json(request.scope):
        return answer(request, "", {"retried": retried}, 202)
    words = f"{counted(retried, 'failure')} {'is' if retried == 1 else 'are'} retried"
    return back("/failed", words)


def _pictures(found: dict[str, Any]) -> dict[tuple[str, str], str]:
    """The addresses of small originals that a browser may show, at least in part."""
    return {
        (item["source"], item["path"]): f"/originals/{quote(item['path'])}?source={item['source']}"
        for group in found["reasons"]
        for item in group["items"]
        if item["path"]
        and group["code"] not in NO_PICTURE
        and (item["size_bytes"] or PICTURE_BYTES + 1) <= PICTURE_BYTES
        and format_of_suffix(os.path.splitext(item["path"])[1]) in WEB_FORMATS
    }
