"""The audit: finding takedowns, and the whole story of one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from pipeline.blocklist import Blocklist
from pipeline.database.connection import Database
from pipeline.moderation_tables import reviews_table
from pipeline.states import Kind, ReviewKind, ReviewState, TakedownState
from pipeline.text import iso
from pipeline.transforms.recipes import JOBS_FOLDER

# Takedowns of content that no original had: nothing was removed.
NO_ORIGINAL = "hash"
SOURCES = ("input", "jobs", NO_ORIGINAL)
STATES = ("in_force", "lifted")


@dataclass(frozen=True)
class Wanted:
    """Which takedowns: every field that is not empty narrows them down.

    ``text`` may be anywhere in the reason, the target or a path, or begin the SHA-256; ``who`` took
    it down or reinstated it; ``reason`` and ``sha256`` are all of it; ``source`` is one of
    :data:`SOURCES`, ``state`` one of :data:`STATES`. Times are Unix times in seconds; the second
    one is excluded.
    """

    text: str = ""
    who: str = ""
    reason: str = ""
    source: str = ""
    state: str = ""
    from_ts: float | None = None
    until_ts: float | None = None
    sha256: str = ""

    def conditions(self, acts: sa.Table, files: sa.Table) -> Iterator[sa.ColumnElement[bool]]:
        """What a row of ``takedowns`` has to fulfil."""
        if self.text:
            held = [_holds(column, self.text) for column in (acts.c.reason, acts.c.target)]
            begins = acts.c.sha256.startswith(self.text.lower(), autoescape=True)
            yield sa.or_(*held, begins, _has(acts, files, _holds(files.c.path, self.text)))
        if self.who:
            yield sa.or_(acts.c.who == self.who, acts.c.lifted_by == self.who)
        if self.reason:
            yield acts.c.reason == self.reason
        if self.sha256:
            yield acts.c.sha256 == self.sha256
        if self.state:
            is_lifted = acts.c.state == TakedownState.LIFTED.value
            yield is_lifted if self.state == TakedownState.LIFTED.value else ~is_lifted
        if self.from_ts is not None:
            yield acts.c.created_ts >= self.from_ts
        if self.until_ts is not None:
            yield acts.c.created_ts < self.until_ts
        of_jobs = sa.and_(
            files.c.kind == Kind.RENDITION.value, files.c.path.startswith(f"{JOBS_FOLDER}/")
        )
        if self.source == NO_ORIGINAL:
            yield ~_has(acts, files)
        elif self.source:
            yield _has(acts, files, of_jobs if self.source == JOBS_FOLDER else ~of_jobs)


def _has(
    acts: sa.Table, files: sa.Table, *conditions: sa.ColumnElement[bool]
) -> sa.ColumnElement[bool]:
    theirs = sa.select(files.c.takedown).where(files.c.takedown == acts.c.id, *conditions)
    return theirs.exists()


def _holds(column: Any, text: str) -> sa.ColumnElement[bool]:
    return sa.func.lower(column).contains(text.lower(), autoescape=True)


def removed_by(database: Database, path: str) -> int | None:
    """The number of the takedown in force that removed this original; ``None`` if none did."""
    blocklist = Blocklist(database)
    acts, files = blocklist.acts, blocklist.files
    query = sa.select(acts.c.id).join(files, files.c.takedown == acts.c.id)
    query = query.where(
        files.c.kind == Kind.ORIGINAL.value,
        files.c.path == path,
        files.c.removed.is_(sa.true()),
        acts.c.state != TakedownState.LIFTED.value,
    )
    found = database.first(query.order_by(acts.c.id.desc()).limit(1))
    return None if found is None else int(found.id)


def names_in_audit(database: Database) -> tuple[list[str], list[str]]:
    """Everybody who took something down or reinstated it; and the most frequent reasons."""
    acts = Blocklist(database).acts
    who = {*database.column(sa.select(acts.c.who).distinct())}
    who |= {*database.column(sa.select(acts.c.lifted_by).distinct())}
    often = sa.select(acts.c.reason).group_by(acts.c.reason)
    often = often.order_by(sa.func.count().desc(), acts.c.reason)
    return sorted(who - {None}), database.column(often.limit(50))


def story_of(
    database: Database, sha256: str, entries: Iterable[dict[str, Any]]
) -> list[dict[str, Any]]:
    """What happened to content, the first event first; ``entries`` are its takedowns as JSON.

    Each event says ``at``, ``what``, ``who`` did it, a ``note`` in their words, and the number of
    the ``takedown``, where there is one.
    """
    entries = sorted(entries, key=lambda entry: int(entry["id"]))
    reviews = reviews_table(database.sqla_metadata)
    query = sa.select(reviews).where(reviews.c.sha256 == sha256).order_by(reviews.c.id)
    events = [event for row in database.rows(query) for event in _of_review(row)]
    events += [event for entry in entries for event in _of_takedown(entry)]
    # Within a second, a report came before what was done about it.
    return sorted(events, key=lambda event: datetime.fromisoformat(event["at"]))


def _of_takedown(entry: dict[str, Any]) -> Iterator[dict[str, Any]]:
    number = entry["id"]
    what = "taken down, and the originals deleted for good" if entry["purge"] else "taken down"
    what += f" at {entry['instance']}" if entry["instance"] else ""
    yield _event(entry["when"], what, entry["who"], entry["reason"], number)
    for event in entry["events"]:
        yield _event(event["when"], event["what"].replace("_", " "), event["who"], event["note"])
    if entry["lifted"]:
        yield _event(entry["lifted"], "reinstated", entry["lifted_by"], None, number)


def _of_review(row: sa.Row[Any]) -> Iterator[dict[str, Any]]:
    at = iso(row.created_ts)
    if row.kind == ReviewKind.HELD.value:
        near = f"near to what {row.near_source or 'a list'} blocks"
        note = near if row.distance is None else f"{near}, {row.distance} of 256 bits apart"
        yield _event(at, "held", row.who, note)
    else:
        said = ": ".join(text for text in (row.category, row.reason) if text)
        yield _event(at, "reported", row.who, said or None)
    if row.decided_ts is not None:
        words = {ReviewState.PUBLISHED.value: "published", ReviewState.TAKEN_DOWN.value: "decided"}
        # The takedown itself says the rest.
        what = words.get(row.state, row.state)
        why = "to take it down" if row.state == ReviewState.TAKEN_DOWN.value else None
        yield _event(iso(row.decided_ts), what, row.decided_by, why, row.takedown)


def _event(
    at: str, what: str, who: str | None, note: str | None, takedown: int | None = None
) -> dict[str, Any]:
    return {"at": at, "what": what, "who": who, "note": note, "takedown": takedown}
