"""The scan: the folder of originals against the table of originals, both walked in one order.

Only differences are written. A file whose size, times or inode changed gets a new row; whether
its content changed is decided by the render step, which reads the file anyway.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import sqlalchemy as sa
from datapipe.compute import Catalog, ComputeOutput, ComputeStep, PipelineStep
from datapipe.datatable import DataStore, DataTable

from pipeline.blocklist import Blocklist
from pipeline.database.paging import chunks
from pipeline.database.tracked import delete, upsert
from pipeline.engine.context import Run
from pipeline.engine.difference import Difference, Sighting
from pipeline.engine.step import Step
from pipeline.engine.stored import Stored, count_of, is_ours, stored_below, stored_in
from pipeline.engine.unmounted import (
    REMOVED_AT_LEAST,
    InputMounts,
    identity_of,
    not_there,
    refuse_too_many,
)
from pipeline.errors import TooManyRemovedError
from pipeline.names import name_of
from pipeline.settings.values import Settings
from pipeline.states import Source
from pipeline.storage.opening import open_store
from pipeline.storage.places import Place
from pipeline.storage.walking import FoundFile, Passed, Row, look_at, walk, why_passed

# Rows written at once: 2,000 x 5 values stay below SQLite's 32,766 variables in upstream's reads.
CHUNK_ROWS = 2_000


def compare_place(
    place: Place,
    suffixes: frozenset[str],
    table: DataTable,
    difference: Difference,
    allow_missing: bool = False,
    check_stop: Callable[[], None] = lambda: None,
) -> Iterator[FoundFile]:
    """Every new or changed original, in the order of keys; counts go to ``difference``.

    Raises:
        TooManyRemovedError: the folder is missing or cannot be read.
        StoreError: the bucket cannot be listed to the end.
    """
    stored = Stored(table)
    for files in _walk_or_refuse(place, suffixes, difference.passed, allow_missing):
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
    place: Place, suffixes: frozenset[str], passed: Passed, allow_missing: bool
) -> Iterator[list[Row]]:
    try:
        yield from open_store(place).walk(suffixes, passed)
    except OSError as error:
        if allow_missing and isinstance(error, FileNotFoundError):
            return
        raise not_there(place, error.strerror) from None


def compare_some(
    settings: Settings,
    keys: Collection[str],
    suffixes: frozenset[str],
    table: DataTable,
    difference: Difference,
) -> Iterator[FoundFile]:
    """Like :func:`compare_place`, but only for some files and folders, each with all below it."""
    place, most = settings.input_place, settings.max_removed_percent
    for key in sorted(keys):
        parents = [key[:end] for end, c in enumerate(key) if c == "/"]
        if any(parent in keys for parent in parents):
            continue  # done with its folder
        stored = stored_below(table, key)
        for files in _files_at(place, key, suffixes, difference.passed):
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
        difference.unchanged = max(0, count_of(table, enough) - difference.changed - gone)
    if gone and count_of(table, gone + 1) == gone:
        difference.all_gone = not _is_renamed(table, difference)
        difference.is_empty = not _holds_any(place, suffixes, difference.passed)


def _files_at(
    place: Place, key: str, suffixes: frozenset[str], passed: Passed
) -> Iterator[list[Row]]:
    """The originals that a key refers to: one file, or all below a folder, or none."""
    folder = place.folder
    if folder is None:
        yield from _objects_at(place, key, suffixes, passed)
        return
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


def _objects_at(
    place: Place, key: str, suffixes: frozenset[str], passed: Passed
) -> Iterator[list[Row]]:
    """The same in a bucket, where a key may be both an object and what others begin with."""
    found = open_store(place).look_at(key)
    if found is None:
        yield from open_store(place).walk(suffixes, passed, below=key)
        return
    reason = open_store(place).why_passed(key, suffixes)
    if reason is None:
        yield [found]
    else:
        passed.reasons[reason] += 1


def _is_renamed(table: DataTable, difference: Difference) -> bool:
    """Whether a file that is new has size and mtime of one of the first that are gone."""
    store, columns = stored_in(table)
    query = sa.select(columns.size_bytes, columns.mtime_ns).where(
        is_ours(columns), columns.path.in_(difference.removed[:REMOVED_AT_LEAST])
    )
    return any((row[0], row[1]) in difference.arrived for row in store.dbconn.rows(query))


def _holds_any(place: Place, suffixes: frozenset[str], passed: Passed) -> bool:
    """Whether there is any original or CSV, known or not."""
    looked = Passed(deferred_suffixes=passed.deferred_suffixes)
    return any(open_store(place).walk(suffixes, looked)) or bool(looked.deferred)


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
            run.input.note_refused(count_of(self.table) - difference.new)
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
        place = self.settings.input_place
        row = stored_below(self.table, path).get(path)
        there = open_store(place).look_at(path)
        passed = open_store(place).why_passed(path, self.suffixes) if there else None
        return Sighting(None if row is None else FoundFile(*row), there, passed)

    def _differing(self, run: Run, difference: Difference) -> Iterator[FoundFile]:
        """What is new and changed; the rest of it is in ``difference``, once this is exhausted."""
        place, options = self.settings.input_place, run.options
        allowed = options.allow_removed
        run.input = InputMounts(place, run.repository, allowed)
        if options.only is None:
            found = compare_place(
                place, self.suffixes, self.table, difference, allowed, run.check_stop
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
        place, input_folder = self.settings.input_place, run.input
        assert input_folder is not None
        allowed = run.options.allow_removed
        identity = run.options.identity or input_folder.identity
        run.check_stop()
        if identity_of(place, allowed) != identity:
            raise not_there(place, "it was unmounted or replaced")
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
                f"{place.at(unreadable.rstrip('/'))}: the folder cannot be read; "
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
