"""The context of one run: its options, counts, clock and workers, handed to every step.

It travels as datapipe-core's ``RunConfig``, so that a step started on its own (``datapipe step
run``) finds none and makes one, with the lock held.
"""

from __future__ import annotations

import contextlib
import math
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from datapipe.run_config import RunConfig

from pipeline.database.connection import Database
from pipeline.database.locks import RUN, RUN_LOCK, WATCH
from pipeline.database.state import INTERRUPTED, StateRepository
from pipeline.engine.clusters import cluster_workers
from pipeline.engine.difference import Expected
from pipeline.engine.known_folders import KnownFolders
from pipeline.engine.pending import NARROW_ROWS, Look, Pending
from pipeline.engine.progress import Progress, Silent
from pipeline.engine.report import Report
from pipeline.engine.unmounted import Identity, InputMounts
from pipeline.errors import SettingsError, StoppedError, YieldedError
from pipeline.names import CARRIED_FOLDER, FETCHED_FOLDER
from pipeline.settings.places import check_folders
from pipeline.settings.values import PREFIX, Settings
from pipeline.states import Source
from pipeline.storage.places import Place, folder_place
from pipeline.storage.walking import CSV_SUFFIXES, Passed
from pipeline.tables import make_tables
from pipeline.transforms.features import PDQ, pdq_feature
from pipeline.transforms.recipes import Transform, load_recipes
from pipeline.workers.base import AnyWorkers
from pipeline.workers.local import Workers
from pipeline.workers.sandbox import why_not
from pipeline.workers.tasks import Folders, Urgency, WorkerSetup

# How often a run checks whether it should stop.
STOP_POLL_S = 0.2
# How often a watcher checks whether another run waits for it.
YIELD_POLL_S = 0.2


@dataclass(frozen=True)
class RunOptions:
    """What a person requested: the options of ``datapipe run``."""

    rehash: bool = False
    wait: bool = False
    allow_removed: bool = False
    # The folders were moved: those of the settings are the known ones from now on.
    relocate: bool = False
    # Keys of files and folders below the input folder: the scan looks at these alone, and the run
    # at what they changed.
    only: frozenset[str] | None = None
    # Keys of files that the scan skips because they are still being written.
    leave: frozenset[str] = frozenset()
    # Device and inode of the input folder: if it has been replaced, nothing is done.
    identity: Identity | None = None
    # Once it is set, by another thread or a signal, the run ends soon; what is done is kept.
    stop: threading.Event | None = None
    # Who it is, for those who find the lock held: one of `database.locks`' holders.
    holder: str = RUN
    # The reference of a job: the steps of jobs then look at this one alone.
    job: str | None = None
    # The users' own steps are worked beside the run.
    leave_own_steps: bool = False
    # Whether another run over everything is due: one that only waits for what is slow, such as
    # fetches, leaves them to that one.
    is_outdated: Callable[[], bool] = lambda: False
    # Work that must not wait for less urgent work, called by long steps between two pieces of it.
    urgent: Mapping[Urgency, Callable[[Run], None]] = field(default_factory=dict)


class Beside(Protocol):
    """What a step began, and what goes on while the steps after it work."""

    def finish(self) -> None:
        """Wait for its end, and do what it makes possible.

        Raises:
            LockstepError: whatever stops a run.
        """

    def close(self) -> None:
        """End it now; what is done is kept."""


