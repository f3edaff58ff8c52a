"""Generation: whether the database knows all that was done to the output folder.

The database has a random id and a number that every run that writes moves forward, when it begins
and when it has ended: first in the database, then in a small file in the output folder. So the
folder can only be ahead of a database that was lost, or restored from an older copy: it then holds
renditions that have no row, and rows name renditions that are gone. Only the numbers are compared,
because no run should look at each file.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from typing import TYPE_CHECKING, NamedTuple

from pipeline.database.state import GENERATION, INTERRUPTED, UNVERIFIED, StateRepository
from pipeline.errors import OutputError, TooManyBytes, Unstable
from pipeline.storage.listing import keys_below
from pipeline.storage.opening import open_store
from pipeline.storage.owners import owner
from pipeline.storage.places import Place

if TYPE_CHECKING:
    from pipeline.engine.context import Run

# Not a temporary file by its name, and not a rendition: those are in folders.
FILE_NAME = ".lockstep.json"
MAX_BYTES = 10_000


class Generation(NamedTuple):
    """The id of a database, and how often its runs have moved forward."""

    id: str
    number: int


def advance(run: Run, to: int = 0) -> None:
    """Move the database forward, to more than ``to``; then call :func:`update_folder`."""
    ours = _parsed(run.repository.get(GENERATION)) or Generation(uuid.uuid4().hex, 0)
    later = ours._replace(number=max(ours.number, to) + 1)
    run.repository.set(GENERATION, json.dumps(later._asdict()))


def update_folder(run: Run) -> None:
    """Write what the database has into the output folder.

    Nothing happens where that fails: a folder that is behind is no harm, and a run that deletes
    renditions must go on where the disk is full. For the same reason it is written in place: a torn
    one counts as none, and no temporary file is left.
    """
    text, place = run.repository.get(GENERATION) or "", run.settings.output_place
    if place.folder is None:
        with contextlib.suppress(OSError, OutputError):
            store = open_store(place)
            store.publish(store.stage(FILE_NAME, text.encode(), owner()))
        return
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
    with contextlib.suppress(OSError):
        handle = os.open(place.folder / FILE_NAME, flags, 0o666)
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)


def notice_older(run: Run) -> None:
    """Note, for the end of this run, that the database is older than the folder, or new.

    Files may then differ from their rows, so nothing is trusted.
    """
    place, is_new = run.settings.output_place, run.last_write_ts == 0.0
    was_older = is_older(run.repository, place, is_new)
    # Another folder may hold anything, and is compared; what agrees there is not made again.
    is_other = run.folders is not None and run.folders.is_other_output
    if not (was_older or is_other):
        return
    if was_older and not is_new:
        run.recovering = True
    with run.database.writing():
        # Before the folder is updated: after that nothing else records it.
        run.repository.set(UNVERIFIED, json.dumps(None))
        theirs = _at(place)
        advance(run, theirs.number if theirs is not None else 0)
    update_folder(run)


def is_older(repository: StateRepository, place: Place, is_new: bool) -> bool:
    """Whether the database is older than the output folder, or new; ``is_new``: never written."""
    ours, theirs = _parsed(repository.get(GENERATION)), _at(place)
    if ours is None and theirs is None:
        # A killed run of an earlier release left no note of what it left behind.
        return repository.get(INTERRUPTED) is not None or (is_new and _has_renditions(place))
    return theirs is not None and (
        ours is None or theirs.id != ours.id or theirs.number > ours.number
    )


def _at(place: Place) -> Generation | None:
    try:
        data, _ = open_store(place).read(FILE_NAME, MAX_BYTES)
        return _parsed(data.decode())
    except (OSError, ValueError, Unstable, TooManyBytes):
        return None


def _parsed(text: str | None) -> Generation | None:
    """``None`` also for a torn file, or one that is not ours."""
    try:
        found = json.loads(text or "{}")
        return Generation(str(found["id"]), int(found["number"]))
    except (ValueError, KeyError, TypeError):
        return None


def _has_renditions(place: Place) -> bool:
    return any("/" in key for key in keys_below(place))
