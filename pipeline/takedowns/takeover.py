"""Comparing the journal with the database: each takes over what only the other has.

A database that is new, or restored from an older copy, lacks takedowns and reinstatements that are
in the journal. A journal lacks those of a release that kept none, or of a time when it could not be
written. What is taken over still has to be finished, so that the next ``finish`` removes the
renditions again, or puts back what was reinstated.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from pipeline.database.connection import Database
from pipeline.database.state import StateRepository, state_table
from pipeline.database.transaction import Write
from pipeline.errors import LockstepError
from pipeline.settings.places import check_quarantine
from pipeline.settings.values import Settings
from pipeline.states import TakedownState
from pipeline.storage.listing import keys_below
from pipeline.storage.places import Place
from pipeline.takedowns.blocking import block_near, near_of
from pipeline.takedowns.events import events_of, insert_events
from pipeline.takedowns.journal import (
    COLUMNS,
    FILE_COLUMNS,
    JOURNAL,
    NAME,
    STATES,
    Act,
    Held,
    Journal,
    identity,
    near_entry,
)
from pipeline.takedowns.repository import TakedownRepository

LIFTING = STATES.index(TakedownState.LIFTING.value)


def take_over(
    database: Database, settings: Settings, state: StateRepository | None = None
) -> list[str]:
    """Bring database and journal to the same takedowns; returns warnings for people.

    Where nothing was written since the last time, it costs one ``stat``.

    Raises:
        OutputError: the journal is there and cannot be read; what was taken down is not known.
    """
    journal = Journal(settings.journal_dir)
    remembered = (state or StateRepository(database)).get(JOURNAL)
    found = journal.stamp()
    if found is not None and found == remembered:
        return []
    repository = TakedownRepository(database)
    if found is None and not repository.has_any():
        return _lost(settings.quarantine_place, journal)
    try:
        check_quarantine(settings)
        with journal.held() as held:
            return _compare(database, repository, journal, held, was_there=remembered is not None)
    except LockstepError as error:
        # The database still takes over what it lacks: a full disk can be read.
        return [*_compare(database, repository, journal, None, was_there=False), str(error)]


def has_unknown(database: Database, settings: Settings) -> bool:
    """Whether the journal has lines that the database may lack; writes nothing."""
    found = Journal(settings.journal_dir).stamp()
    return found is not None and found != StateRepository(database).get(JOURNAL)


def _lost(quarantine: Place, journal: Journal) -> list[str]:
    """Warn about originals in a quarantine that no takedown accounts for."""
    if quarantine.is_bucket or not any(key != NAME for key in keys_below(quarantine)):
        return []
    return [
        f"{journal.folder}: originals are kept here, but there is no {NAME} and the database has "
        "no takedowns, so their bytes are no longer blocked; restore the database or the journal "
        "from a copy, or take the originals down again by their SHA-256"
    ]


def _compare(
    database: Database,
    repository: TakedownRepository,
    journal: Journal,
    held: Held | None,
    was_there: bool,
) -> list[str]:
    known, unreadable = journal.read()
    rows, is_new = _acts_of(repository), not known
    merged = _merged(rows, known)
    missing = [act.as_entry() for name, act in merged.items() if act != known.get(name)]
    if held is not None and missing:
        held.append(*missing)
    taken_down = lifted = 0
    with database.writing() as con:
        for name, act in merged.items():
            if name not in rows:
                taken_down += 1
                _insert(con, repository, act)
                continue
            number, row = rows[name]
            if act == row:
                continue
            if row.columns["state"] == TakedownState.LIFTED.value:
                new = [event for key, event in act.events.items() if key not in row.events]
                insert_events(database, con, number, new)
            else:
                lifted += act.rank >= LIFTING > row.rank
                _bring_forward(con, repository, number, act, row)
        if held is not None:
            state = state_table(database.sqla_metadata)
            con.execute(sa.delete(state).where(state.c.name == JOURNAL))
            con.execute(sa.insert(state).values(name=JOURNAL, value=held.stamp()))
    warnings = []
    if was_there and is_new and missing:
        warnings.append(
            f"{journal.file}: the journal of takedowns was missing; "
            f"{_count(len(missing), 'takedown')}"
            " written to a new one. If its disk is not mounted, mount it"
        )
    if taken_down or lifted:
        counts = ((taken_down, "takedown"), (lifted, "reinstatement"))
        what = " and ".join(_count(count, word) for count, word in counts if count)
        warnings.append(
            f"added {what} from the journal {journal.file}: the database lacked them. If "
            "another project keeps its originals there, give each its own PIPELINE_QUARANTINE"
        )
    warnings += [
        f"{journal.file}: line {number} cannot be read and is skipped: it was truncated, or altered"
        for number in unreadable
    ]
    return warnings


def _acts_of(repository: TakedownRepository) -> dict[str, tuple[int, Act]]:
    """Every takedown of the database with its number, by identity."""
    acts: dict[int, Act] = {}
    for row in repository.all_acts():
        acts[row.id] = Act({name: row._mapping[name] for name in COLUMNS})
    for file in repository.all_files():
        if file.takedown in acts:
            values = {name: file._mapping[name] for name in FILE_COLUMNS}
            acts[file.takedown].files[file.kind, file.path] = values
    for event in events_of(repository.database):
        if event.takedown in acts:
            acts[event.takedown].merge({}, [], [dict(event._mapping)])
    for number, near in near_of(repository.database, acts).items():
        acts[number].near = near
    return {identity(act.columns): (number, act) for number, act in acts.items()}


def _merged(rows: dict[str, tuple[int, Act]], known: dict[str, Act]) -> dict[str, Act]:
    merged = {name: copy.deepcopy(act) for name, (_, act) in rows.items()}
    for name, act in known.items():
        files = [{"kind": kind, "path": path} | file for (kind, path), file in act.files.items()]
        merged.setdefault(name, Act()).merge(
            {**act.columns, **near_entry(act.near)}, files, act.events.values()
        )
    return merged


def _insert(con: Write, repository: TakedownRepository, act: Act) -> None:
    values = dict(act.columns)
    if values["state"] == TakedownState.IN_FORCE.value:
        # To be carried out again: an older copy of the database has rows of its renditions.
        values["state"] = TakedownState.REMOVING.value
    done = con.execute(sa.insert(repository.acts).values(values))
    assert done.inserted_primary_key is not None
    number = int(done.inserted_primary_key[0])
    _write_files(con, repository, number, act.files.items())
    insert_events(repository.database, con, number, act.events.values())
    if act.rank < LIFTING:
        block_near(repository.database, con, number, act.near, values["reason"])


def _bring_forward(
    con: Write, repository: TakedownRepository, number: int, act: Act, row: Act
) -> None:
    values, files = dict(act.columns), copy.deepcopy(act.files)
    if values["state"] == TakedownState.IN_FORCE.value:
        values["state"] = row.columns["state"]  # still to be finished, if it is not
    elif values["state"] == TakedownState.LIFTED.value:
        # The rows of its renditions are still to be removed. But what was put back must not be put
        # back twice: its place in the quarantine may belong to another takedown by now.
        values["state"] = TakedownState.LIFTING.value
        for file in files.values():
            if file["restored"] is not None:
                file["kept"] = None
    con.execute(sa.update(repository.acts).where(repository.acts.c.id == number).values(values))
    con.execute(sa.delete(repository.files).where(repository.files.c.takedown == number))
    _write_files(con, repository, number, files.items())
    new = [event for key, event in act.events.items() if key not in row.events]
    insert_events(repository.database, con, number, new)
    if act.rank < LIFTING:
        block_near(repository.database, con, number, act.near, values["reason"])


def _write_files(
    con: Write,
    repository: TakedownRepository,
    number: int,
    files: Iterable[tuple[tuple[str, str], dict[str, Any]]],
) -> None:
    rows = [
        {"takedown": number, "kind": kind, "path": path} | values for (kind, path), values in files
    ]
    if rows:
        con.execute(sa.insert(repository.files), rows)


def _count(count: int, word: str) -> str:
    return f"{count:,} {word}" + ("" if count == 1 else "s")
