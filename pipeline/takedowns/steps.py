"""Takedowns in a run: what only the journal knows is taken over, what was interrupted is
finished."""

from __future__ import annotations

from pipeline.engine.context import Run
from pipeline.takedowns.acts import finish
from pipeline.takedowns.context import Takedowns
from pipeline.takedowns.reviews import finish_reviews
from pipeline.takedowns.takeover import take_over


def take_over_in(run: Run) -> None:
    """Before any step asks what is blocked: the database may be older than the journal."""
    run.report.warnings += take_over(run.database, run.settings, run.repository)


def finish_in(context: Takedowns, run: Run) -> None:
    """Finish the takedowns and reviews that were interrupted, after what an earlier run left has
    been fixed."""
    run.report.warnings += finish(context)
    run.report.warnings += finish_reviews(context)
