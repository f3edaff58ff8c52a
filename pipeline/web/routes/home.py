"""Home: is everything in step? And the recipes."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from pipeline.app import Lockstep
from pipeline.engine.context import RunOptions
from pipeline.engine.recipe_step import compare_recipes
from pipeline.errors import LockstepError
from pipeline.operations.preview import preview
from pipeline.states import Role, Source
from pipeline.transforms.features import is_listed
from pipeline.transforms.recipes import load_recipes
from pipeline.web import models
from pipeline.web.answers import answer, wants_json
from pipeline.web.documented import page_or
from pipeline.web.problems import public
from pipeline.web.security.roles import needs
from pipeline.web.service import service_of

router = APIRouter()


@router.get("/", responses=page_or(models.Status), dependencies=[needs(Role.VIEWER)])
def home(request: Request) -> Response:
    """Is everything in step? As a page, or as ``/status``."""
    return answer(request, "home.html", service_of(request).state())


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
