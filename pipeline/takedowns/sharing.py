"""Takedowns and lists of other instances: taking them over, and telling the others of ours.

The tables of this instance are a copy of its own: what is blocked is known here, whether the shared
blocklist can be reached or not. Each act is recorded here first, as one that is to be sent; so
whatever stops this, a later exchange does it. A takedown that was made elsewhere gets a row here in
the very state in which one has it that was made here a moment ago, and is finished by the same
code. Taking over and sending can each be repeated without any effect.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from pipeline.blocklist import Blocklist
from pipeline.database.connection import Database
from pipeline.database.locks import PUBLISH_LOCK, SHARE_LOCK
from pipeline.database.paging import chunks, pages
from pipeline.database.state import (
    SHARED,
    SHARED_FAILING,
    UNSENT,
    StateRepository,
    state_table,
)
from pipeline.errors import OutputError, SharedDatabaseError
from pipeline.moderation_tables import takedowns_table
from pipeline.states import TakedownEvent, TakedownState
from pipeline.takedowns.blocking import near_of
from pipeline.takedowns.context import Takedowns
from pipeline.takedowns.events import events_of, is_on_hold
from pipeline.takedowns.journal import COLUMNS, STATES, Act, Journal, identity, near_entry
from pipeline.takedowns.lists import OF_TAKEDOWN, mark_unsent, take_over_hashes
from pipeline.takedowns.repository import NewAct, TakedownRepository
from pipeline.takedowns.shared import (
    ROWS_OF_A_NUMBER,
    TAKEDOWNS_AT_ONCE,
    SharedBlocklist,
    SharedHash,
)
from pipeline.text import counted, iso

LIFTED = STATES.index(TakedownState.LIFTED.value)
LIFTING = STATES.index(TakedownState.LIFTING.value)
# What concerns the files of one instance is not told to the others.
_HOLDS = (TakedownEvent.LEGAL_HOLD.value, TakedownEvent.RELEASED.value)


class Mark(NamedTuple):
    """Which blocklist was read, and up to which numbers."""

    id: str
    takedowns: int = 0
    hashes: int = 0


@dataclass
class Exchanged:
    """What one exchange brought: numbers of takedowns and hashes that changed here.

    ``is_more``: there are more hashes to take over. ``failed`` says why it was cut off.
    """

    takedowns: int = 0
    hashes: int = 0
    is_more: bool = False
    failed: str | None = None


def exchange(context: Takedowns) -> Exchanged:
    """Take over what other instances have blocked or unblocked, and send what was done here.

    All takedowns and one page of hashes at a time. It carries nothing out: ``finish`` and
    ``follow_lists`` do. Nothing happens without ``PIPELINE_BLOCKLIST_DB``. Where it fails, also
    because the journal cannot be written, a later exchange tries again: what is to be done here
    never waits for it.
    """
    done, shared = Exchanged(), context.shared
    if shared is None:
        return done
    try:
        with context.database.lock(SHARE_LOCK, wait=True):
            _take_over(context, shared, done)
        _send(context, shared)
    except (SharedDatabaseError, OutputError) as error:
        done.failed = str(error)
    _note(context.database, done.failed)
    return done


def send(context: Takedowns) -> None:
    """Send what was done here; where that fails, it is noted, and a later exchange does it."""
    if context.shared is None:
        return
    failed = None
    try:
        _send(context, context.shared)
    except SharedDatabaseError as error:
        failed = str(error)
    _note(context.database, failed)


def remove_shared_source(context: Takedowns, source: str) -> None:
    """Remove a list for all other instances, before it is removed here.

    Raises:
        SharedDatabaseError: they cannot be told now, and nothing was removed.
    """
    if context.shared is not None:
        context.shared.try_again()
        context.shared.remove_source(source)


def sharing(context: Takedowns) -> dict[str, Any] | None:
    """How the exchange with other instances goes; ``None`` where there is none. Asks this database
    alone."""
    if context.shared is None:
        return None
    acts = takedowns_table(context.database.sqla_metadata)
    count = sa.select(sa.func.count()).select_from(acts).where(acts.c.unsent > 0)
    failing = json.loads(StateRepository(context.database).get(SHARED_FAILING) or "null") or {}
    return {
        "instance": context.shared.instance,
        "unsent_takedowns": int(context.database.column(count)[0]),
        "unsent_lists": [source for source, _ in _unsent_sources(context.database)],
        "failing_since": iso(failing["since_ts"]) if failing else None,
        "error": failing.get("error"),
    }


def warnings_of_sharing(context: Takedowns) -> list[str]:
    """What people should know: that other instances do not know what was done here, or we of
    them."""
    found = sharing(context)
    if found is None or found["failing_since"] is None:
        return []
    left = []
    if found["unsent_takedowns"]:
        words = ("takedown or reinstatement", "takedowns or reinstatements")
        left.append(counted(found["unsent_takedowns"], *words))
    if lists := found["unsent_lists"]:
        left.append(f"the {'lists' if len(lists) > 1 else 'list'} {', '.join(lists)}")
    unsent = f", {' and '.join(left)} of this instance not known there" if left else ""
    return [
        f"{found['error']}: what other instances took down since {found['failing_since']} is not "
        f"known here{unsent}. It is exchanged as soon as the database is there again"
    ]


def _take_over(context: Takedowns, shared: SharedBlocklist, done: Exchanged) -> None:
    head, state = shared.head(), StateRepository(context.database)
    mark = Mark(*json.loads(state.get(SHARED) or '[""]'))
    if mark.id != head.id or head.number < max(mark.takedowns, mark.hashes):
        # Another one, or an older copy: it gets all that is known here, and we read all of it.
        mark = Mark(head.id)
        _forget_sent(context.database)
        state.set(SHARED, json.dumps(mark))
    while mark.takedowns < head.number:
        found, until = shared.takedowns(mark.takedowns, head.number)
        for entries in chunks(found, TAKEDOWNS_AT_ONCE):
            done.takedowns += _adopt(context, entries)
        mark = mark._replace(takedowns=until)
        state.set(SHARED, json.dumps(mark))
    if mark.hashes < head.number:
        rows, until = shared.hashes(mark.hashes, head.number)
        done.hashes += take_over_hashes(
            context.database,
            [(*row.key, row.reason, row.added_ts) for row in rows if not row.is_removed],
            [row.key for row in rows if row.is_removed],
        )
        state.set(SHARED, json.dumps(mark._replace(hashes=until)))
        done.is_more = until < head.number


def _forget_sent(database: Database) -> None:
    """Have all that is known here sent."""
    acts, hashes = takedowns_table(database.sqla_metadata), Blocklist(database).hashes
    of_takedown = hashes.c.source.startswith(OF_TAKEDOWN, autoescape=True)
    with database.writing() as write:
        write.execute(sa.update(acts).values(unsent=acts.c.unsent + 1))
        for source in database.column(sa.select(hashes.c.source).where(~of_takedown).distinct()):
            mark_unsent(database, source, 0.0)


def _adopt(context: Takedowns, entries: Sequence[dict[str, Any]]) -> int:
    """Give takedowns of other instances rows here, or bring those that are here forward; how many
    changed. ``finish`` does the rest."""
    repository = TakedownRepository(context.database, Journal(context.settings.quarantine_dir))
    digests = {entry["sha256"] for entry in entries}
    acts = context.database.rows(
        sa.select(repository.acts).where(repository.acts.c.sha256.in_(digests))
    )
    here = {identity(dict(act._mapping)): act for act in acts}
    new = [_new(context, repository, entry) for entry in entries if entry["takedown"] not in here]
    if new:
        repository.add(*new)
    changed = len(new)
    for entry in entries:
        if entry["takedown"] in here:
            changed += _bring_forward(context, repository, here[entry["takedown"]], entry)
    return changed


def _new(context: Takedowns, repository: TakedownRepository, entry: dict[str, Any]) -> NewAct:
    act = Act()
    act.merge(entry, [], entry.get("events", []))
    row = {name: act.columns[name] for name in COLUMNS}
    is_lifted = act.rank >= LIFTING
    row["state"] = (TakedownState.LIFTED if is_lifted else TakedownState.REMOVING).value
    if row["purge"]:
        # Nobody may delete what this instance has to keep.
        numbers = [other.id for other in repository.acts_on(row["sha256"])]
        row["purge"] = not is_on_hold(context.database, numbers)
    return NewAct(row, [], {} if is_lifted else act.near, list(act.events.values()))


def _bring_forward(
    context: Takedowns, repository: TakedownRepository, row: sa.Row[Any], entry: dict[str, Any]
) -> bool:
    known = {(event.what, float(event.ts)) for event in events_of(context.database, [row.id])}
    new = [
        event
        for event in entry.get("events", [])
        if (event["what"], float(event["ts"])) not in known
    ]
    if new:
        repository.add_events(row.id, new)
    is_lifted = STATES.index(entry["state"]) >= LIFTING > STATES.index(row.state)
    if is_lifted:
        # As `reinstate` does: no carrying out of the takedown is under way then.
        with context.database.lock(PUBLISH_LOCK, wait=True):
            lifted = {name: entry[name] for name in ("lifted_by", "lifted_ts") if name in entry}
            repository.change(row.id, state=TakedownState.LIFTING.value, **lifted)
    return bool(new) or is_lifted


def _send(context: Takedowns, shared: SharedBlocklist) -> None:
    _send_takedowns(context.database, shared)
    for source, noted in _unsent_sources(context.database):
        _send_source(context.database, shared, source, noted)


def _send_takedowns(database: Database, shared: SharedBlocklist) -> None:
    acts = takedowns_table(database.sqla_metadata)
    query = sa.select(acts).where(acts.c.unsent > 0).order_by(acts.c.id)
    for rows in pages(database, query, [acts.c.id], TAKEDOWNS_AT_ONCE):
        events: dict[int, list[Any]] = {row.id: [] for row in rows}
        for event in events_of(database, events):
            if event.what in _HOLDS:
                events[event.takedown].append(dict(event._mapping))
        near = near_of(database, events)
        entries = {}
        for row in rows:
            act = Act({name: row._mapping[name] for name in COLUMNS})
            act.near = near.get(row.id, {})
            act.merge({}, [], events[row.id])
            entries[identity(act.columns)] = _entry(act, shared.instance)
        shared.send_takedowns(entries, merge)
        with database.writing() as write:
            for row in rows:
                # What happened to it meanwhile is still to be sent.
                its = sa.and_(acts.c.id == row.id, acts.c.unsent == row.unsent)
                write.execute(sa.update(acts).where(its).values(unsent=0))


def merge(
    known: Mapping[str, Any] | None, entry: Mapping[str, Any], instance: str
) -> dict[str, Any]:
    """What is known of a takedown, completed by what an instance says of it.

    Who reinstated it is said with the ``instance``, where it is the first to say it.
    """
    act = Act()
    if known is not None:
        act.merge(known, [], known.get("events", []))
    lifted = {name: entry[name] for name in ("state", "lifted_ts", "lifted_by") if name in entry}
    if "lifted_by" in lifted and act.columns["lifted_by"] is None:
        lifted["lifted_by"] = f"{lifted['lifted_by']} ({instance})"
    elif act.columns["lifted_by"] is not None:
        lifted = {}
    unchanging = {} if known is not None else {k: v for k, v in entry.items() if k not in lifted}
    near = near_entry({each["hash"]: each["distance"] for each in entry.get("near", [])})
    act.merge(unchanging | lifted | near, [], entry.get("events", []))
    merged = act.as_entry()
    del merged["files"]
    return merged


def _entry(act: Act, instance: str) -> dict[str, Any]:
    """A takedown as other instances need it: in force, or reinstated."""
    columns = act.columns
    is_lifted = act.rank >= LIFTING
    columns["state"] = STATES[LIFTED] if is_lifted else TakedownState.IN_FORCE.value
    if is_lifted:
        columns["lifted_ts"] = columns["lifted_ts"] or time.time()
    columns["instance"] = columns["instance"] or instance
    entry = act.as_entry()
    del entry["files"]
    return entry


def _unsent_sources(database: Database) -> list[tuple[str, str]]:
    state = state_table(database.sqla_metadata)
    begun = state.c.name.startswith(UNSENT, autoescape=True)
    query = sa.select(state.c.name, state.c.value).where(begun).order_by(state.c.name)
    return [(row.name.removeprefix(UNSENT), row.value) for row in database.rows(query)]


def _send_source(database: Database, shared: SharedBlocklist, source: str, noted: str) -> None:
    hashes, state = Blocklist(database).hashes, state_table(database.sqla_metadata)
    columns = [hashes.c[name] for name in SharedHash._fields[:-1]]
    query = sa.select(*columns).where(
        hashes.c.source == source, hashes.c.added_ts >= json.loads(noted)["since_ts"]
    )
    for rows in pages(database, query, columns[:2], ROWS_OF_A_NUMBER):
        shared.send_hashes([SharedHash(*row) for row in rows])
    with database.writing() as write:
        # What was added meanwhile is still to be sent.
        its = sa.and_(state.c.name == UNSENT + source, state.c.value == noted)
        write.execute(sa.delete(state).where(its))


def _note(database: Database, failed: str | None) -> None:
    """Remember since when the shared blocklist cannot be reached; nothing is written otherwise."""
    state = StateRepository(database)
    before = state.get(SHARED_FAILING)
    if failed is None:
        state.set(SHARED_FAILING, None)
    elif before is None or json.loads(before)["error"] != failed:
        since_ts = time.time() if before is None else json.loads(before)["since_ts"]
        state.set(SHARED_FAILING, json.dumps({"since_ts": since_ts, "error": failed}))
