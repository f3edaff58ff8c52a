"""The lane of the users' own steps: beside the watcher, for nothing is to wait for a slow one.

It looks for work whenever the clock of the tables has moved, in whatever process: what a step has
to do is in the tables. What is gone is deleted first, in all steps; then each step works, in its
order, for a slice of time, after which a run in another process has its turn, and all begins again.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable

import sqlalchemy as sa

from pipeline.app import Lockstep
from pipeline.engine.context import Run, RunOptions, open_beside
from pipeline.engine.history import remember_run
from pipeline.engine.own_batch import BatchStep
from pipeline.engine.progress import Progress
from pipeline.engine.report import Report
from pipeline.errors import LockstepError, StoppedError, YieldedError, in_one_line
from pipeline.tables import make_tables
from pipeline.workers.tasks import Urgency

log = logging.getLogger("lockstep.live")

POLL_S = 0.2
# Looking for work takes time where tables are large, and a rendering backlog has the clock move
# without end: rest for a few times as long, but no longer than a second if it took less.
RESTS, REST_S = 4, 1.0
# A slice of a backlog; longer where looking for work takes a good part of it.
SLICE_S, LOOKS_PER_SLICE = 2.0, 5
# For a run that waits for its turn: it tries every 10 ms.
RELEASE_S = 0.05
# A process that stops waits for so long, and then leaves a function behind that is still at work:
# what it makes is not recorded, so that the next run makes it.
STOP_S = 0.5
BACK_OFF_S = 5.0


class OwnLane:
    """Works the steps of one application that a user has declared, in a thread of its own."""

    def __init__(
        self,
        app: Lockstep,
        on_run: Callable[[Report], None],
        failed: Callable[[BaseException | None], None],
        say: Callable[[str], None],
        progress: Progress,
    ) -> None:
        """``on_run`` is called with the report of each pass that did something, ``failed`` with the
        error that ended one, and with ``None`` after one that none ended, ``say`` with a message
        for people; all in the thread."""
        self._app, self._on_run, self._failed, self._say = app, on_run, failed, say
        self._progress = progress
        self._stop = threading.Event()
        self._stirred = threading.Event()
        self._seen_ts: float | None = None
        # When steps are due that follow no table of ours (monotonic seconds).
        self._whole_at = 0.0
        self._slice_ends, self._rest_s = 0.0, POLL_S
        self._report = Report(partial=True)
        self._thread = threading.Thread(target=self._work, name="own steps", daemon=True)

    def start(self) -> None:
        """Start working; nothing happens where the user has declared no steps."""
        if self._app.own_steps:
            self._thread.start()

    def ask(self) -> None:
        """Work all steps soon; from any thread."""
        self._whole_at = 0.0
        self._stirred.set()

    def close(self) -> None:
        """Stop; what is done is kept, and what is not done is done by the next run."""
        self._stop.set()
        self._stirred.set()
        if self._thread.is_alive():
            self._thread.join(STOP_S)

    def _work(self) -> None:
        back_off_s, is_ready = BACK_OFF_S, False
        while not self._stop.is_set():
            self._rest_s = POLL_S
            try:
                if not is_ready:
                    make_tables(self._app.database)
                    is_ready = True
                if self._is_due():
                    took_s = self._pass()
                    self._rest_s = max(POLL_S, took_s, min(RESTS * took_s, REST_S))
                    self._failed(None)
                    back_off_s = BACK_OFF_S
            except YieldedError:
                self._stop.wait(RELEASE_S)
                continue
            except StoppedError:
                return
            except BaseException as error:
                # As in the watcher: whatever a step raises, this thread goes on.
                self._seen_ts = None
                if is_ready or not isinstance(error, LockstepError):
                    self._tell(error)
                self._stop.wait(back_off_s)
                back_off_s = min(back_off_s * 2, self._app.settings.rescan_s)
            self._stirred.wait(self._rest_s)
            self._stirred.clear()

    def _is_due(self) -> bool:
        is_whole = time.monotonic() >= self._whole_at
        return is_whole or self._app.database.clock.committed_ts() != self._seen_ts

    def _pass(self) -> float:
        """Work all steps, or until the slice of time is over; how many seconds it took.

        Raises:
            YieldedError: something is left.
        """
        app, began = self._app, time.monotonic()
        seen_ts, is_whole = app.database.clock.committed_ts(), began >= self._whole_at
        steps = [step for step in app.own_steps if is_whole or step.follows_inputs]
        urgent = {Urgency.FRESH: self._yield_in_time}
        options = RunOptions(wait=True, stop=self._stop, urgent=urgent)
        run = open_beside(app.database, app.settings, options)
        run.report, run.progress, self._slice_ends = self._report, self._progress, 0.0
        try:
            for step in steps:
                if isinstance(step, BatchStep):
                    step.remove(run)
            slice_s = max(SLICE_S, LOOKS_PER_SLICE * (time.monotonic() - began))
            self._slice_ends = time.monotonic() + slice_s
            for step in steps:
                step.work(run)
            self._seen_ts = seen_ts
            if is_whole:
                self._whole_at = time.monotonic() + app.settings.rescan_s
        except YieldedError:
            self._report.seconds += time.monotonic() - began
            raise
        except BaseException:
            self._end_report(began)
            raise
        self._end_report(began)
        return time.monotonic() - began

    def _end_report(self, began: float) -> None:
        """Report what was done since the last time, in however many slices."""
        report, self._report = self._report, Report(partial=True)
        report.seconds += time.monotonic() - began
        if report.did_anything:
            with contextlib.suppress(sa.exc.SQLAlchemyError):  # it is no more than history
                remember_run(self._app.database, report)
            self._on_run(report)

    def _yield_in_time(self, run: Run) -> None:
        if self._slice_ends and time.monotonic() >= self._slice_ends:
            raise YieldedError("a slice of a backlog is done; the rest follows")

    def _tell(self, error: BaseException) -> None:
        if isinstance(error, sa.exc.SQLAlchemyError):
            error = self._app.database.explain(error)
        if not isinstance(error, LockstepError):
            log.error("a step was stopped by an unexpected error", exc_info=error)
        self._say(in_one_line(error))
        self._failed(error)
