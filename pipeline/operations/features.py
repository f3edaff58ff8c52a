"""Features: what functions said of the originals, in the order of their paths."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from pipeline.database.paging import pages
from pipeline.engine.pending import Pending
from pipeline.errors import NotFoundError
from pipeline.text import iso
from pipeline.transforms.features import PDQ, PREFIX, is_feature, is_listed, own_name

PAGE_ROWS = 1_000


def features(pending: Pending, name: str | None = None) -> Iterator[dict[str, Any]]:
    """The features of every original, or one of them: path, name, state, value, reason, since.

    What is pending has the value of before, or is not listed yet. Read in pages, however many
    originals there are.

    Raises:
        NotFoundError: there is no feature of this ``name``; raised before the first is given.
    """
    recipes = pending.recipe_table
    query = sa.select(recipes.c.recipe).where(pending.ours_in(recipes))
    names = filter(is_listed, pending.meta.dbconn.column(query))
    known = [own_name(each) for each in names if is_feature(each)]
    if name is not None and name not in known:
        there = f"there are {', '.join(sorted(known))}" if known else "there is none"
        raise NotFoundError(
            f"no run has seen a feature {name}: {there}; add a table [{PREFIX}{name}] to the "
            "recipes, and run"
        )
    return _rows(pending, name)


def _rows(pending: Pending, name: str | None) -> Iterator[dict[str, Any]]:
    for table in pending.tables[1:]:
        query = sa.select(table).where(pending.ours_in(table), table.c.name != own_name(PDQ))
        if name is not None:
            query = query.where(table.c.name == name)
        for page in pages(pending.meta.dbconn, query, (table.c.path, table.c.name), PAGE_ROWS):
            for row in page:
                yield {
                    "path": row.path,
                    "name": row.name,
                    "state": row.state,
                    "value": row.value and json.loads(row.value),
                    "reason": row.reason,
                    "since": iso(row.since),
                }
