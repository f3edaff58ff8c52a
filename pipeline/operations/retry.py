"""Marking what failed for a retry: renditions, on request also those of an older renderer, and
records of users' steps."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from pipeline.app import Lockstep
from pipeline.engine.pending import Pending, RenditionKey, recipe_in
from pipeline.engine.recovery import forget_content
from pipeline.errors import LockstepError
from pipeline.imaging import RENDERER_VERSION
from pipeline.jobs.failed import retry_urls
from pipeline.reasons import Code
from pipeline.states import Source, State
from pipeline.storage.listing import key_at
from pipeline.tables import code_in
from pipeline.transforms.features import is_listed


def retry(
    app: Lockstep,
    paths: Sequence[str] = (),
    older: bool = False,
    code: Code | None = None,
    step: str | None = None,
) -> int:
    """Make the next run try again; returns how many renditions, features, images of jobs that could
    not be fetched, and records of users' steps.

    Without ``paths``, all that :mod:`pipeline.operations.failures` lists, that of jobs included; or
    what failed for one ``code``; or the records of the user's ``step`` of this name.

    Raises:
        LockstepError: a path is no original that Lockstep knows.
    """
    if not paths:
        of_steps = code in (None, Code.STEP_FAILED)
        steps = [each for each in app.own_steps if of_steps and step in (None, each.name)]
        records = sum(each.retry() for each in steps)
        if step is not None or code is Code.STEP_FAILED:
            return records
        every = [pending for each in app.renders for pending in each.pending_of.values()]
        made = sum(_retry(pending, older, None, code) for pending in every)
        return records + made + retry_urls(app.jobs.repository, code)
    pending = app.render.pending
    keys = [key_at(app.settings.input_place, path) for path in paths]
    for path, key in zip(paths, keys, strict=True):
        with pending.meta.dbconn.reading() as con:
            known = [_is_known(con, table, pending.source, key) for table in pending.tables]
            if not any(known):
                raise LockstepError(
                    f"{path}: no original of that name is known; `datapipe errors` lists what "
                    "failed, with the names to use"
                )
    records = sum(each.retry(keys) for each in app.own_steps)
    return records + _retry(pending, older, keys)


def retry_originals(pending: Pending, keys: Sequence[str]) -> int:
    """Make the next run try again what failed of these originals, by their keys.

    Looks up each by itself, not what is below it; keys that are not known are left out.
    """
    failed: set[RenditionKey] = set()
    for table in pending.tables:
        query = sa.select(table.c.source, table.c.path, recipe_in(table).label("recipe")).where(
            pending.ours_in(table),
            table.c.state + "" == State.FAILED.value,
            table.c.path.in_(keys),
        )
        rows = pending.meta.dbconn.rows(query)
        failed.update((row.source, row.path, row.recipe) for row in rows)
    forget_content(pending, sorted(failed))
    return len(failed)


def _is_known(con: sa.Connection, table: sa.Table, source: Source, key: str) -> bool:
    known = sa.select(table.c.path).where(table.c.source == source.value, _below(table.c.path, key))
    return con.execute(known.limit(1)).first() is not None


def _retry(
    pending: Pending, older: bool, keys: Sequence[str] | None, code: Code | None = None
) -> int:
    failed: set[RenditionKey] = set()
    for table in pending.tables:
        wanted: sa.ColumnElement[bool] = table.c.state == State.FAILED.value
        if code is not None:
            wanted = sa.and_(wanted, code_in(table) == code.value)
        if older:
            wanted = sa.or_(wanted, table.c.renderer < RENDERER_VERSION)
        conditions = [sa.true()] if keys is None else [_below(table.c.path, key) for key in keys]
        query = sa.select(table.c.source, table.c.path, recipe_in(table).label("recipe")).where(
            pending.ours_in(table), wanted
        )
        with pending.meta.dbconn.reading() as con:
            for condition in conditions:
                rows = con.execute(query.where(condition))
                failed.update((row.source, row.path, row.recipe) for row in rows)
    forget_content(pending, sorted(failed))
    return sum(is_listed(recipe) for _, _, recipe in failed)


def _below(path: sa.Column[str], key: str) -> sa.ColumnElement[bool]:
    return sa.or_(path == key, path.startswith(key + "/", autoescape=True))
