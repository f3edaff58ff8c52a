"""Twins of an original: others with the same bytes, and others that look like it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from pipeline.states import State
from pipeline.takedowns.context import Takedowns

# The features that may hold the PDQ hash of an original: one of recipes.toml, and our own.
HASHES = ("pdq", "lockstep:pdq")
# In how many of 256 bits two pictures that look alike differ at most, and the least quality that
# can be compared: see docs/moderation.md.
DISTANCE, GOOD_QUALITY = 31, 50
# A page must not take longer than 0.2 s for it.
LOOKED_THROUGH = 20_000


def places_of(context: Takedowns, sha256: str, limit: int) -> list[tuple[str, str]]:
    """Source and path of originals that have this content, as far as is known."""
    found: dict[tuple[str, str], None] = {}
    for step in context.renders:
        for table in step.pending.tables:
            query = (
                sa.select(table.c.source, table.c.path)
                .where(table.c.sha256 == sha256)
                .distinct()
                .order_by(table.c.source, table.c.path)
                .limit(limit)
            )
            found |= {(row.source, row.path): None for row in context.database.rows(query)}
    return sorted(found)[:limit]


def count_twins(context: Takedowns, digests: Sequence[str]) -> dict[str, int]:
    """How many originals have each content, the reviewed one included."""
    counts = dict.fromkeys(digests, 0)
    for step in context.renders if digests else ():
        for table in step.pending.tables:
            each = (
                sa.select(table.c.sha256, table.c.source, table.c.path)
                .where(table.c.sha256.in_(sorted(counts)))
                .distinct()
                .subquery()
                .c
            )
            query = sa.select(each.sha256, sa.func.count()).group_by(each.sha256)
            for sha256, count in context.database.rows(query):
                counts[sha256] = max(counts[sha256], count)
    return counts


def count_lookalikes(context: Takedowns, digests: Sequence[str]) -> dict[str, int]:
    """How many originals with other content look like each of these.

    Content whose hash is not known is left out. So is all of it where there are more hashes than
    can be compared while somebody waits.
    """
    rows: list[sa.Row[Any]] = []
    for table in context.own.pending.tables[1:] if digests else ():
        query = sa.select(table.c.sha256, table.c.source, table.c.path, table.c.value).where(
            table.c.name.in_(HASHES),
            table.c.state.in_((State.OK.value, State.HELD.value)),
            table.c.value.is_not(None),
        )
        rows += context.database.rows(query.limit(LOOKED_THROUGH + 1))
    if len(rows) > LOOKED_THROUGH:
        return {}
    hashes = [(row, _bits(row.value)) for row in rows]
    wanted = {
        row.sha256: bits for row, bits in hashes if row.sha256 in digests and bits is not None
    }
    return {
        sha256: len(
            {
                (row.source, row.path)
                for row, bits in hashes
                if bits is not None
                and row.sha256 != sha256
                and (bits ^ mine).bit_count() <= DISTANCE
            }
        )
        for sha256, mine in wanted.items()
    }


def _bits(value: str) -> int | None:
    said = json.loads(value)
    return int(said["pdq"], 16) if said.get("quality", 0) >= GOOD_QUALITY else None
