"""Workers: processes that read an original once, hash it, and make its renditions.

The main process knows tables and names; a worker knows one file and its recipes. It writes each
rendition to a temporary file beside its target. Publishing (the rename) is the main process's, so
that a worker that outlives a killed run can never replace what a later run has made.

Workers are started by a fork server that has the imaging package loaded, once a run, and none
where nothing is to be rendered. One that crashes, hangs or eats memory costs the original it was
on: pebble tells which one, and puts a new worker in its place.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import multiprocessing
import multiprocessing.connection
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.errors import ImageError, OutputError, WorkersError
from pipeline.names import TEMPORARY_PREFIX, name_of, rendition_key, without_folders
from pipeline.recipes import Recipe

if TYPE_CHECKING:
    from pebble import ProcessPool

# Exit codes of a worker that somebody else ended: the system's out-of-memory killer, a restart. A
# decoder raises none of these signals. 255 is what multiprocessing says where the fork server was
# killed, which alone knows how its children end.
KILLED_FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM, 255)
BROKEN_AT_MOST = 3


class Wanted(NamedTuple):
    """One rendition to make, unless ``made_of`` (a SHA-256) is the original's content still."""

    recipe: Recipe
    made_of: str | None
    file: str | None
    size_bytes: int | None


class Task(NamedTuple):
    """What a worker is asked: hash one original, and make of it what is wanted."""

    path: str
    wanted: tuple[Wanted, ...]
    originals_dir: str
    output_dir: str
    hash_only: bool = False
    # A lower limit than the workers', for originals that a stranger's server gave.
    max_pixels: int | None = None


class Made(NamedTuple):
    """A rendition that lies finished in ``temporary``, to be published as the key ``file``."""

    recipe: str
    file: str
    temporary: str
    width_px: int
    height_px: int
    size_bytes: int
    file_sha256: str
    notes: tuple[str, ...]


@dataclass
class Outcome:
    """What became of one task. ``sha256`` is ``None`` where the file could not be read."""

    path: str
    sha256: str | None = None
    size_bytes: int | None = None
    made: list[Made] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    # The file went or changed under our hands: nothing can be said, the next run looks again.
    unsettled: bool = False
    # Set by the main process: the renditions are those of another original with the same bytes.
    reused: bool = False
    # Its worker was killed from outside, which is not the original's fault.
    killed: bool = False
    # It failed for now: the next run is to try it once more.
    try_again: bool = False


class WorkerSetup(NamedTuple):
    """What every worker needs to know. Memory in megabytes."""

    max_pixels: int
    max_frames: int
    memory_mb: int


