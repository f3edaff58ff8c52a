"""Near duplicates: which blocked picture one looks like, by how many bits of their PDQ hashes
differ.

The blocked hashes are kept in memory, as columns of numbers: comparing one with a million takes
some milliseconds. They are read again when these have changed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from pipeline.database.connection import Database
from pipeline.database.state import BLOCKED_PICTURES, StateRepository, state_table
from pipeline.moderation_tables import blocked_hashes_table
from pipeline.states import HashKind

# Bits of 256. Copies that were compressed, reduced or turned grey differ in fewer, and pictures
# that are not alike in more than 100.
DISTANCE = 31
MAX_DISTANCE = 128
BITS = 256
# A picture of this quality or more can be compared; one that is nearly flat has bits of chance.
GOOD_QUALITY = 50

Words: TypeAlias = npt.NDArray[np.uint64]
Numbers: TypeAlias = npt.NDArray[np.uint16]

WORDS = BITS // 64
# Hashes that are compared at once: what lies between fits into the cache of a processor.
_BLOCK = 65_536


class Near(NamedTuple):
    """The blocked ``hash`` that a picture is nearest to, who blocks it, and how near, in bits."""

    hash: str
    source: str
    distance: int


def words_of(hashes: Sequence[str]) -> Words:
    """Hashes of 64 hexadecimal digits as columns of 64-bit words, one for each hash."""
    data = np.frombuffer(bytes.fromhex("".join(hashes)), dtype=np.uint64)
    return np.ascontiguousarray(data.reshape(-1, WORDS).T)


def distances(one: str, many: Words) -> Numbers:
    """In how many bits a hash differs from each of many."""
    mine = words_of([one])
    found = np.empty(many.shape[1], dtype=np.uint16)
    for start in range(0, many.shape[1], _BLOCK):
        block = slice(start, start + _BLOCK)
        found[block] = _counted(many[:, block] ^ mine).sum(axis=0, dtype=np.uint16)
    return found


def _counted(words: Words) -> npt.NDArray[np.uint8]:
    """How many bits are set in each word."""
    if hasattr(np, "bitwise_count"):
        found: npt.NDArray[np.uint8] = np.bitwise_count(words)
        return found
    # numpy 1 has no such function.
    parts = np.ascontiguousarray(words).view(np.uint16).reshape(*words.shape, 4)
    summed: npt.NDArray[np.uint8] = _counts()[parts].sum(axis=-1, dtype=np.uint8)
    return summed


@cache
def _counts() -> npt.NDArray[np.uint8]:
    bits = np.unpackbits(np.arange(65_536, dtype=np.uint16).view(np.uint8))
    found: npt.NDArray[np.uint8] = bits.reshape(-1, 16).sum(axis=1, dtype=np.uint8)
    return found


def turned(digest: str) -> list[str]:
    """Nearly the hashes of a picture that is turned and flipped, eight, where there is only its
    hash, which is the first.

    Those made of the picture itself (:func:`pipeline.imaging.pdq.orientations`) are nearer.
    """
    side = 16
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(digest), np.uint8))[::-1].reshape(side, side)
    # The cosines that change their sign when the samples are mirrored.
    odd = (np.arange(1, side + 1) % 2).astype(np.uint8)
    found = []
    for grid in (bits, bits.T):
        for rows in (0, 1):
            for columns in (0, 1):
                moved = grid ^ (odd[:, None] * rows) ^ (odd[None, :] * columns)
                found.append(np.packbits(moved.ravel()[::-1].astype(np.uint8)).tobytes().hex())
    return found


class _Loaded(NamedTuple):
    """The blocked hashes as they were at a ``version``, and how near is near to each."""

    version: tuple[Any, ...]
    words: Words
    limits: Numbers
    hashes: list[str]


# The number of the nearest blocked hash, and in how many bits it differs.
_Found: TypeAlias = "tuple[int, int] | None"


def _few(hashes: Sequence[str], loaded: _Loaded) -> Iterator[_Found]:
    """The nearest blocked hash for each of a few, compared with all that are blocked at once."""
    for one in hashes:
        apart = distances(one, loaded.words)
        near = np.flatnonzero(apart <= loaded.limits)
        best = int(near[np.argmin(apart[near])]) if len(near) else None
        yield None if best is None else (best, int(apart[best]))


def _many(hashes: Sequence[str], loaded: _Loaded) -> Iterator[_Found]:
    """The same for more hashes than are blocked: each of these is compared with all of them."""
    words = words_of(hashes)
    best = np.full(len(hashes), -1)
    least = np.full(len(hashes), BITS + 1, dtype=np.uint16)
    for number, digest in enumerate(loaded.hashes):
        apart = distances(digest, words)
        nearer = (apart <= loaded.limits[number]) & (apart < least)
        best[nearer], least[nearer] = number, apart[nearer]
    for found, bits in zip(best, least, strict=True):
        yield None if found < 0 else (int(found), int(bits))


class _Memory:
    """What was loaded of one database. It does not name the database, which would keep both."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.loaded: _Loaded | None = None


