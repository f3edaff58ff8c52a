"""The rows of takedowns: which bytes are blocked, what was removed, and where it is kept.

Whatever is written here is on the disk in the journal before it is in the database.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from pipeline.blocklist import Blocklist
from pipeline.database.connection import Database
from pipeline.database.state import state_table
from pipeline.database.transaction import Write
from pipeline.errors import OutputError
from pipeline.states import Kind, TakedownEvent, TakedownState
from pipeline.takedowns.blocking import block_near, near_of
from pipeline.takedowns.events import events_of, insert_events, new_event
from pipeline.takedowns.journal import (
    COLUMNS,
    EVENT_COLUMNS,
    JOURNAL,
    Journal,
    identity,
    near_entry,
)


class NewAct(NamedTuple):
    """A takedown to be made: its row, its files, up to which distance in bits what is near to a PDQ
    hash is blocked, and what happens to it at once."""

    row: dict[str, Any]
    files: list[tuple[Kind, str]]
    near: Mapping[str, int]
    events: Sequence[dict[str, Any]]


def new_act(
    sha256: str,
    size_bytes: int | None,
    target: str,
    reason: str,
    who: str,
    purge: bool,
    originals: Sequence[str],
    renditions: Sequence[str],
    near: Mapping[str, int] | None = None,
    legal_hold: bool = False,
) -> NewAct:
    """A takedown that begins now."""
    row = {
        "sha256": sha256,
        "size_bytes": size_bytes,
        "target": target,
        "state": TakedownState.REMOVING.value,
        "purge": purge,
        "reason": reason,
        "who": who,
        "created_ts": time.time(),
    }
    files = [(Kind.ORIGINAL, path) for path in originals]
    files += [(Kind.RENDITION, path) for path in renditions]
    events = [new_event(TakedownEvent.LEGAL_HOLD, who)] if legal_hold else []
    return NewAct(row, files, near or {}, events)


class TakedownRepository(Blocklist):
    """Reads and writes ``takedowns`` and ``takedown_files``, each call in its own transaction.

    Writing needs the ``journal``, and raises ``OutputError`` where that cannot be written; but for
    :meth:`add`, nothing is in the database then either.
    """

    def __init__(self, database: Database, journal: Journal | None = None) -> None:
        super().__init__(database)
        self._journal = journal

    @property
    def database(self) -> Database:
        """Where the rows are."""
        return self._database

    def has_removed(self, kind: Kind, path: str) -> bool:
        """Whether a takedown that is still in force removed this file."""
        query = (
            sa.select(self.acts.c.id)
            .join(self.files, self.files.c.takedown == self.acts.c.id)
            .where(
                self.files.c.kind == kind.value,
                self.files.c.path == path,
                self.acts.c.state != TakedownState.LIFTED.value,
            )
        )
        return self._database.first(query.limit(1)) is not None

    # --- acts ---

    def has_any(self) -> bool:
        """Whether anything was ever taken down."""
        return self._database.first(sa.select(self.acts.c.id).limit(1)) is not None

    def all_acts(self) -> Sequence[sa.Row[Any]]:
        """Every takedown, the first one first."""
        return self._database.rows(sa.select(self.acts).order_by(self.acts.c.id))

    def all_files(self) -> Sequence[sa.Row[Any]]:
        """The files of every takedown."""
        return self._database.rows(sa.select(self.files))

    def add(self, *acts: NewAct) -> list[int]:
        """Block the contents of takedowns from now on, before any file is touched; returns their
        numbers. Either all of them are there, or none.

        With ``legal_hold`` the originals that are kept are never purged: see :meth:`add_event`.

        Raises:
            OutputError: the journal cannot be written. The bytes are blocked anyway; the next
                writer completes the journal first.
        """
        numbers: list[int] = []
        refused: OutputError | None = None
        with contextlib.ExitStack() as stack:
            try:
                entries = [_entry(act.row, act.files, act.events, act.near) for act in acts]
                remember = stack.enter_context(self._noted(*entries))
            except OutputError as error:
                refused, remember = error, self.forget_journal
            with self._database.writing() as con:
                for act in acts:
                    done = con.execute(sa.insert(self.acts).values(act.row))
                    assert done.inserted_primary_key is not None
                    numbers.append(int(done.inserted_primary_key[0]))
                    for kind, path in act.files:
                        con.execute(self._new_file(numbers[-1], kind, path))
                    insert_events(self._database, con, numbers[-1], act.events)
                    block_near(self._database, con, numbers[-1], act.near, act.row["reason"])
                remember(con)
        if refused is not None:
            raise OutputError(
                f"{refused}. These bytes are blocked from now on, but nothing is removed before "
                f"takedown {numbers[0]} is in the journal: the next run does both"
            ) from None
        return numbers

    @contextlib.contextmanager
    def _noted(self, *entries: dict[str, Any]) -> Iterator[Callable[[Write], None]]:
        """Add ``entries`` to the journal; yields a function that records it in a transaction."""
        assert self._journal is not None, "takedowns cannot be written without a journal"
        with self._journal.held() as held:
            before = held.stamp()
            held.append(*entries)
            after = held.stamp()
            yield lambda con: self._follow_journal(con, before, after)

    def _follow_journal(self, con: Write, before: str, after: str) -> None:
        # A database that has not taken over earlier entries must not look as if it had.
        state = state_table(self._database.sqla_metadata)
        con.execute(
            sa.update(state)
            .where(state.c.name == JOURNAL, state.c.value == before)
            .values(value=after)
        )

    def complete_journal(self, number: int) -> None:
        """Add a takedown to the journal again, if it could not be written when it was made."""
        state = state_table(self._database.sqla_metadata)
        query = sa.select(state.c.value).where(state.c.name == JOURNAL)
        follows = self._database.first(query) is not None
        act = self.act(number)
        if follows or act is None:
            return
        files = [(Kind(row.kind), row.path) for row in self.files_of([number])]
        events = [dict(event._mapping) for event in events_of(self._database, [number])]
        near = near_of(self._database, [number]).get(number, {})
        with self._noted(_entry(dict(act._mapping), files, events, near)):
            pass  # the database has it; the next start finds that the journal has it too

    def add_event(
        self, number: int, what: TakedownEvent, who: str, note: str | None = None
    ) -> None:
        """Record what happened to a takedown, in the journal first."""
        self.add_events(number, [new_event(what, who, note)])

    def add_events(self, number: int, events: Sequence[Mapping[str, Any]]) -> None:
        """Record events of a takedown, in the journal first."""
        act = self.act(number)
        assert act is not None
        with (
            self._noted({"takedown": identity(dict(act._mapping)), "events": events}) as remember,
            self._database.con.begin() as con,
        ):
            insert_events(self._database, con, number, events)
            con.execute(sa.update(self.acts).where(self.acts.c.id == number).values(self._unsent()))
            remember(con)

    def forget_journal(self, con: Write) -> None:
        """Make the next start compare the journal with the database."""
        state = state_table(self._database.sqla_metadata)
        con.execute(sa.delete(state).where(state.c.name == JOURNAL))

    def act(self, number: int) -> sa.Row[Any] | None:
        """The row of one takedown."""
        return self._database.first(sa.select(self.acts).where(self.acts.c.id == number))

    def acts_on(self, sha256: str) -> Sequence[sa.Row[Any]]:
        """Every takedown of these bytes, the first one first."""
        query = sa.select(self.acts).where(self.acts.c.sha256 == sha256).order_by(self.acts.c.id)
        return self._database.rows(query)

    def unfinished(self) -> list[int]:
        """Takedowns and reinstatements that were interrupted."""
        states = (TakedownState.REMOVING.value, TakedownState.LIFTING.value)
        query = sa.select(self.acts.c.id).where(self.acts.c.state.in_(states))
        return self._database.column(query.order_by(self.acts.c.id))

    def change(self, number: int, **values: Any) -> None:
        """Write columns of one takedown; nothing happens if they are the same."""
        act = self.act(number)
        if act is None or all(act._mapping[name] == value for name, value in values.items()):
            return
        with (
            self._noted({"takedown": identity(dict(act._mapping)), **values}) as remember,
            self._database.con.begin() as con,
        ):
            # Other instances need not know how far it is carried out here.
            is_news = values.get("state") == TakedownState.LIFTING.value
            columns = values | (self._unsent() if is_news else {})
            con.execute(sa.update(self.acts).where(self.acts.c.id == number).values(columns))
            remember(con)

    def _unsent(self) -> dict[str, Any]:
        """What says that the shared blocklist is to be told of a change."""
        return {"unsent": self.acts.c.unsent + 1}

    # --- files ---

    def files_of(self, numbers: Collection[int]) -> Sequence[sa.Row[Any]]:
        """The files of these takedowns, in the order of their paths."""
        files = self.files
        query = (
            sa.select(files)
            .where(files.c.takedown.in_(list(numbers)))
            .order_by(files.c.takedown, files.c.kind, files.c.path)
        )
        return self._database.rows(query)

    def add_files(self, number: int, kind: Kind, paths: Iterable[str]) -> None:
        """Record files before they are removed; those already recorded are left unchanged."""
        noted = {row.path for row in self.files_of([number]) if row.kind == kind.value}
        new = [(kind, path) for path in paths if path not in noted]
        act = self.act(number)
        if act is None or not new:
            return
        # All of the takedown: nothing may be removed unless the journal says why.
        with (
            self._noted(_entry(dict(act._mapping), new)) as remember,
            self._database.con.begin() as con,
        ):
            for _, path in new:
                con.execute(self._new_file(number, kind, path))
            remember(con)

    def change_file(self, number: int, path: str, **values: Any) -> None:
        """Write columns of one original; nothing happens if they are the same."""
        files, act = self.files, self.act(number)
        this = sa.and_(
            files.c.takedown == number,
            files.c.kind == Kind.ORIGINAL.value,
            files.c.path == path,
        )
        row = self._database.first(sa.select(files).where(this))
        if act is None or row is None:
            return
        if all(row._mapping[name] == value for name, value in values.items()):
            return
        file = {"kind": Kind.ORIGINAL.value, "path": path, **values}
        with (
            self._noted({"takedown": identity(dict(act._mapping)), "files": [file]}) as remember,
            self._database.con.begin() as con,
        ):
            con.execute(sa.update(files).where(this).values(**values))
            remember(con)

    def forget_place(self, number: int, path: str) -> None:
        """There is nothing to put back of an original any more; the journal says why."""
        files = self.files
        its = files.c.takedown == number, files.c.kind == Kind.ORIGINAL.value, files.c.path == path
        with self._database.writing() as write:
            write.execute(sa.update(files).where(*its).values(kept=None))

    def is_kept(self, kept: str) -> bool:
        """Whether a place in the quarantine is taken."""
        query = sa.select(self.files.c.takedown).where(
            self.files.c.kept == kept, self.files.c.restored.is_(None)
        )
        return self._database.first(query.limit(1)) is not None

    def _new_file(self, number: int, kind: Kind, path: str) -> Any:
        row = {"takedown": number, "kind": kind.value, "path": path, "removed": False}
        return self._database.insert(self.files).values(row).on_conflict_do_nothing()


def _entry(
    act: Mapping[str, Any],
    files: Iterable[tuple[Kind, str]],
    events: Iterable[Mapping[str, Any]] = (),
    near: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    columns = {name: act[name] for name in COLUMNS if act.get(name) is not None}
    named = [{"kind": kind.value, "path": path} for kind, path in files]
    entry = {"takedown": identity(act), **columns, "files": named}
    noted = [{name: event[name] for name in EVENT_COLUMNS} for event in events]
    return entry | ({"events": noted} if noted else {}) | near_entry(near or {})
