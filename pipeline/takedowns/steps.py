"""Takedowns in a run: what only the journal knows is taken over, what was interrupted is
finished."""

from __future__ import annotations

import sqlalchemy as sa

from pipeline.engine.context import Run
from pipeline.engine.holding import reason_of
from pipeline.errors import LockstepError
from pipeline.near import Near
from pipeline.states import ReviewKind, ReviewState
from pipeline.tables import reviews_table
from pipeline.takedowns.acts import finish, take_down
from pipeline.takedowns.context import Takedowns
from pipeline.takedowns.takeover import take_over
from pipeline.takedowns.targets import SHA256_PREFIX


def take_over_in(run: Run) -> None:
    """Before any step asks what is blocked: the database may be older than the journal."""
    run.report.warnings += take_over(run.database, run.settings, run.repository)


def take_down_held_in(context: Takedowns, run: Run) -> None:
    """With ``PIPELINE_NEAR=takedown``: take down what this run, or one before it, has held."""
    if context.settings.near != "takedown":
        return
    reviews = reviews_table(context.database.sqla_metadata)
    held = sa.select(reviews).where(
        reviews.c.kind == ReviewKind.HELD.value, reviews.c.state == ReviewState.OPEN.value
    )
    for review in context.database.rows(held.order_by(reviews.c.id)):
        near = Near(review.near, review.near_source, review.distance)
        target = SHA256_PREFIX + review.sha256
        try:
            take_down(context, target, reason_of(near), "PIPELINE_NEAR=takedown")
        except LockstepError as error:
            run.report.warnings.append(f"{review.path} is held, and not taken down: {error}")
            return
    report = run.report
    for counts in (report, report.features, report.jobs.images, report.jobs.images.features):
        counts.taken_down, counts.held = counts.taken_down + counts.held, 0


def finish_in(context: Takedowns, run: Run) -> None:
    """Finish the takedowns that were interrupted, after what an earlier run left has been fixed."""
    run.report.warnings += finish(context)
