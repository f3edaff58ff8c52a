"""The scan: the folder of originals against the table of originals, both walked in one order.

Only differences are written. A file whose size, times or inode changed gets a new row; whether
its content changed is for the render step to say, which reads the file anyway.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import sqlalchemy as sa
from datapipe.compute import Catalog, ComputeOutput, ComputeStep, PipelineStep
from datapipe.datatable import DataStore, DataTable
from datapipe.executor import Executor
from datapipe.run_config import RunConfig
from datapipe.types import IndexDF

from pipeline.engine.context import Run, run_of
from pipeline.engine.database import one_transaction
from pipeline.engine.plane import frame
from pipeline.engine.walk import Found, Passed, Row, walk
from pipeline.errors import TooManyRemovedError
from pipeline.settings import Settings
from pipeline.tables import TrackedTable

# Rows written at once: 2,000 x 5 values stay below SQLite's 32,766 variables in upstream's reads.
CHUNK_ROWS = 2_000
# Rows read at once: a page is closed before anything is written, and bounds the memory.
PAGE_ROWS = 20_000
# Below this many, a person may well have removed them all; the fifth line of defence is not worth
# a nightly refusal of a folder with three photos.
REMOVED_AT_LEAST = 100


@dataclass
class Difference:
    """How the folder differs from the table. Paths that went are collected, never files."""

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: list[str] = field(default_factory=list)
    passed: Passed = field(default_factory=Passed)

    @property
    def known(self) -> int:
        """How many originals the table had."""
        return self.changed + self.unchanged + len(self.removed)


def compare(
    folder: Path,
    suffixes: frozenset[str],
    table: DataTable,
    difference: Difference,
    allow_missing: bool = False,
) -> Iterator[Found]:
    """Every new or changed original, in the order of keys; counts go to ``difference``.

    Raises:
        TooManyRemovedError: the folder is missing or cannot be read.
    """
    stored = _Stored(table)
    for files in _walk_or_refuse(folder, suffixes, difference.passed, allow_missing):
        # Almost always a whole folder is as it was: one comparison of two lists tells.
        if stored.skip_equal(files):
            difference.unchanged += len(files)
            continue
        for file in files:
            for path in stored.before(file[0]):
                _gone(path, difference)
            row = stored.at(file[0])
            if row == file:
                difference.unchanged += 1
                continue
            if row is None:
                difference.new += 1
            else:
                difference.changed += 1
            yield Found(*file)
    for path in stored.before(None):
        _gone(path, difference)


def refuse_too_many(difference: Difference, max_percent: float, folder: Path) -> None:
    """Raise where so many are gone that a missing disk is likelier than intent.

    Raises:
        TooManyRemovedError: at least 100, and more than ``max_percent`` of all.
    """
    removed, known = len(difference.removed), difference.known
    if removed >= REMOVED_AT_LEAST and removed * 100 > known * max_percent:
        raise TooManyRemovedError(
            f"{folder}: {removed:,} of {known:,} originals are gone, more than the "
            f"{max_percent:g} % of PIPELINE_MAX_REMOVED; nothing was deleted. If the disk is "
            "mounted and they are meant to be gone, run again with --allow-removed"
        )


def _walk_or_refuse(
    folder: Path, suffixes: frozenset[str], passed: Passed, allow_missing: bool
) -> Iterator[list[Row]]:
    try:
        yield from walk(folder, suffixes, passed)
    except OSError as error:
        if allow_missing and isinstance(error, FileNotFoundError):
            return
        raise TooManyRemovedError(
            f"{folder}: the input folder cannot be read ({error.strerror}); nothing was deleted. "
            "Mount it, make it, or name another in PIPELINE_INPUT; if it is meant to be gone, "
            "run again with --allow-removed"
        ) from None


class _Stored:
    """The rows of the table of originals in the order of keys, a page at a time."""

    def __init__(self, table: DataTable) -> None:
        store = table.table_store
        assert isinstance(store, TrackedTable)
        self._connection = store.dbconn
        self._columns = store.data_table.c
        self._page: list[tuple[Any, ...]] = []
        self._next = 0
        self._is_last = False
        self._turn_page()

    def skip_equal(self, files: list[Row]) -> bool:
        """Pass over the next rows if they are just ``files``; else nothing happens."""
        end = self._next + len(files)
        if end > len(self._page) and not self._is_last:
            self._turn_page()
            end = self._next + len(files)
        if self._page[self._next : end] != files:
            return False
        self._next = end
        return True

    def before(self, path: str | None) -> Iterator[str]:
        """Pass over the rows before ``path`` (``None``: all that are left); give their paths."""
        while True:
            if self._next == len(self._page):
                if self._is_last:
                    return
                self._turn_page()
                continue
            key = self._page[self._next][0]
            if path is not None and key >= path:
                return
            self._next += 1
            yield key

    def at(self, path: str) -> tuple[Any, ...] | None:
        """Pass over the row of ``path`` and give it; ``None`` if there is none."""
        if self._next == len(self._page) or self._page[self._next][0] != path:
            return None
        self._next += 1
        return self._page[self._next - 1]

    def _turn_page(self) -> None:
        """Read the next page behind what is left of this one."""
        columns = self._columns
        query = (
            sa.select(
                columns.path, columns.size_bytes, columns.mtime_ns, columns.ctime_ns, columns.inode
            )
            .order_by(columns.path)
            .limit(PAGE_ROWS)
        )
        if self._page:
            query = query.where(columns.path > self._page[-1][0])
        with self._connection.con.begin() as con:
            # The driver's own tuples compare with ours in C; SQLAlchemy's rows do not.
            cursor = con.execute(query).cursor
            assert cursor is not None
            rows: list[tuple[Any, ...]] = list(cursor.fetchall())
        self._is_last = len(rows) < PAGE_ROWS
        self._page = self._page[self._next :] + rows
        self._next = 0


def _gone(path: str, difference: Difference) -> None:
    if difference.passed.unreadable and difference.passed.covers(path):
        difference.unchanged += 1  # not seen, but not known to be gone either
    else:
        difference.removed.append(path)


class ScanStep(ComputeStep):
    """Brings the table of originals in step with the folder."""

    def __init__(
        self, name: str, output: DataTable, suffixes: frozenset[str], settings: Settings
    ) -> None:
        super().__init__(name=name, input_dts=[], output_dts=[ComputeOutput(dt=output)])
        self.table = output
        self.suffixes = suffixes
        self.settings = settings

    def run_full(
        self,
        ds: DataStore,
        run_config: RunConfig | None = None,
        executor: Executor | None = None,
    ) -> None:
        """Write what is new, changed and gone.

        Raises:
            TooManyRemovedError: nothing is deleted then.
        """
        with run_of(run_config, ds.meta_dbconn, self.settings) as run:
            self._scan(run)

    def _scan(self, run: Run) -> None:
        folder = self.settings.input_dir
        difference = Difference(passed=run.passed)
        waiting: list[Found] = []
        allowed = run.options.allow_removed
        for file in compare(folder, self.suffixes, self.table, difference, allowed):
            run.workers.warm_up()
            waiting.append(file)
            if len(waiting) >= CHUNK_ROWS:
                self._store(waiting, run)
        self._store(waiting, run)
        if not allowed:
            refuse_too_many(difference, self.settings.max_removed_percent, folder)
        for start in range(0, len(difference.removed), CHUNK_ROWS):
            paths = difference.removed[start : start + CHUNK_ROWS]
            run.touch(paths)
            gone = pd.DataFrame({"path": paths})
            with one_transaction(run.connection):
                self.table.delete_by_idx(IndexDF(gone), now=run.clock.now())
                run.clock.remember()
        report = run.report
        report.new, report.changed = difference.new, difference.changed
        report.unchanged, report.removed = difference.unchanged, len(difference.removed)
        report.passed = difference.passed.reasons
        run.scanned = True
        for unreadable in difference.passed.unreadable:
            report.warnings.append(
                f"{folder / unreadable}: the folder cannot be read; "
                "its originals are kept as they are"
            )

    def _store(self, waiting: list[Found], run: Run) -> None:
        if waiting:
            run.touch(file.path for file in waiting)
            rows = frame([file._asdict() for file in waiting], Found._fields)
            with one_transaction(run.connection):
                self.table.store_chunk(rows, now=run.clock.now())
                run.clock.remember()
            waiting.clear()


@dataclass
class Scan(PipelineStep):
    """Declares a scan of ``PIPELINE_INPUT`` into ``output``."""

    output: str
    suffixes: frozenset[str]
    settings: Settings

    def build_compute(self, ds: DataStore, catalog: Catalog) -> list[ComputeStep]:
        table = catalog.get_datatable(ds, self.output)
        return [ScanStep("scan", table, self.suffixes, self.settings)]
