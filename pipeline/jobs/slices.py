"""The images of one job that are to be rendered, a few at a time."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from pipeline.database.paging import known_among
from pipeline.engine.pending import NARROW_ROWS
from pipeline.jobs.context import Jobs
from pipeline.jobs.images import paths_of
from pipeline.jobs.outcomes import Outcomes


class Slices:
    """Paths of a job that may be pending: those that were written, or all where they are many."""

    def __init__(self, jobs: Jobs, reference: str) -> None:
        self._jobs, self._reference = jobs, reference
        self._known: list[str] = []
        # Where to read on among all images of the job; `None`: all that may be pending is known.
        self._after: str | None = None
        # How many come that are not read yet; not exact, for people who watch.
        self._unread = 0

    @property
    def left(self) -> int:
        """How many images are left, about."""
        return len(self._known) + self._unread

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left."""
        return not self._known and self._after is None

    def add(self, touched: Collection[str]) -> None:
        """Paths that were written; more than are queried by their keys stand for the whole job."""
        if len(touched) > NARROW_ROWS:
            self._after = ""
            count = sa.select(sa.func.count()).select_from(self._paths().subquery())
            with self._jobs.database.reading() as con:
                self._unread = con.execute(count).scalar_one()
            return
        paths = {*self._known, *touched}
        pending = self._jobs.pending
        there = known_among(
            self._jobs.database, pending.original_table.c.path, paths, pending.our_originals
        )
        # What is new comes first: it takes over renditions of what is gone.
        self._known = sorted(paths, key=lambda path: (path not in there, path))

    def add_pending(self) -> None:
        """All that is pending of the job, by one query for all jobs."""
        outcomes = Outcomes(self._jobs, self._reference)
        self._known += outcomes.pending_paths(self._jobs.unrendered())

    def take(self, count: int) -> list[str]:
        """The next paths, no more than ``count``."""
        if len(self._known) < count and self._after is not None:
            path = self._jobs.pending.original_table.c.path
            query = self._paths().where(path > self._after)
            more = self._jobs.database.column(query.order_by(path).limit(count))
            self._known += more
            self._unread = max(0, self._unread - len(more)) if more else 0
            self._after = more[-1] if more else None
            if not more:
                # Images that are gone have no row, but renditions.
                self.add_pending()
        taken, self._known = self._known[:count], self._known[count:]
        return taken

    def _paths(self) -> sa.Select[tuple[str]]:
        return paths_of(self._jobs, self._reference)
