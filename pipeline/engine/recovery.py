"""What an interrupted run leaves behind, and how the next one repairs it.

Killed (``kill -9``, a crash of Python, Ctrl-C twice): temporary files, empty folders, and files
that were published without their row. Those are known from the run's own note, written before each
batch and removed with its rows; file times are not used, because clocks may run ahead.

Temporary files of a dead owner can be nowhere without the note ``INTERRUPTED``, but for those of a
release before this one: a run sets it before its first file, a publication leaves none, a run that
fails or loses a worker sweeps before it ends. So no other run, and no other takedown, has to walk
through the output folder.

Power lost: rows are synced to disk with each commit, files are not, for a sync of each would cost
more than its rendering. So after a restart of the machine every rendition recorded since the last
time that all was surely written back is compared with its row.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import sqlalchemy as sa
from datapipe.meta.sql_meta import SQLTableMeta

from pipeline.database.dialects import VALUES_AT_ONCE
from pipeline.database.paging import chunks
from pipeline.database.state import (
    BOOT,
    GENERATION,
    INTERRUPTED,
    PUBLISHING,
    WRITER,
    StateRepository,
)
from pipeline.engine.generation import advance, notice_older, update_folder
from pipeline.errors import LinkInTheWay
from pipeline.names import TEMPORARY_PREFIX, key_of, name_of
from pipeline.states import State
from pipeline.storage.folder import files_below, is_left_behind, sha256_of
from pipeline.storage.folder_store import FolderStore
from pipeline.storage.owners import boot_id, is_alive, owner

if TYPE_CHECKING:
    from pipeline.engine.context import Run
    from pipeline.engine.pending import Pending
    from pipeline.settings.values import Settings


# The kernel writes dirty pages back after 30 s (vm.dirty_expire_centisecs) plus a flusher period
# of 5 s; two minutes leave room for a slow disk.
WRITTEN_BACK_S = 120.0


class HasRenditions(Protocol):
    """A step that makes renditions, and the folder that they are in."""

    pending: Pending
    output_dir: Path
    settings: Settings


def remember_writing(run: Run) -> None:
    """Record, before the first file is written, that a run is in progress, whose, and on which
    boot."""
    boot = boot_id()
    before = json.loads(run.repository.get(BOOT) or "{}")
    with run.database.writing():
        if before.get("id") != boot or run.last_write_ts < run.began_ts - WRITTEN_BACK_S:
            run.repository.set(BOOT, json.dumps({"id": boot, "since": run.began_ts}))
        if run.repository.get(INTERRUPTED) is None:
            run.repository.set(INTERRUPTED, repr(run.began_ts))
        run.repository.set(WRITER, owner())
        advance(run)
    update_folder(run)


def forget_writing(run: Run, all_fixed: bool = False) -> None:
    """Record that everything begun is done; nothing is written where nothing was begun.

    The note of an earlier run stays until a whole run has fixed everything (``all_fixed``).
    """
    since = run.repository.get(INTERRUPTED)
    if since is None or not (all_fixed or since == repr(run.began_ts)):
        return
    with run.database.writing():
        run.repository.set(INTERRUPTED, None)
        run.repository.set(PUBLISHING, None)
        # A copy of the database that was made while the run was in progress is older than the
        # folder.
        advance(run)
    update_folder(run)


def note_publishing(run: Run, output_dir: Path, keys: Collection[str]) -> None:
    """Note files below ``output_dir`` that are about to take their place, before the first does."""
    below = output_dir.relative_to(run.settings.output_dir).as_posix()
    run.repository.set(PUBLISHING, json.dumps({"below": below, "files": sorted(keys)}))


def recover(run: Run, renders: Sequence[HasRenditions]) -> bool:
    """Repair what the run before this one left half done; returns whether it was interrupted."""
    is_cut_off = run.repository.get(INTERRUPTED) is not None
    is_of_release_before = run.repository.get(GENERATION) is None and run.last_write_ts > 0.0
    notice_older(run)
    if is_cut_off:
        run.recovering = True
        remove_unrecorded(run.repository, run.settings.output_dir, renders)
    if is_cut_off or is_of_release_before:
        sweep_output(run.settings.output_dir, renders)
    if is_of_release_before and run.repository.get(GENERATION) is None:
        advance(run)
        update_folder(run)
    boot = json.loads(run.repository.get(BOOT) or "{}")
    if boot and boot["id"] != boot_id():
        for step in renders:
            _compare_since(float(boot["since"]), step.pending, step.output_dir)
        run.repository.set(BOOT, json.dumps({"id": boot_id(), "since": run.began_ts}))
    return is_cut_off


def sweep_after_kill(
    repository: StateRepository, root: Path, renders: Sequence[HasRenditions]
) -> None:
    """Delete temporary files that a killed run left, without the lock of runs: for a takedown.

    Nothing happens while the last writer is alive: it has swept what others left.
    """
    writer = repository.get(WRITER)
    is_swept = repository.get(INTERRUPTED) is None and repository.get(GENERATION) is not None
    if not is_swept and (writer is None or not is_alive(writer)):
        sweep_output(root, renders, is_alive)


def remove_unrecorded(
    repository: StateRepository, root: Path, renders: Sequence[HasRenditions]
) -> None:
    """Remove files that were about to be published when a run was killed, and have no row.

    Call it with the lock of runs, or of publishing. A file that may have replaced an older
    rendition stays, and is rendered again: no row says which of the two it is.
    """
    noted = json.loads(repository.get(PUBLISHING) or "{}")
    for step in renders:
        if noted and step.output_dir == root / noted["below"]:
            pairs = pairs_of(noted["files"], step.pending)
            for key in noted["files"]:
                if key not in pairs:
                    with contextlib.suppress(LinkInTheWay):  # it is not ours, what that leads to
                        FolderStore(root).remove(f"{noted['below']}/{key}".removeprefix("./"))
            forget_content(step.pending, list(pairs.values()))


def folders_of(step: HasRenditions) -> dict[str, Path]:
    """The folder of each recipe, by the recipe's name."""
    with step.pending.meta.dbconn.reading() as con:
        names = con.execute(sa.select(step.pending.recipe_table.c.recipe)).scalars().all()
    return {name: step.output_dir / name for name in names}


