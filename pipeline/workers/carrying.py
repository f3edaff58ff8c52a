"""Carrying: originals from a bucket to the workers, and what they make to a bucket.

A worker that decodes hostile bytes has no connection and no credentials. So threads beside the
processes read an original to a folder that a worker may read, and stage in the bucket what it wrote
to another: while one original is decoded, the next ones are being read, and the renditions of those
before are being written. The time limit of a task begins when a worker has it. Files lie there for
as long as a task takes, and tasks are bounded, so disk space is; memory is a piece of each file.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import OutputError, TooManyBytes, Unstable
from pipeline.reasons import Code, Reason
from pipeline.storage.base import Store
from pipeline.storage.folder import make_private
from pipeline.storage.opening import open_store
from pipeline.storage.owners import is_alive, owner
from pipeline.storage.places import place_of
from pipeline.workers.reasons import not_written
from pipeline.workers.tasks import Folders, Outcome, Task, WorkerSetup
from pipeline.workers.worker import is_current

THREADS = 24
ORIGINAL = "original"

_pools = itertools.count()
Schedule = Callable[[Task], "Future[Outcome]"]


class _Trip(NamedTuple):
    """The way of one task: its folders have this number."""

    task: Task
    number: str
    schedule: Schedule
    future: Future[Outcome]
    stopped: threading.Event


class Carrier:
    """Carries files for one pool of workers; ``folder`` is its own."""

    @classmethod
    def of(cls, setup: WorkerSetup) -> Carrier | None:
        """The carrier for workers of this setup, if they need one."""
        if setup.carried is None:
            return None
        folder = Path(setup.carried) / f"{owner()}-{next(_pools)}"
        return cls(folder, setup.memory_mb * 500_000)

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self._max_bytes = max_bytes
        self._threads: ThreadPoolExecutor | None = None
        self._numbers = itertools.count()
        self._stores: dict[str, Store] = {}
        # By outcome: what is staged and that nobody has taken over yet; those claimed have come.
        self._staged: dict[int, tuple[Store, Outcome]] = {}
        self._claimed: set[int] = set()
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    @property
    def inward(self) -> Path:
        """Where workers find originals."""
        return self.folder / "in"

    @property
    def outward(self) -> Path:
        """Where they write."""
        return self.folder / "out"

    def confined(self, setup: WorkerSetup) -> WorkerSetup:
        """The setup of workers that may read and write what is carried for them."""
        if setup.folders is None:
            return setup
        readable, writable = setup.folders
        folders = Folders((*readable, str(self.inward)), (*writable, str(self.outward)))
        return setup._replace(folders=folders)

    def open(self) -> None:
        """Create the folders; what killed processes left beside them is deleted."""
        make_private(self.folder.parent.parent)
        make_private(self.folder.parent)
        for other in self.folder.parent.iterdir():
            if not is_alive(other.name.rpartition("-")[0]):
                shutil.rmtree(other, ignore_errors=True)
        for folder in (self.folder, self.inward, self.outward):
            make_private(folder)

    def schedule(
        self, task: Task, schedule: Schedule, ended: Callable[[Future[Outcome]], None]
    ) -> None:
        """Fetch, ``schedule`` and deliver in threads, where a bucket is; then call ``ended``."""
        if not (_is_bucket(task.originals_dir) or _is_bucket(task.output_dir)):
            schedule(task).add_done_callback(ended)
            return
        if self._threads is None:
            self.open()
            self._stopped = threading.Event()
            self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="carrying")
        future: Future[Outcome] = Future()
        future.add_done_callback(ended)
        trip = _Trip(task, str(next(self._numbers)), schedule, future, self._stopped)
        self._threads.submit(self._fetch, trip)

    def claim(self, outcome: Outcome) -> None:
        """An outcome has come: it outlives its pool, but not :meth:`close`."""
        with self._lock:
            if id(outcome) in self._staged:
                self._claimed.add(id(outcome))

    def hand_over(self, outcome: Outcome) -> None:
        """The caller has an outcome now, and publishes or discards its renditions."""
        with self._lock:
            self._staged.pop(id(outcome), None)
            self._claimed.discard(id(outcome))

    def stop(self) -> None:
        """End all threads; what is not claimed is deleted."""
        self._stopped.set()
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=True, cancel_futures=True)
        with self._lock:
            left = [key for key in self._staged if key not in self._claimed]
            gone = [self._staged.pop(key) for key in left]
        for store, outcome in gone:
            _remove(store, outcome)
        for folder in (self.inward, self.outward):
            with contextlib.suppress(OSError):
                for each in folder.iterdir():
                    shutil.rmtree(each, ignore_errors=True)

    def close(self) -> None:
        """The same, and nothing is left."""
        self._claimed.clear()
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- in threads ---

    def _fetch(self, trip: _Trip) -> None:
        try:
            local = self._at_hand(trip.task, trip.number)
            if isinstance(local, Outcome):
                self._clear(trip.number)
                trip.future.set_result(local)
                return
            done = trip.schedule(local)
        except BaseException as error:
            self._clear(trip.number)
            # Of a pool that is broken pebble says no more than this.
            is_broken = type(error) is RuntimeError
            trip.future.set_exception(BrokenExecutor(str(error)) if is_broken else error)
            return
        done.add_done_callback(lambda done: self._hand_on(trip, done))

    def _hand_on(self, trip: _Trip, done: Future[Outcome]) -> None:
        """Deliver in a thread of ours; this one is the pool's own."""
        threads = self._threads
        if threads is not None and not trip.stopped.is_set():
            with contextlib.suppress(RuntimeError):  # it has just been shut down
                threads.submit(self._deliver, trip, done)

    def _deliver(self, trip: _Trip, done: Future[Outcome]) -> None:
        try:
            outcome = done.result()
            if outcome.made and _is_bucket(trip.task.output_dir):
                self._stage(trip, outcome)
        except BaseException as error:
            self._clear(trip.number)
            trip.future.set_exception(error)
            return
        self._clear(trip.number)
        trip.future.set_result(outcome)

    def _at_hand(self, task: Task, number: str) -> Task | Outcome:
        """The task with folders in place of buckets; or its outcome, where no worker is needed.

        Raises:
            OutputError: the bucket does not answer.
        """
        outcome, local = Outcome(task.path), task
        if _is_bucket(task.originals_dir):
            folder = self.inward / number
            folder.mkdir()
            if not self._read(task, folder / ORIGINAL, outcome):
                return outcome
            local = local._replace(originals_dir=str(folder), original=ORIGINAL)
        if not _is_bucket(task.output_dir):
            return local
        (self.outward / number).mkdir()
        local = local._replace(output_dir=str(self.outward / number))
        if not any(wanted.made_of and wanted.file for wanted in task.wanted):
            return local
        # Which renditions are there no worker can see: it gets those for which no file has to be
        # compared, and those that are to be made again.
        sha256, store = outcome.sha256 or self._hashed(task), self._store(task.output_dir)
        wanted = []
        for each in task.wanted:
            if each.file is not None and each.made_of == sha256:
                is_there = is_current(each, sha256, store)
                each = each._replace(file=None, made_of=sha256 if is_there else None)
            wanted.append(each)
        return local._replace(wanted=tuple(wanted))

    def _read(self, task: Task, file: Path, outcome: Outcome) -> bool:
        """Write an original to ``file``; false where ``outcome`` says why that cannot be."""
        store, size_bytes = self._store(task.originals_dir), 0
        sha256 = hashlib.sha256()
        try:
            with open(file, "wb") as target:
                for piece in store.pieces(task.original):
                    sha256.update(piece)
                    size_bytes += len(piece)
                    if size_bytes > self._max_bytes:
                        found = store.look_at(task.original)
                        raise TooManyBytes(found.size_bytes if found else size_bytes)
                    target.write(piece)
        except (FileNotFoundError, Unstable):
            outcome.unsettled = True
            return False
        except TooManyBytes as error:
            outcome.size_bytes = error.size_bytes
            self._fail(task, outcome, Reason(Code.TOO_LARGE, f"cannot be read ({error})"))
            return False
        except PermissionError as error:
            why = Reason(Code.UNREADABLE, f"cannot be read ({error.strerror})")
            self._fail(task, outcome, why)
            return False
        except OSError as error:
            raise OutputError(
                f"{file.parent}: what is read from a bucket cannot be kept here "
                f"({error.strerror}); free some space, or change the permissions, and run again"
            ) from error
        outcome.size_bytes, outcome.sha256 = size_bytes, sha256.hexdigest()
        return True

    def _fail(self, task: Task, outcome: Outcome, why: Reason) -> None:
        outcome.failed = [(wanted.recipe.name, why) for wanted in task.wanted]

    def _hashed(self, task: Task) -> str | None:
        """The SHA-256 of an original in a folder, which a worker reads by itself."""
        digest = hashlib.sha256()
        try:
            for piece in self._store(task.originals_dir).pieces(task.original):
                digest.update(piece)
        except OSError:
            return None  # the worker says why
        return digest.hexdigest()

    def _stage(self, trip: _Trip, outcome: Outcome) -> None:
        """Stage what a worker wrote in the bucket."""
        store, folder = self._store(trip.task.output_dir), self.outward / trip.number
        written, outcome.made = outcome.made, []
        with self._lock:
            self._staged[id(outcome)] = store, outcome
        for made in written:
            if trip.stopped.is_set():
                raise OutputError("the workers were stopped")
            data = (folder / made.temporary).read_bytes()
            try:
                temporary = store.stage(made.file, data, owner()).temporary
            except OutputError:
                raise
            except OSError as error:
                outcome.failed.append((made.recipe, not_written(error)))
                continue
            outcome.made.append(made._replace(temporary=temporary))

    def _store(self, text: str) -> Store:
        with self._lock:
            if text not in self._stores:
                self._stores[text] = open_store(place_of(text, Path()))
            return self._stores[text]

    def _clear(self, number: str) -> None:
        for folder in (self.inward / number, self.outward / number):
            shutil.rmtree(folder, ignore_errors=True)


def _is_bucket(place: str) -> bool:
    # The paths of folders are absolute: none of them has a scheme.
    return "://" in place


def _remove(store: Store, outcome: Outcome) -> None:
    for each in outcome.made:
        with contextlib.suppress(OSError, OutputError):
            store.remove(each.temporary)
