"""Comparing the files of ``output/`` with the rows that say what should be there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from pipeline.database.paging import pages
from pipeline.engine.matching import ALTERED, MISSING, STRAY, matched
from pipeline.engine.pending import Pending, RenditionKey
from pipeline.engine.recovery import forget_content, strays
from pipeline.engine.render_step import RenderStep
from pipeline.engine.report import Report
from pipeline.names import name_of
from pipeline.states import State
from pipeline.storage.at_once import at_once
from pipeline.storage.folder import sha256_of
from pipeline.storage.folder_store import FolderStore
from pipeline.storage.places import Place
from pipeline.text import counted

PAGE_ROWS = 10_000


@dataclass
class Mismatch:
    """What differs; keys of files below the output folder."""

    checked: int = 0
    missing: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    fixed: bool = False
    # The run that came first, where the database was older than the folder.
    run: Report | None = None

    @property
    def count(self) -> int:
        """How many files differ."""
        return len(self.missing) + len(self.altered) + len(self.strays)

    @property
    def counts(self) -> dict[str, int]:
        """How many files differ, by what is wrong with them."""
        return {
            "missing": len(self.missing),
            "altered": len(self.altered),
            "strays": len(self.strays),
        }

    @property
    def all_fixed(self) -> bool:
        """Nothing was found, or everything was fixed."""
        return not self.count or self.fixed

    def as_json(self) -> dict[str, Any]:
        """The result of ``datapipe verify --json``."""
        return {
            "checked": self.checked,
            "missing": self.missing,
            "altered": self.altered,
            "strays": self.strays,
            "fixed": self.fixed,
            "run": self.run and self.run.as_json(),
        }

    def as_text(self) -> str:
        """One line for people."""
        if not self.count:
            what = counted(self.checked, "rendition is as it", "renditions are as they")
            return f"{what} should be"
        what = (
            f"{len(self.missing):,} missing, {len(self.altered):,} altered, "
            f"{len(self.strays):,} strays, of {counted(self.checked, 'rendition')}"
        )
        return f"{what}; all fixed" if self.fixed else f"{what}; `datapipe verify --fix` fixes them"


# Compares what else lies in the output folder; adds to what was found, and gives the number of
# files that the next run has to make again, which is requested only if the second value is true.
Check = Callable[[Mismatch, bool], int]


def compare(
    place: Place,
    renders: Sequence[RenderStep],
    checks: Sequence[Check],
    is_alive: Callable[[str], bool],
    deep: bool = False,
    fix: bool = False,
    check_stop: Callable[[], None] = lambda: None,
) -> tuple[Mismatch, int]:
    """What differs, and how many files the next run is to render again.

    Sizes are compared; with ``deep`` every rendition is read and its SHA-256 compared. Temporary
    files are strays unless their owner ``is_alive``. ``check_stop`` is called from time to time.

    Raises:
        OutputError: with ``fix``, a stray cannot be deleted.
        StoreError: the bucket cannot be listed to the end.
    """
    found, wrong = Mismatch(), 0
    for step in renders:
        wrong += _compare(place, step, renders, found, is_alive, deep, fix, check_stop)
    return found, wrong + sum(check(found, fix) for check in checks)


def _compare(
    place: Place,
    step: RenderStep,
    renders: Sequence[RenderStep],
    found: Mismatch,
    is_alive: Callable[[str], bool],
    deep: bool,
    fix: bool,
    check_stop: Callable[[], None],
) -> int:
    """Compare the files of one step with its rows; how many renditions are to be made again."""
    store = step.settings.output_store
    wrong: list[RenditionKey] = []
    keys: list[str] = []
    if place.folder is None:
        compared = matched(step, list(renders), is_alive, deep, check_stop)
    else:
        compared = _in_folder(place.folder, step, renders, is_alive, deep, check_stop)
    for problem, key, row in compared:
        if problem == STRAY:
            keys.append(key)
            continue
        found.checked += 1
        if problem is not None:
            (found.missing if problem == MISSING else found.altered).append(key)
            wrong.append((row.source, row.path, row.recipe))
    keys.sort()
    found.strays += keys
    if fix:
        for removed in at_once(store.remove, keys) if place.is_bucket else map(store.remove, keys):
            if isinstance(removed, Exception):
                raise removed
        forget_content(step.pending, wrong)
    return len(wrong)


def _in_folder(
    folder: Path,
    step: RenderStep,
    renders: Sequence[RenderStep],
    is_alive: Callable[[str], bool],
    deep: bool,
    check_stop: Callable[[], None],
) -> Iterator[tuple[str | None, str, Any]]:
    """As :func:`matched`, for a folder."""
    store = FolderStore(folder)
    for number, row in enumerate(rows_in_step(step.pending), 1):
        if number % PAGE_ROWS == 0:
            check_stop()
        problem = _problem(folder / name_of(row.file), row, deep)
        if problem != MISSING and not store.is_ours(row.file):
            problem = MISSING  # what a link leads to is not ours
        yield problem, row.file, row
    if (folder / name_of(step.prefix)).is_dir():
        for key in strays(step, renders, is_alive):
            yield STRAY, key, None


def rows_in_step(pending: Pending, *which: sa.ColumnElement[bool]) -> Iterator[Any]:
    """The rows of renditions that should be there, of all sources, in pages."""
    table = pending.table
    keys = (table.c.source, table.c.path, table.c.recipe)
    query = sa.select(*keys, table.c.file, table.c.size_bytes, table.c.file_sha256).where(
        table.c.state == State.OK.value, *which
    )
    for rows in pages(pending.meta.dbconn, query, keys, PAGE_ROWS):
        yield from rows


def _problem(file: Path, row: Any, deep: bool) -> str | None:
    try:
        if file.stat().st_size != row.size_bytes:
            return ALTERED
        if deep and sha256_of(file) != row.file_sha256:
            return ALTERED
    except OSError:
        return MISSING
    return None