def has_renditions(step: HasRenditions, recipe: str) -> bool:
    """Whether a row says that there is a rendition by this recipe."""
    table = step.pending.table
    made = sa.select(table.c.path).where(table.c.recipe == recipe, table.c.state == State.OK.value)
    with step.pending.meta.dbconn.reading() as con:
        return con.execute(made.limit(1)).first() is not None


def sweep_output(
    root: Path,
    renders: Sequence[HasRenditions],
    is_alive: Callable[[str], bool] = lambda owner: False,
) -> None:
    """Sweep the output folder, but for folders where a disk may have been mounted."""
    keep = [
        key_of(folder.relative_to(root).as_posix())
        for step in renders
        for name, folder in folders_of(step).items()
        if has_renditions(step, name)
    ]
    FolderStore(root).sweep(is_alive, keep)


def strays(
    step: HasRenditions, renders: Sequence[HasRenditions], is_alive: Callable[[str], bool]
) -> Iterator[str]:
    """Keys of files below the folder of ``step`` that no row knows.

    Temporary files are among them unless their owner ``is_alive``. Folders of the other ``renders``
    are left out.
    """
    pending = step.pending
    apart = [other.output_dir for other in renders if other is not step]
    waiting: list[str] = []
    for path, entry in files_below(step.output_dir, apart, step.settings.output_dir):
        if entry.name.startswith(TEMPORARY_PREFIX):
            if is_left_behind(entry.name, is_alive):
                yield key_of(path)
            continue
        # The top level holds files of the run itself, the results of jobs, and people's notes.
        if "/" not in path:
            continue
        waiting.append(key_of(path))
        if len(waiting) == VALUES_AT_ONCE:
            yield from _unknown(waiting, pending)
            waiting = []
    yield from _unknown(waiting, pending)


def forget_content(pending: Pending, pairs: list[tuple[str, str]]) -> None:
    """Make renditions pending, and unlike any bytes, so that the next run makes them again."""
    table, marks = pending.table, pending.meta.sql_table
    with pending.meta.dbconn.writing() as con:
        for chunk in chunks(pairs):
            con.execute(
                sa.update(table)
                .where(sa.tuple_(table.c.path, table.c.recipe).in_(chunk))
                .values(sha256=None)
            )
            con.execute(
                sa.update(marks)
                .where(sa.tuple_(marks.c.path, marks.c.recipe).in_(chunk))
                .values(is_success=False)
            )


def _unknown(keys: list[str], pending: Pending) -> Iterator[str]:
    known = pairs_of(keys, pending)
    yield from (key for key in keys if key not in known)


def pairs_of(keys: Sequence[str], pending: Pending) -> dict[str, tuple[str, str]]:
    """The path and recipe of those of the files that a row knows, by their keys."""
    table = pending.table
    wanted = sa.select(table.c.file, table.c.path, table.c.recipe)
    pairs: dict[str, tuple[str, str]] = {}
    with pending.meta.dbconn.reading() as con:
        for chunk in chunks(keys):
            for row in con.execute(wanted.where(table.c.file.in_(chunk))):
                pairs[row.file] = (row.path, row.recipe)
    return pairs


def _compare_since(since: float, pending: Pending, output_dir: Path) -> None:
    meta = pending.renditions.meta
    assert isinstance(meta, SQLTableMeta)
    table, written = pending.table, meta.sql_table
    query = (
        sa.select(table.c.path, table.c.recipe, table.c.file, table.c.file_sha256)
        .join(
            written,
            sa.and_(written.c.path == table.c.path, written.c.recipe == table.c.recipe),
        )
        .where(written.c.update_ts >= since, table.c.state == State.OK.value)
    )
    with pending.meta.dbconn.reading() as con:
        rows = con.execute(query).all()
    damaged = []
    for row in rows:
        try:
            whole = sha256_of(output_dir / name_of(row.file)) == row.file_sha256
        except OSError:
            whole = False
        if not whole:
            damaged.append((row.path, row.recipe))
    forget_content(pending, damaged)
