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
from pipeline.database.tracked import is_one_of
from pipeline.engine.generation import advance, notice_older, update_folder
from pipeline.engine.pending import recipe_in
from pipeline.errors import LinkInTheWay
from pipeline.names import TEMPORARY_PREFIX, folder_of, key_of, name_of
from pipeline.states import Source, State
from pipeline.storage.base import Store
from pipeline.storage.folder import is_left_behind, sha256_of
from pipeline.storage.listing import keys_below
from pipeline.storage.owners import boot_id, is_alive, owner
from pipeline.transforms.features import PREFIX

if TYPE_CHECKING:
    from pipeline.engine.context import Run
    from pipeline.engine.pending import Pending, RenditionKey
    from pipeline.settings.values import Settings


# The kernel writes dirty pages back after 30 s (vm.dirty_expire_centisecs) plus a flusher period
# of 5 s; two minutes leave room for a slow disk.
WRITTEN_BACK_S = 120.0


class HasRenditions(Protocol):
    """A step that makes renditions, and what their keys begin with: empty, or ending with ``/``.

    The tables of ``pending`` are those of all its ``sources``.
    """

    prefix: str
    settings: Settings
    sources: Sequence[Source]

    @property
    def pending(self) -> Pending: ...

    def below(self, source: Source) -> str:
        """What the keys of the renditions of a source begin with, below the output folder."""


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


def note_publishing(run: Run, keys: Collection[str]) -> None:
    """Note files that are about to take their place, before the first does."""
    run.repository.set(PUBLISHING, json.dumps(sorted(keys)))


def recover(run: Run, renders: Sequence[HasRenditions]) -> bool:
    """Repair what the run before this one left half done; returns whether it was interrupted."""
    is_cut_off = run.repository.get(INTERRUPTED) is not None
    is_of_release_before = run.repository.get(GENERATION) is None and run.last_write_ts > 0.0
    notice_older(run)
    if run.folders is not None and not run.options.relocate:
        # Moved ones are the known ones once the scan has found nothing amiss.
        run.folders.remember()
    if is_cut_off:
        run.recovering = True
        remove_unrecorded(run.repository, run.settings.output_store, renders)
    if is_cut_off or is_of_release_before:
        sweep_output(run.settings.output_store, renders)
    if is_of_release_before and run.repository.get(GENERATION) is None:
        advance(run)
        update_folder(run)
    boot = json.loads(run.repository.get(BOOT) or "{}")
    if boot and boot["id"] != boot_id():
        for step in renders:
            # A bucket has what it has taken.
            if run.settings.output_place.folder is not None:
                since, root = float(boot["since"]), run.settings.output_place.folder
                _compare_since(since, step.pending, root)
        run.repository.set(BOOT, json.dumps({"id": boot_id(), "since": run.began_ts}))
    return is_cut_off


def sweep_after_kill(
    repository: StateRepository, output: Store, renders: Sequence[HasRenditions]
) -> None:
    """Delete temporary files that a killed run left, without the lock of runs: for a takedown.

    Nothing happens while the last writer is alive: it has swept what others left.
    """
    writer = repository.get(WRITER)
    is_swept = repository.get(INTERRUPTED) is None and repository.get(GENERATION) is not None
    if not is_swept and (writer is None or not is_alive(writer)):
        sweep_output(output, renders, is_alive)


def remove_unrecorded(
    repository: StateRepository, output: Store, renders: Sequence[HasRenditions]
) -> None:
    """Remove files that were about to be published when a run was killed, and have no row.

    Call it with the lock of runs, or of publishing. A file that may have replaced an older
    rendition stays, and is rendered again: no row says which of the two it is.
    """
    noted = json.loads(repository.get(PUBLISHING) or "[]")
    unrecorded = set(noted)
    for step in renders:
        owners = owners_of(noted, step.pending)
        unrecorded -= set(owners)
        forget_content(step.pending, list(owners.values()))
    for key in unrecorded:
        with contextlib.suppress(LinkInTheWay):  # it is not ours, what that leads to
            output.remove(key)


def folders_of(step: HasRenditions) -> dict[tuple[str, str], str]:
    """The key of the folder that each recipe has for each source, by source and recipe."""
    table = step.pending.recipe_table
    query = sa.select(table.c.source, table.c.recipe).where(
        table.c.source.in_([source.value for source in step.sources]),
        ~table.c.recipe.startswith(PREFIX),
    )
    rows = step.pending.meta.dbconn.rows(query)
    return {tuple(row): step.below(Source(row.source)) + folder_of(row.recipe) for row in rows}


