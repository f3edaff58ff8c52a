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
from types import ModuleType

from pipeline.errors import ImageError, OutputError, TooManyBytes, Unstable
from pipeline.imaging import (
    Failure,
    Limits,
    Unneeded,
    Values,
    format_of_suffix,
    suffix_for,
)
from pipeline.names import folder_of, rendition_key, without_folders
from pipeline.reasons import Code, Reason
from pipeline.storage.base import Store
from pipeline.storage.folder_store import FolderStore
from pipeline.storage.owners import act_for, owner
from pipeline.transforms.recipes import Transform
from pipeline.workers import sandbox
from pipeline.workers.reasons import not_written, renderer_failed, too_much_memory
from pipeline.workers.tasks import Made, Outcome, RenditionWanted, Task, WorkerSetup

resource: ModuleType | None
try:
    import resource
except ImportError:  # Windows
    resource = None

_setup: WorkerSetup
_limits: Limits
# The folders that this worker is confined to, as they were then.
_confined_to: dict[str, sandbox.Identity] = {}


def initialize(setup: WorkerSetup, owner: str) -> None:
    global _setup, _limits, _confined_to
    # Files belong to the run, which publishes them even after this worker has ended.
    act_for(owner)

    _setup = setup
    _limits = Limits(max_pixels=setup.max_pixels, max_frames=setup.max_frames)
    # Ctrl-C reaches the whole process group; the main process decides when workers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _limit_memory(setup.memory_mb)
    for library in ("OPENBLAS", "OMP", "MKL"):
        # There is a worker for each processor: threads of numpy, or of a model, would only wait for
        # each other, and take address space of the limit.
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    if setup.folders is not None:
        _confined_to = sandbox.confine(*setup.folders)
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
    """Hash the original of ``task`` and make its wanted renditions and features.

    What a decoder raises is a reason: the main process takes no error of unknown type.

    Raises:
        OutputError: a rendition could not be written.
        MemoryError: more was needed than is allowed, also to say so.
    """
    began = time.perf_counter()
    outcome = _confined_work(task)
    outcome.seconds = time.perf_counter() - began
    return outcome


def _confined_work(task: Task) -> Outcome:
    if _has_moved(task):
        return _later(task)
    outcome = Outcome(task.path)
    try:
        _work(task, outcome)
    except (OutputError, MemoryError):
        if _has_moved(task):
            return _later(task)
        raise
    except Exception as error:
        reason = renderer_failed(error)
        failed = [(wanted.recipe.name, reason) for wanted in task.wanted]
        return Outcome(task.path, failed=failed)
    # Replaced while we worked: what could not be read now might be in the new one.
    return _later(task) if outcome.failed and _has_moved(task) else outcome


def _later(task: Task) -> Outcome:
    return Outcome(task.path, unsettled=True, moved=True)


def _has_moved(task: Task) -> bool:
    """Whether a folder of the task was created, replaced or mounted since we were confined."""
    return any(
        folder in _confined_to and sandbox.identity(folder) != _confined_to[folder]
        for folder in (task.originals_dir, task.output_dir)
    )


def _work(task: Task, outcome: Outcome) -> None:
    try:
        data, entry = FolderStore(task.originals_dir).read(
            task.original, _setup.memory_mb * 500_000
        )
    except (FileNotFoundError, Unstable):
        outcome.unsettled = True
        return
    except (OSError, TooManyBytes) as error:
        if isinstance(error, TooManyBytes):
            outcome.size_bytes = error.size_bytes
            reason = Reason(Code.TOO_LARGE, f"cannot be read ({error})")
        else:
            reason = Reason(Code.UNREADABLE, f"cannot be read ({error.strerror})")
        outcome.failed = [(wanted.recipe.name, reason) for wanted in task.wanted]
        return
    outcome.size_bytes = entry.size_bytes
    outcome.sha256 = hashlib.sha256(data).hexdigest()
    if outcome.sha256 not in task.digested:
        outcome.md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    store, todo = FolderStore(task.output_dir), []
    for wanted in task.wanted:
        if is_current(wanted, outcome.sha256, store):
            outcome.unchanged.append(wanted.recipe.name)
        else:
            todo.append(wanted.recipe)
    if todo and not task.hash_only:
        try:
            is_beside = task.beside is not None and task.beside not in todo
            beside = [task.beside] if task.beside is not None and is_beside else []
            _make(task, data, [*todo, *beside], store, outcome)
            for feature in beside:
                _set_beside(outcome, feature.name)
        except BaseException:
            for made in outcome.made:
                store.remove(made.temporary)
            raise


def _set_beside(outcome: Outcome, name: str) -> None:
    """Keep what was not wanted for itself apart from what was."""
    outcome.beside = dict(outcome.values).get(name, "")
    outcome.values = [said for said in outcome.values if said[0] != name]
    outcome.failed = [failed for failed in outcome.failed if failed[0] != name]


def is_current(wanted: RenditionWanted, sha256: str | None, store: Store) -> bool:
    """Whether a rendition stays as it is, where its original has these bytes."""
    if wanted.made_of is None or wanted.made_of != sha256:
        return False
    if wanted.file is None:
        return True  # failed before, on these very bytes: it would fail again
    return store.has(wanted.file, wanted.size_bytes)


def _make(
    task: Task, data: bytes, recipes: list[Transform], store: FolderStore, outcome: Outcome
) -> None:
    # Imported here: the main process renders nothing, and the decoders cost 30 ms.
    from pipeline.imaging.render import render

    try:
        limits = _limits
        if task.max_pixels is not None and task.max_pixels < limits.max_pixels:
            limits = dataclasses.replace(limits, max_pixels=task.max_pixels)
        results = render(data, recipes, limits)
    except ImageError as error:
        reason = Reason(error.code, str(error))
        outcome.failed += [(recipe.name, reason) for recipe in recipes]
        return
    except MemoryError:
        outcome.failed += [(r.name, too_much_memory(_setup.memory_mb)) for r in recipes]
        return
    said = format_of_suffix(os.path.splitext(task.path)[1])
    for result in results:
        if isinstance(result, Failure):
            outcome.failed.append((result.recipe, result.reason))
            outcome.tracebacks += [result.log_text] if result.log_text else []
            continue
        if isinstance(result, Unneeded):
            outcome.unneeded.append(result.recipe)
            continue
        if isinstance(result, Values):
            outcome.values.append((result.feature, result.json))
            continue
        suffix = None if result.format == said else suffix_for(result.format)
        key = task.below + rendition_key(task.path, result.recipe, suffix)
        try:
            try:
                staged = store.stage(key, result.data, owner())
            except NotADirectoryError:
                top = task.below + folder_of(result.recipe)
                key = without_folders(key, top, task.path)
                staged = store.stage(key, result.data, owner())
        except OSError as error:
            outcome.failed.append((result.recipe, not_written(error)))
            continue
        digest = hashlib.sha256(result.data).hexdigest()
        outcome.made.append(
            Made(
                result.recipe,
                key,
                staged.temporary,
                result.width_px,
                result.height_px,
                len(result.data),
                digest,
                result.notes,
            )
        )
