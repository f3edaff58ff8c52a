"""Workers on the nodes of a Ray cluster.

This process alone knows tables and publishes; a node has the same pool of processes as this
machine would have, so that limits, sandbox and the reasons of failures are the same there. Ray
itself retries nothing: which task is where, and what becomes of it, is decided here.
"""

from __future__ import annotations

from functools import partial

from pipeline.workers.base import Used
from pipeline.workers.board import Board
from pipeline.workers.cluster import Cluster, check_installed
from pipeline.workers.crew import CLOSE_S, Crew, Job
from pipeline.workers.tasks import Outcome, Task, Urgency
from pipeline.workers.tracebacks import Tracebacks

# Disconnecting takes Ray up to a second more; a connection that is just being made longer.
ENDED_S = CLOSE_S + 5.0


class RayWorkers:
    """Workers on a cluster; see :class:`pipeline.workers.base.AnyWorkers`.

    Raises:
        WorkersError: Ray is not installed.
    """

    def __init__(self, address: str, job: Job) -> None:
        check_installed()
        self._address = address
        self._job = job
        self._board = Board()
        self._crew: Crew | None = None
        self._tracebacks = Tracebacks()

    @property
    def lost(self) -> int:
        """Processes and nodes that were lost since it was set to 0."""
        return self._board.lost

    @lost.setter
    def lost(self, count: int) -> None:
        self._board.lost = count

    @property
    def count(self) -> int:
        return max(1, self._board.processes)

    @property
    def used(self) -> Used:
        nodes = self._board.nodes
        return Used("ray", len(nodes), sum(nodes.values()))

    @property
    def started(self) -> bool:
        return self._crew is not None

    @property
    def may_still_write(self) -> bool:
        """Whether a node was given up since it was set to false."""
        return self._board.may_still_write

    @may_still_write.setter
    def may_still_write(self, is_so: bool) -> None:
        self._board.may_still_write = is_so

    def waiting(self, urgency: Urgency = Urgency.BACKLOG) -> int:
        return self._board.waiting(urgency)

    def warm_up(self) -> None:
        if self._crew is None:
            self._tracebacks.forget()
            open_cluster = partial(Cluster, self._address)
            self._crew = Crew(open_cluster, self._job, self._board)
            self._crew.start()

    def submit(self, task: Task, urgency: Urgency = Urgency.BACKLOG) -> None:
        self.warm_up()
        assert self._crew is not None
        self._board.submit(task, urgency)
        self._crew.wake()

    def next_outcome(
        self, timeout_s: float | None = None, urgency: Urgency = Urgency.BACKLOG
    ) -> Outcome | None:
        outcome = self._board.take(urgency, timeout_s)
        if outcome is not None:
            self._tracebacks.log(outcome)
        return outcome

    def close(self) -> list[Task]:
        crew, self._crew = self._crew, None
        if crew is not None:
            crew.stop()
            crew.join(ENDED_S)
            self._board.may_still_write |= crew.is_alive()
        board, self._board = self._board, Board()
        self._board.lost, self._board.may_still_write = board.lost, board.may_still_write
        self._board.nodes = board.nodes
        return board.unfinished()
