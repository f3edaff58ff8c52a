"""What a run that was cut off leaves behind, and how the next one mends it.

Killed (``kill -9``, a crash of Python, Ctrl-C twice): temporary files, and files that were
published without their row. Both are found by walking ``output/`` once.

Power lost: rows are synced to disk with each commit, files are not, for a sync of each would cost
more than its rendering. So after a restart of the machine every rendition recorded since the last
time that all was surely written back is compared with its row.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from datapipe.meta.sql_meta import SQLTableMeta

from pipeline.engine.files import clear_temporary, files_below, remove
from pipeline.engine.state import BOOT, INTERRUPTED, WRITTEN_BACK_S, boot_id
from pipeline.names import TEMPORARY_PREFIX, key_of, name_of
from pipeline.tables import State

if TYPE_CHECKING:
    from pipeline.engine.context import Run
    from pipeline.engine.pending import Pending
    from pipeline.engine.render_step import RenderStep

LOOKED_UP_AT_ONCE = 2_000
# File systems with coarse times (FAT: 2 s) round a file's time down, below the run's start.
COARSE_S = 2.0


def remember_writing(run: Run) -> None:
    """Note, before the first file is written, that a run is at work and on which boot."""
    boot = boot_id()
    before = json.loads(run.book.get(BOOT) or "{}")
    if before.get("id") != boot or run.last_write_ts < run.began_ts - WRITTEN_BACK_S:
        run.book.set(BOOT, json.dumps({"id": boot, "since": run.began_ts}))
    if run.book.get(INTERRUPTED) is None:
        run.book.set(INTERRUPTED, repr(run.began_ts))


def recover(run: Run, renders: Sequence[RenderStep]) -> None:
    """Mend what the run before this one left half done; nothing happens if it ended well."""
    cut_off = run.book.get(INTERRUPTED)
    if cut_off is not None:
        run.recovering = True
        clear_temporary(run.settings.output_dir)
        for step in renders:
            # Gathered first: deleting while walking would disturb the walk.
            for key in list(strays(step, renders, float(cut_off) - COARSE_S)):
                remove(step.output_dir / name_of(key), step.output_dir)
    boot = json.loads(run.book.get(BOOT) or "{}")
    if boot and boot["id"] != boot_id():
        for step in renders:
            _compare_since(float(boot["since"]), step.pending, step.output_dir)
        run.book.set(BOOT, json.dumps({"id": boot_id(), "since": run.began_ts}))


def strays(
    step: RenderStep, renders: Sequence[RenderStep], newer_than: float = 0.0
) -> Iterator[str]:
    """Keys of files below the folder of ``step`` that no row knows.

    Folders of the other ``renders`` are left out, and files put there before ``newer_than``.
    """
    pending = step.pending
    apart = [other.output_dir for other in renders if other is not step]
    waiting: list[str] = []
    for path, entry in files_below(step.output_dir, apart):
        # Files of the run itself, the answers of jobs and people's notes lie at the top.
        if "/" not in path or entry.name.startswith(TEMPORARY_PREFIX):
            continue
        if newer_than:
            status = entry.stat(follow_symlinks=False)
            # A hard link that was made by a reuse has the old mtime, and a new ctime.
            if max(status.st_mtime, status.st_ctime) < newer_than:
                continue
        waiting.append(key_of(path))
        if len(waiting) == LOOKED_UP_AT_ONCE:
            yield from _unknown(waiting, pending)
            waiting = []
    yield from _unknown(waiting, pending)


def forget_content(pending: Pending, pairs: list[tuple[str, str]]) -> None:
    """Make renditions pending, and unlike any bytes, so that the next run makes them again."""
    table, marks = pending.table, pending.meta.sql_table
    with pending.meta.dbconn.con.begin() as con:
        for start in range(0, len(pairs), LOOKED_UP_AT_ONCE):
            chunk = pairs[start : start + LOOKED_UP_AT_ONCE]
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


def sha256_of(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits, read in pieces."""
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _unknown(keys: list[str], pending: Pending) -> Iterator[str]:
    if not keys:
        return
    column = pending.table.c.file
    with pending.meta.dbconn.con.begin() as con:
        known = set(con.execute(sa.select(column).where(column.in_(keys))).scalars())
    yield from (key for key in keys if key not in known)


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
    with pending.meta.dbconn.con.begin() as con:
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
