"""A step of Lockstep: it works inside a run, and fixes what a run that was interrupted left of
it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from datapipe.compute import ComputeStep
from datapipe.datatable import DataStore
from datapipe.executor import Executor
from datapipe.run_config import RunConfig

from pipeline.database.tracking import database_of
from pipeline.engine.context import Run, run_of
from pipeline.settings.values import Settings
from pipeline.states import Source

# What a run does before any step: handed to the steps by the application, for a step may be run on
# its own.
Before = Callable[[Run], None]


class Step(ComputeStep):
    """Base of the steps; ``work`` is what each of them does, ``preview`` what it would do."""

    settings: Settings
    before: Sequence[Before] = ()
    # Which originals the step is for; none in particular: all of them.
    sources: Sequence[Source] = ()

    def run_full(
        self,
        ds: DataStore,
        run_config: RunConfig | None = None,
        executor: Executor | None = None,
    ) -> None:
        """Work inside the run that this was started in, or in one of its own.

        Raises:
            LockstepError: whatever stops a run.
        """
        with run_of(run_config, database_of(ds), self.settings, self.before) as run:
            if self.is_needed(run):
                self.work(run)
            if run is not run_config:
                run.finish()

    def is_needed(self, run: Run) -> bool:
        """Whether there can be anything to do; by default there can."""
        return True

    def work(self, run: Run) -> None:
        """What the step does, within the run."""
        raise NotImplementedError

    def preview(self, run: Run) -> None:
        """What :meth:`work` would do, by the code that does it; by default nothing.

        Counted in ``run.report``, and noted in ``run.expected`` for the steps after this one.
        Writes nothing: ``run`` is a dry run, without the lock, and another may be in progress.

        Raises:
            LockstepError: what would stop the run before it writes.
        """

    def look_ahead(self, run: Run) -> None:
        """Begin to ask what is pending, beside the steps before this one; by default nothing."""

    def recover(self, run: Run) -> None:
        """Clean up what an interrupted run left of this step; by default nothing."""
