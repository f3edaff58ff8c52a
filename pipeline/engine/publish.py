"""Publishing: finished renditions take their place in ``output/``, then their rows are written.

The order makes a kill harmless. New file, old file of another name, row, mark: wherever it is
interrupted, the pair stays pending, and the next run renders it again.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from pipeline.blocklist import Blocklist
from pipeline.database.forgetting import forget_deleted
from pipeline.database.locks import PUBLISH_LOCK
from pipeline.database.paging import chunks
from pipeline.database.state import PUBLISHING
from pipeline.engine.context import Run
from pipeline.engine.holding import Holding, Withheld
from pipeline.engine.outputs import delete_rows, mark_done, marks_of, store_rows
from pipeline.engine.pending import (
    Pending,
    PendingOriginal,
    PendingRendition,
    RenditionKey,
    few_of,
)
from pipeline.engine.placing import Places
from pipeline.engine.recovery import forget_writing, owners_of, remember_writing
from pipeline.engine.report import Counts
from pipeline.engine.reuse import Reuse
from pipeline.imaging import RENDERER_VERSION
from pipeline.reasons import Reason
from pipeline.states import Source, State
from pipeline.transforms.features import PDQ, is_listed
from pipeline.workers.reasons import not_written
from pipeline.workers.tasks import Made, Outcome, md5s_of

# Each batch is a transaction. A takedown waits for one batch at most, and must finish within a
# second; what a kill loses is at most one batch as well.
BATCH = 250
FLUSH_S = 3.0
# What the row of a rendition has only where there is one.
_MADE = ("file", "width_px", "height_px", "size_bytes", "file_sha256", "reason")


class Publisher:
    """Collects what workers made, and publishes and records it in batches."""

    def __init__(
        self,
        pending: Pending,
        fingerprints: Mapping[str, str],
        run: Run,
        counts: Counts,
        settled: Callable[[Collection[str]], None],
    ) -> None:
        """``fingerprints`` of the recipes by name, from ``recipes.toml`` as this run read it.

        ``settled`` is called with the paths of each batch, inside the transaction that records it.
        """
        self.run = run
        self.counts = counts
        self._settled = settled
        self.fingerprints = fingerprints
        self.places = Places(run)
        self.pending = pending
        self.source = pending.source.value
        self.takedowns = Blocklist(run.database)
        self.reuse = Reuse(pending, fingerprints, self.places)
        self.holding = Holding(pending, run.settings)
        # SHA-256 of the batch at hand that must have no renditions, and why; and those of which
        # nothing tells whether they may.
        self._withheld: dict[str, Withheld] = {}
        self._unknown: set[str] = set()
        self.mark_unchanged = True
        self._expected: dict[str, PendingOriginal] = {}
        self._batch: list[Outcome] = []
        # Pairs of the batch at hand that failed, and that the next run is to try again.
        self._again: list[PendingRendition] = []
        # And those of which there is to be no row.
        self._dropped: list[PendingRendition] = []
        self._last_flush = time.monotonic()
        # Pairs that stay pending, as their original changed meanwhile.
        self.unsettled = 0
        self._deleted_any = False
        self._begun = False

    def begin(self) -> None:
        """Remember that files are about to be written, until :meth:`finish` says all went well."""
        if not self._begun:
            self._begun = True
            self.run.writers.append(self)
            remember_writing(self.run)

    def finish(self) -> None:
        """All that could be done is done and recorded."""
        self.counts.pending = self.unsettled
        if self._begun:
            if self._deleted_any and not self.unsettled:
                # Forget only what this run looked at; above NARROW_ROWS that was everything.
                only: dict[str, Collection[str]] = {"source": [self.source]}
                paths = few_of(self.run.narrowed_to)
                forget_deleted(self.pending.meta, only if paths is None else only | {"path": paths})
            self.run.writers.remove(self)
            # Where workers were lost: when their leftovers are swept.
            if not self.run.workers.lost and not self.run.writers:
                forget_writing(self.run)

    def is_superseded(self, path: str) -> bool:
        """Whether more urgent work has handled an original in the meantime."""
        run = self.run
        return self.pending.source is Source.INPUT and (run.overtaken or path in run.superseded)

    def expect(self, original: PendingOriginal) -> None:
        """A task for ``original`` is about to be handed out."""
        self._expected[original.path] = original

    def add(self, outcome: Outcome) -> None:
        """Add one outcome; written when enough have come or enough time has passed."""
        self._batch.append(outcome)
        if len(self._batch) >= BATCH or time.monotonic() - self._last_flush >= FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Publish and record all that has been added.

        Raises:
            OutputError: a file cannot take its place; what was published before is recorded.
        """
        batch, self._batch = self._batch, []
        self.reuse.forget()
        self._last_flush = time.monotonic()
        if not batch:
            return
        rows: list[dict[str, Any]] = []
        marks: list[PendingRendition] = []
        self.holding.compare(batch)
        with self.run.database.lock(PUBLISH_LOCK, wait=True):
            # Checked with the lock held: a later takedown finds the rows of this batch.
            self._withheld, self._unknown = self.holding.check(batch)
            md5s = md5s_of(batch)
            blocked = self.takedowns.blocked_among([outcome.sha256 for outcome in batch], md5s)
            self._withheld |= {d: Withheld(State.TAKEN_DOWN, why) for d, why in blocked.items()}
            # Of the others, the next run looks at the picture itself.
            self._unknown -= blocked.keys()
            keys = [made.file for outcome in batch for made in outcome.made]
            owners = owners_of(keys, self.pending)
            if keys:
                self.places.announce(keys)
            try:
                self.places.take_ahead(_to_publish(self, batch), owners)
                for outcome in batch:
                    self._settle(outcome, owners, rows, marks)
            finally:
                self._record(rows, marks, md5s)

    def delete(self, gone: Sequence[PendingRendition]) -> None:
        """Delete the files and rows of renditions, or features, of what is gone.

        Raises:
            OutputError: a file cannot be deleted; what was deleted before is recorded.
        """
        if not gone:
            return
        self._deleted_any = True
        done: list[PendingRendition] = []
        try:
            for some in chunks(gone, self.places.cleared_at_once):
                cleared = self.places.clear_all([rendition.file for rendition in some])
                for rendition, is_cleared in zip(some, cleared, strict=True):
                    if not is_cleared:
                        self.unsettled += 1
                        continue
                    self.counts.of(rendition.recipe).deleted += rendition.state is not None
                    done.append(rendition)
        finally:
            for chunk in chunks(done):
                with self.run.database.writing() as write:
                    delete_rows(write, self.pending, chunk)
                    mark_done(self.pending, chunk)
                    self._settled({row.path for row in chunk})

    def _settle(
        self,
        outcome: Outcome,
        owners: dict[str, RenditionKey],
        rows: list[dict[str, Any]],
        marks: list[PendingRendition],
    ) -> None:
        original = self._expected.pop(outcome.path)
        if self.is_superseded(outcome.path):
            self.places.discard(outcome.made)
            return
        before = {rendition.recipe: rendition for rendition in original.renditions}
        if outcome.unsettled or outcome.sha256 in self._unknown:
            self.places.discard(outcome.made)
            self.unsettled += sum(map(is_listed, before))
            return
        correct_counts(self.counts, outcome, original, self.run.began_ts, self.mark_unchanged)
        if outcome.sha256 in self._withheld:
            self.places.discard(outcome.made)
            why = self._withheld[outcome.sha256]
            rows += _withheld_rows(self, outcome, original, why)
            marks += original.renditions
            return
        for made in outcome.made:
            old = before[made.recipe]
            try:
                file = self.places.take(made, (self.source, outcome.path, made.recipe), owners)
            except FileNotFoundError:
                # Somebody cleared the output folder during the run: the pair stays pending.
                self.unsettled += 1
                continue
            except OSError as error:
                self.places.discard([made])
                self._fail(outcome, old, not_written(error), rows, marks)
                continue
            if old.file and old.file != file:
                self.places.clear(old.file)
            self.counts.add_made(made.recipe, outcome.reused)
            rows.append(_row(self, old, outcome, State.OK) | _made_row(file, made))
            marks.append(old)
        for feature, value in outcome.values:
            old = before[feature]
            self.counts.add_made(feature, outcome.reused)
            rows.append(_row(self, old, outcome, State.OK) | {"value": value})
            marks.append(old)
        for recipe in outcome.unneeded:
            self._drop(before[recipe])
        for recipe, reason in outcome.failed:
            self._fail(outcome, before[recipe], reason, rows, marks)
        if self.mark_unchanged:
            marks.extend(before[recipe] for recipe in outcome.unchanged)

    def _drop(self, old: PendingRendition) -> None:
        """Record that a rendition is not to be there."""
        if not self.places.clear(old.file):
            self.unsettled += 1
            return
        self.counts.deleted += old.state is not None
        self._dropped.append(old)

    def _fail(
        self,
        outcome: Outcome,
        old: PendingRendition,
        reason: Reason,
        rows: list[dict[str, Any]],
        marks: list[PendingRendition],
    ) -> None:
        # A stale rendition is worse than none.
        self.places.clear(old.file)
        self.counts.add_failed(outcome.path, old.recipe, reason.text)
        row = _row(self, old, outcome, State.FAILED)
        if old.state == State.FAILED and old.reason == reason.text:
            row["since"] = old.since
        rows.append(row | {"reason": reason.text, "code": reason.code.value})
        if outcome.try_again:
            self._again.append(old)
        else:
            marks.append(old)

    def _record(
        self,
        rows: list[dict[str, Any]],
        marks: list[PendingRendition],
        md5s: Mapping[str, str],
    ) -> None:
        again, self._again = self._again, []
        dropped, self._dropped = self._dropped, []
        if not marks and not again and not dropped:
            return
        with _undisturbed(), self.run.database.writing() as write:
            # Taken in any case: a page shows what it shows until the clock has moved.
            now = write.now
            rows = [row | {"since": row["since"] or now} for row in rows]
            store_rows(write, self.pending, rows)
            self.takedowns.remember_md5s(md5s)
            if dropped:
                self._deleted_any = True
                delete_rows(write, self.pending, dropped)
            mark_done(self.pending, [*marks, *dropped])
            if again:
                # Also where it was in step before, as in a run that looks at everything.
                failed = [marks_of(self.pending, each) for each in again]
                self.pending.meta.mark(failed, now, "killed")
            self.holding.record(write)
            # A hash alone is nothing that a job waits for: its result stays as it is.
            listed = {row["path"] for row in rows if is_listed(row["recipe"])}
            self._settled(listed | {old.path for old in dropped})
            self.run.repository.set(PUBLISHING, None)


