"""Carrying out a takedown: first renditions go, then originals. It can be repeated."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from pipeline.blocklist import Blocklist
from pipeline.database.connection import Database
from pipeline.database.locks import PUBLISH_LOCK
from pipeline.database.paging import known_among
from pipeline.database.state import StateRepository
from pipeline.database.tracked import meta_of, touch
from pipeline.engine.outputs import store_rows
from pipeline.engine.pending import rows_in
from pipeline.engine.recovery import remove_unrecorded, sweep_after_kill
from pipeline.engine.render_step import RenderStep
from pipeline.errors import OutputError
from pipeline.names import name_of
from pipeline.states import Kind, Source, State, TakedownState
from pipeline.storage.at_hand import sha256_in
from pipeline.storage.base import Store
from pipeline.storage.folder import make_private
from pipeline.storage.moving import is_at, move
from pipeline.storage.opening import open_store
from pipeline.storage.owners import owner
from pipeline.storage.places import Place
from pipeline.storage.walking import FoundFile
from pipeline.takedowns.context import Takedowns
from pipeline.takedowns.holds import close_reviews
from pipeline.takedowns.quarantine import free_place
from pipeline.takedowns.repository import TakedownRepository


def carry_out(
    context: Takedowns, repository: TakedownRepository, number: int, verified: dict[str, FoundFile]
) -> None:
    """Carry out what the row of a takedown says; harmless if it is already done."""
    act = repository.act(number)
    assert act is not None
    state = StateRepository(context.database)
    with context.database.lock(PUBLISH_LOCK, wait=True):
        _remove_renditions(context, repository, number, act.sha256)
        # A killed run may have left the picture under names without a row. With this lock held, no
        # run is between a file and its row.
        remove_unrecorded(state, context.settings.output_store, context.renders)
    sweep_after_kill(state, context.settings.output_store, context.renders)
    # Hashing takes its time, so it is done while no run has to wait.
    # What was just put back may have no row yet.
    named = {*verified, *_restored(context.database, act.sha256)}
    duplicates = dict(_duplicates(context, act.sha256, act.size_bytes, verified, named))
    with context.database.lock(PUBLISH_LOCK, wait=True):
        now = repository.act(number)
        if now is None or now.state != TakedownState.REMOVING.value:
            return  # another process has finished or reinstated it meanwhile
        repository.add_files(number, Kind.ORIGINAL, duplicates)
        _remove_renditions(context, repository, number, act.sha256)
        for row in repository.files_of([number]):
            if row.kind == Kind.ORIGINAL.value and not row.removed:
                _take_out(context, repository, act, row, duplicates.get(row.path))
        close_reviews(context, act.sha256, number, act.who)
        repository.change(number, state=TakedownState.IN_FORCE.value)


def _remove_renditions(
    context: Takedowns, repository: TakedownRepository, number: int, digest: str
) -> None:
    """Delete the renditions of these bytes, and of the originals that go: file, then row."""
    store = context.settings.output_store
    noted = repository.files_of([number])
    # The name of a removed original may belong to another one by now.
    named = [row.path for row in noted if row.kind == Kind.ORIGINAL.value and not row.removed]
    reason = repository.blocked_among([digest]).get(digest)
    for step in context.renders:
        rows = _rows(context, step, digest, named)
        files = [row.file for row in rows if row.file is not None]
        repository.add_files(number, Kind.RENDITION, files)
        for row in rows:
            # Bytes other than the blocked ones are to be looked at again.
            its = digest if row.sha256 == digest else None
            take_rendition(context, step, row, reason, its)
        _remove_values(context, step, digest, named, reason)
    # Those of a lost database have no row any more.
    gone = [row.path for row in noted if row.kind == Kind.RENDITION.value]
    for key in set(gone).difference(*(_known(context, step, gone) for step in context.renders)):
        store.erase(key)


def take_rendition(
    context: Takedowns, step: RenderStep, row: sa.Row[Any], reason: str | None, digest: str | None
) -> None:
    """Delete one rendition, file first; its row says why, and of which bytes it was."""
    if row.file is not None:
        context.settings.output_store.erase(row.file)
    table, renditions = step.pending.table, step.pending.renditions
    # One row a transaction: a run in progress writes the same rows in an order of its own, and two
    # transactions of many rows could deadlock.
    with context.database.writing() as write:
        # Users' steps make something of it no longer.
        touch(write, renditions, _is_row(meta_of(renditions), row))
        gone = {"state": State.TAKEN_DOWN.value, "reason": reason, "since": time.time()}
        values = _emptied(step) | gone | {"sha256": digest}
        write.execute(sa.update(table).where(_is_row(table, row)).values(values))
    step.settled(Source(row.source), {row.path})


def take_values(
    context: Takedowns, step: RenderStep, row: sa.Row[Any], reason: str | None, digest: str | None
) -> None:
    """Empty one feature of an original; its row says why, and of which bytes it was."""
    gone = {"state": State.TAKEN_DOWN.value, "reason": reason, "since": time.time()}
    with context.database.writing() as write:
        values = {**row._mapping, "value": None, "sha256": digest, **gone}
        store_rows(write, step.pending, [values])
    step.settled(Source(row.source), {row.path})


def _remove_values(
    context: Takedowns, step: RenderStep, digest: str, named: Sequence[str], reason: str | None
) -> None:
    """Empty the features of these bytes, and of the originals that go."""
    for table in step.pending.tables[1:]:
        which = sa.or_(
            table.c.sha256 == digest,
            sa.and_(table.c.source == Source.INPUT.value, table.c.path.in_(named)),
        )
        query = rows_in(table).where(which, table.c.state != State.TAKEN_DOWN.value)
        for row in context.database.rows(query):
            take_values(context, step, row, reason, digest if row.sha256 == digest else None)


def _is_row(table: sa.Table, row: sa.Row[Any]) -> sa.ColumnElement[bool]:
    names = ("source", "path", "recipe")
    return sa.and_(*[table.c[name] == getattr(row, name) for name in names])


def renditions_of(context: Takedowns, digest: str, originals: Sequence[str]) -> list[str]:
    """What is to go for these bytes and originals, as keys below the output folder."""
    return [
        row.file
        for step in context.renders
        for row in _rows(context, step, digest, originals)
        if row.file is not None
    ]


def _rows(
    context: Takedowns, step: RenderStep, digest: str, originals: Sequence[str]
) -> Sequence[sa.Row[Any]]:
    table = step.pending.table
    named = sa.and_(table.c.source == Source.INPUT.value, table.c.path.in_(originals))
    keys = (table.c.source, table.c.path, table.c.recipe)
    query = sa.select(*keys, table.c.file, table.c.sha256).where(
        sa.or_(table.c.sha256 == digest, named), table.c.state != State.TAKEN_DOWN.value
    )
    return context.database.rows(query)


def _known(context: Takedowns, step: RenderStep, keys: Sequence[str]) -> set[str]:
    """Those of ``keys`` that a row of this step has, as somebody else's rendition."""
    return known_among(context.database, step.pending.table.c.file, keys)


