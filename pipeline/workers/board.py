"""The tasks of a run between the thread that submits them and the one that hands them to nodes."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import Counter, defaultdict, deque

from pipeline.errors import LockstepError
from pipeline.reasons import Reason
from pipeline.workers.node import Given
from pipeline.workers.tasks import Outcome, Task, Urgency


class Board:
    """Tasks in order of urgency, and outcomes. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._numbers = itertools.count()
        self._held: list[Given] = []
        # Tasks without an outcome, those that are held included.
        self._unfinished: dict[int, Given] = {}
        self._waiting: Counter[Urgency] = Counter()
        self._ended: defaultdict[Urgency, deque[Outcome]] = defaultdict(deque)
        self._error: LockstepError | None = None
        # Tasks that a node was lost with.
        self._tried: set[int] = set()
        self.lost = 0
        # Those of now, and those of all nodes that have worked.
        self.processes = 0
        self.nodes: dict[str, int] = {}
        self.may_still_write = False

    def submit(self, task: Task, urgency: Urgency) -> None:
        """Add a task.

        Raises:
            LockstepError: what has ended the work.
        """
        with self._changed:
            self._raise()
            given = Given(urgency, next(self._numbers), task)
            self._unfinished[given.number] = given
            self._waiting[urgency] += 1
            heapq.heappush(self._held, given)

    def waiting(self, urgency: Urgency) -> int:
        """Tasks of this urgency that have no outcome yet, or one to be taken."""
        return self._waiting[urgency]

    def take(self, urgency: Urgency, timeout_s: float | None) -> Outcome | None:
        """The next outcome of this urgency; ``None`` after ``timeout_s`` seconds without one.

        Raises:
            LockstepError: what has ended the work.
        """
        give_up_at = None if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            while not self._ended[urgency]:
                self._raise()
                left_s = None if give_up_at is None else give_up_at - time.monotonic()
                if left_s is not None and left_s <= 0:
                    return None
                self._changed.wait(left_s)
            self._waiting[urgency] -= 1
            return self._ended[urgency].popleft()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def next_urgency(self) -> Urgency | None:
        """That of the task that comes next; ``None``: all are with nodes."""
        with self._changed:
            return self._held[0].urgency if self._held else None

    def next(self) -> Given:
        """The task that comes next, for a node; there has to be one."""
        with self._changed:
            return heapq.heappop(self._held)

    def end(self, number: int, outcome: Outcome) -> None:
        """Keep the outcome of a task until it is taken; ignored if it has one."""
        with self._changed:
            given = self._unfinished.pop(number, None)
            if given is not None:
                self._tried.discard(number)
                self._ended[given.urgency].append(outcome)
                self._changed.notify_all()

    def put_back(self, given: Given, reason: Reason) -> None:
        """The node of a task was lost: another one tries it, once; then it has failed."""
        with self._changed:
            if given.number not in self._unfinished:
                return
            if given.number not in self._tried:
                self._tried.add(given.number)
                heapq.heappush(self._held, given)
                return
        failed = [(wanted.recipe.name, reason) for wanted in given.task.wanted]
        self.end(given.number, Outcome(given.task.path, failed=failed, try_again=True))

    def fail(self, error: LockstepError) -> None:
        """End the work: those that wait, or submit, get this error."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    @property
    def is_empty(self) -> bool:
        """Whether no task waits for its outcome."""
        return not self._unfinished

    def unfinished(self) -> list[Task]:
        """The tasks that have no outcome."""
        with self._changed:
            return [given.task for given in self._unfinished.values()]
