"""Workers: processes that read an original once, hash it, and make its renditions.

The main process knows tables and names; a worker knows one file and its recipes. It writes each
rendition to a temporary file beside its target. Publishing (the rename) is the main process's, so
that a worker that outlives a killed run can never replace what a later run has made.

Workers are started by a fork server that has the imaging package loaded, once a run, and none
where nothing is to be rendered. One that crashes, hangs or eats memory costs the original it was
working on: pebble reports which one, and replaces the worker.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import queue
import time
from collections import Counter, defaultdict, deque
from concurrent.futures import BrokenExecutor, CancelledError, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Any

from pipeline.errors import OutputError, WorkersError
from pipeline.names import folder_of
from pipeline.reasons import Reason
from pipeline.storage.folder_store import FolderStore
from pipeline.storage.owners import is_of, owner
from pipeline.workers.base import OnThisMachine
from pipeline.workers.carrying import Carrier
from pipeline.workers.reasons import (
    KILLED_FROM_OUTSIDE,
    lost_reason,
    renderer_failed,
    timed_out_after,
    too_much_memory,
)
from pipeline.workers.starting import started_pool
from pipeline.workers.tasks import Outcome, Task, Urgency, WorkerSetup
from pipeline.workers.tracebacks import Tracebacks
from pipeline.workers.worker import ready, work

if TYPE_CHECKING:
    from pebble import ProcessPool

BROKEN_AT_MOST = 3
# What is with the processes already cannot be overtaken: this many seconds of work at most, and so
# many tasks, which is enough that none waits while a batch of small pictures is recorded.
WITH_PROCESSES_S = 0.25
WITH_PROCESSES = 64


class Workers(OnThisMachine):
    """A pool of worker processes, started at the first task or at :meth:`warm_up`.

    The most urgent tasks come first, also before those that were submitted earlier.
    """

    def __init__(self, setup: WorkerSetup, count: int, timeout_s: float) -> None:
        self.count = count
        self._carrier = Carrier.of(setup)
        self.lost = 0
        self._setup = setup if self._carrier is None else self._carrier.confined(setup)
        self._timeout_s = timeout_s
        self._pool: Future[ProcessPool] | None = None
        self._done: queue.SimpleQueue[tuple[Task, Future[Outcome]]] = queue.SimpleQueue()
        self._exits = contextlib.ExitStack()
        self._locks: list[Any] = []
        # Tasks that the processes have, or will take next; and those that wait for them.
        self._at_work: dict[int, tuple[Urgency, Task]] = {}
        self._held: list[tuple[Urgency, int, Task]] = []
        self._numbers = itertools.count()
        self._unfinished: Counter[Urgency] = Counter()
        # Outcomes that came while somebody waited for others.
        self._ended: defaultdict[Urgency, deque[Outcome]] = defaultdict(deque)
        self._task_s = 0.0
        # Tasks whose folders were not those of the workers.
        self._moved: set[int] = set()
        # Of tasks that were lost and are tried without functions: what failed with these.
        self._failed_before: dict[int, list[tuple[str, Reason]]] = {}
        self._tracebacks = Tracebacks()
        # How often in a row all workers were lost before a task finished.
        self._broken = 0

    def waiting(self, urgency: Urgency = Urgency.BACKLOG) -> int:
        """How many submitted tasks of this urgency have no outcome yet, or one to be taken."""
        return self._unfinished[urgency]

    @property
    def started(self) -> bool:
        """Whether there are processes."""
        return self._pool is not None

    def warm_up(self) -> None:
        """Start the processes, so that they load while the scan goes on; harmless if done."""
        if self._pool is None:
            # In a thread: the fork server is waited for until it has loaded what it preloads.
            with_a_thread = ThreadPoolExecutor(1)
            self._pool = with_a_thread.submit(self._start)
            with_a_thread.shutdown(wait=False)

    def submit(self, task: Task, urgency: Urgency = Urgency.BACKLOG) -> None:
        """Submit one task to the pool; :meth:`next_outcome` returns its outcome.

        Raises:
            WorkersError: workers end before they have done anything.
        """
        self._unfinished[urgency] += 1
        heapq.heappush(self._held, (urgency, next(self._numbers), task))
        self._fill()

    def _fill(self) -> None:
        """Give the processes what they can do soon; the rest waits here, where it is in order."""
        # A task that is carried is on its way most of the time.
        times = 1 if self._carrier is None else 4
        soon_s = WITH_PROCESSES_S * times
        soon = int(soon_s * self.count / self._task_s) if self._task_s else WITH_PROCESSES
        room = max(self.count * times + 1, min(WITH_PROCESSES, soon))
        while self._held and len(self._at_work) < room:
            urgency, _, task = heapq.heappop(self._held)
            self._at_work[id(task)] = urgency, task
            try:
                self._schedule(task)
            except RuntimeError as error:
                # Workers that were killed while idle: pebble only says so at the next task.
                self._start_again(error)

    def _schedule(self, task: Task) -> None:
        self.warm_up()
        assert self._pool is not None
        # Bound now: what comes after a close belongs to the old queue, and the old pool.
        ended, pool, timeout_s = self._done, self._pool, self._timeout_s

        def schedule(task: Task) -> Future[Outcome]:
            return pool.result().schedule(work, args=(task,), timeout=timeout_s)

        def end(done: Future[Outcome]) -> None:
            ended.put((task, done))

        if self._carrier is not None:
            self._carrier.schedule(task, schedule, end)
        else:
            schedule(task).add_done_callback(end)

    def _start_again(self, error: Exception) -> None:
        """Resubmit the tasks of a broken pool, which none of them broke, to new workers.

        Raises:
            WorkersError: new ones end as well before they have done anything.
        """
        while True:
            self._broken += 1
            if self._broken > BROKEN_AT_MOST:
                raise WorkersError(
                    f"the worker processes end as soon as they are started ({error}); is there "
                    "enough memory, also for PIPELINE_WORKER_MEMORY_MB?"
                ) from error
            self.lost += 1
            try:
                self._resubmit()
                return
            except RuntimeError as broken:
                error = broken

    def _resubmit(self) -> None:
        """Give what the processes have to new ones."""
        self._stop()
        for _, task in list(self._at_work.values()):
            self._schedule(task)

    def next_outcome(
        self, timeout_s: float | None = None, urgency: Urgency = Urgency.BACKLOG
    ) -> Outcome | None:
        """The next task of this urgency that ended; ``None`` after ``timeout_s`` seconds without
        one, or sooner.

        Raises:
            OutputError: a rendition could not be written; no later task would fare better.
            WorkersError: workers end before they have done anything.
        """
        give_up_at = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._ended[urgency]:
            left_s = None if give_up_at is None else max(0.0, give_up_at - time.monotonic())
            try:
                task, future = self._done.get(timeout=left_s)
            except queue.Empty:
                return None
            if not self._take(task, future):
                return None
        self._unfinished[urgency] -= 1
        outcome = self._ended[urgency].popleft()
        if self._carrier is not None:
            self._carrier.hand_over(outcome)
        return outcome

    def _take(self, task: Task, future: Future[Outcome]) -> bool:
        """Keep an outcome for whom it is; false if there is none, as the processes are new."""
        urgency, _ = self._at_work.pop(id(task))
        try:
            outcome = future.result()
        except BrokenExecutor as error:
            self._at_work[id(task)] = urgency, task
            self._start_again(error)
            return False
        except OutputError:
            raise
        except Exception as error:
            outcome, is_lost = _lost(task, error, self._timeout_s, self._setup.memory_mb)
            self.lost += is_lost
            if not outcome.killed and self._goes_on_without_functions(task, urgency, outcome):
                return False
        if outcome.moved and self._is_confined_anew(task, urgency):
            return False
        if self._carrier is not None:
            self._carrier.claim(outcome)
        outcome.failed += self._failed_before.pop(id(task), [])
        self._moved.discard(id(task))
        self._broken = 0
        self._tracebacks.log(outcome)
        self._task_s = 0.9 * (self._task_s or outcome.seconds) + 0.1 * outcome.seconds
        self._ended[urgency].append(outcome)
        self._fill()
        return True

    def _goes_on_without_functions(self, task: Task, urgency: Urgency, lost: Outcome) -> bool:
        """Resubmit what calls no function, which would fail with a function that hangs."""
        plain = tuple(each for each in task.wanted if not each.recipe.calls_functions)
        if not 0 < len(plain) < len(task.wanted):
            return False
        rest = task._replace(wanted=plain)
        names = {wanted.recipe.name for wanted in plain}
        self._failed_before[id(rest)] = [each for each in lost.failed if each[0] not in names]
        heapq.heappush(self._held, (urgency, next(self._numbers), rest))
        self._fill()
        return True

    def _is_confined_anew(self, task: Task, urgency: Urgency) -> bool:
        """Resubmit ``task`` to new workers, which know the folders of now; once, and never again.

        Raises:
            WorkersError: workers end before they have done anything.
        """
        if id(task) in self._moved:
            return False
        self._moved.add(id(task))
        # Those that others were working on may have left temporary files.
        self.lost += bool(self._at_work)
        self._at_work[id(task)] = urgency, task
        try:
            self._resubmit()
        except RuntimeError as error:
            self._start_again(error)
        return True

    def close(self) -> list[Task]:
        """Stop all workers, even busy ones; no process is left. Returns the unfinished tasks.

        A later task starts workers again.
        """
        self._stop()
        unfinished = [task for _, task in self._at_work.values()]
        unfinished += [task for _, _, task in self._held]
        self._at_work.clear()
        self._held.clear()
        self._ended.clear()
        self._unfinished.clear()
        self._moved.clear()
        self._failed_before.clear()
        if self._carrier is not None:
            self._carrier.close()
        return unfinished

    def _stop(self) -> None:
        """Stop all workers; what they ended is forgotten, what they have is still known."""
        starting, self._pool = self._pool, None
        if starting is not None and starting.exception() is None:
            pool = starting.result()
            pool.stop()  # type: ignore[no-untyped-call]
            pool.join()
        if self._carrier is not None:
            self._carrier.stop()
        self._locks.clear()
        self._exits.close()
        self._done = queue.SimpleQueue()

    def _start(self) -> ProcessPool:
        self._tracebacks.forget()
        if self._carrier is not None:
            self._carrier.open()  # before the workers are confined to its folders
        pool = started_pool(self.count, self._setup, self._locks, self._exits)
        for _ in range(self.count):
            pool.schedule(ready)
        return pool


def _lost(task: Task, error: Exception, timeout_s: float, memory_mb: int) -> tuple[Outcome, bool]:
    """The outcome of a task that ended with an error, and whether its worker did."""
    # pebble's `ProcessExpired` has it: the worker is gone. Anything else but a time-out is a
    # problem of a decoder or of ours, and no reason to stop the other tasks.
    code = getattr(error, "exitcode", None)
    timed_out = isinstance(error, FutureTimeoutError | CancelledError)
    if timed_out:
        reason = timed_out_after(timeout_s)
    elif isinstance(error, MemoryError):
        reason = too_much_memory(memory_mb)
    elif code is not None:
        reason = lost_reason(code, memory_mb)
    else:
        reason = renderer_failed(error)
    failed = [(wanted.recipe.name, reason) for wanted in task.wanted]
    outcome = Outcome(task.path, failed=failed, killed=code in KILLED_FROM_OUTSIDE)
    return outcome, timed_out or code is not None


def clear_temporary_of(task: Task) -> None:
    """Delete what workers that were stopped at ``task`` left beside the targets."""
    if "://" in task.output_dir:
        return  # in a bucket, what is staged is deleted by those who carry it
    store, ours = FolderStore(task.output_dir), owner()
    folder = task.path.rpartition("/")[0]
    for wanted in task.wanted:
        # A rendition whose folders cannot exist is at the top of its recipe's folder.
        top = task.below + folder_of(wanted.recipe.name)
        for key in {f"{top}/{folder}".rstrip("/"), top}:
            store.sweep_folder(key, lambda who: not is_of(who, ours))