@dataclass
class Run(RunConfig):
    """One run in progress. Only :func:`open_run` creates one."""

    database: Database = field(kw_only=True)
    settings: Settings = field(kw_only=True)
    options: RunOptions = field(kw_only=True)
    repository: StateRepository = field(kw_only=True)
    workers: AnyWorkers = field(kw_only=True)
    progress: Progress = field(kw_only=True)
    report: Report = field(default_factory=Report)
    # The clock of the last write before this run: 0.0 in a new database.
    last_write_ts: float = 0.0
    # When this run began to look, by its own clock: what has a later time was found by it.
    began_ts: float = 0.0
    # How urgent the originals of the input folder are.
    urgency: Urgency = Urgency.BACKLOG
    # Paths of the input folder that more urgent work has handled during this run.
    superseded: set[str] = field(default_factory=set)
    # It handled more than the paths above: another run has to finish the work of this one.
    overtaken: bool = False
    # What writes files now: of this run, and of more urgent work within it.
    writers: list[object] = field(default_factory=list)
    # As in the options, and what steps add.
    urgent: dict[Urgency, Callable[[Run], None]] = field(default_factory=dict)
    # What goes on beside the steps; the run does not end before it.
    beside: list[Beside] = field(default_factory=list)
    # The source of originals that the steps work on now; `None`: all of them.
    source: Source | None = None
    # By source: paths of the originals whose rows this run has written, if they are few.
    touched: dict[Source, set[str]] = field(default_factory=dict)
    # Sources of which this run has written a recipe, which touches every original.
    recipes_moved: set[Source] = field(default_factory=set)
    # The run before this one was interrupted: pending work may be half done in the output folder.
    recovering: bool = False
    # Originals that a scan of some keys found to differ; `None` after a scan of the whole folder.
    narrowed_to: list[str] | None = None
    # What the scan skipped; folders that could not be read, also in later steps. CSVs are collected
    # there for the jobs.
    passed: Passed = field(default_factory=lambda: Passed(deferred_suffixes=CSV_SUFFIXES))
    scanned: bool = False
    # The input folder as the run before saw it, and as the scan of this run does.
    input: InputMounts | None = None
    # The folders that the database belongs to.
    folders: KnownFolders | None = None
    # Whether there is any job; None until a step has looked. Without one, no step of jobs works.
    has_jobs: bool | None = None
    # What a dry run would have written so far.
    expected: Expected = field(default_factory=Expected)
    # Started in threads after the lock is released, so that no run waits for it.
    afterwards: list[Callable[[], threading.Thread]] = field(default_factory=list)
    _looks: dict[Pending, Look] = field(default_factory=dict)
    _recipes: dict[str, Transform] | None = None
    _looked: float = field(default_factory=time.monotonic)

    @property
    def recipes(self) -> dict[str, Transform]:
        """The recipes and features of this run: ``recipes.toml`` as it was when first read, and the
        hash that near duplicates are found by.

        Edits during a run take effect in the next one.

        Raises:
            RecipeError: the file has problems.
        """
        if self._recipes is None:
            self._recipes = load_recipes(self.settings.recipes_file)
            if self.settings.near != "off":
                self._recipes[PDQ] = pdq_feature()
        return self._recipes

    def look(self, pending: Pending) -> Look:
        """What this run has queried from ``pending``."""
        return self._looks.setdefault(pending, Look(pending))

    def close(self) -> None:
        """Stop everything that is still running in a thread."""
        for look in self._looks.values():
            look.close()
        for each in self.beside:
            each.close()

    def finish(self) -> None:
        """Wait for what goes on beside the steps.

        Raises:
            LockstepError: whatever stops a run.
        """
        for each in self.beside:
            each.finish()

    def works_on(self, source: Source) -> bool:
        """Whether the steps are to work on the originals of this source now."""
        return self.source in (None, source)

    def touch(self, source: Source, paths: Iterable[str]) -> None:
        """Note originals of which rows are about to be written."""
        touched = self.touched.setdefault(source, set())
        if len(touched) <= NARROW_ROWS:  # more are never queried, and would fill the memory
            touched.update(paths)

    def written_since_began(self, source: Source) -> Collection[str] | None:
        """Which originals of ``source`` this run has written; ``None``: too many, or not known."""
        if self.database.clock.written_ts < self.began_ts:
            return ()
        touched = self.touched.get(source)
        few = touched is not None and len(touched) <= NARROW_ROWS
        return touched if few and source not in self.recipes_moved else None

    def part(self, **changes: Any) -> Run:
        """A part of this run, with its own record of what it looks at and finds.

        What goes on beside the run is not the part's, and does not end with it. Urgent work is the
        run's, whatever part it interrupts.
        """
        urgent = {each: partial(_for, call, self) for each, call in self.urgent.items()}
        own: dict[str, Any] = {"touched": {}, "narrowed_to": None, "beside": [], "_looks": {}}
        own["urgent"] = urgent
        return replace(self, **own | changes)

    def attend(self, urgency: Urgency) -> None:
        """Do what is more urgent than the work at hand; called between two pieces of that."""
        for each in sorted(self.urgent):
            if each < urgency:
                self.urgent[each](self)

    def check_stop(self) -> None:
        """Stop if the run was asked to.

        Raises:
            StoppedError
            YieldedError: this is a watcher's, and another run waits.
        """
        now = time.monotonic()
        if self.options.holder == WATCH and now - self._looked >= YIELD_POLL_S:
            self._looked = now
            if self.database.is_wanted():
                raise YieldedError("another run is in progress; finished work is kept")
        if self.options.stop is not None and self.options.stop.is_set():
            raise StoppedError("stopped; finished work is kept, the next run continues")


def _for(call: Callable[[Run], None], run: Run, part: Run) -> None:
    """Call what is more urgent for the whole run, not for the part that it interrupts."""
    call(run)


