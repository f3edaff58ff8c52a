"""A node of a cluster: the pool of local processes, driven by a main process elsewhere.

It knows nothing of the cluster: its methods are called from threads, by whatever carries them.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import tempfile
import threading
import time
from collections import defaultdict, deque
from typing import NamedTuple

from pipeline.errors import LockstepError, WorkersError, in_one_line
from pipeline.names import CARRIED_FOLDER
from pipeline.storage.owners import act_for
from pipeline.workers.local import Workers, clear_temporary_of
from pipeline.workers.sandbox import why_not
from pipeline.workers.shared import Probe, Release, release
from pipeline.workers.tasks import Outcome, Task, Urgency, WorkerSetup

# An exchange is answered after so long even if nothing has ended: the main process hears of us.
HEARTBEAT_S = 1.0
# Outcomes wait so long for others, while the processes have enough to do: each exchange costs
# about as much CPU as a tenth of a photo.
LINGER_S = 0.2
# A main process that is silent for so long has ended, or has given us up.
LEASE_S = 15.0
# How long a new task may wait for the thread that looks for outcomes.
POLL_S = 0.02


class Given(NamedTuple):
    """A task by the number that its main process knows it by; the least comes first."""

    urgency: Urgency
    number: int
    task: Task


class Reply(NamedTuple):
    """What has ended since the reply before; ``lost`` processes; an ``error`` that ends all work
    here."""

    ended: list[tuple[int, Outcome]]
    lost: int
    error: LockstepError | None


class Looked(NamedTuple):
    """What a node says of itself: why it cannot be used, and why its workers are not confined."""

    release: Release
    problem: str | None
    not_confined: str | None


class Terms(NamedTuple):
    """How a node works: ``setup`` always names the folders, unless no sandbox is wanted."""

    setup: WorkerSetup
    processes: int
    timeout_s: float
    owner: str
    sandbox_required: bool


class Node:
    """The workers of one node. It ends itself, and what it began, when its main process is gone."""

    def __init__(self, terms: Terms) -> None:
        act_for(terms.owner)
        self._terms = terms
        setup = terms.setup
        self._not_confined = why_not() if setup.folders is not None else None
        if self._not_confined is not None:
            setup = setup._replace(folders=None)
        self._carried: str | None = None
        if setup.carried is not None:
            # On a disk of this machine: the folder of the main process may not be there.
            self._carried = tempfile.mkdtemp(prefix="lockstep-")
            setup = setup._replace(carried=os.path.join(self._carried, CARRIED_FOLDER))
        self._workers = Workers(setup, terms.processes, terms.timeout_s)
        self._inbox: queue.SimpleQueue[Given] = queue.SimpleQueue()
        # All that follows is shared by the threads of calls and our own.
        self._changed = threading.Condition()
        self._unfinished: dict[int, Given] = {}
        self._ended: dict[int, Outcome] = {}
        self._ended_at = 0.0
        self._error: LockstepError | None = None
        self._closing = threading.Event()
        self._heard = time.monotonic()
        self._pump = threading.Thread(target=self._work, name="workers", daemon=True)
        self._pump.start()
        threading.Thread(target=self._watch, name="lease", daemon=True).start()

    def look(self, probe: Probe) -> Looked:
        """Whether this node can work for the main process that wrote the ``probe``."""
        self._heard = time.monotonic()
        problem = probe.why_not_shared()
        if problem is None and self._terms.sandbox_required and self._not_confined is not None:
            problem = (
                f"PIPELINE_SANDBOX=required, and its workers cannot be confined "
                f"({self._not_confined})"
            )
        return Looked(release(), problem, self._not_confined)

    def give(self, given: list[Given]) -> None:
        """Take tasks on; harmless for those that are known."""
        self._heard = time.monotonic()
        with self._changed:
            for each in given:
                if each.number not in self._unfinished:
                    self._unfinished[each.number] = each
                    self._inbox.put(each)

    def exchange(self, given: list[Given]) -> Reply:
        """Take tasks on, and wait for outcomes: until some have ended, and for a second at most."""
        self.give(given)
        give_up_at = time.monotonic() + HEARTBEAT_S
        with self._changed:
            while (wait_s := min(self._reply_in_s(), give_up_at - time.monotonic())) > 0:
                self._changed.wait(wait_s)
            ended, self._ended = self._ended, {}
            for number in ended:
                self._unfinished.pop(number, None)
            lost, self._workers.lost = self._workers.lost, 0
            return Reply(list(ended.items()), lost, self._error)

    def _reply_in_s(self) -> float:
        """How long to wait for more outcomes before those that are there are sent."""
        if self._error is not None or self._closing.is_set():
            return 0.0
        if not self._ended:
            return HEARTBEAT_S
        runs_dry = len(self._unfinished) - len(self._ended) <= self._terms.processes
        is_urgent = any(self._unfinished[n].urgency < Urgency.BACKLOG for n in self._ended)
        return 0.0 if runs_dry or is_urgent else self._ended_at + LINGER_S - time.monotonic()

    def close(self) -> None:
        """Stop all processes; once this returns, none of them writes."""
        self._closing.set()
        with self._changed:
            self._changed.notify_all()
        self._pump.join()

    def _work(self) -> None:
        """The thread that the pool belongs to."""
        numbers: defaultdict[tuple[Urgency, str], deque[int]] = defaultdict(deque)
        try:
            self._workers.warm_up()
            while not self._closing.is_set():
                self._submit_given(numbers)
                self._take_ended(numbers)
        except LockstepError as error:
            self._fail(error)
        except Exception as error:
            self._fail(WorkersError(in_one_line(error)))
        finally:
            self._workers.close()
            if self._carried is not None:
                shutil.rmtree(self._carried, ignore_errors=True)

    def _fail(self, error: LockstepError) -> None:
        with self._changed:
            self._error = error
            self._changed.notify_all()

    def _submit_given(self, numbers: defaultdict[tuple[Urgency, str], deque[int]]) -> None:
        is_idle = not any(map(self._workers.waiting, Urgency))
        with contextlib.suppress(queue.Empty):
            each = self._inbox.get(timeout=POLL_S) if is_idle else self._inbox.get_nowait()
            while True:
                numbers[each.urgency, each.task.path].append(each.number)
                self._workers.submit(each.task, each.urgency)
                each = self._inbox.get_nowait()

    def _take_ended(self, numbers: defaultdict[tuple[Urgency, str], deque[int]]) -> None:
        wait_s = POLL_S
        for urgency in filter(self._workers.waiting, Urgency):
            while (outcome := self._workers.next_outcome(wait_s, urgency)) is not None:
                wait_s = 0.0
                waiting = numbers[urgency, outcome.path]
                number = waiting.popleft()
                if not waiting:
                    del numbers[urgency, outcome.path]
                with self._changed:
                    if not self._ended:
                        self._ended_at = time.monotonic()
                    self._ended[number] = outcome
                    self._changed.notify_all()
                if not self._workers.waiting(urgency):
                    break
            wait_s = 0.0

    def _watch(self) -> None:
        """End this process once its main process is silent: killed, or done with us.

        We may have been stopped meanwhile, and given up; others have our tasks then.
        """
        while time.monotonic() - self._heard < LEASE_S:
            time.sleep(1.0)
        self.close()
        for each in self._unfinished.values():
            with contextlib.suppress(LockstepError, OSError):
                clear_temporary_of(each.task)
        os._exit(0)
