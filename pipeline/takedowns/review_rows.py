"""The rows of reviews: what waits for a person, and what was decided, each change in one
transaction.

Content is decided, not a row: all open rows of the same SHA-256 are decided together, and have the
same ``decided_ts`` from then on, which no other decision has.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from pipeline.database.connection import Database
from pipeline.moderation_tables import reviews_table, takedowns_table
from pipeline.states import ReviewKind, ReviewState, TakedownState

# Of reports after the first, so many are kept word by word; all are counted.
LATER_REPORTS = 20
# More are not counted: nobody needs to know how many exactly.
COUNTED = 10_000

OPEN, PUBLISHED = ReviewState.OPEN.value, ReviewState.PUBLISHED.value
TAKEN_DOWN = ReviewState.TAKEN_DOWN.value


class ReviewRepository:
    """Reads and writes ``reviews``."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.table = reviews_table(database.sqla_metadata)
        self._acts = takedowns_table(database.sqla_metadata)

    def get(self, number: int) -> sa.Row[Any] | None:
        """One row."""
        return self._database.first(sa.select(self.table).where(self.table.c.id == number))

    def waiting(self) -> dict[str, int]:
        """How much content waits, in all and of each kind; some of it may be of both."""
        reviews = self.table.c
        wanted = [reviews.sha256, *[self._is_of(kind).label(kind.value) for kind in ReviewKind]]
        few = sa.select(*wanted).where(reviews.state == OPEN).limit(COUNTED).subquery().c
        counted = sa.select(
            sa.func.count(few.sha256.distinct()),
            *[
                sa.func.count(sa.case((few[kind.value], few.sha256)).distinct())
                for kind in ReviewKind
            ],
        )
        row = self._database.first(counted)
        assert row is not None
        return dict(zip(("open", *(kind.value for kind in ReviewKind)), row, strict=True))

    def page(
        self, after: int, limit: int, kind: str = "", at: int = 0
    ) -> tuple[Sequence[sa.Row[Any]], dict[str, list[sa.Row[Any]]]]:
        """Open content that comes after the row ``after``, or from the row ``at`` on; oldest first.

        The oldest row of each, and by SHA-256 all of its open rows.
        """
        reviews, older = self.table, self.table.alias("older")
        is_later = sa.tuple_(older.c.created_ts, older.c.id) < sa.tuple_(
            reviews.c.created_ts, reviews.c.id
        )
        same = [older.c.sha256 == reviews.c.sha256, older.c.state == OPEN]
        wanted = [reviews.c.state == OPEN]
        if kind:
            same.append(self._is_of(ReviewKind(kind), older))
            wanted.append(self._is_of(ReviewKind(kind)))
        start = self.get(at or after) if at or after else None
        if start is not None:
            here = sa.tuple_(reviews.c.created_ts, reviews.c.id)
            there = sa.tuple_(sa.literal(start.created_ts), sa.literal(start.id))
            wanted.append(here >= there if at else here > there)
            # For the index: a comparison of pairs alone may not use it.
            wanted.append(reviews.c.created_ts >= start.created_ts)
        query = (
            sa.select(reviews)
            .where(*wanted, ~sa.select(older.c.id).where(*same, is_later).exists())
            .order_by(reviews.c.created_ts, reviews.c.id)
            .limit(limit)
        )
        rows = self._database.rows(query)
        return rows, self.open_of({row.sha256 for row in rows})

    def _is_of(self, kind: ReviewKind, rows: Any = None) -> sa.ColumnElement[bool]:
        reviews = (self.table if rows is None else rows).c
        is_its: sa.ColumnElement[bool] = reviews.kind == kind.value
        # What is held may be reported as well.
        return sa.or_(is_its, reviews.reports > 0) if kind is ReviewKind.REPORTED else is_its

    def open_of(self, digests: Collection[str]) -> dict[str, list[sa.Row[Any]]]:
        """The open rows of each SHA-256, the oldest first."""
        reviews = self.table
        query = (
            sa.select(reviews)
            .where(reviews.c.sha256.in_(sorted(digests)), reviews.c.state == OPEN)
            .order_by(reviews.c.created_ts, reviews.c.id)
        )
        found: dict[str, list[sa.Row[Any]]] = {}
        for row in self._database.rows(query) if digests else ():
            found.setdefault(row.sha256, []).append(row)
        return found

    def decided(self, limit: int) -> Sequence[sa.Row[Any]]:
        """The last decisions, newest first, each by one of its rows."""
        reviews = self.table
        found: dict[tuple[str, float], sa.Row[Any]] = {}
        # State by state: each is one step into the index. A decision may have several rows.
        for state in (PUBLISHED, TAKEN_DOWN):
            query = (
                sa.select(reviews)
                .where(reviews.c.state == state)
                .order_by(reviews.c.decided_ts.desc(), reviews.c.id.desc())
                .limit(2 * limit)
            )
            found |= {(row.sha256, row.decided_ts): row for row in self._database.rows(query)}
        return sorted(found.values(), key=lambda row: row.decided_ts, reverse=True)[:limit]

    def add_report(
        self, sha256: str, source: str, path: str, reason: str, who: str
    ) -> tuple[int, int]:
        """Record a report; returns the number of the review, and how many reports it has.

        Content that is already open stays one review.
        """
        reviews = self.table
        with self._database.writing() as write:
            # Of two reports at once, the second one waits here and finds the first.
            now = write.now
            is_its = sa.and_(reviews.c.sha256 == sha256, reviews.c.state == OPEN)
            query = sa.select(reviews).where(is_its).order_by(reviews.c.created_ts, reviews.c.id)
            known = write.execute(query.limit(1)).first()
            if known is None:
                row = {
                    "kind": ReviewKind.REPORTED.value,
                    "state": OPEN,
                    "sha256": sha256,
                    "source": source,
                    "path": path,
                    "reason": reason,
                    "who": who,
                    "reports": 1,
                    "created_ts": now,
                }
                done = write.execute(sa.insert(reviews).values(row))
                assert done.inserted_primary_key is not None
                return int(done.inserted_primary_key[0]), 1
            changed: dict[str, Any] = {"reports": known.reports + 1}
            later = json.loads(known.later_reports or "[]")
            if len(later) < LATER_REPORTS:
                later.append({"reason": reason, "who": who, "at": now})
                changed["later_reports"] = json.dumps(later)
            write.execute(sa.update(reviews).where(reviews.c.id == known.id).values(changed))
            return known.id, known.reports + 1

    def decide(self, number: int, state: ReviewState, who: str, category: str, note: str) -> bool:
        """Decide a review, and all other open ones of the same content; false if it is not open.

        Of two people at once, one alone is told ``True``.
        """
        reviews = self.table
        with self._database.writing() as write:
            values = {
                "state": state.value,
                "decided_ts": write.now,
                "decided_by": who,
                "category": category or None,
                "decision": note or None,
                "takedown": None,
            }
            is_open = reviews.c.state == OPEN
            its = sa.update(reviews).where(reviews.c.id == number, is_open).values(values)
            if not write.execute(its).rowcount:
                return False
            # By itself: MySQL updates no rows of a table that it reads meanwhile.
            content = write.execute(
                sa.select(reviews.c.sha256).where(reviews.c.id == number)
            ).scalar_one()
            others = sa.update(reviews).where(reviews.c.sha256 == content, is_open)
            write.execute(others.values(values))
            return True

    def reopen(self, decided: sa.Row[Any], who: str | None = None) -> bool:
        """Make a decision undone, on all of its rows; false if it is not in force any more.

        ``who`` is ``None`` where it is not a person's undo, because it was never carried out.
        """
        reviews = self.table
        values: dict[str, Any] = dict.fromkeys(
            ("decided_ts", "decided_by", "decision", "category", "takedown")
        )
        with self._database.writing() as write:
            if who is not None:
                values |= {"undone_ts": write.now, "undone_by": who}
            its = sa.update(reviews).where(
                reviews.c.sha256 == decided.sha256,
                reviews.c.state == decided.state,
                reviews.c.decided_ts == decided.decided_ts,
            )
            return bool(write.execute(its.values(state=OPEN, **values)).rowcount)

    def link(self, decided: sa.Row[Any], takedown: int) -> None:
        """Record which takedown a decision led to."""
        reviews = self.table
        with self._database.writing() as write:
            write.execute(
                sa.update(reviews)
                .where(
                    reviews.c.sha256 == decided.sha256,
                    reviews.c.state == TAKEN_DOWN,
                    reviews.c.decided_ts == decided.decided_ts,
                )
                .values(takedown=takedown)
            )

    def without_takedown(self) -> Sequence[sa.Row[Any]]:
        """Decisions to take something down that led to no takedown yet: they were interrupted."""
        reviews = self.table.c
        return self._database.rows(
            sa.select(self.table).where(reviews.state == TAKEN_DOWN, reviews.takedown.is_(None))
        )

    def reinstated(self) -> Sequence[sa.Row[Any]]:
        """Decisions to take something down whose takedown was reinstated, each with by whom."""
        reviews, acts = self.table, self._acts
        return self._database.rows(
            sa.select(reviews, acts.c.lifted_by)
            .join(acts, acts.c.id == reviews.c.takedown)
            .where(reviews.c.state == TAKEN_DOWN, acts.c.state == TakedownState.LIFTED.value)
        )

    def blocked_while_open(self, sha256: str | None = None) -> Sequence[sa.Row[Any]]:
        """Open rows of content that was taken down in another way, with that takedown."""
        reviews, acts = self.table, self._acts
        in_force = sa.and_(
            acts.c.sha256 == reviews.c.sha256, acts.c.state != TakedownState.LIFTED.value
        )
        query = sa.select(
            reviews.c.id, acts.c.id.label("act"), acts.c.who.label("by"), acts.c.created_ts
        )
        query = query.join(acts, in_force).where(reviews.c.state == OPEN).order_by(acts.c.id)
        if sha256 is not None:
            query = query.where(reviews.c.sha256 == sha256)
        return self._database.rows(query)

    def settle(self, rows: Sequence[sa.Row[Any]]) -> None:
        """Close what :meth:`blocked_while_open` found, as the decision of who took it down."""
        reviews = self.table
        for row in rows:
            with self._database.writing() as write:
                write.execute(
                    sa.update(reviews)
                    .where(reviews.c.id == row.id, reviews.c.state == OPEN)
                    .values(
                        state=TAKEN_DOWN,
                        decided_ts=row.created_ts,
                        decided_by=row.by,
                        takedown=row.act,
                    )
                )
