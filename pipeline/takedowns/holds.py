"""What is held because it looks like blocked content: letting it go, and taking it down."""

from __future__ import annotations

import time

import sqlalchemy as sa

from pipeline.engine.pending import recipe_in
from pipeline.engine.recovery import forget_content
from pipeline.moderation_tables import reviews_table
from pipeline.states import ReviewKind, ReviewState, State
from pipeline.takedowns.context import Takedowns


def release(context: Takedowns, sha256: str) -> None:
    """Have the next run look again at what is held of this content.

    It renders what a person has published meanwhile, or what nothing looks like any more.
    """
    for step in context.renders:
        for table in step.pending.tables:
            query = sa.select(table.c.source, table.c.path, recipe_in(table)).where(
                table.c.sha256 == sha256, table.c.state == State.HELD.value
            )
            forget_content(step.pending, [tuple(row) for row in context.database.rows(query)])


def look_again(context: Takedowns, source: str) -> None:
    """Have the next run decide anew about what is held because of what ``source`` blocked, a
    takedown or a list: call it when that is blocked no longer."""
    reviews = reviews_table(context.database.sqla_metadata)
    theirs = sa.and_(
        reviews.c.kind == ReviewKind.HELD.value,
        reviews.c.state == ReviewState.OPEN.value,
        reviews.c.near_source == source,
    )
    for digest in context.database.column(sa.select(reviews.c.sha256).where(theirs).distinct()):
        # Both, or neither: held without a review, it would be held for ever.
        with context.database.writing() as write:
            release(context, digest)
            write.execute(sa.delete(reviews).where(theirs, reviews.c.sha256 == digest))


def close_reviews(context: Takedowns, sha256: str, number: int, who: str) -> None:
    """Record in the reviews that wait for a decision about this content that it was taken down."""
    reviews = reviews_table(context.database.sqla_metadata)
    with context.database.writing() as write:
        write.execute(
            sa.update(reviews)
            .where(reviews.c.sha256 == sha256, reviews.c.state == ReviewState.OPEN.value)
            .values(
                state=ReviewState.TAKEN_DOWN.value,
                decided_ts=time.time(),
                decided_by=who,
                takedown=number,
            )
        )
