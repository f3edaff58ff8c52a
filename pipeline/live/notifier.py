"""Telling the webhook of moderation soon what happened outside of runs, such as a report."""

from __future__ import annotations

import logging
import threading

from pipeline.app import Lockstep
from pipeline.takedowns.notices import send_notices

log = logging.getLogger("lockstep.live")

POLL_S = 2.0


class Notifier:
    """A thread that sends what is due; none where no webhook is configured."""

    def __init__(self, app: Lockstep) -> None:
        self._app = app
        self._stopping = threading.Event()
        # A daemon: what is being sent when the service stops is sent again later.
        self._thread = threading.Thread(target=self._work, name="notifier", daemon=True)

    def start(self) -> None:
        """Start working."""
        if self._app.settings.moderation_webhook:
            self._thread.start()

    def end(self) -> None:
        """Stop after what is being sent."""
        self._stopping.set()

    def _work(self) -> None:
        while not self._stopping.wait(POLL_S):
            try:
                send_notices(self._app.takedowns)
            except Exception:
                # No error may end this thread: the database may well be back soon.
                log.exception("the webhook of moderation could not be told; trying again")