@contextlib.contextmanager
def open_run(
    database: Database,
    settings: Settings,
    options: RunOptions | None = None,
    progress: Progress | None = None,
    workers: AnyWorkers | None = None,
    before: Sequence[Callable[[Run], None]] = (),
) -> Iterator[Run]:
    """Check folders and tables, take the lock, and yield the context; workers end with the block.

    ``workers`` that are passed in stay for the next run. Each of ``before`` is called first.

    Raises:
        SettingsError, DatabaseError, LockedError, OtherFoldersError
    """
    options = options or RunOptions()
    _check_name_encoding()
    with database.lock(RUN_LOCK, wait=options.wait, holder=options.holder):
        repository = StateRepository(database)
        make_tables(database, is_run=True)
        folders = KnownFolders(settings, database, repository)
        folders.check(options.relocate)
        # Only now: a folder that is named by mistake is not even created.
        check_folders(settings)
        last_write_ts = database.clock.start()
        own_workers = make_workers(settings)
        run = Run(
            database=database,
            settings=settings,
            options=options,
            repository=repository,
            workers=workers or own_workers,
            progress=progress or Silent(),
            last_write_ts=last_write_ts,
            began_ts=database.clock.now(),
            folders=folders,
            urgent=dict(options.urgent),
        )
        run.workers.lost, run.workers.may_still_write = 0, False
        with contextlib.closing(own_workers), contextlib.closing(run):
            for call in before:
                call(run)
            yield run


def dry_run(database: Database, settings: Settings, options: RunOptions) -> Run:
    """The context of a dry run: without the lock, and with workers that are never started.

    Raises:
        DatabaseError, OtherFoldersError
    """
    make_tables(database)
    run = open_beside(database, settings, options)
    KnownFolders(settings, database, run.repository).check(options.relocate)
    run.report.dry_run = True
    run.began_ts = math.inf  # nothing in the tables was found by it
    run.recovering = run.repository.get(INTERRUPTED) is not None
    return run


def open_beside(database: Database, settings: Settings, options: RunOptions) -> Run:
    """The context of what goes on beside runs: without the lock, and no worker is ever started."""
    return Run(
        database=database,
        settings=settings,
        options=options,
        repository=StateRepository(database),
        workers=make_workers(settings),
        progress=Silent(),
        began_ts=database.clock.now(),
        urgent=dict(options.urgent),
    )


def make_workers(
    settings: Settings, into: Path | None = None, also_read: Sequence[Place] = ()
) -> AnyWorkers:
    """Workers as the settings want them, here or on a cluster; none is started yet.

    Those that write ``into`` a folder other than that of the renditions are one process of this
    machine, and may read the places of ``also_read``.

    Raises:
        SettingsError: a sandbox is required, and there can be none.
        WorkersError: they are to be on a cluster, and Ray is not installed.
    """
    output = settings.output_place if into is None else folder_place(into)
    reads = (settings.input_place, *also_read)
    # What is in a bucket is carried for them: they have no connection.
    is_carried = any(place.is_bucket for place in (output, *reads))
    read = [place.text for place in reads if not place.is_bucket]
    folders = Folders(
        (*read, str(settings.state_dir / FETCHED_FOLDER), *map(str, settings.function_reads)),
        () if output.is_bucket else (output.text,),
    )
    setup = WorkerSetup(
        settings.max_pixels,
        settings.max_frames,
        settings.worker_memory_mb,
        folders,
        str(settings.state_dir / CARRIED_FOLDER) if is_carried else None,
    )
    if settings.cluster and into is None:
        return cluster_workers(settings, setup)
    if settings.sandbox == "off" or no_sandbox(settings) is not None:
        setup = setup._replace(folders=None)
    count = settings.workers if into is None else 1
    return Workers(setup, count, settings.render_timeout_s)


def no_sandbox(settings: Settings) -> str | None:
    """What people are told at start where decoders are not confined; ``None`` if they are.

    Raises:
        SettingsError: a sandbox is required, and there can be none.
    """
    reason = None if settings.sandbox == "off" else why_not()
    if reason is None:
        return None
    if settings.sandbox == "required":
        raise SettingsError(
            f"{PREFIX}SANDBOX=required: the workers that decode images cannot be confined here "
            f"({reason}); use Linux with Landlock (5.13 or newer), or set it to auto"
        )
    return f"no sandbox for the workers that decode images: {reason} (docs/service.md)"


def _check_name_encoding() -> None:
    """Refuse a locale in which the same file would have another key than in the run before."""
    encoding = sys.getfilesystemencoding()
    if encoding != "utf-8":
        raise SettingsError(
            f"this locale reads file names as {encoding}, not as UTF-8; set PYTHONUTF8=1, or "
            "a UTF-8 locale, for example LC_ALL=C.UTF-8"
        )


@contextlib.contextmanager
def run_of(
    run_config: RunConfig | None,
    database: Database,
    settings: Settings,
    before: Sequence[Callable[[Run], None]] = (),
) -> Iterator[Run]:
    """The run that a step was started in, or one of its own, which calls ``before`` first."""
    if isinstance(run_config, Run):
        yield run_config
    else:
        with open_run(database, settings, before=before) as run:
            yield run
