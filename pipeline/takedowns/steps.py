"""Takedowns in a run: what only the journal knows is taken over, what was interrupted is
finished."""

from __future__ import annotations

import sqlalchemy as sa

from pipeline.engine.context import Run
from pipeline.engine.holding import reason_of
from pipeline.errors import LockstepError, in_one_line
from pipeline.moderation_tables import reviews_table, takedowns_table
from pipeline.near import Near
from pipeline.states import ReviewKind, ReviewState
from pipeline.takedowns.acts import finish, take_down
from pipeline.takedowns.context import Takedowns
from pipeline.takedowns.listed import follow_lists, warnings_of
from pipeline.takedowns.lists import cut_off_imports
from pipeline.takedowns.notices import notices_due
from pipeline.takedowns.purging import purge_due
from pipeline.takedowns.reviews import finish_reviews
from pipeline.takedowns.sharing import exchange, warnings_of_sharing
from pipeline.takedowns.takeover import take_over
from pipeline.takedowns.targets import SHA256_PREFIX


def take_over_in(run: Run) -> None:
    """Before any step asks what is blocked: the database may be older than the journal."""
    run.report.warnings += take_over(run.database, run.settings, run.repository)


def exchange_in(context: Takedowns, run: Run) -> None:
    """Before any step asks what is blocked: other instances may have blocked it."""
    while exchange(context).is_more:
        pass
    run.report.warnings += warnings_of_sharing(context)


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
    """Finish interrupted takedowns and reviews, after what an earlier run left has been fixed.

    And follow the lists of hashes, where the command that changed one was interrupted, and purge
    what was in the quarantine for long enough. Who wants to know of all this is told after the run.
    """
    if _has_acts(context):
        run.report.warnings += finish(context)
        run.report.warnings += finish_reviews(context)
        try:
            purge_due(context)
        except (LockstepError, OSError) as error:
            run.report.warnings.append(f"the quarantine is not purged yet: {in_one_line(error)}")
    try:
        followed = follow_lists(context)
    except LockstepError as error:
        run.report.warnings.append(f"not everything on a blocklist is removed yet: {error}")
    else:
        run.report.warnings += warnings_of(followed) + cut_off_imports(context.database)
    if sending := notices_due(context):
        run.afterwards.append(sending)


def _has_acts(context: Takedowns) -> bool:
    """Whether anything was ever taken down, held or reported: one query in place of six."""
    metadata = context.database.sqla_metadata
    tables = (takedowns_table(metadata), reviews_table(metadata))
    exist = [sa.select(table.c.id).exists() for table in tables]
    return bool(context.database.column(sa.select(sa.or_(*exist)))[0])
