"""The thread of the service that does what is asked for many originals at once.

It goes on with what an earlier service, or a command, was killed in, and shows how far it is as a
lane of its own.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from pipeline.app import Lockstep
from pipeline.errors import LockedError
from pipeline.live.lanes import Shown, Worker
from pipeline.operations.bulk_work import work
from pipeline.states import BulkAct, BulkState, Lane

log = logging.getLogger("lockstep.web")

# How often it looks for what another process left unfinished, or tries again after an error.
LOOK_EVERY_S = 30.0
# While another process does it, that one is shown as the table says.
LOCKED_S = 1.0


class BulkWorker:
    """Does bulks one after the other, and shows them as a lane of ``worker``."""

    def __init__(self, app: Lockstep, worker: Worker, changed: Callable[[], None]) -> None:
        """``changed`` is called, from any thread, when a run has something new to do."""
        self.app = app
        self.worker = worker
        self.changed = changed
        self._stopping, self._asked = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="bulks", daemon=True)
        self._shown: Shown | None = None
        self._number, self._done = 0, 0

    def start(self) -> None:
        """Start working; what is unfinished goes on at once."""
        self._asked.set()
        self._thread.start()

    def ask(self) -> None:
        """Something was asked for."""
        self._asked.set()

    def end(self) -> None:
        """Stop after the present original; the next start goes on with the rest."""
        self._stopping.set()
        self._asked.set()

    def stop(self, timeout_s: float = 30.0) -> None:
        """End, and wait for it."""
        self.end()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        wait_s = LOOK_EVERY_S
        while True:
            self._asked.wait(wait_s)
            if self._stopping.is_set():
                return
            self._asked.clear()
            wait_s = LOOK_EVERY_S
            try:
                work(self.app, self._stopping.is_set, self._moved)
            except LockedError:
                wait_s = LOCKED_S
            except Exception:
                # No error may end this thread: nobody would notice that nothing goes on.
                log.exception("many originals at once: it goes on in %d s", LOOK_EVERY_S)
            finally:
                self._show_none()

    def _moved(self, bulk: sa.Row[Any]) -> None:
        done = bulk.done + bulk.failed
        if bulk.state != BulkState.RUNNING.value:
            self._show_none()
            return
        if self._shown is None or self._number != bulk.id:
            self._shown, self._number, self._done = Shown(self.worker, Lane.BULK), bulk.id, 0
            self._shown.start("originals " + WORDS[BulkAct(bulk.act)], bulk.total)
        self._shown.advance(done - self._done)
        self._done = done

    def _show_none(self) -> None:
        if self._shown is not None:
            self._shown.stop()
            self._shown = None
            self.changed()


# What is said of the originals of a bulk.
WORDS = {
    BulkAct.TAKE_DOWN: "taken down",
    BulkAct.REINSTATE: "reinstated",
    BulkAct.PUBLISH: "published",
    BulkAct.RETRY: "to be retried",
}
