"""Marking failed renditions, and on request those of an older renderer, to be tried again."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from pipeline.app import Lockstep
from pipeline.engine.paths import key_below
from pipeline.engine.recovery import forget_content
from pipeline.errors import LockstepError
from pipeline.imaging import RENDERER_VERSION
from pipeline.tables import State


def retry(app: Lockstep, paths: Sequence[str] = (), older: bool = False) -> int:
    """Have the next run try again; how many renditions.

    Raises:
        LockstepError: a path is no original that Lockstep knows.
    """
    pending = app.render.pending
    table = pending.table
    wanted = table.c.state == State.FAILED.value
    if older:
        wanted = sa.or_(wanted, table.c.renderer < RENDERER_VERSION)
    pairs: set[tuple[str, str]] = set()
    with pending.meta.dbconn.con.begin() as con:
        if not paths:
            pairs.update(
                con.execute(sa.select(table.c.path, table.c.recipe).where(wanted)).tuples()
            )
        for path in paths:
            key = key_below(app.settings.input_dir, path)
            below = sa.or_(table.c.path == key, table.c.path.startswith(key + "/", autoescape=True))
            known = sa.select(table.c.path).where(below).limit(1)
            if con.execute(known).first() is None:
                raise LockstepError(
                    f"{path}: no original of that name is known; `datapipe errors` lists what "
                    "failed, with the names to use"
                )
            rows = con.execute(sa.select(table.c.path, table.c.recipe).where(wanted, below))
            pairs.update(rows.tuples())
    forget_content(pending, sorted(pairs))
    return len(pairs)