def _to_publish(to: Publisher, batch: Sequence[Outcome]) -> Iterator[tuple[Made, RenditionKey]]:
    """What of a batch takes its place, as its ``_settle`` decides."""
    for outcome in batch:
        leave = outcome.unsettled or to.is_superseded(outcome.path)
        if not leave and outcome.sha256 not in to._unknown | to._withheld.keys():
            for made in outcome.made:
                yield made, (to.source, outcome.path, made.recipe)


def _withheld_rows(
    to: Publisher, outcome: Outcome, original: PendingOriginal, why: Withheld
) -> list[dict[str, Any]]:
    """Remove what was made of an original that was taken down, or is held; what to record."""
    values, rows = dict(outcome.values), []
    if why.state is State.HELD:
        to.holding.hold(outcome)
    for old in original.renditions:
        to.places.clear(old.file)
        if why.state is State.HELD and old.recipe == PDQ and PDQ in values:
            rows.append(_row(to, old, outcome, State.OK) | {"value": values[PDQ]})
        elif not is_withheld_already(old, outcome.sha256, why):
            to.counts.of(old.recipe).add_withheld(why.state)
            rows.append(_row(to, old, outcome, why.state) | {"reason": why.reason})
    return rows


def _row(to: Publisher, old: PendingRendition, outcome: Outcome, state: State) -> dict[str, Any]:
    """A row of a rendition or a feature; the caller adds what it has besides in its state."""
    return {
        "source": to.source,
        "path": outcome.path,
        "recipe": old.recipe,
        **dict.fromkeys((*_MADE, "code")),
        "value": None,
        "sha256": outcome.sha256,
        "original_bytes": outcome.size_bytes,
        "state": state.value,
        "since": None,
        "fingerprint": to.fingerprints[old.recipe],
        "renderer": RENDERER_VERSION,
    }


