"""Taking down and reinstating: what people request, in steps that can be interrupted anywhere.

1. The takedown is written into the journal, then its row: from here on its SHA-256 is blocked,
   whatever happens, even to the database.
2. Renditions go, file first, row second. The publish lock keeps a run in progress from publishing
   the same bytes meanwhile; the run lock is not needed.
3. Originals of the same bytes go into the quarantine, each recorded before it is moved.
4. The row says that the takedown is in force.

What is interrupted is finished by the next run or the next takedown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import sqlalchemy as sa

from pipeline.database.locks import PUBLISH_LOCK
from pipeline.errors import AlreadyReinstatedError, LockstepError, NotFoundError
from pipeline.names import key_of
from pipeline.settings.places import check_quarantine
from pipeline.states import Kind, TakedownState
from pipeline.takedowns.audit import Wanted
from pipeline.takedowns.context import Takedowns
from pipeline.takedowns.events import events_of
from pipeline.takedowns.journal import Journal
from pipeline.takedowns.near import Lookalikes
from pipeline.takedowns.pages import page
from pipeline.takedowns.purging import refuse_purge
from pipeline.takedowns.removing import carry_out, renditions_of
from pipeline.takedowns.repository import NewAct, TakedownRepository, new_act
from pipeline.takedowns.restoring import put_back
from pipeline.takedowns.sharing import exchange, send
from pipeline.takedowns.takeover import take_over
from pipeline.takedowns.targets import SHA256, Target, resolve
from pipeline.text import iso

TEXT_MAX = 2_000


@dataclass
class TakenDown:
    """What a takedown did. ``originals`` are below ``input/``; ``renditions`` a number of files.

    ``near`` are the takedowns of what looks like it.
    """

    id: int
    sha256: str
    originals: list[str]
    renditions: int
    near: list[TakenDown] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The result of ``datapipe takedown --json``."""
        return asdict(self)


