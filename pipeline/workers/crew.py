"""The nodes that work for one run: which there are, and which of them has which task.

One thread does all of it, and talks to the cluster without ever waiting for a single node.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple

from pipeline.errors import LockstepError, WorkersError, in_one_line
from pipeline.storage.owners import on_node, owner
from pipeline.workers.board import Board
from pipeline.workers.cluster import Cluster, NodeInfo, problem_of
from pipeline.workers.node import Given, Looked, Reply, Terms
from pipeline.workers.reasons import node_lost
from pipeline.workers.shared import Probe, probe, release
from pipeline.workers.tasks import Urgency, WorkerSetup

log = logging.getLogger("lockstep.workers")

# How often we look which nodes there are.
NODES_EVERY_S = 1.0
# A node gets this many seconds of work at once, which is what a longer exchange may cost; the first
# time so many tasks for each process, and never more than so many.
AT_NODE_S = 0.75
FIRST_TASKS, MOST_TASKS = 2, 64
# A node that has not been heard for so long gets no more tasks until it is.
QUIET_S = 5.0
# And for so long beyond the time that a task may take, it is given up: Ray notices a node that has
# ended, but never one that is stopped.
SILENT_S = 30.0
# How long a node may take to start an actor and to answer its first call.
LOOK_S = 60.0
# How long a run waits for the first node, or the next.
WAIT_FOR_NODES_S = 60.0
# Before a person is told that there is none.
SAY_AFTER_S = 3.0
# An actor that ended before it did anything is started again so often in all.
STARTS = 3
CLOSE_S = 3.0
DEFAULT_TASK_S = 0.1


class Places(NamedTuple):
    """The folders that every node has to see: one that is written, and those that are read."""

    output_dir: str
    read: tuple[str, ...]


class Job(NamedTuple):
    """What nodes work for, and how."""

    setup: WorkerSetup
    timeout_s: float
    places: Places
    sandbox_required: bool


class _Member:
    """A node that works, or is asked whether it can."""

    def __init__(self, info: NodeInfo, actor: Any, asked: Probe) -> None:
        self.info = info
        self.actor = actor
        self.probe = asked
        self.works = False
        self.given: dict[int, Given] = {}
        self.heard = self.progressed = time.monotonic()

    def room(self, urgency: Urgency, task_s: float | None) -> int:
        """How many more tasks of this urgency it is to have."""
        least = FIRST_TASKS * self.info.processors
        if task_s is not None:
            soon = int(AT_NODE_S * self.info.processors / task_s)
            least = max(least, min(soon, MOST_TASKS * self.info.processors))
        # Urgent ones overtake the others there, so these are no reason to wait here.
        return least * (1 + (urgency < Urgency.BACKLOG)) - len(self.given)


class _Shortage:
    """How long there has been work, and no node for it."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._has_said = False

    def see(self, is_over: bool, refused: Collection[str]) -> None:
        """Say once that there is no node, and wait for one, for so long.

        Raises:
            WorkersError: all that there are were ``refused``, or none has come.
        """
        now = time.monotonic()
        if is_over:
            self._since, self._has_said = None, False
            return
        if refused:
            said = "; ".join(refused)
            raise WorkersError(f"no node of the Ray cluster can be used: {said}")
        self._since = self._since or now
        if now - self._since >= WAIT_FOR_NODES_S:
            raise WorkersError(
                f"the Ray cluster has had no node to work on for {WAIT_FOR_NODES_S:g} s; "
                "add one with `ray start --address=...`, or set PIPELINE_WORKERS to a number of "
                "processes"
            )
        if now - self._since >= SAY_AFTER_S and not self._has_said:
            self._has_said = True
            log.warning(
                "the Ray cluster has no node to work on; waiting up to %g s for one",
                WAIT_FOR_NODES_S,
            )


