"""The watcher: waits until changes have settled, and starts a run that looks at just these.

The users' own steps are worked beside it, in a lane of their own.

What changes during a long run is handled within that run, between two of its tasks: a new photo
waits for no backlog, and a withdrawn one keeps nothing for as long as one. The lock is held only
during a run. The workers stay for a minute, so that the next change finds
them loaded; without changes none is left, and the loop costs a few stats per second.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePath

import sqlalchemy as sa

from pipeline.app import Lockstep
from pipeline.database.locks import WATCH
from pipeline.engine.context import Run, RunOptions, make_workers
from pipeline.engine.progress import Progress, Silent
from pipeline.engine.report import Report
from pipeline.engine.run import run_once
from pipeline.engine.unmounted import Identity, identity_of
from pipeline.engine.urgent import work_within
from pipeline.errors import (
    LockedError,
    LockstepError,
    RecipeError,
    StoppedError,
    StoreError,
    TooManyRemovedError,
    YieldedError,
    in_one_line,
)
from pipeline.live.changes import LATEST_S, Changes, Work
from pipeline.live.events import POLL_MS, TICK_MS, EventsFailed, listening_at
from pipeline.live.own_steps import OwnLane
from pipeline.live.recipe_files import RecipeFiles
from pipeline.states import Lane
from pipeline.storage.folder import holds_anything
from pipeline.storage.places import Place
from pipeline.storage.walking import CSV_SUFFIXES
from pipeline.workers.tasks import Urgency

log = logging.getLogger("lockstep.live")

# A run that cannot work is retried after this long, and then less and less often.
BACK_OFF_S = 5.0
LOCKED_POLL_S = 0.2
# After it gave up its lock for another run: that one looks for it more often.
YIELD_S = 0.5
# A run over a backlog goes on for this long before a change of the whole folder ends it early.
OVERTAKE_S = 3.0
# Workers that have been idle for this long are stopped: each holds about 60 MB.
IDLE_WORKERS_S = 60.0
FOLDER_POLL_S = 0.5

OnRun = Callable[[Report], None]


@dataclass(frozen=True)
class WatchOptions:
    """``say`` is called with messages for people, a line at a time; ``progress`` is for long runs.

    ``failed`` is called with the error of each run that ended with one, ``own_failed`` with what
    ended the work on the users' own steps, and with ``None`` when they go on.
    """

    poll: bool = False
    say: Callable[[str], None] = lambda line: None
    progress: Progress | None = None
    failed: Callable[[BaseException], None] = lambda error: None
    own_failed: Callable[[BaseException | None], None] = lambda error: None


class Watcher:
    """Keeps one application in step as its files change, in whichever thread calls :meth:`run`."""

    def __init__(self, app: Lockstep, options: WatchOptions | None = None) -> None:
        self._app = app
        self._options = options or WatchOptions()
        self._settings = app.settings
        self._poll = self._options.poll
        self._identity: Identity | None = None
        self._recipes = RecipeFiles(self._settings.recipes_file)
        self._last_said = ""
        self._changes, self._stirred = Changes(self._settle_s()), threading.Event()
        self._requested, self._jobs_requested = threading.Event(), threading.Event()
        self._stop = threading.Event()
        self._on_run: OnRun = lambda report: None
        self._workers = make_workers(self._settings)
        self._worked_at = self._rescan_at = self._try_at = 0.0
        self._back_off_s = BACK_OFF_S
        self._own = _own_lane(app, self._options, lambda report: self._on_run(report))
        self.since_ts = 0.0  # Unix time at which the run in progress began; 0.0: none is.

    def ask(self) -> None:
        """Start a run over everything soon, for example after a retry; from any thread."""
        self._jobs_requested.set()
        self._requested.set()
        self._stirred.set()
        self._own.ask()

    def report(self, keys: Iterable[str]) -> None:
        """Look at these originals soon: the store says that they changed, and are complete."""
        self._changes.add(keys, time.monotonic() - self._changes.settle_s)
        self._stirred.set()

    def run(self, stop: threading.Event, on_run: OnRun) -> None:
        """Work until ``stop`` is set; ``on_run`` is called with the report of each run.

        Errors that end a run are reported, and the run is retried later: no error ends the watcher.
        """
        self._stop, self._on_run = stop, on_run
        self._own.start()
        with contextlib.closing(self._workers), contextlib.closing(self._own):
            while not stop.is_set():
                if not self._wait_for_folder(stop):
                    return
                try:
                    self._watch(stop, on_run)
                except EventsFailed as error:
                    if self._poll:
                        self._say(f"{error}; trying again")
                        stop.wait(BACK_OFF_S)
                    else:
                        self._say(f"{error}; looking at all files every second instead (--poll)")
                        self._poll = True
                        self._changes.settle_s = self._settle_s()

    def _watch(self, stop: threading.Event, on_run: OnRun) -> None:
        """One period during which the input folder is there."""
        place = self._settings.input_place
        with listening_at(place, self._poll, self._changes, self._stirred) as listening:
            self._changes.add([""], time.monotonic() - self._changes.settle_s)
            while not stop.is_set():
                self._stirred.wait(TICK_MS / 1000)
                self._stirred.clear()
                if listening.error is not None:
                    raise listening.error
                now = time.monotonic()
                if not place.is_bucket and _identity_of(place) != self._identity:
                    return
                self._look_for_reasons(now)
                if self._changes.is_due(now) and now >= self._try_at:
                    self._work(now, stop, on_run)
                elif self._workers.started and now - self._worked_at >= IDLE_WORKERS_S:
                    self._workers.close()

    def _look_for_reasons(self, now: float) -> None:
        """Other reasons for a run: recipes, a request, the time."""
        if self._recipes.have_changed():
            self._recipes.look_again()
            self._try_at, self._back_off_s = 0.0, BACK_OFF_S
            self._changes.add([""], now)
        if self._requested.is_set():
            self._requested.clear()
            self._jobs_requested.clear()
            self._try_at = 0.0
            self._changes.add([""], now - self._changes.settle_s)
        if self._rescan_at and now >= self._rescan_at and self._changes.is_empty:
            self._changes.add([""], now - self._changes.settle_s)

    def _work(self, now: float, stop: threading.Event, on_run: OnRun) -> None:
        if self._app.database.is_wanted():
            self._try_at = now + LOCKED_POLL_S
            return
        work = self._changes.take(now)
        if not work.whole and not work.only:
            return
        try:
            with _noted(self):
                report = self._run(work, stop)
        except YieldedError as error:
            self._put_off(work, YIELD_S)
            self._say(f"{error.args[0].partition(';')[0]}; waiting for it to end")
        except StoppedError:
            return
        except LockedError as error:
            # Not an error: the holder of the lock gets all the time it needs.
            self._put_off(work, LOCKED_POLL_S)
            self._say(f"{error.args[0].partition(';')[0]}; waiting for it to end")
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            # A cancelled task, a step that calls `sys.exit`, and a panic in an extension module
            # are no `Exception`, and would end the watcher as well.
            self._failed(error)
        else:
            self._ended(work, report)
            on_run(report)

    def _failed(self, error: BaseException) -> None:
        if isinstance(error, sa.exc.SQLAlchemyError):
            error = self._app.database.explain(error)
        wait_s = self._settings.rescan_s if isinstance(error, RecipeError) else self._back_off_s
        self._back_off_s = min(self._back_off_s * 2, self._settings.rescan_s)
        self._put_off(Work(whole=True), wait_s)
        if not isinstance(error, LockstepError):
            log.error("a run was stopped by an unexpected error", exc_info=error)
        self._say(in_one_line(error))
        self._options.failed(error)

    def _ended(self, work: Work, report: Report) -> None:
        self._last_said, self._back_off_s = "", BACK_OFF_S
        self._worked_at = now = time.monotonic()
        if work.whole:
            # The first change must not wait for workers to load.
            self._workers.warm_up()
            self._rescan_at = now + self._settings.rescan_s
        if report.pending or report.csvs_left:
            # A file changed while a worker read it: there may be no further event. Not at once,
            # because it may go on for a while, and each look is at the whole folder.
            self._rescan_at = now + LATEST_S
        # A short pause between two runs, so that somebody else gets the lock.
        self._try_at = now + self._changes.settle_s

    def _run(self, work: Work, stop: threading.Event) -> Report:
        app = self._app
        whole = work.whole or _concerns_jobs(self._app, work.only)
        options = RunOptions(
            only=None if whole else work.only,
            leave=work.leave,
            identity=self._identity,
            stop=stop,
            holder=WATCH,
            leave_own_steps=True,
            urgent={Urgency.FRESH: self._attend},
            is_outdated=self._is_outdated,
        )
        if whole:
            return run_once(app.plan, options, self._options.progress, workers=self._workers)
        steps = [app.load_recipes, app.scan, app.render]
        return run_once(app.plan, options, self._options.progress, steps, self._workers)

    def _is_outdated(self) -> bool:
        """Whether a run over everything is due, which must not wait until all is fetched."""
        if self._recipes.have_changed():
            return True
        if self._changes.is_whole and self._changes.is_due(time.monotonic()):
            return True
        # Before that, a fetch that takes long could be cut off again and again.
        most_s = self._settings.fetch.total_timeout_s
        if not self._requested.is_set():
            most_s = max(self._settings.rescan_s, most_s)
        return time.time() - self.since_ts >= most_s

    def _attend(self, run: Run) -> None:
        """Handle what has changed in the meantime, within the current run."""
        now = time.monotonic()
        is_due = self._changes.is_due(now)
        if is_due and self._changes.is_whole:
            # Too much to handle within the run: it ends early, and the next one begins with what
            # changed. Not at once, or a constant stream of such changes would let no backlog by.
            run.overtaken |= time.time() - self.since_ts >= OVERTAKE_S
            is_due = False
        if not is_due and not self._jobs_requested.is_set():
            return
        work = self._changes.take(now) if is_due else Work(whole=False)
        app, is_about_jobs = self._app, self._jobs_requested.is_set()
        self._jobs_requested.clear()
        is_about_jobs = is_about_jobs or _concerns_jobs(self._app, work.only)
        options = RunOptions(
            only=None if is_about_jobs or work.whole else work.only,
            leave=work.leave,
            identity=self._identity,
            stop=self._stop,
            holder=WATCH,
        )
        steps = [app.scan, app.render]
        if is_about_jobs:
            steps = [app.scan, app.scan_csvs, app.render]
        try:
            report = work_within(app.plan, run, options, steps)
        except StoppedError:
            raise
        except LockstepError as error:
            self._changes.put_back(Work(whole=True), now)
            self._say(in_one_line(error))
        else:
            self._on_run(report)
        if run.overtaken or work.whole:
            self._changes.put_back(Work(whole=True), now)

    def _put_off(self, work: Work, wait_s: float) -> None:
        now = time.monotonic()
        self._changes.put_back(work, now)
        self._try_at = now + wait_s

    def _wait_for_folder(self, stop: threading.Event) -> bool:
        """Wait until the original input folder is there; false if we are to stop.

        A disk that is unmounted leaves an empty folder behind, which is another one.
        """
        place = self._settings.input_place
        folder, said = place.folder, ""
        while not stop.is_set():
            now = _identity_of(place)
            is_known = folder is None or self._identity in (None, now) or holds_anything(folder)
            if now is not None and is_known:
                if said:
                    self._options.say(f"{place}: the input folder is there again")
                if now != self._identity:
                    # What could not be done without the disk can be now.
                    self._try_at, self._back_off_s = 0.0, BACK_OFF_S
                self._identity = now
                return True
            what = "is not there" if now is None else "was replaced by an empty one"
            if what != said:
                line = f"{place}: the input folder {what}; waiting for it; nothing is deleted"
                self._options.say(line)
                said = what
            stop.wait(FOLDER_POLL_S if folder is not None else BACK_OFF_S)
        return False

    def _settle_s(self) -> float:
        settle_s = self._settings.settle_ms / 1000
        # Between two polls a file grows unseen.
        return max(settle_s, 1.5 * POLL_MS / 1000) if self._poll else settle_s

    def _say(self, line: str) -> None:
        """Report a line, but do not repeat it while nothing else happens."""
        if line != self._last_said:
            self._last_said = line
            self._options.say(line)


def _concerns_jobs(app: Lockstep, keys: frozenset[str]) -> bool:
    """Whether a CSV changed, or a folder with one: jobs need all the steps of a run."""
    sources = [job.source for job in app.jobs.repository.dropped()]
    return any(PurePath(key).suffix.lower() in CSV_SUFFIXES for key in keys) or any(
        parent.as_posix() in keys for source in sources for parent in PurePath(source).parents
    )


def _own_lane(app: Lockstep, options: WatchOptions, on_run: OnRun) -> OwnLane:
    progress = (options.progress or Silent()).lane(Lane.STEPS)
    return OwnLane(app, on_run, options.own_failed, options.say, progress)


@contextlib.contextmanager
def _noted(watcher: Watcher) -> Iterator[None]:
    watcher.since_ts = time.time()
    try:
        yield
    finally:
        watcher.since_ts = 0.0


def _identity_of(place: Place) -> Identity | None:
    try:
        return identity_of(place)
    except (TooManyRemovedError, StoreError):
        return None
