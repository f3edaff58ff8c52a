"""The service: what the pages use, created once at start."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

from anyio import to_thread
from fastapi import Request

from pipeline.app import Lockstep
from pipeline.database.state import StateRepository
from pipeline.engine.history import last_stop, runs
from pipeline.engine.report import Report
from pipeline.live.instances import Instances
from pipeline.live.lanes import Worker
from pipeline.live.notifier import Notifier
from pipeline.operations.verdict import verdict
from pipeline.tables import make_tables
from pipeline.takedowns import take_over
from pipeline.takedowns.reviews import waiting
from pipeline.users import UserRepository
from pipeline.web.background import BulkWorker
from pipeline.web.checks import Checks
from pipeline.web.counts import LatestCounts
from pipeline.web.listeners import Listeners
from pipeline.web.metrics import Metrics
from pipeline.web.previews import Previews
from pipeline.web.security.access import Access
from pipeline.web.security.hosts import Hosts, is_loopback
from pipeline.web.security.rates import Rate

THREADS = 12
# Reports in so many seconds: from one address, which may be the server of a whole shop, and in all.
REPORTS_OF_ONE, REPORTS_OF_ALL, REPORTS_S = 60, 300, 60.0

log = logging.getLogger("lockstep.web")


@dataclass(frozen=True)
class Options:
    """The options of ``datapipe serve``."""

    host: str = "127.0.0.1"
    port: int = 8000
    watch: bool = True
    insecure: bool = False


class Service:
    """The application with its worker, its counts, and the listeners of its pages."""

    def __init__(self, app: Lockstep, options: Options) -> None:
        """Create the tables if they are missing.

        Raises:
            DatabaseError: they are of another layout, or cannot be made.
            OutputError: the journal of takedowns cannot be read.
        """
        self.app = app
        self.settings = app.settings
        self.options = options
        make_tables(app.database)
        for warning in take_over(app.database, app.settings):
            log.warning("%s", warning)
        ended = StateRepository(app.database)
        self.access = Access(
            self.settings,
            UserRepository(app.database),
            ended,
            may_be_open=options.insecure or is_loopback(options.host),
        )
        self.hosts = Hosts(options.host, self.settings.hosts)
        self.listeners = Listeners(lambda: self.counts.clock())
        self.checks = Checks()
        self.previews = Previews(self.settings)
        self.reports = Rate(REPORTS_OF_ONE, REPORTS_OF_ALL, REPORTS_S)
        self.counts = LatestCounts(app, self.listeners.notify)
        self.metrics = Metrics(app.database, self.counts.get, lambda: self.worker)
        self.notifier = Notifier(app)
        self.instances = Instances(app, self.changed)
        self.worker = Worker(app, options.watch, self.listeners.notify, self._ran)
        self.bulks = BulkWorker(app, self.worker, self.changed)

    def start(self) -> None:
        """Start working; call it in the thread of the event loop."""
        self.listeners.loop = asyncio.get_running_loop()
        # Each thread keeps a connection to the database, and two processors can only serve a few.
        to_thread.current_default_thread_limiter().total_tokens = THREADS
        self.worker.start()
        self.bulks.start()
        self.notifier.start()
        self.instances.start()

    def end(self) -> None:
        """Stop everything in progress, without waiting."""
        self.listeners.close()
        self.bulks.end()
        self.notifier.end()
        self.instances.end()
        self.worker.end()

    def stop(self) -> None:
        """Stop, and wait for it; finished work is kept."""
        self.end()
        self.bulks.stop()
        self.worker.stop()
        self.previews.close()

    def changed(self) -> None:
        """Something was requested that the next run does: start it, and count again."""
        self.counts.forget()
        self.worker.ask()
        self.listeners.notify()

    def state(self) -> dict[str, Any]:
        """The response of ``GET /status``."""
        counts, doing = self.counts.get(), self.worker.doing
        last_error = last_stop(
            self.app.database,
            self.worker.looked_ts,
            otherwise=self.worker.last_error or self.worker.own_error,
        )
        said = verdict(counts, last_error)
        return {
            "in_step": said.is_in_step,
            "verdict": said.as_json(),
            "counts": counts,
            "now": doing.as_json(),
            "lanes": [each.as_json() for each in self.worker.lanes],
            "elsewhere": None if doing.state == "running" else self._elsewhere(),
            "last_error": last_error,
            "runs": runs(self.app.database, limit=8),
        }

    def waiting(self) -> dict[str, int]:
        """How much content waits for a decision."""
        return waiting(self.app.takedowns)

    def _ran(self, report: Report) -> None:
        self.metrics.observe(report)
        # A job moves from state to state without any row of a tracked table.
        self.counts.forget()

    def _elsewhere(self) -> str | None:
        return self.app.database.holder()


def service_of(request: Request) -> Service:
    """The service that this request came to."""
    service: Service = request.app.state.service
    return service
