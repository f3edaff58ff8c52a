"""Holding: what looks like blocked content has no rendition before a person has decided.

A picture is compared by its PDQ hash, which comes from the same decode as its renditions, before
any of these is published. A picture that is nearly flat is not compared: the bits of its hash are
those of chance. What a person published once is never held again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from pipeline.database.paging import chunks
from pipeline.database.tracked import data_of
from pipeline.database.transaction import Write
from pipeline.engine.pending import Pending
from pipeline.moderation_tables import reviews_table
from pipeline.near import GOOD_QUALITY, BlockedPictures, Near
from pipeline.settings.values import Settings
from pipeline.states import ReviewKind, ReviewState, State
from pipeline.transforms.features import PDQ, Feature, own_name, pdq_feature
from pipeline.workers.tasks import Outcome


class Withheld(NamedTuple):
    """Why there is to be no rendition of some content: what its rows say."""

    state: State
    reason: str


class Checked(NamedTuple):
    """What became of a batch: contents (SHA-256) that are held, and those to look at again, as
    nothing tells what they look like."""

    held: dict[str, Withheld]
    unknown: set[str]


class Holding:
    """Compares the outcomes of a run with what is blocked."""

    def __init__(self, pending: Pending, settings: Settings) -> None:
        self._database = pending.meta.dbconn
        self._pending = pending
        self._is_on = settings.near != "off"
        self._blocked = BlockedPictures(self._database)
        self._reviews = reviews_table(self._database.sqla_metadata)
        # Of the batch at hand: what each content is near to, as of a version of what is blocked.
        self._version: tuple[Any, ...] | None = None
        self._near: dict[str, Near] = {}
        self._unknown: set[str] = set()
        # The path of each content that is held, until that is recorded.
        self._held: dict[str, str] = {}

    @property
    def beside(self) -> Feature | None:
        """What every task has to say of its original: nothing while there is nothing to compare
        with."""
        return pdq_feature() if self._is_on and self._blocked.any() else None

    def must_look(self, sha256: str | None) -> bool:
        """Whether nothing tells yet what this content looks like."""
        return sha256 is None or not self._said([sha256])

    def compare(self, batch: Sequence[Outcome]) -> None:
        """Compare what the outcomes would publish. Takes its time, and is done before any lock is
        taken; :meth:`check` does it again if anything was blocked since."""
        self._near, self._unknown = {}, set()
        self._version = self._blocked.version() if self._is_on else None
        wanted = {o.sha256: _said_of(o) for o in batch if o.sha256 is not None and _publishes(o)}
        if not wanted or self._version is None or self._version[0] is None:
            return
        said = self._said([digest for digest, value in wanted.items() if value is None])
        said |= {digest: value for digest, value in wanted.items() if value is not None}
        self._unknown = wanted.keys() - said.keys()
        hashes = {digest: found for digest, value in said.items() if (found := comparable(value))}
        nearest = self._blocked.nearest(list(hashes.values()))
        self._near = {d: near for d, near in zip(hashes, nearest, strict=True) if near}

    def check(self, batch: Sequence[Outcome]) -> Checked:
        """What of the outcomes that were compared must not be published.

        Call it with the publish lock held: what is blocked later finds the rows of this batch.
        """
        if self._is_on and self._blocked.version() != self._version:
            self.compare(batch)
        digests = {o.sha256 for o in batch if o.sha256 is not None and _publishes(o)}
        decided = self._decided(digests)
        held = {
            digest: Withheld(State.HELD, reason_of(near))
            for digest, near in self._near.items()
            if digest not in decided
        }
        for digest, review in decided.items():
            if review is not None:
                near = Near(review.near or "", review.near_source or "", review.distance or 0)
                held[digest] = Withheld(State.HELD, reason_of(near))
        return Checked(held, self._unknown - decided.keys())

    def hold(self, outcome: Outcome) -> None:
        """Note an original that is held."""
        if outcome.sha256 is not None:
            self._held.setdefault(outcome.sha256, outcome.path)

    def record(self, write: Write) -> None:
        """Record, for a person to decide, the contents that are held and that nobody knows of."""
        held, self._held = self._held, {}
        known = self._decided(held.keys())
        for digest, path in held.items():
            if digest in known:
                continue
            near = self._near[digest]
            row = {
                "kind": ReviewKind.HELD.value,
                "state": ReviewState.OPEN.value,
                "sha256": digest,
                "source": self._pending.source.value,
                "path": path,
                "near": near.hash,
                "near_source": near.source,
                "distance": near.distance,
                "created_ts": time.time(),
            }
            write.execute(sa.insert(self._reviews).values(row))

    def _decided(self, digests: Collection[str | None]) -> dict[str, sa.Row[Any] | None]:
        """Contents that were published by a person, each ``None``; and those that are held already,
        each with its review."""
        table, found = self._reviews, {}
        is_open = sa.and_(
            table.c.kind == ReviewKind.HELD.value, table.c.state == ReviewState.OPEN.value
        )
        published = table.c.state == ReviewState.PUBLISHED.value
        for chunk in chunks(digests):
            query = sa.select(table).where(table.c.sha256.in_(chunk), sa.or_(is_open, published))
            for row in self._database.rows(query):
                is_published = row.state == ReviewState.PUBLISHED.value
                if is_published or row.sha256 not in found:
                    found[row.sha256] = None if is_published else row
        return found

    def _said(self, digests: Collection[str]) -> dict[str, str | None]:
        """What the hash says of contents, as JSON, from the rows of any original; ``None`` where it
        could not be made."""
        if self._pending.features is None:
            return {}
        table, said = data_of(self._pending.features), dict[str, str | None]()
        for chunk in chunks(digests):
            query = sa.select(table.c.sha256, table.c.value).where(
                table.c.sha256.in_(chunk), table.c.name == own_name(PDQ)
            )
            for row in self._database.rows(query):
                said[row.sha256] = said.get(row.sha256) or row.value
        return said


def comparable(value: str | None) -> str | None:
    """The hash that a feature said, as JSON, unless the picture is too flat to be compared."""
    said = json.loads(value) if value else {}
    return str(said["pdq"]) if said.get("quality", 0) >= GOOD_QUALITY else None


def reason_of(near: Near) -> str:
    """Why a picture is held, as people read it; also in the results of jobs."""
    bits = f"{near.distance} of 256 bits differ"
    return f"held for review: it looks like blocked content ({near.source}; {bits})"


def _publishes(outcome: Outcome) -> bool:
    return bool(outcome.made) or any(name != PDQ for name, _ in outcome.values)


def _said_of(outcome: Outcome) -> str | None:
    """What the hash says of an original that was just decoded; empty where it cannot be made."""
    said = dict(outcome.values).get(PDQ, outcome.beside)
    return "" if said is None and PDQ in dict(outcome.failed) else said
