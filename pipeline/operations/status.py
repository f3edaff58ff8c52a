"""Status: how much is in step, what failed and why, what is pending. Reads, never writes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from pipeline.database.marks import Mark
from pipeline.database.state import UNVERIFIED, StateRepository
from pipeline.database.tracking import GONE, KIND
from pipeline.engine.own_step import OwnStep, record_name
from pipeline.engine.pending import Pending, recipe_in, rows_in
from pipeline.jobs.store import ACTIVE, JobRepository
from pipeline.states import JobState, State
from pipeline.tables import EXCEPTION
from pipeline.text import iso
from pipeline.transforms.features import PDQ, is_feature, is_listed, own_name

REASONS_SHOWN = 50
PATHS_SHOWN = 20


def status(pending: Pending, own_steps: Sequence[OwnStep] = ()) -> dict[str, Any]:
    """The counts that ``datapipe status --json`` prints; ``jobs`` by their state, and the records
    of the users' steps by step and state.

    ``failed``, ``held``, ``taken_down`` and ``pending`` count renditions; those of features are in
    ``features``, by name.
    ``pending`` is what the tables know to be pending, as after a run that was interrupted; what
    changed in ``input/`` since is known after the next scan (``datapipe run --dry-run``).
    """
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
    return {
        "originals": total,
        "renditions": sum(counts["ok"] for counts in by_recipe.values()),
        "failed": sum(counts["failed"] for counts in by_recipe.values()),
        "held": sum(counts["held"] for counts in by_recipe.values()),
        "taken_down": sum(counts["taken_down"] for counts in by_recipe.values()),
        "pending": sum(counts["pending"] for counts in by_recipe.values()),
        "recipes": by_recipe,
        "features": {own_name(name): counts for name, counts in every.items() if is_feature(name)},
        "jobs": JobRepository(pending.meta.dbconn).counts(),
        "steps": {step.name: step.states() for step in own_steps},
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
    ours = pending.ours_in(table)
    return sa.select(*keys, sa.func.count()).where(ours).group_by(*keys)


def _none_yet() -> dict[str, int]:
    return {state.value: 0 for state in State} | {"pending": 0}


def is_out_of_step(status: dict[str, Any]) -> bool:
    """Whether anything is failed or pending, jobs included, or files may not be those of rows."""
    in_step = {JobState.COMPLETED.value, JobState.DELETED.value}
    is_unverified = status["unverified"] is not None
    jobs = set(status["jobs"]) - in_step
    return bool(has_left(status) or is_unverified or jobs)


def has_left(status: dict[str, Any]) -> bool:
    """Whether a rendition, a feature, or a record of a user's step, is failed or pending."""
    counted = [status, *status["features"].values(), *status["steps"].values()]
    return any(counts["failed"] or counts["pending"] for counts in counted)


def jobs_left(status: dict[str, Any]) -> tuple[int, int]:
    """How many jobs have not ended yet, and how many ended badly or with errors."""
    counts = status["jobs"]
    active = sum(counts.get(state.value, 0) for state in ACTIVE)
    bad = (JobState.COMPLETED_WITH_ERRORS, JobState.REJECTED, JobState.FAILED)
    return active, sum(counts.get(state.value, 0) for state in bad)


def errors(pending: Pending, own_steps: Sequence[OwnStep] = ()) -> list[dict[str, Any]]:
    """Every rendition and feature that is failed or taken down, and every record of a user's step
    that failed.

    Path, recipe (of a feature ``features.`` and its name), state, reason, and since when (ISO 8601,
    local time); of a record also its step and its keys, and the path is NULL where it is none of an
    original.
    """
    rows: list[sa.Row[Any]] = []
    for table in pending.tables:
        states = table.c.state.in_((State.FAILED.value, State.TAKEN_DOWN.value))
        ours = pending.ours_in(table)
        rows += pending.meta.dbconn.rows(rows_in(table).where(ours, states))
    rows = [row for row in rows if is_listed(row.recipe)]
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
    ] + [_failed_record(step, failure) for step in own_steps for failure in step.failures()]


def _failed_record(step: OwnStep, failure: Mark) -> dict[str, Any]:
    keys = failure.keys
    return {
        "path": keys.get("path"),
        "recipe": keys.get("recipe"),
        "step": step.name,
        "record": keys,
        "state": failure.state,
        "reason": failure.reason,
        "since": iso(failure.since or 0.0),
    }


def by_reason(pending: Pending, own_steps: Sequence[OwnStep] = ()) -> dict[str, Any]:
    """``failed``, how many renditions, features and records of users' steps, and ``reasons``,
    those of steps last, and the most frequent first."""
    missing = sa.union_all(
        *[
            sa.select(table.c.path, table.c.reason).where(
                pending.ours_in(table),
                table.c.state == State.FAILED.value,
                sa.text(EXCEPTION),
                recipe_in(table) != PDQ,
            )
            for table in pending.tables
        ]
    ).subquery("missing")
    count = sa.func.count()
    groups = (
        sa.select(missing.c.reason, count.label("count"))
        .group_by(missing.c.reason)
        .order_by(count.desc(), missing.c.reason)
        .limit(REASONS_SHOWN)
    )
    with pending.meta.dbconn.reading() as con:
        total = con.execute(sa.select(count).select_from(missing)).scalar_one()
        reasons = []
        for reason, found in con.execute(groups).all():
            paths = (
                sa.select(missing.c.path)
                .where(missing.c.reason == reason)
                .distinct()
                .order_by(missing.c.path)
                .limit(PATHS_SHOWN)
            )
            reasons.append(
                {
                    "reason": reason,
                    "count": found,
                    "paths": list(con.execute(paths).scalars()),
                    "step": None,
                }
            )
    for step in own_steps:
        failed = [(each.reason, record_name(each.keys)) for each in step.failures()]
        total += len(failed)
        for reason, found in Counter(reason for reason, _ in failed).most_common(REASONS_SHOWN):
            names = [name for why, name in failed if why == reason][:PATHS_SHOWN]
            told = {"reason": reason, "count": found, "paths": names, "step": step.name}
            reasons.append(told)
    return {"failed": total, "reasons": reasons}
