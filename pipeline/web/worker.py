"""The worker: one thread that runs the pipeline whenever the page, or the watcher, asks for it.

It shares the lock politely. While another process has it, the worker waits and says so.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipeline.app import Lockstep
from pipeline.engine.context import RunOptions
from pipeline.engine.report import Report
from pipeline.engine.run import run_once
from pipeline.errors import LockedError, LockstepError

log = logging.getLogger("lockstep.web")

# How often it asks for a lock that another process has.
ASK_AGAIN_S = 0.5
# A page that shows every single rendition as it comes would do little else.
TELL_EVERY_S = 0.25


class Stopped(BaseException):
    """Raised inside of a run to end it: as Ctrl-C, what is done is kept and nothing else stays."""


@dataclass(frozen=True)
class Doing:
    """What the worker is at. ``state`` is ``resting``, ``waiting`` (for the lock) or ``running``.

    Times are Unix time in seconds; ``left_s`` is ``None`` until it can be told.
    """

    state: str = "resting"
    what: str = ""
    done: int = 0
    total: int = 0
    since_ts: float = 0.0
    left_s: float | None = None

    @property
    def percent(self) -> int:
        """How much of what was known to lie ahead is done."""
        return 100 * self.done // self.total if self.total else 0


class Worker:
    """Runs when asked, one run at a time, and knows how far it is."""

    def __init__(self, app: Lockstep, moved: Callable[[], None]) -> None:
        """``moved`` is called, from any thread, whenever there is something new to show."""
        self.app = app
        self.moved = moved
        self.doing = Doing()
        self.last_error: str | None = None
        # Unix time at which all was last looked at: a run with no change leaves no other trace.
        self.looked_ts: float | None = None
        # Called with the seconds of a run and the number of renditions that it made.
        self.on_run: Callable[[float, int], None] = lambda seconds, renditions: None
        self._asked = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="worker", daemon=True)

    def start(self) -> None:
        """Begin; nothing runs until it is asked for."""
        self._thread.start()

    def ask(self) -> None:
        """Have a run begin as soon as it can be. Asked twice while waiting, it is one run."""
        self._asked.set()

    def end(self) -> None:
        """Have the run at work end; what is done is kept."""
        self._stopping.set()
        self._asked.set()

    def stop(self, timeout_s: float = 30.0) -> None:
        """End, and wait until the run and its workers are gone."""
        self.end()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    @property
    def stopping(self) -> threading.Event:
        """Set when the service ends."""
        return self._stopping

    def _work(self) -> None:
        while True:
            self._asked.wait()
            if self._stopping.is_set():
                return
            self._asked.clear()
            try:
                self._run()
            except Stopped:
                return
            except LockstepError as error:
                self.last_error = str(error)
                log.error("the run was stopped: %s", error)
            except Exception:
                # The next run may well go through: a server that is down shows nobody anything.
                self.last_error = "a run ended by an error that nobody foresaw; the log says which"
                log.exception("the run was stopped")
            self.show(Doing())

    def _run(self) -> None:
        while True:
            began = time.time()
            self.show(Doing("running", since_ts=began))
            try:
                report = run_once(self.app, RunOptions(), Shown(self, began))
            except LockedError:
                self.show(Doing("waiting", since_ts=began))
                if self._stopping.wait(ASK_AGAIN_S):
                    raise Stopped from None
                continue
            self.ran(report, began)
            for warning in report.warnings:
                log.warning("%s", warning)
            return

    def ran(self, report: Report, began_ts: float) -> None:
        """Note that a run, of ours or of the watcher's, has gone through."""
        self.last_error = None
        self.looked_ts = began_ts
        self.on_run(report.seconds, report.rendered)

    def show(self, doing: Doing) -> None:
        """Tell what is being done now."""
        self.doing = doing
        self.moved()


class Shown:
    """The progress of a run, for the page. Ends the run where the service ends."""

    def __init__(self, worker: Worker, began_ts: float) -> None:
        self.worker = worker
        self.began_ts = began_ts
        self._what, self._done, self._total = "", 0, 0
        self._began = self._told = 0.0

    def start(self, what: str, total: int) -> None:
        """``total`` pieces of ``what`` lie ahead."""
        self._what, self._done, self._total = what, 0, total
        self._began = time.monotonic()
        self._tell()

    def advance(self, count: int) -> None:
        """``count`` more of them are done."""
        if self.worker.stopping.is_set():
            raise Stopped
        self._done += count
        if time.monotonic() - self._told >= TELL_EVERY_S:
            self._tell()

    def stop(self) -> None:
        """No more will come."""

    def _tell(self) -> None:
        self._told = time.monotonic()
        taken = self._told - self._began
        left = taken / self._done * (self._total - self._done) if self._done else None
        self.worker.show(Doing("running", self._what, self._done, self._total, self.began_ts, left))


def as_json(doing: Doing) -> dict[str, Any]:
    """What is being done, for programs."""
    from pipeline.engine.status import iso

    return {
        "state": doing.state,
        "what": doing.what or None,
        "done": doing.done,
        "total": doing.total,
        "since": iso(doing.since_ts) if doing.since_ts else None,
        "seconds_left": None if doing.left_s is None else round(doing.left_s, 1),
    }
