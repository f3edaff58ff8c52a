"""The webhook of moderation: takedowns, reinstatements, reports, holds, and what was decided.

The tables of takedowns and reviews say what happened, also what a command did; ``notices`` says
what was sent of that. So nothing has to be written in the moment of an act, and a kill loses no
event. One that is being sent is claimed for a while: a receiver gets it twice only if the claimant
was killed after sending it, and then with the same id.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from pipeline.database.connection import Database
from pipeline.database.state import NOTICES_SINCE, StateRepository
from pipeline.moderation_tables import notices_table, reviews_table, takedowns_table
from pipeline.states import Notice, ReviewKind, ReviewState, TakedownState, WebhookState
from pipeline.takedowns.acts import takedowns
from pipeline.takedowns.context import Takedowns
from pipeline.text import iso

if TYPE_CHECKING:
    from pipeline.fetch.delivery import Delivery

# What happened so long before the webhook was first configured is sent as well: the first act may
# come before the first run.
BEFORE_S = 3_600.0
# What is older than this and was sent is forgotten.
REMEMBERED_S = 86_400.0
TRIES = 10
FIRST_WAIT_S, LONGEST_WAIT_S = 60.0, 6 * 3_600.0
# Sent by one call; the rest by the next.
AT_ONCE = 1_000
# A claim outlasts the delivery by so much.
SPARE_S = 60.0

_sending = threading.Lock()


class _Due(NamedTuple):
    event: Notice
    subject: int
    ts: float

    @property
    def message_id(self) -> str:
        """Equal for the same event, in each process that may send it."""
        named = f"{self.event.value} {self.subject} {self.ts!r}".encode()
        return f"msg_{hashlib.blake2b(named, digest_size=16).hexdigest()}"


def notices_due(context: Takedowns) -> Callable[[], threading.Thread] | None:
    """Starts sending what happened, in a thread; ``None`` where nobody wants to know."""
    if not _is_wanted(context):
        return None

    def start() -> threading.Thread:
        # A daemon: the caller decides whether to wait before the process ends (`Report.join`).
        thread = threading.Thread(target=send_notices, args=(context,), name="notices", daemon=True)
        thread.start()
        return thread

    return start


def send_notices(context: Takedowns, deadline_s: float | None = None) -> int:
    """Send what happened and was not sent, oldest first; returns how many were delivered.

    Ends at the first that cannot be delivered now. Nothing happens where no webhook is configured,
    or another thread of this process is sending.
    """
    if not _is_wanted(context) or not _sending.acquire(blocking=False):
        return 0
    try:
        longest_s = context.settings.jobs.webhook_timeout_s
        return _send(context, min(deadline_s or longest_s, longest_s))
    finally:
        _sending.release()


def _is_wanted(context: Takedowns) -> bool:
    """Whether a webhook is configured; remembers since when."""
    state = StateRepository(context.database)
    if not context.settings.moderation_webhook:
        state.set(NOTICES_SINCE, None)
        return False
    if state.get(NOTICES_SINCE) is None:
        state.set(NOTICES_SINCE, repr(time.time() - BEFORE_S))
    return True


def _send(context: Takedowns, deadline_s: float) -> int:
    # Imported here: who notifies nobody does not speak HTTP, which costs 150 ms.
    from pipeline.fetch.delivery import deliver

    settings, delivered = context.settings, 0
    due = _due(context.database)
    for each in due:
        tries = _claim(context.database, each, deadline_s)
        if tries is None:
            continue  # another process sends it
        delivery = deliver(
            settings.moderation_webhook,
            _body(context, each),
            settings.moderation_webhook_secret,
            settings.fetch,
            message_id=each.message_id,
            deadline_s=deadline_s,
        )
        _note(context.database, each, tries, delivery)
        delivered += delivery.delivered
        code = delivery.http_code
        if not delivery.delivered and (code is None or code == 429 or code >= 500):
            return delivered  # it would refuse the others as well
    if not due:
        _forget_old(context.database)
    return delivered


def _due(database: Database) -> list[_Due]:
    acts, reviews = (table(database.sqla_metadata) for table in (takedowns_table, reviews_table))
    notices, now = notices_table(database.sqla_metadata), time.time()
    since = float(StateRepository(database).get(NOTICES_SINCE) or now)
    is_lifted = acts.c.state == TakedownState.LIFTED.value
    is_decided = reviews.c.state != ReviewState.OPEN.value
    found: list[_Due] = []
    for event, table, ts, condition in (
        (Notice.TAKEDOWN, acts, acts.c.created_ts, sa.true()),
        (Notice.REINSTATEMENT, acts, acts.c.lifted_ts, is_lifted),
        (Notice.HOLD, reviews, reviews.c.created_ts, reviews.c.kind == ReviewKind.HELD.value),
        (Notice.REPORT, reviews, reviews.c.created_ts, reviews.c.kind == ReviewKind.REPORTED.value),
        (Notice.DECISION, reviews, reviews.c.decided_ts, is_decided),
        (Notice.UNDONE, reviews, reviews.c.undone_ts, sa.true()),
    ):
        its = sa.and_(
            notices.c.event == event.value, notices.c.subject == table.c.id, notices.c.ts == ts
        )
        is_open = sa.and_(notices.c.state == WebhookState.PENDING.value, notices.c.next_ts <= now)
        query = (
            sa.select(table.c.id, ts)
            .select_from(table.outerjoin(notices, its))
            .where(ts > since, condition, sa.or_(notices.c.event.is_(None), is_open))
            .order_by(ts)
            .limit(AT_ONCE)
        )
        found += [_Due(event, number, float(when)) for number, when in database.rows(query)]
    return sorted(found, key=lambda each: each.ts)[:AT_ONCE]


def _claim(database: Database, due: _Due, deadline_s: float) -> int | None:
    """Take an event for this process; returns the number of tries, ``None`` if it is taken."""
    notices, now = notices_table(database.sqla_metadata), time.time()
    key = {"event": due.event.value, "subject": due.subject, "ts": due.ts}
    new = key | {"state": WebhookState.PENDING.value, "tries": 0, "next_ts": 0.0}
    its = _is_row(notices, due)
    is_free = sa.and_(notices.c.state == WebhookState.PENDING.value, notices.c.next_ts <= now)
    with database.writing() as write:
        write.execute(database.insert(notices).values(new).on_conflict_do_nothing())
        claimed = sa.update(notices).where(its, is_free)
        until_ts = now + deadline_s + SPARE_S
        values = {"next_ts": until_ts, "tries": notices.c.tries + 1}
        if not write.execute(claimed.values(values)).rowcount:
            return None
        return int(write.execute(sa.select(notices.c.tries).where(its)).scalar_one())


def _note(database: Database, due: _Due, tries: int, delivery: Delivery) -> None:
    notices = notices_table(database.sqla_metadata)
    values: dict[str, Any] = {"reason": delivery.reason or None}
    if delivery.delivered:
        values["state"] = WebhookState.DELIVERED.value
    elif tries >= TRIES:
        values["state"] = WebhookState.FAILED.value
    else:
        wait_s = min(FIRST_WAIT_S * 2 ** (tries - 1), LONGEST_WAIT_S)
        values["next_ts"] = time.time() + wait_s
    with database.writing() as write:
        write.execute(sa.update(notices).where(_is_row(notices, due)).values(values))


def _forget_old(database: Database) -> None:
    """Look no further back than a day, where all before is settled: the tables keep growing."""
    notices = notices_table(database.sqla_metadata)
    before_ts = time.time() - REMEMBERED_S
    state = StateRepository(database)
    is_old = notices.c.ts <= before_ts
    is_pending = notices.c.state == WebhookState.PENDING.value
    if float(state.get(NOTICES_SINCE) or 0.0) >= before_ts:
        return
    if database.first(sa.select(notices.c.subject).where(is_old, is_pending).limit(1)):
        return
    if database.first(sa.select(notices.c.subject).where(is_old).limit(1)) is None:
        return
    state.set(NOTICES_SINCE, repr(before_ts))
    with database.writing() as write:
        write.execute(sa.delete(notices).where(is_old))


def _is_row(notices: sa.Table, due: _Due) -> sa.ColumnElement[bool]:
    return sa.and_(
        notices.c.event == due.event.value,
        notices.c.subject == due.subject,
        notices.c.ts == due.ts,
    )


def _body(context: Takedowns, due: _Due) -> dict[str, Any]:
    """What is sent: the entry of the audit, or the row of the review."""
    return {"type": due.event.value, "timestamp": iso(due.ts), "data": _data(context, due)}


def _data(context: Takedowns, due: _Due) -> dict[str, Any]:
    if due.event in (Notice.TAKEDOWN, Notice.REINSTATEMENT):
        (act,) = takedowns(context, limit=1, before=due.subject + 1)
        return act
    reviews = reviews_table(context.database.sqla_metadata)
    row = context.database.first(sa.select(reviews).where(reviews.c.id == due.subject))
    assert row is not None
    times = {name: row._mapping[f"{name}_ts"] for name in ("created", "decided", "undone")}
    said = {name: value for name, value in row._mapping.items() if not name.endswith("_ts")}
    return said | {name: None if ts is None else iso(ts) for name, ts in times.items()}