def _emptied(step: RenderStep) -> dict[str, None]:
    names = ("file", "width_px", "height_px", "size_bytes", "file_sha256")
    return {name: None for name in names if name in step.pending.table.c}


def _duplicates(
    context: Takedowns,
    digest: str,
    size_bytes: int | None,
    verified: dict[str, FoundFile],
    named: Collection[str],
) -> Iterator[tuple[str, FoundFile]]:
    """Every original that has these bytes now, with its ``stat`` from when it was hashed.

    Reads those that are ``named``, those whose row says so, and those of the same size that have no
    row.
    """
    table, originals = context.own.pending.table, context.own.pending.original_table
    same = sa.select(table.c.path).where(context.own.pending.ours, table.c.sha256 == digest)
    with context.database.reading() as con:
        paths = {*named, *con.execute(same.distinct()).scalars()}
        if size_bytes is not None:
            unknown = (
                sa.select(originals.c.path)
                .outerjoin(
                    table, sa.and_(context.own.pending.ours, table.c.path == originals.c.path)
                )
                .where(
                    context.own.pending.our_originals,
                    originals.c.size_bytes == size_bytes,
                    table.c.sha256.is_(None),
                )
            )
            paths.update(con.execute(unknown.distinct()).scalars())
    place = context.settings.input_place
    store = open_store(place)
    for path in sorted(paths):
        found = store.look_at(path)
        if found is None or open_store(place).why_passed(path, context.suffixes) is not None:
            continue
        if found == verified.get(path) or (
            size_bytes in (None, found.size_bytes) and _is_now(store, path, digest)
        ):
            yield path, found


def _restored(database: Database, digest: str) -> list[str]:
    """The paths that originals of these bytes were ever put back to."""
    blocklist = Blocklist(database)
    acts, files = blocklist.acts, blocklist.files
    query = sa.select(files.c.restored).join(acts, files.c.takedown == acts.c.id)
    return database.column(query.where(acts.c.sha256 == digest, files.c.restored.is_not(None)))


def _is_now(store: Store, path: str, digest: str) -> bool:
    try:
        return sha256_in(store, path) == digest
    except OSError:
        return False


def _take_out(
    context: Takedowns,
    repository: TakedownRepository,
    act: sa.Row[Any],
    row: sa.Row[Any],
    verified: FoundFile | None,
) -> None:
    """Move one original into the quarantine, or delete it, if it still has the blocked bytes."""
    place, quarantine = context.settings.input_place, context.settings.quarantine_place
    store = open_store(place)
    if not is_at(place, row.path):
        # If it is recorded but not there, an interrupted takedown has moved it.
        moved = row.kept is not None and is_at(quarantine, row.kept)
        repository.change_file(act.id, row.path, removed=moved or act.purge)
        return
    if (verified is None or store.look_at(row.path) != verified) and not _is_now(
        store, row.path, act.sha256
    ):
        return  # the file was replaced meanwhile
    try:
        if act.purge:
            _delete(place, row.path)
            repository.change_file(act.id, row.path, removed=True)
            return
        if quarantine.folder is not None:
            make_private(quarantine.folder)
        kept = row.kept or free_place(quarantine, row.path, f"{act.id}", repository.is_kept)
        repository.change_file(act.id, row.path, kept=kept)
        move(place, row.path, quarantine, kept, owner())
        repository.change_file(act.id, row.path, removed=True)
    except OSError as error:
        raise OutputError(
            f"{store.path_of(row.path)}: its bytes are blocked and its renditions are gone, but it "
            f"cannot be moved out of the input folder ({error.strerror}); change the permissions, "
            "and the next run tries again"
        ) from None


def _delete(place: Place, path: str) -> None:
    """Delete an original for good; of a bucket, all its versions."""
    if place.folder is None:
        open_store(place).erase(path)
    else:
        (place.folder / name_of(path)).unlink()
