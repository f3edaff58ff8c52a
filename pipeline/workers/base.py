"""What a run needs of its workers, wherever these are."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from pipeline.workers.tasks import Outcome, Task, Urgency


class Used(NamedTuple):
    """Which workers there are, or were: ``local`` ones, or those of a cluster on ``ray``."""

    place: str
    nodes: int
    processes: int


class OnThisMachine:
    """What is always so where workers are processes of this machine."""

    count: int
    # A run that is stopped here is waited for.
    may_still_write = False

    @property
    def used(self) -> Used:
        """This machine, and its processes."""
        return Used("local", 1, self.count)


class AnyWorkers(Protocol):
    """Processes that take tasks and give back outcomes. Used by one thread.

    ``lost`` counts processes that ended within a task since somebody set it to 0.
    ``may_still_write``: some were given up since then that cannot be seen to have ended.
    """

    lost: int
    may_still_write: bool

    @property
    def count(self) -> int:
        """How many processes there are, or will be, as far as it is known; at least 1."""

    @property
    def started(self) -> bool:
        """Whether there are processes."""

    @property
    def used(self) -> Used:
        """What has worked, or will: of a cluster, every node that did, and all its processes."""

    def waiting(self, urgency: Urgency = Urgency.BACKLOG) -> int:
        """How many submitted tasks of this urgency have no outcome yet, or one to be taken."""

    def warm_up(self) -> None:
        """Start the processes, so that they load while other work goes on; harmless if done."""

    def submit(self, task: Task, urgency: Urgency = Urgency.BACKLOG) -> None:
        """Submit one task; :meth:`next_outcome` returns its outcome.

        Raises:
            WorkersError: there are no processes, and cannot be any.
        """

    def next_outcome(
        self, timeout_s: float | None = None, urgency: Urgency = Urgency.BACKLOG
    ) -> Outcome | None:
        """The next task of this urgency that ended; ``None`` after ``timeout_s`` seconds without
        one, or sooner.

        Raises:
            OutputError: a rendition could not be written; no later task would fare better.
            WorkersError: there are no processes, and cannot be any.
        """

    def close(self) -> list[Task]:
        """Stop all processes, even busy ones. Returns the unfinished tasks.

        A later task starts them again.
        """
