"""Status: how much is in step, what failed and why, what is pending. Reads, never writes."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa

from pipeline.app import Lockstep
from pipeline.database.state import UNVERIFIED, StateRepository
from pipeline.database.tracking import GONE, KIND
from pipeline.engine.pending import Pending, recipe_in
from pipeline.jobs.store import JobRepository
from pipeline.operations.failures import counts as failures_by_code
from pipeline.operations.verdict import verdict
from pipeline.settings.values import Settings
from pipeline.states import State
from pipeline.takedowns.sharing import sharing
from pipeline.transforms.features import is_feature, is_listed, own_name


def status(app: Lockstep) -> dict[str, Any]:
    """The counts that ``datapipe status --json`` prints; ``jobs`` by their state, and the records
    of the users' steps by step and state.

    ``reasons`` counts all that failed by its code, images of jobs and records included; ``verdict``
    says whether everything is in step.
    ``sharing`` says how the exchange with other instances goes, if there is one.
    ``failed``, ``held``, ``taken_down`` and ``pending`` count renditions; those of features are in
    ``features``, by name.
    ``pending`` is what the tables know to be pending, as after a run that was interrupted; what
    changed in ``input/`` since is known after the next scan (``datapipe run --dry-run``).
    """
    pending = app.render.pending
    recipes = pending.recipe_table
    originals = pending.original_table
    changed = pending.changed().subquery()
    for_us = pending.ours_in(recipes)
    with pending.meta.dbconn.reading() as con:
        names = (
            con.execute(sa.select(recipes.c.recipe).where(for_us).order_by(recipes.c.recipe))
            .scalars()
            .all()
        )
        total = con.execute(
            sa.select(sa.func.count()).select_from(originals).where(pending.our_originals)
        ).scalar_one()
        counted = [row for table in pending.tables for row in con.execute(_states(pending, table))]
        waiting = con.execute(
            sa.select(changed.c.recipe, sa.func.count())
            .where(changed.c[KIND] != GONE)
            .group_by(changed.c.recipe)
        ).all()
    every = {name: _none_yet() for name in names}
    for recipe, state, count in counted:
        if recipe in every:
            every[recipe][state] = count
    for recipe, count in waiting:
        every.setdefault(recipe, _none_yet())["pending"] = count
    every = {name: counts for name, counts in every.items() if is_listed(name)}
    by_recipe = {name: counts for name, counts in every.items() if not is_feature(name)}
    counts: dict[str, Any] = {
        "originals": total,
        "renditions": sum(counts["ok"] for counts in by_recipe.values()),
        "failed": sum(counts["failed"] for counts in by_recipe.values()),
        "held": sum(counts["held"] for counts in by_recipe.values()),
        "taken_down": sum(counts["taken_down"] for counts in by_recipe.values()),
        "pending": sum(counts["pending"] for counts in by_recipe.values()),
        "recipes": by_recipe,
        "features": {own_name(name): counts for name, counts in every.items() if is_feature(name)},
        "jobs": JobRepository(pending.meta.dbconn).counts(),
        "steps": {step.name: step.states() for step in app.own_steps},
        "reasons": failures_by_code(app),
        "unverified": _unverified(pending),
        "sharing": sharing(app.takedowns),
        "workers": _workers(app.settings),
    }
    return counts | {"verdict": verdict(counts).as_json()}


def _workers(settings: Settings) -> dict[str, Any]:
    """What runs are set to use; nothing is connected to for it."""
    if settings.cluster:
        return {"place": "ray", "address": settings.cluster}
    return {"place": "local", "processes": settings.workers}


def _unverified(pending: Pending) -> dict[str, int] | None:
    """How many files differ from the rows of a database that was older than its folder.

    Empty until they have been counted; ``None`` where nothing is known to be wrong.
    """
    noted = StateRepository(pending.meta.dbconn).get(UNVERIFIED)
    return None if noted is None else json.loads(noted) or {}


def _states(pending: Pending, table: sa.Table) -> sa.Select[Any]:
    """How many rows each recipe, or feature, has in each state."""
    keys = recipe_in(table), table.c.state
    ours = pending.ours_in(table)
    return sa.select(*keys, sa.func.count()).where(ours).group_by(*keys)


def _none_yet() -> dict[str, int]:
    return {state.value: 0 for state in State} | {"pending": 0}