_memories: WeakKeyDictionary[Database, _Memory] = WeakKeyDictionary()


class BlockedPictures:
    """The blocked PDQ hashes of one database; may be used by several threads.

    They stay in memory for as long as the database is open, once for all that ask.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.table = blocked_hashes_table(database.sqla_metadata)
        self._state = state_table(database.sqla_metadata)
        self._pdq = self.table.c.kind == HashKind.PDQ.value
        self._memory = _memories.setdefault(database, _Memory())

    def version(self) -> tuple[Any, ...]:
        """What differs as soon as :meth:`changed` was called, or a newer hash is there.

        To count them instead would take as long as many comparisons.
        """
        newest = sa.select(sa.func.max(self.table.c.added_ts)).where(self._pdq).scalar_subquery()
        number = sa.select(self._state.c.value).where(self._state.c.name == BLOCKED_PICTURES)
        row = self._database.first(sa.select(newest, number.scalar_subquery()))
        return (None, None) if row is None else tuple(row)

    def changed(self) -> None:
        """Have every process read the hashes again: call it wherever PDQ hashes are added or
        removed, in the same transaction."""
        StateRepository(self._database).set(BLOCKED_PICTURES, f"{time.time_ns()}")

    def any(self) -> bool:
        """Whether any picture is blocked by its PDQ."""
        query = sa.select(self.table.c.hash).where(self._pdq).limit(1)
        return self._database.first(query) is not None

    def nearest(self, hashes: Sequence[str]) -> list[Near | None]:
        """For each of ``hashes`` the nearest blocked one, if it is near."""
        loaded = self._current()
        compared = _many if len(hashes) > len(loaded.hashes) else _few
        return [
            None if found is None else self._near(loaded.hashes[found[0]], found[1])
            for found in compared(hashes, loaded)
        ]

    def within(self, hashes: Sequence[str], distance: int) -> list[Near]:
        """The blocked pictures that differ from one of ``hashes`` in at most ``distance`` bits, one
        for each that blocks, the nearest first."""
        loaded, nearest = self._current(), dict[str, Near]()
        for one in hashes:
            apart = distances(one, loaded.words)
            for at in np.flatnonzero(apart <= distance):
                digest, bits = loaded.hashes[at], int(apart[at])
                query = sa.select(self.table.c.source).where(self._pdq, self.table.c.hash == digest)
                for source in self._database.column(query):
                    if source not in nearest or bits < nearest[source].distance:
                        nearest[source] = Near(digest, source, bits)
        return sorted(nearest.values(), key=lambda near: near.distance)

    def _current(self) -> _Loaded:
        version = self.version()
        memory = self._memory
        with memory.lock:
            if memory.loaded is None or memory.loaded.version != version:
                memory.loaded = self._load(version)
            return memory.loaded

    def _load(self, version: tuple[Any, ...]) -> _Loaded:
        limit = sa.func.max(sa.func.coalesce(self.table.c.distance, DISTANCE))
        query = sa.select(self.table.c.hash, limit).where(self._pdq).group_by(self.table.c.hash)
        hashes, limits = [], []
        with self._database.reading() as con:
            for digest, most in con.execute(query):
                hashes.append(digest)
                limits.append(most)
        return _Loaded(version, words_of(hashes), np.array(limits, dtype=np.uint16), hashes)

    def _near(self, digest: str, distance: int) -> Near | None:
        table = self.table
        query = (
            sa.select(table.c.source)
            .where(self._pdq, table.c.hash == digest)
            .where(sa.func.coalesce(table.c.distance, DISTANCE) >= distance)
            .order_by(table.c.added_ts, table.c.source)
        )
        row = self._database.first(query.limit(1))
        return None if row is None else Near(digest, row.source, distance)
