"""The worker: one thread that runs the pipeline, when files change or when the page asks for it,
and what each lane of a run is doing.

It is a :class:`~pipeline.live.Watcher` unless ``--no-watch`` was given. While another process has
the lock, it waits.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

from pipeline.app import Lockstep
from pipeline.engine.context import RunOptions
from pipeline.engine.report import Report
from pipeline.engine.run import run_once
from pipeline.errors import LockedError, LockstepError, StoppedError, in_one_line
from pipeline.live.watcher import Watcher, WatchOptions
from pipeline.states import Lane
from pipeline.text import iso

log = logging.getLogger("lockstep.web")

# How often it tries to get a lock that another process has.
RETRY_LOCK_S = 0.5
# A run that an error ended is retried after this long, and then less and less often.
TRY_AGAIN_S = 5.0
# A page that shows every single rendition as it comes would do little else.
NOTIFY_EVERY_S = 0.25


@dataclass(frozen=True)
class Doing:
    """What the worker is doing. ``state`` is ``resting``, ``waiting`` (for the lock) or
    ``running``.

    ``since_ts`` is Unix time in seconds; ``left_s`` is ``None`` until it is known.
    """

    state: str = "resting"
    what: str = ""
    done: int = 0
    total: int = 0
    since_ts: float = 0.0
    left_s: float | None = None

    def as_json(self) -> dict[str, Any]:
        """For programs, and for the page."""
        return {
            "state": self.state,
            "what": self.what or None,
            "done": self.done,
            "total": self.total,
            "since": iso(self.since_ts) if self.since_ts else None,
            "seconds_left": None if self.left_s is None else round(self.left_s, 1),
        }


class LaneDoing(NamedTuple):
    """What one lane is doing beside the others."""

    lane: Lane
    doing: Doing

    def as_json(self) -> dict[str, Any]:
        """For programs, and for the page."""
        shown = self.doing.as_json()
        del shown["state"]
        return {"lane": self.lane.value, **shown}


class Worker:
    """Runs one run at a time, and knows its progress."""

    def __init__(
        self,
        app: Lockstep,
        watch: bool,
        moved: Callable[[], None],
        on_run: Callable[[Report], None],
    ) -> None:
        """``moved`` is called whenever there is something new to show, ``on_run`` after each run;

        both from any thread. With ``watch`` a run starts when files change, otherwise on request.
        """
        self.app = app
        self.moved = moved
        self.on_run = on_run
        # Of the run as a whole; and of each lane that shows a bar. The lanes work in threads of
        # their own.
        self._whole = Doing()
        self._lanes: dict[Lane, Shown] = {}
        self._guard = threading.Lock()
        # Unix time at which our last run ended, and what stopped it, if anything did. The table of
        # runs knows neither of a run with no change nor of one that the database stopped.
        self.looked_ts = 0.0
        self.last_error: str | None = None
        # What stopped the work on the users' own steps, until they go on.
        self.own_error: str | None = None
        self.stopping = threading.Event()
        self._requested = threading.Event()
        self._watcher: Watcher | None = None
        self._thread = threading.Thread(
            target=self._watch if watch else self._work, name="worker", daemon=True
        )

    def start(self) -> None:
        """Start working."""
        self._thread.start()

    def ask(self) -> None:
        """Start a run as soon as possible. Two requests while waiting are one run."""
        self._requested.set()
        if self._watcher is not None:
            self._watcher.ask()

    def report(self, keys: Collection[str]) -> None:
        """Look at these originals as soon as possible, where a watcher runs; from any thread."""
        if self._watcher is not None and keys:
            self._watcher.report(keys)

    def end(self) -> None:
        """Stop the current run; finished work is kept."""
        self.stopping.set()
        self._requested.set()

    def stop(self, timeout_s: float = 30.0) -> None:
        """End, and wait until the run and its workers are gone."""
        self.end()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    @property
    def doing(self) -> Doing:
        """What is being done now: by the first lane that does something, where several do."""
        lanes, since_ts = self.lanes, self._watcher.since_ts if self._watcher else 0.0
        if lanes:
            return lanes[0].doing
        return Doing("running", since_ts=since_ts) if since_ts else self._whole

    @property
    def lanes(self) -> list[LaneDoing]:
        """What each lane is doing that does something."""
        with self._guard:
            return [
                LaneDoing(lane, self._lanes[lane].doing) for lane in Lane if lane in self._lanes
            ]

    def show(self, doing: Doing) -> None:
        """What is being done now, as a whole."""
        self._whole = doing
        self.moved()

    def show_lane(self, lane: Lane, shown: Shown | None) -> None:
        """What a lane is doing from now on; ``None``: nothing. From any thread."""
        with self._guard:
            if shown is None:
                self._lanes.pop(lane, None)
            else:
                self._lanes[lane] = shown
        self.moved()

    def _watch(self) -> None:
        while not self.stopping.is_set():
            try:
                options = WatchOptions(
                    say=self._say,
                    failed=self._failed,
                    progress=Shown(self),
                    own_failed=self._own_failed,
                )
                self._watcher = Watcher(self.app, options)
                self._watcher.run(self.stopping, self._ran)
            except BaseException as error:
                # Nobody would notice that this thread has ended: the page would look as if it still
                # worked.
                log.exception("the watcher was stopped by an unexpected error; it starts again")
                self._failed(error)
                self.stopping.wait(TRY_AGAIN_S)

    def _work(self) -> None:
        back_off_s = TRY_AGAIN_S
        wait_s: float | None = None
        while True:
            self._requested.wait(wait_s)
            if self.stopping.is_set():
                return
            self._requested.clear()
            began = time.time()
            try:
                self.show(Doing("running", since_ts=began))
                options = RunOptions(stop=self.stopping)
                self._ran(run_once(self.app.plan, options, Shown(self)))
                back_off_s, wait_s = TRY_AGAIN_S, None
            except LockedError:
                self.show(Doing("waiting", since_ts=began))
                self.stopping.wait(RETRY_LOCK_S)
                self._requested.set()
                continue
            except StoppedError:
                return
            except BaseException as error:
                # As in the watcher: no error may end this thread, and the next run may well
                # succeed.
                if not isinstance(error, LockstepError):
                    log.exception("a run was stopped by an unexpected error")
                self._say(in_one_line(error))
                self._failed(error)
                wait_s, back_off_s = back_off_s, min(back_off_s * 2, self.app.settings.rescan_s)
            self.show(Doing())

    def _ran(self, report: Report) -> None:
        self.last_error, self.looked_ts = None, time.time()
        for warning in report.warnings:
            log.warning("%s", warning)
        self.on_run(report)
        self.moved()

    def _failed(self, error: BaseException) -> None:
        # In this order: a page that shows the error must not show the run as still going on.
        self.show(Doing())
        self.last_error, self.looked_ts = in_one_line(error), time.time()
        self.moved()

    def _own_failed(self, error: BaseException | None) -> None:
        said, self.own_error = self.own_error, None if error is None else in_one_line(error)
        if said != self.own_error:
            self.moved()

    def _say(self, line: str) -> None:
        log.warning("%s", line)
        self.moved()


class Shown:
    """The progress of one lane, for the page."""

    def __init__(self, worker: Worker, lane: Lane = Lane.ORIGINALS) -> None:
        self.worker = worker
        self._lane = lane
        self._what, self._done, self._total = "", 0, 0
        self._began_ts = self._sent_ts = 0.0

    @property
    def doing(self) -> Doing:
        """How far it is now."""
        taken = time.time() - self._began_ts
        left = taken / self._done * (self._total - self._done) if self._done else None
        return Doing("running", self._what, self._done, self._total, self._began_ts, left)

    def start(self, what: str, total: int) -> None:
        """``total`` pieces of ``what`` are to be done."""
        self._what, self._done, self._total = what, 0, total
        self._began_ts = self._sent_ts = time.time()
        self.worker.show_lane(self._lane, self)

    def advance(self, count: int, total: int | None = None) -> None:
        """``count`` more of them are done, of ``total`` by now."""
        self._done += count
        self._total = self._total if total is None else total
        if time.time() - self._sent_ts >= NOTIFY_EVERY_S:
            self._sent_ts = time.time()
            self.worker.moved()

    def stop(self) -> None:
        """No more will come."""
        self.worker.show_lane(self._lane, None)

    def lane(self, lane: Lane) -> Shown:
        """The progress of another lane."""
        return Shown(self.worker, lane)
