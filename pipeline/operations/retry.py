"""Marking what failed for a retry: renditions, on request also those of an older renderer, and
records of users' steps."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from pipeline.app import Lockstep
from pipeline.engine.pending import Pending, RenditionKey
from pipeline.engine.recovery import forget_content
from pipeline.errors import LockstepError
from pipeline.imaging import RENDERER_VERSION
from pipeline.names import key_below
from pipeline.states import State


def retry(app: Lockstep, paths: Sequence[str] = (), older: bool = False) -> int:
    """Make the next run try again; returns how many renditions and records of users' steps.

    Without ``paths``, also those of jobs.

    Raises:
        LockstepError: a path is no original that Lockstep knows.
    """
    if not paths:
        every = [pending for step in app.renders for pending in step.pending_of.values()]
        records = sum(step.retry() for step in app.own_steps)
        return records + sum(_retry(pending, older, None) for pending in every)
    pending = app.render.pending
    column = pending.table.c.path
    keys = [key_below(app.settings.input_dir, path) for path in paths]
    for path, key in zip(paths, keys, strict=True):
        with pending.meta.dbconn.reading() as con:
            known = sa.select(column).where(pending.ours, _below(column, key)).limit(1)
            if con.execute(known).first() is None:
                raise LockstepError(
                    f"{path}: no original of that name is known; `datapipe errors` lists what "
                    "failed, with the names to use"
                )
    records = sum(step.retry(keys) for step in app.own_steps)
    return records + _retry(pending, older, keys)


def _retry(pending: Pending, older: bool, keys: Sequence[str] | None) -> int:
    table = pending.table
    wanted: sa.ColumnElement[bool] = table.c.state == State.FAILED.value
    if older:
        wanted = sa.or_(wanted, table.c.renderer < RENDERER_VERSION)
    conditions = [sa.true()] if keys is None else [_below(table.c.path, key) for key in keys]
    failed: set[RenditionKey] = set()
    with pending.meta.dbconn.reading() as con:
        for condition in conditions:
            query = sa.select(table.c.source, table.c.path, table.c.recipe)
            rows = con.execute(query.where(pending.ours, wanted, condition))
            failed.update((row.source, row.path, row.recipe) for row in rows)
    forget_content(pending, sorted(failed))
    return len(failed)


def _below(path: sa.Column[str], key: str) -> sa.ColumnElement[bool]:
    return sa.or_(path == key, path.startswith(key + "/", autoescape=True))
