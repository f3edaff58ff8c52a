"""Failures by reason: which reasons there are, how often each, and the first originals of each."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from pipeline.engine.pending import Pending
from pipeline.tables import EXCEPTION, State

REASONS_SHOWN = 50
PATHS_SHOWN = 20


def by_reason(pending: Pending) -> dict[str, Any]:
    """``failed``, a number of renditions, and ``reasons``, the most frequent first."""
    table = pending.table
    is_failed = sa.and_(table.c.state == State.FAILED.value, sa.text(EXCEPTION))
    count = sa.func.count()
    groups = (
        sa.select(table.c.reason, count.label("count"))
        .where(is_failed)
        .group_by(table.c.reason)
        .order_by(count.desc(), table.c.reason)
        .limit(REASONS_SHOWN)
    )
    with pending.meta.dbconn.reading() as con:
        total = con.execute(sa.select(count).select_from(table).where(is_failed)).scalar_one()
        reasons = []
        for reason, found in con.execute(groups).all():
            paths = (
                sa.select(table.c.path)
                .where(is_failed, table.c.reason == reason)
                .distinct()
                .order_by(table.c.path)
                .limit(PATHS_SHOWN)
            )
            reasons.append(
                {"reason": reason, "count": found, "paths": list(con.execute(paths).scalars())}
            )
    return {"failed": total, "reasons": reasons}
