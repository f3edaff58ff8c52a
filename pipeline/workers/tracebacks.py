"""The log of what functions raised in workers."""

from __future__ import annotations

import logging

from pipeline.workers.tasks import Outcome

log = logging.getLogger("lockstep.workers")

LOGGED_AT_MOST = 100


class Tracebacks:
    """Logs each traceback once for its last line: a faulty function fails on every original."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def forget(self) -> None:
        """Log again what was logged before: new workers may run a changed function."""
        self._known.clear()

    def log(self, outcome: Outcome) -> None:
        for text in outcome.tracebacks:
            last = text.rstrip().rpartition("\n")[2]
            if last in self._known or len(self._known) >= LOGGED_AT_MOST:
                continue
            self._known.add(last)
            where = (log.name, logging.ERROR, __file__, 0)
            message = "a function failed on %s", (outcome.path,)
            # As a stack, so that whatever is in it cannot forge a line of the log.
            log.handle(log.makeRecord(*where, *message, exc_info=None, sinfo=text.rstrip()))
