"""The scan: the folder of originals against the table of originals, both walked in one order.

Only differences are written. A file whose size, times or inode changed gets a new row; whether
its content changed is decided by the render step, which reads the file anyway.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from datapipe.compute import Catalog, ComputeOutput, ComputeStep, PipelineStep
from datapipe.datatable import DataStore, DataTable

from pipeline.blocklist import Blocklist
from pipeline.database.paging import chunks
from pipeline.database.tracked import TrackedTable, delete, upsert
from pipeline.engine.context import Run
from pipeline.engine.difference import Difference, Sighting
from pipeline.engine.step import Step
from pipeline.engine.unmounted import (
    REMOVED_AT_LEAST,
    InputMounts,
    folder_identity,
    not_there,
    refuse_too_many,
)
from pipeline.errors import TooManyRemovedError
from pipeline.names import name_of
from pipeline.settings.values import Settings
from pipeline.states import Source
from pipeline.storage.walking import FoundFile, Passed, Row, look_at, walk, why_passed

# Rows written at once: 2,000 x 5 values stay below SQLite's 32,766 variables in upstream's reads.
CHUNK_ROWS = 2_000
# Rows read at once: a page is closed before anything is written, and bounds the memory.
PAGE_ROWS = 20_000


def compare_folder(
    folder: Path,
    suffixes: frozenset[str],
    table: DataTable,
    difference: Difference,
    allow_missing: bool = False,
    check_stop: Callable[[], None] = lambda: None,
) -> Iterator[FoundFile]:
    """Every new or changed original, in the order of keys; counts go to ``difference``.

    Raises:
        TooManyRemovedError: the folder is missing or cannot be read.
    """
    stored = _Stored(table)
    for files in _walk_or_refuse(folder, suffixes, difference.passed, allow_missing):
        check_stop()
        # Almost always a whole folder is unchanged: one comparison of two lists shows it.
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
            yield FoundFile(*file)
    for path in stored.before(None):
        _gone(path, difference)
    if difference.removed and not (difference.changed or difference.unchanged):
        difference.all_gone = not _is_renamed(table, difference)
        difference.is_empty = not (difference.new or difference.passed.deferred)


def _walk_or_refuse(
    folder: Path, suffixes: frozenset[str], passed: Passed, allow_missing: bool
) -> Iterator[list[Row]]:
    try:
        yield from walk(folder, suffixes, passed)
    except OSError as error:
        if allow_missing and isinstance(error, FileNotFoundError):
            return
        raise not_there(folder, error.strerror) from None


def compare_some(
    settings: Settings,
    keys: Collection[str],
    suffixes: frozenset[str],
    table: DataTable,
    difference: Difference,
) -> Iterator[FoundFile]:
    """Like :func:`compare`, but only for some files and folders, each with all that is below it."""
    folder, most = settings.input_dir, settings.max_removed_percent
    for key in sorted(keys):
        parents = [key[:end] for end, c in enumerate(key) if c == "/"]
        if any(parent in keys for parent in parents):
            continue  # done with its folder
        stored = _stored_below(table, key)
        for files in _files_at(folder, key, suffixes, difference.passed):
            for file in files:
                row = stored.pop(file[0], None)
                if row == file:
                    difference.unchanged += 1
                    continue
                if row is None:
                    difference.new += 1
                else:
                    difference.changed += 1
                yield FoundFile(*file)
        for path in sorted(stored):
            _gone(path, difference)
    if (gone := len(difference.removed)) >= REMOVED_AT_LEAST:
        # Whether these are too many depends on the number of all: no more are counted than tell.
        enough = int(gone * 100 / most) + 1 if most else None
        difference.unchanged = max(0, _count(table, enough) - difference.changed - gone)
    if difference.removed and _count(table, len(difference.removed) + 1) == len(difference.removed):
        difference.all_gone = not _is_renamed(table, difference)
        difference.is_empty = not _holds_any(folder, suffixes, difference.passed)


def _files_at(
    folder: Path, key: str, suffixes: frozenset[str], passed: Passed
) -> Iterator[list[Row]]:
    """The originals that a key refers to: one file, or all below a folder, or none."""
    here = folder / name_of(key)
    try:
        status = os.stat(here)
        reason = why_passed(folder, key, suffixes)
        if reason is not None:
            passed.reasons[reason] += 1
        elif stat.S_ISDIR(status.st_mode):
            yield from walk(folder, suffixes, passed, below=key)
        elif (file := look_at(folder, key)) is not None:
            yield [(file.path, file.size_bytes, file.mtime_ns, file.ctime_ns, file.inode)]
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError:
        # Not seen, but not known to be gone either; `covers` compares with the folder's `/`.
        passed.reasons["file that cannot be examined"] += 1
        passed.unreadable.append(key)


def _stored_below(table: DataTable, key: str) -> dict[str, tuple[Any, ...]]:
    """The rows of a file, and of all below a folder of that name."""
    store, columns = _stored_in(table)
    query = sa.select(
        columns.path, columns.size_bytes, columns.mtime_ns, columns.ctime_ns, columns.inode
    ).where(
        _is_ours(columns),
        # "0" comes right after "/": a range of the keys, which the index finds.
        sa.or_(columns.path == key, sa.and_(columns.path > key + "/", columns.path < key + "0")),
    )
    return {row[0]: tuple(row) for row in store.dbconn.rows(query)}


def _stored_in(table: DataTable) -> tuple[TrackedTable, sa.ColumnCollection[str, Any]]:
    store = table.table_store
    assert isinstance(store, TrackedTable)
    return store, store.data_table.c


def _is_ours(columns: sa.ColumnCollection[str, Any]) -> sa.ColumnElement[bool]:
    ours: sa.ColumnElement[bool] = columns.source == Source.INPUT.value
    return ours


def _count(table: DataTable, at_most: int | None = None) -> int:
    store, columns = _stored_in(table)
    rows = sa.select(columns.path).where(_is_ours(columns)).limit(at_most).subquery()
    return int(store.dbconn.column(sa.select(sa.func.count()).select_from(rows))[0])


def _is_renamed(table: DataTable, difference: Difference) -> bool:
    """Whether a file that is new has size and mtime of one of the first that are gone."""
    store, columns = _stored_in(table)
    query = sa.select(columns.size_bytes, columns.mtime_ns).where(
        _is_ours(columns), columns.path.in_(difference.removed[:REMOVED_AT_LEAST])
    )
    return any((row[0], row[1]) in difference.arrived for row in store.dbconn.rows(query))


def _holds_any(folder: Path, suffixes: frozenset[str], passed: Passed) -> bool:
    """Whether there is any original or CSV, known or not."""
    looked = Passed(deferred_suffixes=passed.deferred_suffixes)
    return any(walk(folder, suffixes, looked)) or bool(looked.deferred)


class _Stored:
    """The rows of the table of originals in the order of keys, a page at a time."""

    def __init__(self, table: DataTable) -> None:
        store, self._columns = _stored_in(table)
        self._database = store.dbconn
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
        """Append the next page to what is left of this one."""
        columns = self._columns
        query = (
            sa.select(
                columns.path, columns.size_bytes, columns.mtime_ns, columns.ctime_ns, columns.inode
            )
            .where(_is_ours(columns))
            .order_by(columns.path)
            .limit(PAGE_ROWS)
        )
        if self._page:
            query = query.where(columns.path > self._page[-1][0])
        with self._database.reading() as con:
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


class ScanStep(Step):
    """Brings the table of originals in step with the folder."""

    def __init__(
        self, name: str, output: DataTable, suffixes: frozenset[str], settings: Settings
    ) -> None:
        super().__init__(name=name, input_dts=[], output_dts=[ComputeOutput(dt=output)])
        self.table = output
        self.suffixes = suffixes
        self.settings = settings
        self.sources = (Source.INPUT,)

    def work(self, run: Run) -> None:
        """Write what is new, changed and gone.

        Raises:
            TooManyRemovedError: nothing is deleted then.
        """
        difference = Difference(passed=run.passed)
        waiting: list[FoundFile] = []
        for file in self._differing(run, difference):
            run.workers.warm_up()
            waiting.append(file)
            if len(waiting) >= CHUNK_ROWS:
                self._store(waiting, run)
        self._store(waiting, run)
        try:
            self._accept(run, difference)
        except TooManyRemovedError:
            assert run.input is not None
            run.input.note_refused(_count(self.table) - difference.new)
            raise
        for paths in chunks(difference.removed, CHUNK_ROWS):
            run.touch(Source.INPUT, paths)
            with run.database.writing() as write:
                delete(write, self.table, [(Source.INPUT.value, path) for path in paths])

    def preview(self, run: Run) -> None:
        """Note what is new, changed and gone.

        Raises:
            TooManyRemovedError: as :meth:`work`.
        """
        difference = Difference(passed=run.passed)
        expected = run.expected.originals[Source.INPUT]
        expected.found = {file.path: file.size_bytes for file in self._differing(run, difference)}
        self._accept(run, difference)
        expected.changed, expected.removed = difference.changed, set(difference.removed)

    def explain(self, path: str) -> Sighting:
        """What the table and the folder have of one original."""
        folder = self.settings.input_dir
        row = _stored_below(self.table, path).get(path)
        there = look_at(folder, path)
        passed = why_passed(folder, path, self.suffixes) if there else None
        return Sighting(None if row is None else FoundFile(*row), there, passed)

    def _differing(self, run: Run, difference: Difference) -> Iterator[FoundFile]:
        """What is new and changed; the rest of it is in ``difference``, once this is exhausted."""
        folder, options = self.settings.input_dir, run.options
        allowed = options.allow_removed
        run.input = InputMounts(folder, run.repository, allowed)
        if options.only is None:
            found = compare_folder(
                folder, self.suffixes, self.table, difference, allowed, run.check_stop
            )
        else:
            found = compare_some(self.settings, options.only, self.suffixes, self.table, difference)
            run.narrowed_to = []
        for file in found:
            run.check_stop()
            if len(difference.arrived) < REMOVED_AT_LEAST:
                difference.arrived.add((file.size_bytes, file.mtime_ns))
            if file.path in options.leave:
                continue
            if run.narrowed_to is not None:
                run.narrowed_to.append(file.path)
            yield file

    def _accept(self, run: Run, difference: Difference) -> None:
        """Count the difference, unless it looks like that of a missing disk.

        Raises:
            TooManyRemovedError
        """
        folder, input_folder = self.settings.input_dir, run.input
        assert input_folder is not None
        allowed = run.options.allow_removed
        identity = run.options.identity or input_folder.identity
        run.check_stop()
        if folder_identity(folder, allowed) != identity:
            raise not_there(folder, "it was unmounted or replaced")
        input_folder.look_again(run.passed.mounts)
        if not allowed:
            takedowns = Blocklist(run.database)
            refuse_too_many(difference, self.settings.max_removed_percent, input_folder, takedowns)
        if run.narrowed_to is not None:
            run.narrowed_to += difference.removed
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

    def _store(self, waiting: list[FoundFile], run: Run) -> None:
        if waiting:
            run.touch(Source.INPUT, (file.path for file in waiting))
            row = {"source": Source.INPUT.value, "sha256": None}
            with run.database.writing() as write:
                upsert(write, self.table, [file._asdict() | row for file in waiting])
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