def _made_row(file: str, made: Made) -> dict[str, Any]:
    return {
        "file": file,
        "width_px": made.width_px,
        "height_px": made.height_px,
        "size_bytes": made.size_bytes,
        "file_sha256": made.file_sha256,
        "reason": "; ".join(made.notes) or None,
    }


def is_withheld_already(old: PendingRendition, sha256: str | None, why: Withheld) -> bool:
    """Whether a rendition is recorded as taken down, or held, for this reason."""
    return (old.state, old.sha256, old.reason) == (why.state, sha256, why.reason)


def correct_counts(
    counts: Counts,
    outcome: Outcome,
    original: PendingOriginal,
    began_ts: float,
    mark_unchanged: bool,
) -> None:
    """Correct the counts of the scan, which knows times and not bytes."""
    # A changed recipe, or a rendition that is missing, has it made of the same bytes again.
    made_of = {rendition.sha256 for rendition in original.renditions} - {None}
    only_touched = made_of == {outcome.sha256}
    found_by_scan = original.found_ts >= began_ts
    if only_touched and found_by_scan and original.has_renditions and counts.changed:
        counts.changed -= 1
        counts.unchanged += 1
    elif not mark_unchanged and not only_touched and counts.unchanged:
        counts.changed += 1
        counts.unchanged -= 1


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Delay Ctrl-C and SIGTERM until the files that were published have their rows.

    Otherwise the next run would render them again.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread is ever disturbed
        return
    came: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)

    def wait(number: int, stack: object) -> None:
        came.append(number)

    before = [signal.signal(number, wait) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if came:
            signal.raise_signal(came[0])
