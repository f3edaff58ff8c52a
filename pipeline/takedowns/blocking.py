"""Pictures that takedowns block by their PDQ, with all that is near to them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

import sqlalchemy as sa

from pipeline.database.connection import Database
from pipeline.database.paging import chunks
from pipeline.database.transaction import Write
from pipeline.moderation_tables import blocked_hashes_table
from pipeline.near import BlockedPictures
from pipeline.states import HashKind


def block_near(
    database: Database, con: Write, number: int, near: Mapping[str, int], reason: str
) -> None:
    """Block what is near to these PDQ hashes, each up to a distance in bits."""
    if not near:
        return
    hashes, now = blocked_hashes_table(database.sqla_metadata), time.time()
    BlockedPictures(database).changed()
    for digest, distance in near.items():
        row = {
            "kind": HashKind.PDQ.value,
            "hash": digest,
            "source": source_of(number),
            "reason": reason,
            "distance": distance,
            "added_ts": now,
        }
        con.execute(database.insert(hashes).values(row).on_conflict_do_nothing())


def unblock_near(database: Database, number: int) -> None:
    """Block by this takedown no longer what is near to anything."""
    hashes = blocked_hashes_table(database.sqla_metadata)
    with database.writing() as con:
        BlockedPictures(database).changed()
        con.execute(sa.delete(hashes).where(hashes.c.source == source_of(number)))


def near_of(database: Database, numbers: Iterable[int]) -> dict[int, dict[str, int]]:
    """Which PDQ hashes these takedowns block, and up to which distance in bits."""
    hashes = blocked_hashes_table(database.sqla_metadata)
    by_source = {source_of(number): number for number in numbers}
    found: dict[int, dict[str, int]] = {}
    for chunk in chunks(by_source):
        for row in database.rows(sa.select(hashes).where(hashes.c.source.in_(chunk))):
            found.setdefault(by_source[row.source], {})[row.hash] = row.distance
    return found


def source_of(number: int) -> str:
    """Who blocks a hash, where a takedown does."""
    return f"takedown {number}"
