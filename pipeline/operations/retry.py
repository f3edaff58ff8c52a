"""Marking failed renditions, and on request those of an older renderer, for a retry."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from pipeline.app import Lockstep
from pipeline.engine.pending import Pending
from pipeline.engine.recovery import forget_content
from pipeline.errors import LockstepError
from pipeline.imaging import RENDERER_VERSION
from pipeline.names import key_below
from pipeline.states import State


def retry(app: Lockstep, paths: Sequence[str] = (), older: bool = False) -> int:
    """Make the next run try again; returns how many renditions. Without ``paths``, also those of
    jobs.

    Raises:
        LockstepError: a path is no original that Lockstep knows.
    """
    if not paths:
        return sum(_retry(step.pending, older, None) for step in app.renders)
    pending = app.render.pending
    column = pending.table.c.path
    keys = [key_below(app.settings.input_dir, path) for path in paths]
    for path, key in zip(paths, keys, strict=True):
        with pending.meta.dbconn.reading() as con:
            known = sa.select(column).where(_below(column, key)).limit(1)
            if con.execute(known).first() is None:
                raise LockstepError(
                    f"{path}: no original of that name is known; `datapipe errors` lists what "
                    "failed, with the names to use"
                )
    return _retry(pending, older, keys)


def _retry(pending: Pending, older: bool, keys: Sequence[str] | None) -> int:
    table = pending.table
    wanted: sa.ColumnElement[bool] = table.c.state == State.FAILED.value
    if older:
        wanted = sa.or_(wanted, table.c.renderer < RENDERER_VERSION)
    conditions = [sa.true()] if keys is None else [_below(table.c.path, key) for key in keys]
    pairs: set[tuple[str, str]] = set()
    with pending.meta.dbconn.reading() as con:
        for condition in conditions:
            query = sa.select(table.c.path, table.c.recipe).where(wanted, condition)
            pairs.update(con.execute(query).tuples())
    forget_content(pending, sorted(pairs))
    return len(pairs)


def _below(path: sa.Column[str], key: str) -> sa.ColumnElement[bool]:
    return sa.or_(path == key, path.startswith(key + "/", autoescape=True))
