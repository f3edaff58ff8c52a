"""Following the other instances of Lockstep: what one of them takes down goes here within two
seconds."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from pipeline.app import Lockstep
from pipeline.errors import LockstepError, in_one_line
from pipeline.tables import make_tables
from pipeline.takedowns.following import follow
from pipeline.takedowns.sharing import warnings_of_sharing

log = logging.getLogger("lockstep.live")

# One row is asked for each time.
POLL_S = 1.0


class Instances:
    """A thread that follows the shared blocklist; none where there is no such."""

    def __init__(self, app: Lockstep, changed: Callable[[], None]) -> None:
        """``changed`` is called, in the thread, when a run is to make or remove something."""
        self._app, self._changed = app, changed
        self._stopping = threading.Event()
        self._said = ""
        # A daemon: what is half done when the process ends is finished by the next run.
        self._thread = threading.Thread(target=self._work, name="instances", daemon=True)

    def start(self) -> None:
        """Start working."""
        if self._app.takedowns.shared is not None:
            self._thread.start()

    def end(self) -> None:
        """Stop after what is being done."""
        self._stopping.set()

    def _work(self) -> None:
        is_ready = False
        while not self._stopping.wait(POLL_S if is_ready else 0):
            try:
                if not is_ready:
                    make_tables(self._app.database)
                    is_ready = True
                done = follow(self._app.takedowns)
                self._say(*warnings_of_sharing(self._app.takedowns))
                if done.takedowns or done.hashes:
                    self._changed()
            except Exception as error:
                # No error may end this thread: a takedown elsewhere would not be followed.
                is_ready = True
                if not isinstance(error, LockstepError):
                    log.exception("other instances could not be followed; trying again")
                self._say(in_one_line(error))

    def _say(self, line: str = "") -> None:
        """Log a line once."""
        if line and line != self._said:
            log.warning("%s", line)
        self._said = line
