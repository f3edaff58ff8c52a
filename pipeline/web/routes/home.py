"""Home: is everything in step? And the recipes, what failed, and retrying it."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from pipeline.app import Lockstep
from pipeline.engine.context import RunOptions
from pipeline.engine.recipe_step import compare_recipes
from pipeline.errors import LockstepError
from pipeline.names import name_of
from pipeline.operations.listing import Sort, count
from pipeline.operations.preview import preview
from pipeline.operations.retry import retry
from pipeline.operations.status import by_reason, jobs_left
from pipeline.states import Role, Source, State
from pipeline.text import counted
from pipeline.transforms.features import is_listed
from pipeline.transforms.recipes import load_recipes
from pipeline.web import models, requests
from pipeline.web.answers import answer, back, wants_json
from pipeline.web.documented import page_or
from pipeline.web.lists import AskedList, now
from pipeline.web.problems import public
from pipeline.web.security.keys import clean_key
from pipeline.web.security.roles import needs
from pipeline.web.service import service_of

router = APIRouter()


@router.get("/", responses=page_or(models.Status), dependencies=[needs(Role.VIEWER)])
def home(request: Request) -> Response:
    """Is everything in step? As a page, or as ``/status``."""
    state = service_of(request).state()
    jobs = (0, 0) if state["counts"] is None else jobs_left(state["counts"])
    return answer(request, "home.html", state, jobs_active=jobs[0], jobs_bad=jobs[1])


@router.get("/status", responses=page_or(models.Status), dependencies=[needs(Role.VIEWER)])
def status(request: Request) -> Response:
    """Is everything in step? Counts, what is being done now, and the last runs."""
    if not wants_json(request.scope):
        return RedirectResponse("/", 303)
    return home(request)


@router.get(
    "/recipes", responses=page_or(models.RecipeChange, 503), dependencies=[needs(Role.VIEWER)]
)
def recipes(request: Request) -> Response:
    """The recipes in use, and what a change in ``recipes.toml`` would do."""
    app = service_of(request).app
    return answer(request, "recipes.html", _recipes(app))


@router.get("/failed", responses=page_or(models.Failed), dependencies=[needs(Role.VIEWER)])
def failed(request: Request) -> Response:
    """What failed, grouped by reason."""
    app = service_of(request).app
    found = by_reason(app.render.pending, app.own_steps)
    asked = AskedList(state=State.FAILED.value)
    with app.database.reading() as con:
        total, _ = count(con, app.render.pending, asked.wanted, Sort.NAME, None)
    return answer(request, "failed.html", found, asked=asked, originals=total, seen=now())


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
    folder = service.settings.input_dir
    # As whole paths: a key could be mistaken for a path below the working folder.
    paths = [str(folder / name_of(clean_key(path))) for path in wanted.paths]
    try:
        retried = await run_in_threadpool(retry, service.app, paths)
    except LockstepError:
        raise HTTPException(404, "no original of that name is known") from None
    service.changed()
    if wants_json(request.scope):
        return answer(request, "", {"retried": retried}, 202)
    words = f"{counted(retried, 'rendition')} {'is' if retried == 1 else 'are'} retried"
    return back("/failed", words)


def _recipes(app: Lockstep) -> dict[str, Any]:
    table = app.render.pending.recipe_table
    with app.database.reading() as con:
        rows = con.execute(
            sa.select(table).where(table.c.source == Source.INPUT.value).order_by(table.c.recipe)
        ).all()
    in_use = [
        {"recipe": row.recipe, "fingerprint": row.fingerprint, **_settings_of(row.spec)}
        for row in rows
        if is_listed(row.recipe)
    ]
    data: dict[str, Any] = {
        "recipes": in_use,
        "added": [],
        "changed": [],
        "removed": [],
        "preview": None,
        "fault": None,
    }
    try:
        found = load_recipes(app.settings.recipes_file)
        difference = compare_recipes(found, app.load_recipes.table, Source.INPUT)
        data |= {
            "added": difference.added,
            "changed": difference.changed,
            "removed": [name for name in difference.removed if is_listed(name)],
        }
        if data["added"] or data["changed"] or data["removed"]:
            data["preview"] = preview(app, RunOptions()).as_json()
    except LockstepError as error:
        data["fault"] = public(error)[1]
    return data


def _settings_of(spec: str) -> dict[str, Any]:
    """What a recipe sets, without its defaults."""
    values = json.loads(spec)
    for name, key in (("function", "function"), ("parent", "from")):
        if name in values:
            values[key] = values.pop(name)["name"]
    return {"spec": {name: value for name, value in values.items() if value not in (None, False)}}
