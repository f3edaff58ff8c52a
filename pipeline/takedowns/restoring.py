"""Putting back what a takedown removed: originals first, then their bytes are allowed again."""

from __future__ import annotations

import time
from typing import Any

import sqlalchemy as sa

from pipeline.database.locks import PUBLISH_LOCK
from pipeline.engine.pending import recipe_in
from pipeline.engine.recovery import forget_content
from pipeline.errors import OutputError
from pipeline.names import key_of, name_of
from pipeline.states import Kind, State, TakedownState
from pipeline.storage.folder_store import FolderStore
from pipeline.storage.moving import is_at, move, take
from pipeline.storage.owners import owner
from pipeline.takedowns.blocking import source_of, unblock_near
from pipeline.takedowns.context import Takedowns
from pipeline.takedowns.holds import look_again
from pipeline.takedowns.quarantine import free_place
from pipeline.takedowns.repository import TakedownRepository


def put_back(context: Takedowns, repository: TakedownRepository, number: int) -> None:
    """Put the originals of one takedown back, then unblock its bytes; harmless if already done."""
    with context.database.lock(PUBLISH_LOCK, wait=True):
        act = repository.act(number)
        if act is None or act.state != TakedownState.LIFTING.value:
            return
        for row in repository.files_of([number]):
            if row.kind == Kind.ORIGINAL.value and row.kept is not None:
                _restore(context, repository, number, row)
        # Rows that say "taken down" become pending. A run in progress that is working on them
        # records them after us, when it checks the takedowns again.
        for step in context.renders:
            for table in step.pending.tables:
                query = sa.select(table.c.source, table.c.path, recipe_in(table)).where(
                    table.c.sha256 == act.sha256, table.c.state == State.TAKEN_DOWN.value
                )
                forget_content(step.pending, [tuple(row) for row in context.database.rows(query)])
        unblock_near(context.database, number)
        look_again(context, source_of(number))
        # One that another database reinstated keeps the time at which it did.
        lifted_ts = act.lifted_ts or time.time()
        repository.change(number, state=TakedownState.LIFTED.value, lifted_ts=lifted_ts)


def _restore(
    context: Takedowns, repository: TakedownRepository, number: int, row: sa.Row[Any]
) -> None:
    settings = context.settings
    kept, place = settings.quarantine_place, settings.input_place
    if not is_at(kept, row.kept):
        return  # put back before an interruption, or removed by hand
    path = free_place(place, row.path, f"{number}", lambda key: False)
    try:
        # Recorded first: if the move is interrupted, the file is at one of the two places.
        repository.change_file(number, row.path, restored=path)
        if kept.folder is not None and place.folder is not None:
            # In the input folder, people may have links on the way.
            target = place.folder / name_of(path)
            source = kept.folder / name_of(row.kept)
            take(FolderStore(target.parent), source, key_of(target.name), owner())
        else:
            move(kept, row.kept, place, path, owner())
    except OSError as error:
        raise OutputError(
            f"{place.at(name_of(path))}: the original cannot be put back ({error.strerror}); it is "
            f"kept as {kept.at(name_of(row.kept))}. Free some space or change the permissions, and "
            "try again"
        ) from None
    # Its folders, as far as they are empty now.
    settings.quarantine_store.erase(row.kept)