class Workers:
    """A pool of worker processes, started at the first task or at :meth:`warm_up`."""

    def __init__(self, setup: WorkerSetup, count: int, timeout_s: float) -> None:
        self.count = count
        self.lost = 0
        self._setup = setup
        self._timeout_s = timeout_s
        self._pool: Future[ProcessPool] | None = None
        self._done: queue.SimpleQueue[tuple[Task, Future[Outcome]]] = queue.SimpleQueue()
        self._exits = contextlib.ExitStack()
        self._at_work: dict[int, Task] = {}
        # How often in a row all workers were lost before a task had an end.
        self._broken = 0

    @property
    def waiting(self) -> int:
        """How many tasks have been submitted whose end has not been given."""
        return len(self._at_work)

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

    def submit(self, task: Task) -> None:
        """Hand one task to the pool; its end is given by :meth:`next_outcome`.

        Raises:
            WorkersError: workers end before they have done anything.
        """
        self._at_work[id(task)] = task
        try:
            self._schedule(task)
        except RuntimeError as error:
            # Workers that were killed while idle: pebble only says so at the next task.
            self._start_again(error)

    def _schedule(self, task: Task) -> None:
        self.warm_up()
        assert self._pool is not None
        future = self._pool.result().schedule(_work, args=(task,), timeout=self._timeout_s)
        # Bound now: what comes after a close belongs to the queue of before.
        ended = self._done
        future.add_done_callback(lambda done: ended.put((task, done)))

    def _start_again(self, error: Exception) -> None:
        """Give the tasks of a broken pool, which none of them broke, to new workers.

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
            unfinished = self.close()
            self._at_work = {id(task): task for task in unfinished}
            try:
                for task in unfinished:
                    self._schedule(task)
                return
            except RuntimeError as broken:
                error = broken

    def next_outcome(self, timeout_s: float | None = None) -> Outcome | None:
        """The next task that ended; ``None`` after ``timeout_s`` seconds without one, or sooner.

        Raises:
            OutputError: a rendition could not be written; no later task would fare better.
            WorkersError: workers end before they have done anything.
        """
        try:
            task, future = self._done.get(timeout=timeout_s)
        except queue.Empty:
            return None
        self._at_work.pop(id(task))
        try:
            outcome = future.result()
        except BrokenExecutor as error:
            self._at_work[id(task)] = task
            self._start_again(error)
            return None
        except OutputError:
            raise
        except Exception as error:
            outcome = self._lost(task, error)
        self._broken = 0
        return outcome

    def _lost(self, task: Task, error: Exception) -> Outcome:
        # pebble's `ProcessExpired` has it: the worker is gone. Anything else but a time-out is a
        # fault of a decoder or of ours, and still no reason to stop the neighbours.
        code = getattr(error, "exitcode", None)
        timed_out = isinstance(error, FutureTimeoutError | CancelledError)
        self.lost += timed_out or code is not None
        if timed_out:
            reason = f"took longer than {self._timeout_s:g} s (PIPELINE_RENDER_TIMEOUT_S)"
        elif isinstance(error, MemoryError):
            reason = _too_much_memory(self._setup.memory_mb)
        elif code is not None:
            reason = _lost_reason(code, self._setup.memory_mb)
        else:
            reason = f"the renderer failed: {type(error).__name__}: {error}"
        failed = [(wanted.recipe.name, reason) for wanted in task.wanted]
        return Outcome(task.path, failed=failed, killed=code in KILLED_FROM_OUTSIDE)

    def close(self) -> list[Task]:
        """Stop all workers, also those at work; no process is left. The tasks that had no end.

        A later task starts workers anew.
        """
        starting, self._pool = self._pool, None
        if starting is not None and starting.exception() is None:
            pool = starting.result()
            pool.stop()  # type: ignore[no-untyped-call]
            pool.join()
        self._exits.close()
        unfinished = list(self._at_work.values())
        self._at_work.clear()
        self._done = queue.SimpleQueue()
        return unfinished

    def _start(self) -> ProcessPool:
        from pebble import ProcessPool

        from pipeline.engine.owners import owner

        method = (
            "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
        )
        context = multiprocessing.get_context(method)
        if method == "forkserver":
            context.set_forkserver_preload(["pipeline.imaging.render", "pipeline.workers"])
        self._exits.enter_context(_main_module_not_loaded_again())
        if method == "forkserver":
            _start_fork_server()
        pool = ProcessPool(
            max_workers=self.count,
            context=context,
            initializer=_initialize,
            initargs=(self._setup, owner()),
        )
        for _ in range(self.count):
            pool.schedule(_ready)
        return pool


def clear_temporary_of(task: Task) -> None:
    """Delete what workers that were stopped at ``task`` left beside the targets."""
    folder = os.path.dirname(name_of(task.path))
    for wanted in task.wanted:
        # A rendition whose folders cannot be lies at the top of its recipe's.
        for place in {folder, ""}:
            for left in Path(task.output_dir, wanted.recipe.name, place).glob(
                f"{TEMPORARY_PREFIX}*"
            ):
                left.unlink(missing_ok=True)


def _start_fork_server() -> None:
    """Start the fork server deaf to Ctrl-C, which is ours to answer.

    It ignores Ctrl-C by itself only once it has loaded all that it preloads; before, it would die
    with a traceback on the terminal. A signal that is blocked stays so in a child.
    """
    from multiprocessing import forkserver, resource_tracker

    resource_tracker.ensure_running()  # it unblocks signals as it starts, so it has to be up first
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _main_module_not_loaded_again() -> Iterator[None]:
    """Keep new workers from running the ``datapipe`` script, and so importing all of pandas.

    ``multiprocessing.spawn`` loads the main module into every child, in case the function to run
    was defined there. Ours never is; a module without ``__file__`` is not loaded.
    """
    main = sys.modules["__main__"]
    file, spec = getattr(main, "__file__", None), getattr(main, "__spec__", None)
    if file is None:
        yield
        return
    del main.__file__
    main.__spec__ = None
    try:
        yield
    finally:
        main.__file__, main.__spec__ = file, spec


# --- in the worker -------------------------------------------------------------------------------

_setup: WorkerSetup
_limits: Any

# File systems stamp times by a clock that ticks every 1 to 10 ms (CONFIG_HZ); FAT every 2 s.
_TICK_NS = 20_000_000
_COARSE_TICK_NS = 2_000_000_000


def _initialize(setup: WorkerSetup, owner: str) -> None:
    global _setup, _limits
    from pipeline.engine.owners import act_for
    from pipeline.imaging import Limits

    # What we make is the run's to publish, also when we are gone.
    act_for(owner)

    _setup = setup
    _limits = Limits(max_pixels=setup.max_pixels, max_frames=setup.max_frames)
    # Ctrl-C reaches the whole group; the main process decides what becomes of us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _limit_memory(setup.memory_mb)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _limit_memory(memory_mb: int) -> None:
    try:
        import resource
    except ImportError:
        return
    limit = memory_mb * 1_000_000
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _ready() -> None:
    """The task of warming up: by the time it ends, the worker has loaded all it needs."""


def _work(task: Task) -> Outcome:
    """Hash the original of ``task`` and make what is wanted of it.

    Raises:
        OutputError: a rendition could not be written.
    """
    outcome = Outcome(task.path)
    try:
        data = _read_settled(Path(task.originals_dir, name_of(task.path)), outcome)
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
        outcome.failed = [(wanted.recipe.name, reason) for wanted in task.wanted]
        return outcome
    if data is None:
        return outcome
    todo = []
    for wanted in task.wanted:
        if wanted.made_of == outcome.sha256 and _is_there(wanted, task.output_dir):
            outcome.unchanged.append(wanted.recipe.name)
        else:
            todo.append(wanted.recipe)
    if todo and not task.hash_only:
        try:
            _make(task, data, todo, outcome)
        except BaseException:
            for made in outcome.made:
                Path(made.temporary).unlink(missing_ok=True)
            raise
    return outcome


def _read_settled(path: Path, outcome: Outcome) -> bytes | None:
    """The bytes of a file that stands still, hashed; ``None`` where it went or is being written.

    A change in the same clock tick as the one before leaves the same times behind. So a file that
    was changed a moment ago is read no sooner than one tick later: whatever changes it after our
    reading then has other times, and the next scan sees it.
    """
    try:
        file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed below
    except FileNotFoundError:
        outcome.unsettled = True
        return None
    with file:
        before = os.fstat(file.fileno())
        outcome.size_bytes = before.st_size
        age_ns = time.time_ns() - before.st_ctime_ns
        wait_ns = tick_ns(before.st_ctime_ns)
        if 0 <= age_ns < wait_ns:
            time.sleep((wait_ns - age_ns) / 1e9)
        if before.st_size * 2 > _setup.memory_mb * 1_000_000:
            raise OSError(0, f"{before.st_size:,} bytes are too many for PIPELINE_WORKER_MEMORY_MB")
        data = file.read()
        after = os.fstat(file.fileno())
    outcome.sha256 = hashlib.sha256(data).hexdigest()
    if len(data) != after.st_size or _times(before) != _times(after):
        outcome.unsettled = True
        return None
    return data


def tick_ns(ctime_ns: int) -> int:
    """How long, in nanoseconds, a second change may leave the same times behind."""
    return _TICK_NS if ctime_ns % 1_000_000_000 else _COARSE_TICK_NS


def _times(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _is_there(wanted: Wanted, output_dir: str) -> bool:
    from pipeline.engine.files import has_size

    if wanted.file is None:
        return True  # failed before, on these very bytes: it would fail again
    return has_size(Path(output_dir, name_of(wanted.file)), wanted.size_bytes)


def _make(task: Task, data: bytes, recipes: list[Recipe], outcome: Outcome) -> None:
    from pipeline.engine.files import write_beside
    from pipeline.imaging import Failure, format_of_suffix, suffix_for
    from pipeline.imaging.render import render

    try:
        limits = _limits
        if task.max_pixels is not None and task.max_pixels < limits.max_pixels:
            limits = dataclasses.replace(limits, max_pixels=task.max_pixels)
        results = render(data, recipes, limits)
    except ImageError as error:
        outcome.failed += [(recipe.name, str(error)) for recipe in recipes]
        return
    except MemoryError:
        outcome.failed += [(r.name, _too_much_memory(_setup.memory_mb)) for r in recipes]
        return
    said = format_of_suffix(os.path.splitext(task.path)[1])
    for result in results:
        if isinstance(result, Failure):
            outcome.failed.append((result.recipe, result.reason))
            continue
        suffix = None if result.format == said else suffix_for(result.format)
        key = rendition_key(task.path, result.recipe, suffix)
        try:
            try:
                temporary = write_beside(Path(task.output_dir, name_of(key)), result.data)
            except NotADirectoryError:
                key = without_folders(key, task.path)
                temporary = write_beside(Path(task.output_dir, name_of(key)), result.data)
        except OSError as error:
            reason = f"the rendition cannot be written ({error.strerror})"
            outcome.failed.append((result.recipe, reason))
            continue
        digest = hashlib.sha256(result.data).hexdigest()
        outcome.made.append(
            Made(
                result.recipe,
                key,
                str(temporary),
                result.width_px,
                result.height_px,
                len(result.data),
                digest,
                result.notes,
            )
        )


def _too_much_memory(memory_mb: int) -> str:
    return f"needs more memory than the {memory_mb:,} MB of PIPELINE_WORKER_MEMORY_MB"


def _lost_reason(exit_code: int, memory_mb: int) -> str:
    if exit_code in KILLED_FROM_OUTSIDE:
        return "its worker was killed (out of memory, or a restart?)"
    if exit_code == -signal.SIGABRT:
        return f"its worker was killed: out of memory, or over {memory_mb:,} MB"
    if exit_code < 0:
        with contextlib.suppress(ValueError):
            return f"its worker crashed ({signal.Signals(-exit_code).name} in a decoder)"
    return f"its worker ended (exit code {exit_code})"
