"""What happened to takedowns besides their states: legal holds, and purges."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pipeline.database.connection import Database
from pipeline.database.transaction import Write
from pipeline.moderation_tables import takedown_events_table
from pipeline.states import TakedownEvent


def new_event(what: TakedownEvent, who: str, note: str | None = None) -> dict[str, Any]:
    """An event that happens now."""
    return {"what": what.value, "ts": time.time(), "who": who, "note": note}


def events_of(database: Database, numbers: Collection[int] | None = None) -> Sequence[sa.Row[Any]]:
    """The events of these takedowns, or of all, the first first."""
    events = takedown_events_table(database.sqla_metadata)
    query = sa.select(events).order_by(events.c.ts, events.c.id)
    if numbers is not None:
        query = query.where(events.c.takedown.in_(list(numbers)))
    return database.rows(query)


def is_on_hold(database: Database, numbers: Collection[int]) -> bool:
    """Whether any of these takedowns is under legal hold."""
    holds = (TakedownEvent.LEGAL_HOLD.value, TakedownEvent.RELEASED.value)
    found = events_of(database, numbers)
    last = {event.takedown: event.what for event in found if event.what in holds}
    return TakedownEvent.LEGAL_HOLD.value in last.values()


def insert_events(
    database: Database,
    con: Write | sa.Connection,
    number: int,
    events: Iterable[Mapping[str, Any]],
) -> None:
    """Write the rows of events, within a transaction."""
    rows = [{"takedown": number, **event} for event in events]
    if rows:
        con.execute(sa.insert(takedown_events_table(database.sqla_metadata)), rows)
