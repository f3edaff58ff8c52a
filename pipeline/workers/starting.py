"""Starting worker processes, by a fork server that has loaded what they need."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pipeline.storage.owners import owner
from pipeline.workers.tasks import WorkerSetup
from pipeline.workers.worker import initialize

if TYPE_CHECKING:
    from pebble import ProcessPool

# What a worker needs to begin: loaded once, by the fork server. To load pebble alone would cost
# each worker of each run 25 ms.
PRELOADED = (
    "pipeline.imaging.render",
    "pipeline.imaging.pdq",
    "pipeline.workers.worker",
    "pipeline.workers.results",
    "pebble.pool.process",
)


def started_pool(
    count: int, setup: WorkerSetup, locks: list[Any], exits: contextlib.ExitStack
) -> ProcessPool:
    """A pool of ``count`` processes, which start with its first task.

    Its locks are kept in ``locks``; ``exits`` is closed after it.
    """
    # Imported here: a run with no change starts no workers, and pebble costs 6 ms.
    from pebble import ProcessPool

    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context: Any = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(list(PRELOADED))
    exits.enter_context(_main_module_not_loaded_again())
    if method == "forkserver":
        _start_fork_server()
    return ProcessPool(
        max_workers=count,
        context=_Lasting(context, locks),
        initializer=initialize,
        initargs=(setup, owner()),
    )


class _Lasting:
    """A context of multiprocessing for pebble.

    Its locks are kept in ``locks`` as well: pebble drops those of a pool before it stops the
    workers. One that is just loading would not find them any more, and print a traceback. From its
    pipes only results are accepted.
    """

    def __init__(self, context: Any, locks: list[Any]) -> None:
        self._context = context
        self._locks = locks

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def RLock(self) -> Any:
        self._locks.append(lock := self._context.RLock())
        return lock

    def Pipe(self, duplex: bool = True) -> Any:
        if os.name != "posix":
            return self._context.Pipe(duplex)
        # Imported here: a run with no change starts no workers, and pebble costs 6 ms.
        from pipeline.workers.results import pipe

        return pipe()


def _start_fork_server() -> None:
    """Start the fork server with Ctrl-C blocked; the main process handles it.

    It ignores Ctrl-C by itself only once it has loaded all that it preloads; before, it would die
    with a traceback on the terminal. A signal that is blocked stays so in a child.
    """
    # Imported here: only where workers start are these needed, and they cost 1 ms; Windows has
    # neither.
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
