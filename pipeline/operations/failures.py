"""Failures: all that failed, of originals, of images of jobs and of users' steps, by its code.

Home, ``status``, the page Failed and the metrics count the same: what is listed here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from pipeline.app import Lockstep
from pipeline.database.marks import Mark
from pipeline.engine.own_step import OwnStep, record_name
from pipeline.engine.pending import Pending, recipe_in, rows_in
from pipeline.jobs.failed import failed_urls
from pipeline.jobs.store import JobRepository
from pipeline.reasons import Code, known_code
from pipeline.states import JobState, Source, State
from pipeline.tables import EXCEPTION, code_in
from pipeline.text import iso
from pipeline.transforms.features import PDQ, is_listed

ITEMS_SHOWN = 20


def counts(app: Lockstep) -> dict[str, int]:
    """How many renditions, features, images of jobs and records of steps failed, by code."""
    found: Counter[str] = Counter()
    failed, urls = _made(app), failed_urls(app.jobs.repository).subquery()
    with app.database.reading() as con:
        for table in (failed, urls):
            by_code = sa.select(table.c.code, sa.func.count()).group_by(table.c.code)
            for code, count in con.execute(by_code):
                found[known_code(code).value] += count
    records = sum(step.states()[State.FAILED.value] for step in app.own_steps)
    found[Code.STEP_FAILED.value] += records
    return {code: count for code, count in found.most_common() if count}


def by_reason(app: Lockstep) -> dict[str, Any]:
    """``failed``, how many; ``reasons``, the groups of them by code, the largest first and those of
    steps last; and ``jobs``, those that have no images because of their CSV.

    A group says its ``count``, of how many ``pictures`` (or records), its first ``items`` by name,
    and the ``paths`` of those that are originals of the input folder.
    """
    counted, pictures = counts(app), _pictures(app)
    groups = [
        _group(known_code(code), count, pictures[code], _items(app, code))
        for code, count in counted.items()
        if code != Code.STEP_FAILED.value
    ]
    for step in app.own_steps:
        failed = list(step.failures())
        items = [_item(record_name(each.keys), each.reason) for each in failed[:ITEMS_SHOWN]]
        if failed:
            groups.append(_group(Code.STEP_FAILED, len(failed), len(failed), items, step.name))
    return {
        "failed": sum(counted.values()),
        "reasons": groups,
        "jobs": _failed_jobs(app.jobs.repository),
    }


def errors(app: Lockstep, code: Code | None = None) -> list[dict[str, Any]]:
    """Each rendition, feature, image of a job and record of a step that failed or was taken down.

    Path, recipe (of a feature ``features.`` and its name), state, code, reason, and since when
    (ISO 8601, local time). The path is NULL for what is no original; a record has its step and its
    keys, an image that could not be fetched its job and its URL.
    """
    wanted = None if code is None else code.value
    found = [row for row in _rows(app) if wanted is None or row["code"] == wanted]
    if code in (None, Code.STEP_FAILED):
        found += [_record(step, mark) for step in app.own_steps for mark in step.failures()]
    return found


def _rows(app: Lockstep) -> Iterator[dict[str, Any]]:
    rows: list[sa.Row[Any]] = []
    for pending in _every(app):
        for table in pending.tables:
            states = table.c.state.in_((State.FAILED.value, State.TAKEN_DOWN.value))
            query = rows_in(table).where(pending.ours_in(table), states, sa.text(EXCEPTION))
            rows += [row for row in app.database.rows(query) if is_listed(row.recipe)]
    for row in sorted(rows, key=lambda row: (row.source, row.path, row.recipe)):
        is_withdrawn = row.state == State.TAKEN_DOWN.value
        yield {
            "path": row.path,
            "recipe": row.recipe,
            "source": row.source,
            "state": row.state,
            "code": Code.WITHDRAWN.value if is_withdrawn else known_code(row.code).value,
            "reason": row.reason,
            "since": iso(row.since),
        }
    for row in app.database.rows(failed_urls(app.jobs.repository)):
        yield {
            "path": None,
            "recipe": None,
            "source": Source.JOBS.value,
            "job": row.reference,
            "url": row.url,
            "state": State.FAILED.value,
            "code": known_code(row.code).value,
            "reason": row.reason,
            "since": None if row.asked_ts is None else iso(row.asked_ts),
        }


def _record(step: OwnStep, failure: Mark) -> dict[str, Any]:
    keys = failure.keys
    return {
        "path": keys.get("path"),
        "recipe": keys.get("recipe"),
        "step": step.name,
        "record": keys,
        "state": failure.state,
        "code": Code.STEP_FAILED.value,
        "reason": failure.reason,
        "since": iso(failure.since or 0.0),
    }


def _every(app: Lockstep) -> list[Pending]:
    return [pending for step in app.renders for pending in step.pending_of.values()]


def _made(app: Lockstep) -> sa.Subquery:
    """Each rendition and feature that failed, of whatever source."""
    return sa.union_all(
        *[
            sa.select(
                *(table.c.source, table.c.path, table.c.reason, table.c.original_bytes),
                code_in(table).label("code"),
            ).where(
                pending.ours_in(table),
                table.c.state == State.FAILED.value,
                sa.text(EXCEPTION),
                recipe_in(table) != PDQ,
            )
            for pending in _every(app)
            for table in pending.tables
        ]
    ).subquery("made")


def _pictures(app: Lockstep) -> Counter[str]:
    """Of how many originals and images of jobs something failed, by code."""
    made, urls = _made(app), failed_urls(app.jobs.repository).subquery()
    picture = made.c.source + "/" + made.c.path
    queries = (
        sa.select(made.c.code, sa.func.count(picture.distinct())).group_by(made.c.code),
        sa.select(urls.c.code, sa.func.count()).group_by(urls.c.code),
    )
    found: Counter[str] = Counter()
    for query in queries:
        for code, count in app.database.rows(query):
            found[known_code(code).value] += count
    return found


def _group(
    code: Code, count: int, pictures: int, items: list[dict[str, Any]], step: str | None = None
) -> dict[str, Any]:
    own = (item for item in items if item["source"] == Source.INPUT.value)
    return {
        "code": code.value,
        "reason": code.words,
        "count": count,
        "pictures": pictures,
        "paths": [item["path"] for item in own],
        "items": items,
        "step": step,
    }


def _items(app: Lockstep, code: str) -> list[dict[str, Any]]:
    """The first of those that failed for this code: originals, images of jobs, addresses."""
    made = _made(app)
    of_one = sa.func.min(made.c.reason).label("reason")
    size = sa.func.max(made.c.original_bytes).label("size_bytes")
    originals = (
        sa.select(made.c.source, made.c.path, of_one, size)
        .where(made.c.code == code)
        .group_by(made.c.source, made.c.path)
        .order_by(made.c.source, made.c.path)
        .limit(ITEMS_SHOWN)
    )
    items = [
        _item(row.path, row.reason, row.source, row.path, size_bytes=row.size_bytes)
        for row in app.database.rows(originals)
    ]
    left = ITEMS_SHOWN - len(items)
    urls = failed_urls(app.jobs.repository, code).limit(left)
    return items + [
        _item(row.url, row.reason, Source.JOBS.value, job=row.reference)
        for row in (app.database.rows(urls) if left else ())
    ]


def _item(
    name: str,
    reason: str | None,
    source: str | None = None,
    path: str | None = None,
    job: str | None = None,
    size_bytes: int | None = None,
) -> dict[str, Any]:
    """``name`` is what people know it by; ``path`` is that of an original."""
    if source == Source.JOBS.value and path is not None:
        job = path.partition("/")[0]
    given = {"name": name, "reason": reason, "source": source, "path": path, "job": job}
    return given | {"size_bytes": size_bytes}


def _failed_jobs(repository: JobRepository) -> list[dict[str, Any]]:
    found = repository.in_states({JobState.REJECTED, JobState.FAILED})
    names = ("reference", "filename", "reason")
    return [
        {"state": job.state.value} | {name: getattr(job, name) for name in names}
        for job in found[: -ITEMS_SHOWN - 1 : -1]
    ]
