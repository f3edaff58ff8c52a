"""Images of jobs that could not be fetched: which, and fetching them once more."""

from __future__ import annotations

import time
from typing import Any

import sqlalchemy as sa

from pipeline.database.paging import chunks
from pipeline.jobs.images import image_counts
from pipeline.jobs.store import ENDED, JobRepository
from pipeline.reasons import Code
from pipeline.states import JobState, UrlState
from pipeline.tables import code_in

_FAILED = (UrlState.FAILED.value, UrlState.REFUSED.value)
# Jobs that have fetched before; one that is being checked has not come to its URLs.
_RESUMED = ENDED | {JobState.FETCHING, JobState.RENDERING, JobState.WRITING}


def failed_urls(repository: JobRepository, code: str | None = None) -> sa.Select[Any]:
    """The URLs that could not be fetched, once for each image of a job; of all codes, or of one."""
    jobs, urls, fetches = repository.jobs, repository.urls, repository.fetches
    its_code = code_in(fetches)
    query = (
        sa.select(
            *(urls.c.reference, urls.c.number, urls.c.sequence, urls.c.url_key),
            *(fetches.c.url, fetches.c.reason, fetches.c.asked_ts, its_code.label("code")),
        )
        .select_from(fetches)
        .join(urls, urls.c.url_key == fetches.c.url_key)
        .join(jobs, jobs.c.reference == urls.c.reference)
        .where(
            fetches.c.state.in_(_FAILED),
            fetches.c.sha256.is_(None),
            jobs.c.state != JobState.DELETED.value,
        )
        .order_by(urls.c.reference, urls.c.number, urls.c.sequence)
    )
    return query if code is None else query.where(its_code == code)


def retry_urls(repository: JobRepository, code: Code | None = None) -> int:
    """Have the next run fetch again what could not be fetched; returns how many images.

    All of it, or what failed for one code.
    """
    failed = repository.database.rows(failed_urls(repository, code and code.value))
    fetches, jobs = repository.fetches, repository.jobs
    for keys in chunks({row.url_key: None for row in failed}):
        with repository.database.writing() as con:
            waiting = sa.update(fetches).where(fetches.c.url_key.in_(keys))
            con.execute(waiting.values(state=UrlState.WAITING.value, reason=None, code=None))
    for reference in dict.fromkeys(row.reference for row in failed):
        counts = image_counts(repository, reference)
        with repository.database.writing() as con:
            con.execute(
                sa.update(jobs)
                .where(
                    jobs.c.reference == reference,
                    jobs.c.state.in_([state.value for state in _RESUMED]),
                )
                .values(state=JobState.FETCHING.value, changed_ts=time.time(), **counts)
            )
    return len(failed)