class Crew(threading.Thread):
    """Hands the tasks of a board to nodes until it is told to stop."""

    def __init__(self, open_cluster: Callable[[], Cluster], job: Job, board: Board) -> None:
        super().__init__(name="cluster", daemon=True)
        self._open_cluster = open_cluster
        self._job = job
        self._board = board
        self._stopping = threading.Event()
        # What happened, to be handled by this thread alone.
        self._events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._members: dict[str, _Member] = {}
        # Nodes that are never used again, and why.
        self._refused: dict[str, str] = {}
        self._there: set[str] = set()
        self._starts: Counter[str] = Counter()
        self._task_s: float | None = None
        self._shortage = _Shortage()
        self._cluster: Cluster

    def wake(self) -> None:
        """There are new tasks."""
        self._events.put(_nothing)

    def stop(self) -> None:
        """End all work; once the thread has ended, nothing of it writes any more."""
        self._stopping.set()
        self.wake()

    def run(self) -> None:
        try:
            with contextlib.closing(self._open_cluster()) as self._cluster:
                try:
                    self._work()
                finally:
                    self._dismiss()
        except LockstepError as error:
            self._board.fail(error)
        except Exception as error:
            log.exception("the connection to the Ray cluster failed")
            said = f"the connection to the Ray cluster failed: {in_one_line(error)}; run again"
            self._board.fail(WorkersError(said))

    def _work(self) -> None:
        look_at = 0.0
        while not self._stopping.is_set():
            if time.monotonic() >= look_at:
                self._look_at_nodes()
                self._give_up_silent()
                is_over = bool(self._members) or self._board.is_empty
                there = [why for each, why in self._refused.items() if each in self._there]
                self._shortage.see(is_over, there)
                look_at = time.monotonic() + NODES_EVERY_S
            self._hand_out()
            with contextlib.suppress(queue.Empty):
                handle = self._events.get(timeout=max(0.0, look_at - time.monotonic()))
                while True:
                    handle()
                    handle = self._events.get_nowait()

    def _look_at_nodes(self) -> None:
        """Take on nodes that have come, and drop those that have gone."""
        found = {info.id: info for info in self._cluster.nodes()}
        self._there = set(found)
        for member in [m for m in self._members.values() if m.info.id not in found]:
            self._lose(member, "left the cluster")
        for info in found.values():
            if info.id not in self._members and info.id not in self._refused:
                self._take_on(info)

    def _take_on(self, info: NodeInfo) -> None:
        self._starts[info.id] += 1
        job = self._job
        terms = Terms(
            job.setup,
            info.processors,
            job.timeout_s,
            on_node(owner(), secrets.token_hex(4)),
            job.sandbox_required,
        )
        member = _Member(info, self._cluster.start(info, terms), probe(*job.places))
        self._members[info.id] = member
        self._call(member, "look", member.probe, done=self._looked)

    def _call(
        self,
        member: _Member,
        method: str,
        *arguments: Any,
        done: Callable[[_Member, Any], None] | None = None,
    ) -> None:
        """Call a node; its answer is handled by this thread, if it still works for us."""

        def answered(future: Future[Any]) -> None:
            self._events.put(partial(self._answered, member, future, done))

        try:
            self._cluster.call(member.actor, method, *arguments, done=answered)
        except Exception as error:
            failed: Future[Any] = Future()
            failed.set_exception(error)
            answered(failed)

    def _answered(
        self, member: _Member, future: Future[Any], done: Callable[[_Member, Any], None] | None
    ) -> None:
        if self._members.get(member.info.id) is not member:
            return
        if (error := future.exception()) is None:
            member.heard = time.monotonic()
            if done is not None:
                done(member, future.result())
            return
        problem = problem_of(error)
        if not member.works and self._starts[member.info.id] >= STARTS:
            self._refuse(member, f"it cannot be started: {problem}")
        else:
            self._lose(member, f"ended ({problem})")

    def _looked(self, member: _Member, said: Looked) -> None:
        info = member.info
        is_swept = not member.probe.is_there
        member.probe.remove()
        problem = said.release.difference(release()) or said.problem
        if problem is not None and is_swept:
            # Cleaning up has taken the file: asked again, it has another to look for.
            member.probe = probe(*self._job.places)
            self._call(member, "look", member.probe, done=self._looked)
        elif problem is not None:
            self._refuse(member, problem)
        else:
            if said.not_confined is not None:
                log.warning("no sandbox on node %s: %s", info.name, said.not_confined)
            member.works = True
            self._board.nodes[info.id] = info.processors
            self._count()
            self._exchange(member, [])

    def _exchange(self, member: _Member, given: list[Given]) -> None:
        self._call(member, "exchange", given, done=self._replied)

    def _replied(self, member: _Member, reply: Reply) -> None:
        now = time.monotonic()
        self._board.lost += reply.lost
        for number, outcome in reply.ended:
            member.progressed = now
            self._starts[member.info.id] = 0
            if member.given.pop(number, None) is not None:
                self._task_s = 0.9 * (self._task_s or outcome.seconds) + 0.1 * outcome.seconds
                self._board.end(number, outcome)
        if isinstance(reply.error, WorkersError):
            self._refuse(member, str(reply.error))
        elif reply.error is not None:
            self._board.fail(reply.error)
        else:
            self._hand_out(member)

    def _hand_out(self, replied: _Member | None = None) -> None:
        """Give nodes what they have room for; the one that has ``replied`` is called in any
        case."""
        picked = self._pick()
        if replied is not None:
            self._exchange(replied, picked.pop(replied, []))
        for member, given in picked.items():
            self._call(member, "give", given)

    def _pick(self) -> dict[_Member, list[Given]]:
        """Tasks for all nodes that have room, evenly, the most urgent first."""
        picked: dict[_Member, list[Given]] = {}
        now = time.monotonic()
        able = [m for m in self._members.values() if m.works and now - m.heard < QUIET_S]
        while able and (urgency := self._board.next_urgency()) is not None:
            member = max(able, key=lambda m: m.room(urgency, self._task_s) / m.info.processors)
            if member.room(urgency, self._task_s) <= 0:
                break
            given = self._board.next()
            if not member.given:
                member.progressed = now
            member.given[given.number] = given
            picked.setdefault(member, []).append(given)
        return picked

    def _give_up_silent(self) -> None:
        now = time.monotonic()
        limit_s = self._job.timeout_s + SILENT_S
        for member in list(self._members.values()):
            if not member.works and now - member.heard > LOOK_S:
                self._give_up(member, f"it has not answered within {LOOK_S:g} s")
            elif member.given and now - member.progressed > limit_s:
                self._give_up(member, f"no task of it has ended within {limit_s:g} s")

    def _give_up(self, member: _Member, why: str) -> None:
        """Never use a node again that may be stopped: what it was doing may go on later."""
        self._board.may_still_write = True
        self._refuse(member, why)

    def _refuse(self, member: _Member, why: str) -> None:
        log.warning("node %s is not used: %s", member.info.name, why)
        self._refused[member.info.id] = f"node {member.info.name}: {why}"
        self._drop(member, "was given up")

    def _lose(self, member: _Member, why: str) -> None:
        if member.works:
            log.warning("node %s was lost: it %s", member.info.name, why)
        self._drop(member, why)

    def _drop(self, member: _Member, why: str) -> None:
        """Take a node's tasks from it, and end what it runs."""
        del self._members[member.info.id]
        member.probe.remove()
        self._cluster.kill(member.actor)
        self._board.lost += member.works
        for given in member.given.values():
            self._board.put_back(given, node_lost(why))
        self._count()

    def _count(self) -> None:
        works = [member for member in self._members.values() if member.works]
        self._board.processes = sum(member.info.processors for member in works)

    def _dismiss(self) -> None:
        """Have every node end its processes, and then the actors."""
        closing: list[Future[Any]] = []
        for member in self._members.values():
            ended: Future[Any] = Future()
            closing.append(ended)
            with contextlib.suppress(Exception):
                self._cluster.call(member.actor, "close", done=ended.set_result)
            with contextlib.suppress(LockstepError, OSError):
                member.probe.remove()
        give_up_at = time.monotonic() + CLOSE_S
        for each in closing:
            try:
                each.result(max(0.0, give_up_at - time.monotonic()))
            except Exception:
                self._board.may_still_write = True
        for member in self._members.values():
            self._cluster.kill(member.actor)
        self._members.clear()


def _nothing() -> None:
    """Only look at the tasks again."""