def has_renditions(step: HasRenditions, source: str, recipe: str) -> bool:
    """Whether a row says that there is a rendition of this source by this recipe."""
    table = step.pending.table
    made = sa.select(table.c.path).where(
        table.c.source == source, table.c.recipe == recipe, table.c.state == State.OK.value
    )
    return step.pending.meta.dbconn.first(made.limit(1)) is not None


def sweep_output(
    output: Store,
    renders: Sequence[HasRenditions],
    is_alive: Callable[[str], bool] = lambda owner: False,
) -> None:
    """Sweep the output folder, but for folders where a disk may have been mounted."""
    keep = [
        key_of(folder)
        for step in renders
        for which, folder in folders_of(step).items()
        if has_renditions(step, *which)
    ]
    output.sweep(is_alive, keep)


def strays(
    step: HasRenditions, renders: Sequence[HasRenditions], is_alive: Callable[[str], bool]
) -> Iterator[str]:
    """Keys of files below the folder of ``step`` that no row knows.

    Temporary files are among them unless their owner ``is_alive``. Folders of the other ``renders``
    are left out.
    """
    pending, waiting = step.pending, []
    apart, is_stray = prefixes_apart(step, renders), stray_test(step, is_alive)
    for key in keys_below(step.settings.output_place, step.prefix, apart):
        if not is_stray(key):
            continue
        if key.rpartition("/")[2].startswith(TEMPORARY_PREFIX):
            yield key
            continue
        waiting.append(key)
        if len(waiting) == VALUES_AT_ONCE:
            yield from _unknown(waiting, pending)
            waiting = []
    yield from _unknown(waiting, pending)


def prefixes_apart(step: HasRenditions, renders: Sequence[HasRenditions]) -> list[str]:
    """The prefixes of other steps, below that of this one."""
    return [
        other.prefix
        for other in renders
        if other.prefix != step.prefix and other.prefix.startswith(step.prefix)
    ]


def stray_test(step: HasRenditions, is_alive: Callable[[str], bool]) -> Callable[[str], bool]:
    """Tells of a key whether a file that has no row should not be there."""
    # They hold files of the run itself, the results of jobs, and people's notes.
    not_looked_at = {step.below(source) for source in step.sources}

    def is_stray(key: str) -> bool:
        end = key.rfind("/") + 1
        if key.startswith(TEMPORARY_PREFIX, end):
            return is_left_behind(key[end:], is_alive)
        return key[:end] not in not_looked_at

    return is_stray


def forget_content(pending: Pending, renditions: list[RenditionKey]) -> None:
    """Make renditions pending, and unlike any bytes, so that the next run makes them again.

    Features, too: keys are those of what is pending.
    """
    marks = pending.meta.sql_table
    with pending.meta.dbconn.writing() as con:
        for chunk in chunks(renditions):
            for table in pending.tables:
                is_its = is_one_of([table.c.source, table.c.path, recipe_in(table)], chunk)
                con.execute(sa.update(table).where(is_its).values(sha256=None))
            is_its = is_one_of([marks.c.source, marks.c.path, marks.c.recipe], chunk)
            con.execute(sa.update(marks).where(is_its).values(is_success=False))


def _unknown(keys: list[str], pending: Pending) -> Iterator[str]:
    known = owners_of(keys, pending)
    yield from (key for key in keys if key not in known)


def owners_of(keys: Sequence[str], pending: Pending) -> dict[str, RenditionKey]:
    """Which rendition each of the files is that a row knows, by their keys."""
    table = pending.table
    wanted = sa.select(table.c.file, table.c.source, table.c.path, table.c.recipe)
    owners: dict[str, RenditionKey] = {}
    with pending.meta.dbconn.reading() as con:
        for chunk in chunks(keys):
            for row in con.execute(wanted.where(table.c.file.in_(chunk))):
                owners[row.file] = (row.source, row.path, row.recipe)
    return owners


def _compare_since(since: float, pending: Pending, root: Path) -> None:
    meta = pending.renditions.meta
    assert isinstance(meta, SQLTableMeta)
    table, written = pending.table, meta.sql_table
    keys = ("source", "path", "recipe")
    query = (
        sa.select(*[table.c[name] for name in keys], table.c.file, table.c.file_sha256)
        .join(written, sa.and_(*[written.c[name] == table.c[name] for name in keys]))
        .where(written.c.update_ts >= since, table.c.state == State.OK.value)
    )
    rows = pending.meta.dbconn.rows(query)
    damaged = []
    for row in rows:
        try:
            whole = sha256_of(root / name_of(row.file)) == row.file_sha256
        except OSError:
            whole = False
        if not whole:
            damaged.append((row.source, row.path, row.recipe))
    forget_content(pending, damaged)
