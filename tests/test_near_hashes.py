"""Comparing PDQ hashes: as many bits as differ, with any numpy, and those that are blocked now."""

from __future__ import annotations

import gc
import random
import weakref
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from pipeline import near
from pipeline.near import BlockedPictures, Near, distances, turned, words_of
from pipeline.tables import connect, make_tables


def a_hash(seed: int) -> str:
    return random.Random(seed).randbytes(32).hex()


def with_bits_changed(digest: str, bits: int) -> str:
    return f"{int(digest, 16) ^ ((1 << bits) - 1):064x}"


@pytest.mark.parametrize("has_bitwise_count", [True, False])
def test_a_distance_is_the_number_of_bits_that_differ(
    has_bitwise_count: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_bitwise_count:
        monkeypatch.delattr(np, "bitwise_count", raising=False)
    hashes = [a_hash(number) for number in range(50)]
    one = with_bits_changed(hashes[7], 200)
    want = [(int(one, 16) ^ int(other, 16)).bit_count() for other in hashes]
    assert distances(one, words_of(hashes)).tolist() == want


def test_the_orientations_of_a_hash_are_eight_and_turn_back() -> None:
    digest = a_hash(1)
    assert turned(digest)[0] == digest
    assert len(set(turned(digest))) == 8
    assert all(digest in turned(other) for other in turned(digest))


def test_the_nearest_is_found_within_what_is_near_to_each(tmp_path: Path) -> None:
    database = connect(f"sqlite:///{tmp_path}/db.sqlite")
    make_tables(database)
    pictures = BlockedPictures(database)
    assert (pictures.any(), pictures.nearest([a_hash(1)])) == (False, [None])

    def block(source: str, digest: str, distance: int | None) -> None:
        row = {"kind": "pdq", "hash": digest, "source": source, "distance": distance}
        with database.writing() as write:
            write.execute(sa.insert(pictures.table).values(row | {"added_ts": 1.0}))

    block("a list", a_hash(1), None)
    block("takedown 1", with_bits_changed(a_hash(1), 10), 3)
    asked = [with_bits_changed(a_hash(1), bits) for bits in (2, 8, 31, 32)]
    want = [
        Near(a_hash(1), "a list", 2),
        Near(with_bits_changed(a_hash(1), 10), "takedown 1", 2),
        Near(a_hash(1), "a list", 31),
        None,
    ]
    # More are asked for than are blocked, or fewer.
    assert pictures.nearest(asked) == want
    assert [pictures.nearest([one])[0] for one in asked] == want
    # Another thread, or another process, unblocks one.
    with database.writing() as write:
        write.execute(sa.delete(pictures.table).where(pictures.table.c.source == "a list"))
        pictures.changed()
    assert pictures.nearest(asked)[2] is None
    database.engine.dispose()


def test_the_hashes_are_read_once_and_forgotten_with_their_database(tmp_path: Path) -> None:
    database = connect(f"sqlite:///{tmp_path}/db.sqlite")
    make_tables(database)
    assert BlockedPictures(database)._current() is BlockedPictures(database)._current()
    database.engine.dispose()
    kept = weakref.ref(database)
    del database
    gc.collect()
    assert kept() is None


def test_the_command_says_how_near_as_the_comparison_does() -> None:
    from pipeline.cli import takedown

    assert (takedown.DISTANCE, takedown.MAX_DISTANCE) == (near.DISTANCE, near.MAX_DISTANCE)
