"""Webhooks of jobs that ended, sent in a thread after the run has released its lock.

An interrupted delivery is repeated by the next run, with the same id: a receiver may be notified
twice.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pipeline.jobs.questions import as_json
from pipeline.jobs.store import Job, JobRepository
from pipeline.settings.values import Settings
from pipeline.states import WebhookState

if TYPE_CHECKING:
    from pipeline.fetch.delivery import Delivery

AT_ONCE = 4
# Sent at the end of one run; the rest is sent after the next.
MOST_A_RUN = 1_000

# What a thread of this process is sending: a run that ends meanwhile does not send it as well.
_under_way: set[str] = set()
_guard = threading.Lock()


def webhooks_due(
    repository: JobRepository, settings: Settings
) -> Callable[[], threading.Thread] | None:
    """Starts sending the webhooks that are not delivered yet; None if there are none."""
    jobs = repository.jobs
    query = sa.select(jobs.c.reference).where(jobs.c.webhook_state == WebhookState.PENDING.value)
    references = repository.database.column(query.limit(MOST_A_RUN))
    if not references:
        return None

    def start() -> threading.Thread:
        # A daemon: the caller decides whether to wait before the process ends (`Report.join`).
        thread = threading.Thread(
            target=_send, args=(repository, settings, references), name="webhooks", daemon=True
        )
        thread.start()
        return thread

    return start


def _send(repository: JobRepository, settings: Settings, references: list[str]) -> None:
    with _guard:
        mine = [reference for reference in references if reference not in _under_way]
        _under_way.update(mine)
    try:
        # Only this thread uses the tables: each further thread would open a connection.
        with ThreadPoolExecutor(AT_ONCE, "webhook") as pool:
            for start in range(0, len(mine), AT_ONCE):
                jobs = [repository.get(reference) for reference in mine[start : start + AT_ONCE]]
                pending = [
                    job for job in jobs if job and job.webhook_state == WebhookState.PENDING.value
                ]
                deliver = _deliverer(settings)
                for job, delivery in zip(pending, pool.map(deliver, pending), strict=True):
                    _note(repository, job, delivery)
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
            _secret(job, settings),
            limits,
            message_id=_message_id(job),
            deadline_s=settings.jobs.webhook_timeout_s,
        )

    return deliver_one


def _secret(job: Job, settings: Settings) -> str:
    """What the receiver of a job's end knows to check the signature by; empty for no signature.

    Anyone who submits a job may name any receiver. A delivery to it that was signed with the secret
    of the configured receiver could be forwarded to that one as genuine.
    """
    return job.webhook_secret or "" if job.webhook else settings.jobs.webhook_secret


def _message_id(job: Job) -> str:
    """The same for one end of a job whichever run delivers it."""
    end = f"{job.reference} {job.ended_ts!r}".encode()
    return f"msg_{hashlib.blake2b(end, digest_size=16).hexdigest()}"


def _note(repository: JobRepository, job: Job, delivery: Delivery) -> None:
    state = WebhookState.DELIVERED if delivery.delivered else WebhookState.FAILED
    jobs = repository.jobs
    with repository.database.writing() as con:
        # If the job has ended again meanwhile, that end is still to be sent.
        con.execute(
            sa.update(jobs)
            .where(jobs.c.reference == job.reference, jobs.c.ended_ts == job.ended_ts)
            .values(webhook_state=state.value, webhook_reason=delivery.reason or None)
        )
