"""Doing what a bulk asks for, one original after the other, beside everything else.

Each original is recorded as done only after it is. Killed in between, the next worker finds it
waiting, sees that it is done already, and goes on with the one after it. The locks of runs are
taken for one original at a time, so nothing waits for the bulk as a whole.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import sqlalchemy as sa

from pipeline.app import Lockstep
from pipeline.database.locks import BULK_LOCK
from pipeline.errors import DecidedError, LockstepError, NotFoundError
from pipeline.moderation_tables import reviews_table
from pipeline.operations.bulks import BulkRepository
from pipeline.operations.retry import retry_originals
from pipeline.states import (
    BulkAct,
    BulkItemState,
    BulkState,
    ReviewState,
    Source,
    TakedownState,
)
from pipeline.takedowns import finish, reinstate, take_down
from pipeline.takedowns.repository import TakedownRepository
from pipeline.takedowns.reviews import publish

log = logging.getLogger("lockstep.bulk")

# Originals that are looked up at once; a retry also records them at once.
AT_ONCE = 500

# How one ended: itself, why it failed if it did, and its takedown if it has one.
Outcome: TypeAlias = "tuple[sa.Row[Any], str | None, int | None]"
Doer: TypeAlias = Callable[[Lockstep, "sa.Row[Any]", "Sequence[sa.Row[Any]]"], Iterator[Outcome]]


def work(
    app: Lockstep,
    is_stopping: Callable[[], bool] = lambda: False,
    moved: Callable[[sa.Row[Any]], None] = lambda bulk: None,
    wait: bool = False,
) -> None:
    """Do what is left of every bulk, the first one first; ``moved`` is called with its progress.

    With ``wait`` it waits for another process that does the same.

    Raises:
        LockedError: another process does it.
        DatabaseError: the database cannot be used; what is done is recorded.
    """
    repository = BulkRepository(app.database)
    with app.database.lock(BULK_LOCK, wait=wait):
        for number in repository.unfinished():
            if is_stopping():
                return
            with _explained(app):
                _work_on(app, repository, number, is_stopping, moved)


def _work_on(
    app: Lockstep,
    repository: BulkRepository,
    number: int,
    is_stopping: Callable[[], bool],
    moved: Callable[[sa.Row[Any]], None],
) -> None:
    while True:
        bulk = repository.bulk(number)
        if bulk is None or bulk.state != BulkState.RUNNING.value:
            return
        rows = repository.items_of(number, AT_ONCE, state=BulkItemState.WAITING)
        if not rows:
            if repository.change(number, BulkState.RUNNING, BulkState.DONE):
                ended = repository.bulk(number)
                assert ended is not None
                moved(ended)
            return
        moved(bulk)
        outcomes: list[Outcome] = []
        for outcome in DOERS[BulkAct(bulk.act)](app, bulk, rows):
            outcomes.append(outcome)
            if BulkAct(bulk.act) is not BulkAct.RETRY:
                repository.settle(outcomes)
                outcomes = []
                now = repository.bulk(number)
                if now is None or now.state != BulkState.RUNNING.value or is_stopping():
                    return
                moved(now)
        repository.settle(outcomes)
        if is_stopping():
            return


def _take_down(app: Lockstep, bulk: sa.Row[Any], rows: Sequence[sa.Row[Any]]) -> Iterator[Outcome]:
    repository = TakedownRepository(app.database)
    for row in rows:
        taken = _taken_already(app, repository, row)
        if taken is not None:
            yield row, None, taken
            continue
        # The content that the person saw: another file may have the name by now.
        target = row.sha256 or app.settings.input_store.path_of(row.path)
        try:
            done = take_down(app.takedowns, target, bulk.reason, bulk.who, bulk.purge)
        except LockstepError as error:
            yield row, _why_not(row, error), None
        else:
            yield row, None, done.id


def _taken_already(app: Lockstep, repository: TakedownRepository, row: sa.Row[Any]) -> int | None:
    """The takedown that has removed this original: an identical one's, or one before a kill."""
    if row.sha256 is None:
        return None
    acts = [
        act for act in repository.acts_on(row.sha256) if act.state != TakedownState.LIFTED.value
    ]
    if any(act.state == TakedownState.REMOVING.value for act in acts):
        finish(app.takedowns)
    is_there = row.source == Source.INPUT.value and app.settings.input_store.look_at(row.path)
    return acts[-1].id if acts and not is_there else None


def _reinstate(app: Lockstep, bulk: sa.Row[Any], rows: Sequence[sa.Row[Any]]) -> Iterator[Outcome]:
    for row in rows:
        try:
            reinstate(app.takedowns, str(row.takedown), bulk.who)
        except NotFoundError:
            pass  # it was reinstated already: with an identical one, or before a kill
        except LockstepError as error:
            yield row, _why_not(row, error), row.takedown
            continue
        yield row, None, row.takedown


def _publish(app: Lockstep, bulk: sa.Row[Any], rows: Sequence[sa.Row[Any]]) -> Iterator[Outcome]:
    reviews = reviews_table(app.database.sqla_metadata)
    for row in rows:
        query = sa.select(reviews.c.id, reviews.c.state).where(reviews.c.sha256 == row.sha256)
        last = app.database.first(query.order_by(reviews.c.id.desc()).limit(1))
        note = None
        try:
            if last is None:
                note = "it was neither held nor reported"
            elif last.state != ReviewState.PUBLISHED.value:
                publish(app.takedowns, last.id, bulk.who)
        except DecidedError:
            note = "somebody has decided otherwise meanwhile"
        except LockstepError as error:
            note = _why_not(row, error)
        yield row, note, None


def _retry(app: Lockstep, bulk: sa.Row[Any], rows: Sequence[sa.Row[Any]]) -> Iterator[Outcome]:
    for source in Source:
        ours = [row for row in rows if row.source == source.value]
        if ours:
            retry_originals(app.render.pending_of[source], [row.path for row in ours])
        yield from ((row, None, None) for row in ours)


# To do another thing with many originals, add its word to `BulkAct`, and how it is done here.
DOERS: dict[BulkAct, Doer] = {
    BulkAct.TAKE_DOWN: _take_down,
    BulkAct.REINSTATE: _reinstate,
    BulkAct.PUBLISH: _publish,
    BulkAct.RETRY: _retry,
}


def _why_not(row: sa.Row[Any], error: LockstepError) -> str:
    # The message may name folders of this machine, which not everybody who sees the page may know.
    log.warning("bulk %d: %s: %s", row.bulk, row.path, error)
    if isinstance(error, NotFoundError):
        return "it is not there any more"
    return "it could not be done; the log says why"


@contextmanager
def _explained(app: Lockstep) -> Iterator[None]:
    try:
        yield
    except sa.exc.SQLAlchemyError as error:
        raise app.database.explain(error) from error
