"""Status: how much is in step, what failed and why, what is pending. Reads, never writes."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa

from pipeline.database.state import UNVERIFIED, StateRepository
from pipeline.database.tracking import GONE, KIND
from pipeline.engine.pending import Pending, recipe_in, rows_in
from pipeline.jobs.store import JobRepository
from pipeline.states import JobState, State
from pipeline.tables import EXCEPTION
from pipeline.text import iso
from pipeline.transforms.features import is_feature, own_name

REASONS_SHOWN = 50
PATHS_SHOWN = 20


def status(pending: Pending) -> dict[str, Any]:
    """The counts that ``datapipe status --json`` prints; ``jobs`` by their state.

    ``failed``, ``taken_down`` and ``pending`` count renditions; those of features are in
    ``features``, by name.
    ``pending`` is what the tables know to be pending, as after a run that was interrupted; what
    changed in ``input/`` since is known after the next scan (``datapipe run --dry-run``).
    """
    recipes = pending.recipe_table
    originals = pending.original_table
    changed = pending.changed().subquery()
    for_us = recipes.c.source == pending.source.value
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
    by_recipe = {name: counts for name, counts in every.items() if not is_feature(name)}
    return {
        "originals": total,
        "renditions": sum(counts["ok"] for counts in by_recipe.values()),
        "failed": sum(counts["failed"] for counts in by_recipe.values()),
        "taken_down": sum(counts["taken_down"] for counts in by_recipe.values()),
        "pending": sum(counts["pending"] for counts in by_recipe.values()),
        "recipes": by_recipe,
        "features": {own_name(name): counts for name, counts in every.items() if is_feature(name)},
        "jobs": JobRepository(pending.meta.dbconn).counts(),
        "unverified": _unverified(pending),
    }


def _unverified(pending: Pending) -> dict[str, int] | None:
    """How many files differ from the rows of a database that was older than its folder.

    Empty until they have been counted; ``None`` where nothing is known to be wrong.
    """
    noted = StateRepository(pending.meta.dbconn).get(UNVERIFIED)
    return None if noted is None else json.loads(noted) or {}


def _states(pending: Pending, table: sa.Table) -> sa.Select[Any]:
    """How many rows each recipe, or feature, has in each state."""
    keys = recipe_in(table), table.c.state
    ours = table.c.source == pending.source.value
    return sa.select(*keys, sa.func.count()).where(ours).group_by(*keys)


def _none_yet() -> dict[str, int]:
    return {state.value: 0 for state in State} | {"pending": 0}


def is_out_of_step(status: dict[str, Any]) -> bool:
    """Whether anything is failed or pending, jobs included, or files may not be those of rows."""
    in_step = {JobState.COMPLETED.value, JobState.DELETED.value}
    return bool(is_behind(status) or set(status["jobs"]) - in_step)


def is_behind(status: dict[str, Any]) -> bool:
    """The same for renditions and features alone."""
    counts = (*status["recipes"].values(), *status["features"].values())
    is_missing = any(each["failed"] or each["pending"] for each in counts)
    return is_missing or status["unverified"] is not None


def errors(pending: Pending) -> list[dict[str, str]]:
    """Every rendition, and every feature, that is failed or taken down.

    Path, recipe (of a feature ``features.`` and its name), state, reason, and since when
    (ISO 8601, local time).
    """
    rows: list[sa.Row[Any]] = []
    with pending.meta.dbconn.reading() as con:
        for table in pending.tables:
            states = table.c.state.in_((State.FAILED.value, State.TAKEN_DOWN.value))
            ours = table.c.source == pending.source.value
            rows += con.execute(rows_in(table).where(ours, states)).all()
    rows.sort(key=lambda row: (row.path, row.recipe))
    return [
        {
            "path": row.path,
            "recipe": row.recipe,
            "state": row.state,
            "reason": row.reason,
            "since": iso(row.since),
        }
        for row in rows
    ]


def by_reason(pending: Pending) -> dict[str, Any]:
    """``failed``, a number of renditions and features, and ``reasons``, the most frequent first."""
    failed = sa.union_all(
        *[
            sa.select(table.c.path, table.c.reason).where(
                table.c.source == pending.source.value,
                table.c.state == State.FAILED.value,
                sa.text(EXCEPTION),
            )
            for table in pending.tables
        ]
    ).subquery("failed")
    count = sa.func.count()
    groups = (
        sa.select(failed.c.reason, count.label("count"))
        .group_by(failed.c.reason)
        .order_by(count.desc(), failed.c.reason)
        .limit(REASONS_SHOWN)
    )
    with pending.meta.dbconn.reading() as con:
        total = con.execute(sa.select(count).select_from(failed)).scalar_one()
        reasons = []
        for reason, found in con.execute(groups).all():
            paths = (
                sa.select(failed.c.path)
                .where(failed.c.reason == reason)
                .distinct()
                .order_by(failed.c.path)
                .limit(PATHS_SHOWN)
            )
            reasons.append(
                {"reason": reason, "count": found, "paths": list(con.execute(paths).scalars())}
            )
    return {"failed": total, "reasons": reasons}
