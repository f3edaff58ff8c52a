"""The audit a page at a time, in which many that were taken down at once are one entry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from pipeline.database.connection import Database
from pipeline.moderation_tables import (
    bulk_items_table,
    bulks_table,
    takedown_files_table,
    takedowns_table,
)
from pipeline.states import BulkAct
from pipeline.takedowns.audit import Wanted


def page(
    database: Database,
    limit: int,
    before: int | None,
    wanted: Wanted | None = None,
    folded: bool = False,
) -> Sequence[sa.Row[Any]]:
    """Takedowns, newest first, each with the number of its ``bulk``, if it is of one.

    ``folded``: of each bulk only the last one, which stands for all.
    """
    acts = takedowns_table(database.sqla_metadata)
    bulk = _bulk_of(database, acts)
    query = sa.select(acts, bulk.label("bulk")).order_by(acts.c.id.desc())
    if wanted is not None:
        query = query.where(*wanted.conditions(acts, takedown_files_table(database.sqla_metadata)))
    if before is not None:
        query = query.where(acts.c.id < before)
    if folded:
        items = bulk_items_table(database.sqla_metadata).alias("later")
        is_later = items.c.bulk == bulk, items.c.takedown > acts.c.id
        query = query.where(~sa.select(items.c.bulk).where(*is_later).exists())
    return database.rows(query.limit(limit))


def _bulk_of(database: Database, acts: sa.Table) -> sa.ScalarSelect[int]:
    """The bulk that made a takedown; not one that found it made, or that reinstates it."""
    bulks = bulks_table(database.sqla_metadata)
    items = bulk_items_table(database.sqla_metadata)
    return (
        sa.select(sa.func.min(items.c.bulk))
        .join(bulks, bulks.c.id == items.c.bulk)
        .where(
            items.c.takedown == acts.c.id,
            bulks.c.act == BulkAct.TAKE_DOWN.value,
            bulks.c.created_ts <= acts.c.created_ts,
        )
        .correlate(acts)
        .scalar_subquery()
    )
