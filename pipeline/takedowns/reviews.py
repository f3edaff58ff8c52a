"""Reviews: what was held or reported waits for a person, who publishes it or takes it down.

1. A decision is one change of the rows that are open: of two people at once, one alone makes it.
2. To take down: the takedown is made, and then its number recorded in the rows. Interrupted in
   between, the rows say what was decided, by whom and why, and the next run makes the takedown.
3. To undo that: the takedown is reinstated, and then the rows are open again. Interrupted in
   between, the next run finds that the takedown is reinstated, and opens them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from pipeline.database.locks import REVIEW_LOCK
from pipeline.errors import DecidedError, LockstepError, NotFoundError
from pipeline.names import key_of
from pipeline.states import ReviewKind, ReviewState, State, TakedownState
from pipeline.takedowns.acts import TEXT_MAX, reinstate, take_down
from pipeline.takedowns.context import Takedowns
from pipeline.takedowns.holds import release
from pipeline.takedowns.repository import TakedownRepository
from pipeline.takedowns.review_rows import ReviewRepository
from pipeline.takedowns.twins import count_lookalikes, count_twins
from pipeline.text import iso

WORDS = {ReviewState.PUBLISHED.value: "published", ReviewState.TAKEN_DOWN.value: "taken down"}


@dataclass(frozen=True)
class Reported:
    """What became of a report: the number of the review, and how many reports it has so far."""

    id: int
    sha256: str
    reports: int

    def as_json(self) -> dict[str, Any]:
        """The response of ``POST /reports``."""
        return asdict(self)


def report(context: Takedowns, target: str, reason: str, who: str) -> Reported:
    """Report an original, by its path or the SHA-256 of its content, for a person to look at.

    Raises:
        NotFoundError: nothing of that name is known; nothing is stored.
        DecidedError: it was taken down already; nothing is stored.
    """
    reason, who = _said("reason", reason), _said("name", who)
    found = next(_content(context, target), None)
    blocked = TakedownRepository(context.database).blocked_among([found[0] if found else target])
    if blocked:
        raise DecidedError(f"{target}: this was already {next(iter(blocked.values()))}")
    if found is None:
        raise NotFoundError(
            f"{target}: there is no such original; give its path, or the SHA-256 of its content"
        )
    sha256, source, path = found
    number, count = ReviewRepository(context.database).add_report(sha256, source, path, reason, who)
    return Reported(number, sha256, count)


def open_reviews(
    context: Takedowns,
    after: int = 0,
    limit: int = 50,
    kind: str = "",
    at: int = 0,
    look_alike: bool = False,
) -> list[dict[str, Any]]:
    """What waits for a person, the oldest first; ``after`` is the last ``id`` of the page before.

    ``kind`` narrows it to what is held, or was reported; ``at`` is the first ``id`` of the page.
    With ``look_alike`` the originals that look like each are counted, which takes a while.
    """
    repository = ReviewRepository(context.database)
    rows, of_content = repository.page(after, limit, kind, at)
    digests = [row.sha256 for row in rows]
    twins = count_twins(context, digests)
    alike = count_lookalikes(context, digests) if look_alike else {}
    return [
        as_json(row, of_content.get(row.sha256, [row]))
        | {"twins": twins[row.sha256], "lookalikes": alike.get(row.sha256)}
        for row in rows
    ]


def decided_reviews(context: Takedowns, limit: int) -> list[dict[str, Any]]:
    """The last decisions, newest first."""
    rows = ReviewRepository(context.database).decided(limit)
    return [as_json(row, [row]) for row in rows]


def waiting(context: Takedowns) -> dict[str, int]:
    """How much content waits: ``open`` in all, and what is ``held`` and ``reported`` of it."""
    return ReviewRepository(context.database).waiting()


def publish(context: Takedowns, number: int, who: str, note: str = "") -> dict[str, Any]:
    """Publish the content of a review, for good: it is never held again. The next run renders it.

    Raises:
        NotFoundError: there is no such review.
        DecidedError: somebody has decided it already, or a list blocks its content.
    """
    repository = ReviewRepository(context.database)
    row = _row(repository, number)
    repository.settle(repository.blocked_while_open(row.sha256))
    blocked = TakedownRepository(context.database).blocked_among([row.sha256])
    if blocked and _row(repository, number).state == ReviewState.OPEN.value:
        raise DecidedError(
            f"review {number}: its content is {blocked[row.sha256]}; take it down, or remove the "
            "list first"
        )
    decided = _decide(repository, number, ReviewState.PUBLISHED, who, "", note)
    release(context, row.sha256)
    return as_json(decided, [decided])


def take_down_reviewed(
    context: Takedowns, number: int, who: str, category: str, reason: str
) -> dict[str, Any]:
    """Take the content of a review down: every original of it, by :func:`take_down`.

    ``category`` is a word of ``PIPELINE_REASONS``, ``reason`` a text of the person's own; one of
    both may be empty.

    Raises:
        NotFoundError: there is no such review.
        DecidedError: somebody has decided it already.
        LockstepError: see :func:`take_down`. If its bytes are not blocked, the review is open
            again.
    """
    _said("reason", _reason_of(category, reason))
    repository = ReviewRepository(context.database)
    with context.database.lock(REVIEW_LOCK, wait=True):
        row = _row(repository, number)
        repository.settle(repository.blocked_while_open(row.sha256))
        decided = _decide(repository, number, ReviewState.TAKEN_DOWN, who, category, reason)
        _carry_out(context, repository, decided)
    decided = _row(repository, number)
    return as_json(decided, [decided])


def undo(context: Takedowns, number: int, who: str) -> dict[str, Any]:
    """Open a review again: its takedown is reinstated, or its publication taken back.

    Raises:
        NotFoundError: there is no such review.
        DecidedError: it is open; somebody has undone it already.
        LockstepError: see :func:`reinstate`; nothing is undone then.
    """
    who = _said("name", who)
    repository = ReviewRepository(context.database)
    with context.database.lock(REVIEW_LOCK, wait=True):
        decided = _row(repository, number)
        if decided.state == ReviewState.TAKEN_DOWN.value and decided.takedown is not None:
            act = TakedownRepository(context.database).act(decided.takedown)
            if act is not None and act.state != TakedownState.LIFTED.value:
                reinstate(context, str(decided.takedown), who)
        if decided.state == ReviewState.OPEN.value or not repository.reopen(decided, who):
            raise DecidedError(_what_happened(_row(repository, number)))
    if decided.state == ReviewState.PUBLISHED.value:
        release(context, decided.sha256, State.OK)
    row = _row(repository, number)
    return as_json(row, [row])


def finish_reviews(context: Takedowns) -> list[str]:
    """Bring reviews in step with takedowns; returns what cannot be done yet, as warnings.

    A decision that was interrupted is carried out; one whose takedown was reinstated is open again;
    one whose content was taken down in another way is closed.
    """
    repository = ReviewRepository(context.database)
    if not (
        repository.without_takedown() or repository.reinstated() or repository.blocked_while_open()
    ):
        return []
    warnings = []
    # While another process holds it, that process is still working on them.
    with context.database.lock(REVIEW_LOCK, wait=True):
        for decided in repository.reinstated():
            repository.reopen(decided, decided.lifted_by)
        repository.settle(repository.blocked_while_open())
        for decided in repository.without_takedown():
            try:
                _carry_out(context, repository, decided)
            except LockstepError as error:
                warnings.append(f"review {decided.id} is not finished: {error}")
    return warnings


def _carry_out(context: Takedowns, repository: ReviewRepository, decided: sa.Row[Any]) -> None:
    """Make the takedown that was decided, unless it is there; harmless if already done."""
    acts = TakedownRepository(context.database)

    def in_force() -> int | None:
        known = acts.acts_on(decided.sha256)
        numbers = [act.id for act in known if act.state != TakedownState.LIFTED.value]
        return numbers[-1] if numbers else None

    number = in_force()
    try:
        if number is None:
            reason = _reason_of(decided.category, decided.decision)
            number = take_down(context, decided.sha256, reason, decided.decided_by).id
    except LockstepError:
        number = in_force()
        if number is None:
            repository.reopen(decided)
        raise
    finally:
        if number is not None:
            repository.link(decided, number)


def _decide(
    repository: ReviewRepository,
    number: int,
    state: ReviewState,
    who: str,
    category: str,
    note: str,
) -> sa.Row[Any]:
    is_ours = repository.decide(
        number, state, _said("name", who), category, key_of(note.strip().replace("\0", ""))
    )
    row = _row(repository, number)
    if not is_ours:
        raise DecidedError(_what_happened(row))
    return row


def _row(repository: ReviewRepository, number: int) -> sa.Row[Any]:
    row = repository.get(number)
    if row is None:
        raise NotFoundError(
            f"review {number}: there is no such review; `datapipe review list` shows their numbers"
        )
    return row


def _what_happened(row: sa.Row[Any]) -> str:
    """Who did what, for somebody who comes second."""
    if row.state == ReviewState.OPEN.value:
        if row.undone_by is None:
            return f"review {row.id}: nothing is decided yet"
        return f"review {row.id}: {row.undone_by} has undone it ({iso(row.undone_ts)})"
    return (
        f"review {row.id}: already {WORDS[row.state]} by {row.decided_by} ({iso(row.decided_ts)})"
    )


def _reason_of(category: str | None, reason: str | None) -> str:
    return ": ".join(filter(None, ((category or "").strip(), (reason or "").strip())))


def _content(context: Takedowns, target: str) -> Iterator[tuple[str, str, str]]:
    """SHA-256, source and path of the originals that ``target`` may mean.

    What was last rendered or looked at: that is what somebody saw who reports it.
    """
    for step in context.renders:
        for table in step.pending.tables:
            for column in (table.c.path, table.c.sha256):
                query = sa.select(table.c.sha256, table.c.source, table.c.path).where(
                    column == (target.lower() if column is table.c.sha256 else target),
                    table.c.sha256.is_not(None),
                )
                for row in context.database.rows(query.order_by(table.c.path).limit(1)):
                    yield tuple(row)


def as_json(row: sa.Row[Any], of_content: Sequence[sa.Row[Any]]) -> dict[str, Any]:
    """A review as ``datapipe review list --json`` prints it; ``of_content`` are all of its rows."""
    held = next((each for each in of_content if each.kind == ReviewKind.HELD.value), None)
    said = [each for of in of_content for each in _reports_of(of)]
    return {
        "id": row.id,
        "state": row.state,
        "kinds": [
            kind.value
            for kind, is_so in ((ReviewKind.HELD, held), (ReviewKind.REPORTED, said))
            if is_so
        ],
        "sha256": row.sha256,
        "source": row.source,
        "path": row.path,
        "when": iso(row.created_ts),
        "near": held and {"hash": held.near, "source": held.near_source, "distance": held.distance},
        "reports": sum(each.reports for each in of_content),
        "said": said,
        "category": row.category,
        "decision": row.decision,
        "decided": None if row.decided_ts is None else iso(row.decided_ts),
        "decided_by": row.decided_by,
        "takedown": row.takedown,
        "undone": None if row.undone_ts is None else iso(row.undone_ts),
        "undone_by": row.undone_by,
    }


def _reports_of(row: sa.Row[Any]) -> list[dict[str, str]]:
    said = json.loads(row.later_reports or "[]")
    if row.reason is not None:
        said.insert(0, {"reason": row.reason, "who": row.who or "", "at": row.created_ts})
    return [
        {"reason": each["reason"], "who": each["who"], "when": iso(each["at"])} for each in said
    ]


def _said(what: str, text: str) -> str:
    said = key_of(text.strip().replace("\0", ""))
    if not said:
        raise LockstepError(f"a review needs a {what}: it is recorded")
    if len(said) > TEXT_MAX:
        raise LockstepError(f"the {what} has {len(said):,} characters; {TEXT_MAX:,} are allowed")
    return said
