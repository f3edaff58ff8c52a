"""History: what the last runs did. A run that found nothing to do writes nothing."""

from __future__ import annotations

import json
import time
from typing import Any

import sqlalchemy as sa

from pipeline.database.connection import Database
from pipeline.engine.pending import Pending
from pipeline.engine.report import Report
from pipeline.errors import DatabaseError, LockedError, StoppedError, in_one_line
from pipeline.tables import runs_table
from pipeline.text import iso
from pipeline.transforms.features import PDQ, listed_features, own_name

# A run every ten minutes for a week that each did something.
KEPT = 1_000


def remember_run(database: Database, report: Report) -> None:
    """Record what a run did; nothing is written if it did nothing."""
    if report.did_anything or report.pending or report.jobs.any:
        _write(database, report.seconds, report=json.dumps(report.as_json()))


def remember_stop(database: Database, error: BaseException, seconds: float) -> None:
    """Record that ``error`` ended a run, including unexpected errors.

    Nothing is written for a run that never began because another held the lock, for one that was
    told to stop, and where the tables are of another layout.

    A repeated error, such as every ten minutes from cron, replaces the one before.
    """
    if isinstance(
        error, LockedError | StoppedError | DatabaseError | KeyboardInterrupt | SystemExit
    ):
        return
    stopped_by = in_one_line(error)
    table = runs_table(database.sqla_metadata)
    with database.writing() as con:
        newest = con.execute(sa.select(table).order_by(table.c.id.desc()).limit(1)).first()
        if newest is not None and newest.stopped_by == stopped_by:
            con.execute(sa.delete(table).where(table.c.id == newest.id))
    _write(database, seconds, stopped_by=stopped_by)


def runs(database: Database, limit: int = 20, before: int | None = None) -> list[dict[str, Any]]:
    """The last runs, newest first: id, when they began, seconds, counts or what stopped them.

    ``before``: only those of a lower id, for the page after.
    """
    table = runs_table(database.sqla_metadata)
    query = sa.select(table).order_by(table.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(table.c.id < before)
    rows = database.rows(query)
    return [
        {
            "id": row.id,
            "began": iso(row.began_ts),
            "seconds": round(row.seconds, 3),
            "report": json.loads(row.report) if row.report else None,
            "stopped_by": row.stopped_by,
        }
        for row in rows
    ]


def last_stop(database: Database, after_ts: float, otherwise: str | None = None) -> str | None:
    """What stopped the newest run, if that ended later than ``after_ts`` (Unix time, seconds)."""
    table = runs_table(database.sqla_metadata)
    row = database.first(sa.select(table).order_by(table.c.id.desc()).limit(1))
    if row is None or row.began_ts + row.seconds <= after_ts:
        return otherwise
    stopped_by: str | None = row.stopped_by
    return stopped_by


def _write(
    database: Database, seconds: float, report: str | None = None, stopped_by: str | None = None
) -> None:
    table = runs_table(database.sqla_metadata)
    row = {
        "began_ts": time.time() - seconds,
        "seconds": seconds,
        "report": report,
        "stopped_by": stopped_by,
    }
    with database.writing() as con:
        written = con.execute(sa.insert(table).values(row)).inserted_primary_key
        assert written is not None
        con.execute(sa.delete(table).where(table.c.id <= written[0] - KEPT))


def count_states(pending: Pending, table: sa.Table) -> dict[str, int]:
    """How many rows of one of the tables of what is made are in each state.

    Of features, those that a person asked for: nothing is read where there is none.
    """
    state, ours = table.c.state, pending.ours_in(table)
    query = sa.select(state, sa.func.count()).where(ours).group_by(state)
    if table is not pending.table:
        if not _lists_features(pending):
            return {}
        query = query.where(table.c.name != own_name(PDQ))
    rows = pending.meta.dbconn.rows(query)
    return {row[0]: row[1] for row in rows}


def _lists_features(pending: Pending) -> bool:
    recipes = pending.recipe_table
    query = sa.select(recipes.c.recipe).where(pending.ours_in(recipes))
    names = pending.meta.dbconn.column(query)
    return bool(listed_features(names))
