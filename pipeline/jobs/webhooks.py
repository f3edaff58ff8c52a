"""Telling: webhooks of jobs that ended, in a thread after the run has given its lock back.

A delivery that is cut off is made again by the next run: a receiver may hear of an end twice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pipeline.jobs.questions import as_json
from pipeline.jobs.store import Job, JobBook
from pipeline.settings.values import Settings
from pipeline.states import WebhookState

if TYPE_CHECKING:
    from pipeline.fetch.delivery import Delivery

AT_ONCE = 4
# Told at the end of one run; what is more is told after the next.
MOST_A_RUN = 1_000

# What a thread of this process is telling: a run that ends meanwhile does not tell it as well.
_under_way: set[str] = set()
_guard = threading.Lock()


def telling_of(book: JobBook, settings: Settings) -> Callable[[], threading.Thread] | None:
    """What starts to tell the ends that nobody has heard of yet; None where there are none."""
    jobs = book.jobs
    query = sa.select(jobs.c.reference).where(jobs.c.webhook_state == WebhookState.PENDING.value)
    with book.database.reading() as con:
        references = list(con.execute(query.limit(MOST_A_RUN)).scalars())
    if not references:
        return None

    def start() -> threading.Thread:
        # A daemon: whoever ends the process decides whether to wait (`Report.join`).
        thread = threading.Thread(
            target=_tell, args=(book, settings, references), name="webhooks", daemon=True
        )
        thread.start()
        return thread

    return start


def _tell(book: JobBook, settings: Settings, references: list[str]) -> None:
    with _guard:
        mine = [reference for reference in references if reference not in _under_way]
        _under_way.update(mine)
    try:
        # Tables are for this thread alone: each thread more would be a connection more.
        with ThreadPoolExecutor(AT_ONCE, "webhook") as pool:
            for start in range(0, len(mine), AT_ONCE):
                jobs = [book.get(reference) for reference in mine[start : start + AT_ONCE]]
                pending = [
                    job for job in jobs if job and job.webhook_state == WebhookState.PENDING.value
                ]
                deliver = _deliverer(settings)
                for job, delivery in zip(pending, pool.map(deliver, pending), strict=True):
                    _note(book, job, delivery)
    finally:
        with _guard:
            _under_way.difference_update(mine)


def _deliverer(settings: Settings) -> Callable[[Job], Delivery]:
    # Imported here: a run that notifies nobody does not speak HTTP, which costs 150 ms.
    from pipeline.fetch.delivery import deliver

    limits = settings.fetch

    def deliver_one(job: Job) -> Delivery:
        return deliver(
            job.webhook or settings.jobs.webhook_url,
            as_json(job, settings),
            settings.jobs.webhook_secret,
            limits,
            deadline_s=settings.jobs.webhook_timeout_s,
        )

    return deliver_one


def _note(book: JobBook, job: Job, delivery: Delivery) -> None:
    state = WebhookState.DELIVERED if delivery.delivered else WebhookState.FAILED
    jobs = book.jobs
    with book.database.writing() as con:
        # Where the job has ended once more meanwhile, that end is still to be told.
        con.execute(
            sa.update(jobs)
            .where(jobs.c.reference == job.reference, jobs.c.ended_ts == job.ended_ts)
            .values(webhook_state=state.value, webhook_reason=delivery.reason or None)
        )
