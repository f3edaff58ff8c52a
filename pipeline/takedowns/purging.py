"""Purging: originals leave the quarantine for good after so many days, unless they are on hold.

The audit says it before the first file goes, in the journal and then in the database. What is
interrupted after that is finished by the next run.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from pipeline.database.locks import PUBLISH_LOCK
from pipeline.errors import LockstepError, NotFoundError
from pipeline.moderation_tables import takedown_events_table
from pipeline.settings.values import Settings
from pipeline.states import Kind, TakedownEvent, TakedownState
from pipeline.storage.moving import is_at
from pipeline.takedowns.context import Takedowns
from pipeline.takedowns.events import events_of, is_on_hold
from pipeline.takedowns.journal import Journal
from pipeline.takedowns.repository import TakedownRepository

DAY_S = 86_400
# Who is recorded: nobody decided about this one takedown.
BY_SETTING = "PIPELINE_QUARANTINE_DAYS"


def purge_due(context: Takedowns) -> None:
    """Delete what was in the quarantine for longer than the setting allows.

    Nothing happens to what is on hold, and to what is not there, as where a disk is not mounted.

    Raises:
        OutputError: the journal cannot be written; nothing was deleted then.
    """
    settings = context.settings
    repository = TakedownRepository(context.database, Journal(settings.journal_dir))
    for number in _numbers(context, repository, purged=True):
        with context.database.lock(PUBLISH_LOCK, wait=True):
            _delete(context, repository, _kept(repository, number))
    if settings.quarantine_days is None:
        return
    before_ts = time.time() - settings.quarantine_days * DAY_S
    for number in _numbers(context, repository, purged=False, before_ts=before_ts):
        with context.database.lock(PUBLISH_LOCK, wait=True):
            act, kept = repository.act(number), _kept(repository, number)
            if act is None or act.state != TakedownState.IN_FORCE.value:
                continue  # reinstated meanwhile
            there = any(_is_there(settings, row) for row in kept)
            if there and not is_on_hold(context.database, [number]):
                days = f"after {settings.quarantine_days:,} days"
                repository.add_event(number, TakedownEvent.PURGED, BY_SETTING, days)
                _delete(context, repository, kept)


def set_hold(context: Takedowns, number: int, who: str, release: bool = False) -> bool:
    """Put a takedown under legal hold, or release it; false if it is so already.

    Raises:
        NotFoundError: there is no such takedown.
        LockstepError: what it kept was purged before.
        OutputError: the journal cannot be written.
    """
    repository = TakedownRepository(context.database, Journal(context.settings.journal_dir))
    with context.database.lock(PUBLISH_LOCK, wait=True):
        if repository.act(number) is None:
            raise NotFoundError(
                f"{number}: there is no such takedown; `datapipe takedown list` shows their numbers"
            )
        if is_on_hold(context.database, [number]) != release:
            return False
        purged = [
            event
            for event in events_of(context.database, [number])
            if event.what == TakedownEvent.PURGED.value
        ]
        if purged and not release:
            raise LockstepError(
                f"takedown {number}: what it kept was purged; there is nothing left to hold"
            )
        what = TakedownEvent.RELEASED if release else TakedownEvent.LEGAL_HOLD
        repository.add_event(number, what, who)
    return True


def refuse_purge(context: Takedowns, repository: TakedownRepository, sha256: str) -> None:
    """Refuse to delete originals of bytes that are under legal hold.

    Raises:
        LockstepError
    """
    numbers = [act.id for act in repository.acts_on(sha256)]
    held = [number for number in numbers if is_on_hold(context.database, [number])]
    if held:
        raise LockstepError(
            f"{sha256}: this content is under legal hold and cannot be purged; take it down "
            f"without --purge, or release it: `datapipe takedown legal-hold {held[0]} --release`"
        )


def _numbers(
    context: Takedowns,
    repository: TakedownRepository,
    purged: bool,
    before_ts: float | None = None,
) -> Sequence[int]:
    """Takedowns in force that keep something, and of which a purge was recorded or not."""
    acts, files = repository.acts, repository.files
    events = takedown_events_table(context.database.sqla_metadata)
    keeps = sa.select(files.c.path).where(files.c.takedown == acts.c.id, *_keeps(files))
    # Few are: those of which a purge was recorded are looked up, not all takedowns.
    is_purged = acts.c.id.in_(
        sa.select(events.c.takedown).where(events.c.what == TakedownEvent.PURGED.value)
    )
    query = sa.select(acts.c.id).where(
        acts.c.state == TakedownState.IN_FORCE.value,
        keeps.exists(),
        is_purged if purged else ~is_purged,
    )
    if before_ts is not None:
        query = query.where(acts.c.created_ts < before_ts)
    return context.database.column(query.order_by(acts.c.id))


def _keeps(files: sa.Table) -> list[sa.ColumnElement[bool]]:
    is_original = files.c.kind == Kind.ORIGINAL.value
    return [is_original, files.c.kept.is_not(None), files.c.restored.is_(None)]


def _kept(repository: TakedownRepository, number: int) -> list[sa.Row[Any]]:
    return [
        row
        for row in repository.files_of([number])
        if row.kind == Kind.ORIGINAL.value and row.kept is not None and row.restored is None
    ]


def _is_there(settings: Settings, row: sa.Row[Any]) -> bool:
    return is_at(settings.quarantine_place, row.kept)


def _delete(
    context: Takedowns, repository: TakedownRepository, kept: Sequence[sa.Row[Any]]
) -> None:
    """Delete files whose purge is recorded; after that the database says nothing of a place."""
    for row in kept:
        context.settings.quarantine_store.erase(row.kept)
        repository.forget_place(row.takedown, row.path)
