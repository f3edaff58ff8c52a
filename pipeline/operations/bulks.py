"""One act on many originals, a bulk: recorded, stopped, resumed, and listed.

What was asked for is recorded as a whole before the first original is touched: who, why, and each
original with the content that it had. :mod:`pipeline.operations.bulk_work` does it from there on,
in whatever process, and goes on where another one was killed.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from pipeline.database.connection import Database
from pipeline.database.paging import chunks
from pipeline.engine.pending import Pending
from pipeline.errors import LockstepError, NotFoundError
from pipeline.moderation_tables import bulk_items_table, bulks_table
from pipeline.names import key_of
from pipeline.operations.listing import Filter, every
from pipeline.states import BulkAct, BulkItemState, BulkState, Source
from pipeline.text import iso

# Of one bulk. More are several: a list that nobody can look through is a mistake, mostly.
ITEMS_MAX = 100_000
TEXT_MAX = 2_000


class Chosen(NamedTuple):
    """One original that something is to be done with; ``takedown`` is one to reinstate."""

    source: Source
    path: str
    sha256: str | None = None
    takedown: int | None = None


@dataclass(frozen=True)
class Order:
    """What is to be done, why, and who asks for it; ``chosen`` says with which, in words."""

    act: BulkAct
    who: str
    reason: str = ""
    purge: bool = False
    chosen: str = ""


class BulkRepository:
    """Reads and writes ``bulks`` and ``bulk_items``, each call in its own transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.bulks = bulks_table(database.sqla_metadata)
        self.items = bulk_items_table(database.sqla_metadata)

    def add(self, order: Order, items: Iterable[Chosen]) -> int:
        """Record a bulk with all of its originals; returns its number.

        Raises:
            NotFoundError: there are none.
            LockstepError: there are more than 100,000, or a text is missing or too long.
        """
        who, reason = _text("name", order.who), order.reason.strip()
        if order.act is BulkAct.TAKE_DOWN:
            reason = _text("reason", reason)
        row = {
            "act": order.act.value,
            "state": BulkState.RUNNING.value,
            "chosen": order.chosen[:TEXT_MAX],
            "reason": reason or None,
            "who": who,
            "purge": order.purge,
            "total": 0,
            "done": 0,
            "failed": 0,
            "created_ts": time.time(),
        }
        total = 0
        with self._database.writing() as write:
            done = write.execute(sa.insert(self.bulks).values(row))
            assert done.inserted_primary_key is not None
            bulk = int(done.inserted_primary_key[0])
            for chunk in chunks(items):
                rows = [_row(bulk, total + number, each) for number, each in enumerate(chunk, 1)]
                write.execute(sa.insert(self.items), rows)
                total += len(chunk)
                if total > ITEMS_MAX:
                    raise LockstepError(
                        f"more than {ITEMS_MAX:,} originals at once; narrow the list down"
                    )
            if not total:
                raise NotFoundError("none of these originals is known any more")
            write.execute(sa.update(self.bulks).where(self.bulks.c.id == bulk).values(total=total))
        return bulk

    def bulk(self, number: int) -> sa.Row[Any] | None:
        """One bulk."""
        return self._database.first(sa.select(self.bulks).where(self.bulks.c.id == number))

    def page(self, limit: int, before: int | None = None) -> Sequence[sa.Row[Any]]:
        """Bulks, newest first."""
        query = sa.select(self.bulks).order_by(self.bulks.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(self.bulks.c.id < before)
        return self._database.rows(query)

    def unfinished(self) -> list[int]:
        """Those that go on, the first one first."""
        running = self.bulks.c.state == BulkState.RUNNING.value
        return self._database.column(
            sa.select(self.bulks.c.id).where(running).order_by(self.bulks.c.id)
        )

    def items_of(
        self, number: int, limit: int, after: int = 0, state: BulkItemState | None = None
    ) -> Sequence[sa.Row[Any]]:
        """The originals of a bulk in their order, after a number; only those in ``state``."""
        items = self.items
        query = sa.select(items).where(items.c.bulk == number, items.c.number > after)
        if state is not None:
            query = query.where(items.c.state == state.value)
        return self._database.rows(query.order_by(items.c.number).limit(limit))

    def settle(self, outcomes: Sequence[tuple[sa.Row[Any], str | None, int | None]]) -> None:
        """Record how originals of one bulk ended: why each failed, if it did, and its takedown."""
        if not outcomes:
            return
        items, bulks = self.items, self.bulks
        failed = sum(note is not None for _, note, _ in outcomes)
        with self._database.writing() as write:
            for row, note, takedown in outcomes:
                state = BulkItemState.DONE if note is None else BulkItemState.FAILED
                write.execute(
                    sa.update(items)
                    .where(items.c.bulk == row.bulk, items.c.number == row.number)
                    .values(state=state.value, note=note, takedown=takedown)
                )
            write.execute(
                sa.update(bulks)
                .where(bulks.c.id == outcomes[0][0].bulk)
                .values(done=bulks.c.done + len(outcomes) - failed, failed=bulks.c.failed + failed)
            )

    def change(
        self, number: int, before: BulkState, after: BulkState, who: str | None = None
    ) -> bool:
        """Take a bulk from one state to another; returns whether it was in that one."""
        bulks = self.bulks
        ended_ts = None if after is BulkState.RUNNING else time.time()
        query = (
            sa.update(bulks)
            .where(bulks.c.id == number, bulks.c.state == before.value)
            .values(state=after.value, ended_ts=ended_ts, ended_by=who)
        )
        with self._database.writing() as write:
            return write.execute(query).rowcount > 0


def choose(pending: Pending, paths: Iterable[str]) -> Iterator[Chosen]:
    """The originals of these keys that are known, with the content that they are known to have."""
    originals, made = pending.original_table, pending.table
    for chunk in chunks(dict.fromkeys(paths)):
        there = sa.select(originals.c.path, originals.c.sha256).where(
            pending.our_originals, originals.c.path.in_(chunk)
        )
        content = (
            sa.select(made.c.path, made.c.sha256)
            .where(pending.ours, made.c.path.in_(chunk), made.c.sha256.is_not(None))
            .distinct()
        )
        with pending.meta.dbconn.reading() as con:
            known: dict[str, str | None] = {row.path: row.sha256 for row in con.execute(there)}
            hashes = {row.path: row.sha256 for row in con.execute(content)}
        for path in chunk:
            if path in known or path in hashes:
                yield Chosen(pending.source, path, known.get(path) or hashes.get(path))


def choose_all(pending: Pending, wanted: Filter) -> Iterator[Chosen]:
    """Every original of a filter, by name."""
    for page in every(pending, wanted):
        yield from choose(pending, page)


def choose_taken_down(repository: BulkRepository, number: int) -> Iterator[Chosen]:
    """What a bulk took down, to be reinstated."""
    after, seen = 0, set()
    while rows := repository.items_of(number, 1_000, after, BulkItemState.DONE):
        for row in rows:
            if row.takedown is not None and row.takedown not in seen:
                seen.add(row.takedown)
                yield Chosen(Source(row.source), row.path, row.sha256, row.takedown)
        after = rows[-1].number


def as_json(bulk: sa.Row[Any]) -> dict[str, Any]:
    """A bulk as pages and commands show it."""
    return {
        "id": bulk.id,
        "act": bulk.act,
        "state": bulk.state,
        "chosen": bulk.chosen,
        "reason": bulk.reason,
        "who": bulk.who,
        "purge": bulk.purge,
        "total": bulk.total,
        "done": bulk.done,
        "failed": bulk.failed,
        "when": iso(bulk.created_ts),
        "ended": None if bulk.ended_ts is None else iso(bulk.ended_ts),
        "ended_by": bulk.ended_by,
    }


def item_as_json(item: sa.Row[Any]) -> dict[str, Any]:
    """One original of a bulk."""
    names = ("number", "source", "path", "sha256", "state", "note", "takedown")
    return {name: getattr(item, name) for name in names}


def _row(bulk: int, number: int, chosen: Chosen) -> dict[str, Any]:
    return {
        "bulk": bulk,
        "number": number,
        "source": chosen.source.value,
        "path": chosen.path,
        "sha256": chosen.sha256,
        "state": BulkItemState.WAITING.value,
        "takedown": chosen.takedown,
    }


def _text(what: str, text: str) -> str:
    said = key_of(text.strip().replace("\0", ""))
    if not said:
        raise LockstepError(f"a bulk needs a {what}: it is recorded in the audit")
    if len(said) > TEXT_MAX:
        raise LockstepError(f"the {what} has {len(said):,} characters; {TEXT_MAX:,} are allowed")
    return said
