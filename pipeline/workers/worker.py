"""Inside a worker process: one original is read, hashed and rendered."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from pathlib import Path
from types import ModuleType

from pipeline.errors import ImageError
from pipeline.imaging import Failure, Limits, format_of_suffix, suffix_for
from pipeline.names import name_of, rendition_key, without_folders
from pipeline.storage.folder import has_size, tick_ns, write_beside
from pipeline.storage.owners import act_for
from pipeline.transforms.recipes import Recipe
from pipeline.workers.tasks import Made, Outcome, Task, Wanted, WorkerSetup

resource: ModuleType | None
try:
    import resource
except ImportError:  # Windows
    resource = None

_setup: WorkerSetup
_limits: Limits


def initialize(setup: WorkerSetup, owner: str) -> None:
    global _setup, _limits
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
    if resource is None:
        return
    limit = memory_mb * 1_000_000
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def ready() -> None:
    """The task of warming up: by the time it ends, the worker has loaded all it needs."""


def work(task: Task) -> Outcome:
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


def _times(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _is_there(wanted: Wanted, output_dir: str) -> bool:
    if wanted.file is None:
        return True  # failed before, on these very bytes: it would fail again
    return has_size(Path(output_dir, name_of(wanted.file)), wanted.size_bytes)


def _make(task: Task, data: bytes, recipes: list[Recipe], outcome: Outcome) -> None:
    # Imported here: the main process renders nothing, and the decoders cost 30 ms.
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
        outcome.failed += [(r.name, too_much_memory(_setup.memory_mb)) for r in recipes]
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


def too_much_memory(memory_mb: int) -> str:
    return f"needs more memory than the {memory_mb:,} MB of PIPELINE_WORKER_MEMORY_MB"