@dataclass
class Reinstated:
    """What was put back, as paths below ``input/``.

    ``set_apart``: from the old path to the new one, where another file has taken its place.
    ``missing``: no longer kept, for example after a purge.
    """

    sha256: str
    takedowns: list[int]
    originals: list[str] = field(default_factory=list)
    set_apart: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The result of ``datapipe takedown reinstate --json``."""
        return asdict(self)


def take_down(
    context: Takedowns,
    target: str,
    reason: str,
    who: str,
    purge: bool = False,
    near: Lookalikes | None = None,
    legal_hold: bool = False,
) -> TakenDown:
    """Take an original, and every other one of the same bytes, out of ``input/`` for good.

    ``target`` is a path below ``input/`` or a SHA-256. With ``near``, which was made of it, what
    looks like it is blocked as well, and all that was ``found`` is taken down. The originals are
    kept in the quarantine folder, or deleted with ``purge``; their renditions are deleted. A
    SHA-256 that no original has is blocked as well. With ``legal_hold`` what is kept is never
    purged.

    Raises:
        NotFoundError: there is no such original.
        LockstepError: it is to be purged, and is under legal hold.
        SettingsError: the quarantine folder is inside the input or output folder.
        OutputError: a file cannot be removed, or the journal cannot be written, and then no file
            was touched; the bytes are blocked, and the next run tries again.
    """
    reason, who = _said("reason", reason), _said("name", who)
    check_quarantine(context.settings)
    repository = _writing_repository(context)
    try:
        take_over(context.database, context.settings)
        exchange(context)
        finish(context)
        wanted = resolve(context, target) if near is None else near.target
        if purge:
            refuse_purge(context, repository, wanted.sha256)
        hashes = {} if near is None else near.hashes
        acts = [_new_act(context, wanted, target, reason, who, purge, hashes, legal_hold)]
        for each in near.found if near is not None else []:
            if purge:
                refuse_purge(context, repository, each.sha256)
            why = f"{reason} (looks like {target}: {each.distance} of 256 bits differ)"
            also = Target(each.sha256, each.size_bytes)
            why = why[:TEXT_MAX]
            acts.append(_new_act(context, also, each.path, why, who, purge, legal_hold=legal_hold))
        # All of them at once: whatever stops this now, the next run finishes it.
        numbers = repository.add(*acts)
        # Before it takes its time here: other instances have the same to do.
        send(context)
        verified = {} if wanted.found is None else {wanted.found.path: wanted.found}
        for number in numbers:
            carry_out(context, repository, number, verified if number == numbers[0] else {})
        first, *others = [_taken_down(repository, number) for number in numbers]
    except sa.exc.SQLAlchemyError as error:
        raise context.database.explain(error) from error
    return replace(first, near=others)


def _new_act(
    context: Takedowns,
    wanted: Target,
    target: str,
    reason: str,
    who: str,
    purge: bool,
    near: Mapping[str, int] | None = None,
    legal_hold: bool = False,
) -> NewAct:
    originals = [] if wanted.path is None else [wanted.path]
    renditions = renditions_of(context, wanted.sha256, originals)
    return new_act(
        wanted.sha256,
        wanted.size_bytes,
        key_of(target),
        reason,
        who,
        purge,
        originals,
        renditions,
        near,
        legal_hold,
    )


def _taken_down(repository: TakedownRepository, number: int) -> TakenDown:
    act, files = repository.act(number), repository.files_of([number])
    assert act is not None
    return TakenDown(
        number,
        act.sha256,
        [row.path for row in files if row.kind == Kind.ORIGINAL.value and row.removed],
        sum(row.kind == Kind.RENDITION.value for row in files),
    )


def reinstate(context: Takedowns, id_or_sha256: str, who: str) -> Reinstated:
    """Put the originals of a takedown back and allow renditions of their bytes again.

    Every takedown of the same bytes is reinstated: they cannot be half blocked. The next run
    renders.

    Raises:
        NotFoundError: there is no such takedown.
        AlreadyReinstatedError: somebody else did, and nothing is left to do.
        OutputError: an original cannot be put back, or the journal cannot be written; the bytes
            stay blocked until all of them are.
    """
    who = _said("name", who)
    repository = _writing_repository(context)
    try:
        take_over(context.database, context.settings)
        exchange(context)
        finish(context)
        folder = context.settings.input_place.folder
        # Of two people at once, the audit names one, and the other is told who that was.
        with context.database.lock(PUBLISH_LOCK, wait=True):
            acts = _acts_to_reinstate(repository, id_or_sha256)
            if folder is not None and not folder.is_dir():
                raise LockstepError(
                    f"{folder}: the input folder is missing; mount it and try again"
                )
            for act in acts:
                if act.state != TakedownState.LIFTING.value:
                    repository.change(act.id, state=TakedownState.LIFTING.value, lifted_by=who)
        send(context)
        lifted = Reinstated(acts[0].sha256, [act.id for act in acts])
        for act in acts:
            put_back(context, repository, act.id)
        for row in repository.files_of(lifted.takedowns):
            if row.kind == Kind.ORIGINAL.value and row.removed:
                if row.restored is None:
                    lifted.missing.append(row.path)
                    continue
                lifted.originals.append(row.restored)
                if row.restored != row.path:
                    lifted.set_apart[row.path] = row.restored
    except sa.exc.SQLAlchemyError as error:
        raise context.database.explain(error) from error
    return lifted


def takedowns(
    context: Takedowns,
    limit: int = 100,
    before: int | None = None,
    wanted: Wanted | None = None,
    folded: bool = False,
) -> list[dict[str, Any]]:
    """The audit, newest takedown first; ``before`` is the last ``id`` of the page before.

    ``folded``: of many that were taken down at once only the last one; its ``bulk`` has the rest.
    """
    repository = TakedownRepository(context.database)
    acts = page(context.database, limit, before, wanted, folded)
    by_number: dict[int, list[Any]] = {act.id: [] for act in acts}
    for row in repository.files_of(by_number):
        by_number[row.takedown].append(row)
    events: dict[int, list[Any]] = {act.id: [] for act in acts}
    for event in events_of(context.database, events):
        events[event.takedown].append(event)
    return [_as_json(act, by_number[act.id], events[act.id]) | {"bulk": act.bulk} for act in acts]


def takedown(context: Takedowns, number: int) -> dict[str, Any] | None:
    """One entry of the audit; ``None`` if there is no takedown of that number."""
    found = takedowns(context, 1, number + 1)
    return found[0] if found and found[0]["id"] == number else None


def was_taken_down(context: Takedowns, file: str) -> bool:
    """Whether the rendition at this key below ``output/`` is gone because it was taken down."""
    return TakedownRepository(context.database).has_removed(Kind.RENDITION, file)


def finish(context: Takedowns) -> list[str]:
    """Finish interrupted takedowns and reinstatements; returns what still cannot be done, as
    warnings.

    Nothing happens while the input folder is missing: its disk may only not be mounted.
    """
    repository = _writing_repository(context)
    warnings: list[str] = []
    for number in repository.unfinished():
        folder = context.settings.input_place.folder
        if folder is not None and not folder.is_dir():
            break
        act = repository.act(number)
        try:
            if act is not None and act.state == TakedownState.REMOVING.value:
                check_quarantine(context.settings)
                repository.complete_journal(number)
                carry_out(context, repository, number, {})
            elif act is not None and act.state == TakedownState.LIFTING.value:
                put_back(context, repository, number)
        except LockstepError as error:
            warnings.append(f"takedown {number} is not finished: {error}")
    return warnings


def _writing_repository(context: Takedowns) -> TakedownRepository:
    return TakedownRepository(context.database, Journal(context.settings.journal_dir))


def _acts_to_reinstate(repository: TakedownRepository, id_or_sha256: str) -> list[sa.Row[Any]]:
    named = id_or_sha256.strip()
    if SHA256.fullmatch(named):
        acts = repository.acts_on(named.lower())
    elif (
        named.isascii() and named.isdigit() and (act := repository.act(int(named[:15]))) is not None
    ):
        acts = repository.acts_on(act.sha256)
    else:
        acts = []
    if not acts:
        raise NotFoundError(
            f"{id_or_sha256}: there is no such takedown; `datapipe takedown list` shows their "
            "numbers"
        )
    in_force = [act for act in acts if act.state != TakedownState.LIFTED.value]
    if not in_force:
        last = acts[-1]
        raise AlreadyReinstatedError(
            last.id,
            f"{id_or_sha256}: it was already reinstated, by {last.lifted_by} "
            f"({iso(last.lifted_ts)})",
        )
    return in_force


def _as_json(
    act: sa.Row[Any], files: list[sa.Row[Any]], events: list[sa.Row[Any]]
) -> dict[str, Any]:
    originals = [row for row in files if row.kind == Kind.ORIGINAL.value and row.removed]
    return {
        "id": act.id,
        "sha256": act.sha256,
        "target": act.target,
        "state": act.state,
        "when": iso(act.created_ts),
        "who": act.who,
        "reason": act.reason,
        "purge": act.purge,
        "originals": [
            {"path": row.path, "kept": row.kept, "restored": row.restored} for row in originals
        ],
        "renditions": [row.path for row in files if row.kind == Kind.RENDITION.value],
        "lifted": None if act.lifted_ts is None else iso(act.lifted_ts),
        "lifted_by": act.lifted_by,
        "instance": act.instance,
        "events": [
            {"what": event.what, "when": iso(event.ts), "who": event.who, "note": event.note}
            for event in events
        ],
    }


def _said(what: str, text: str) -> str:
    said = key_of(text.strip().replace("\0", ""))
    if not said:
        raise LockstepError(f"a takedown needs a {what}: it is recorded in the audit")
    if len(said) > TEXT_MAX:
        raise LockstepError(f"the {what} has {len(said):,} characters; {TEXT_MAX:,} are allowed")
    return said
