"""Own steps that work record by record, in chunks: ``BatchTransform`` and the like."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import pandas as pd
import sqlalchemy as sa
from datapipe.datatable import DataStore
from datapipe.run_config import RunConfig
from datapipe.step.batch_transform import BaseBatchTransformStep
from datapipe.types import ChangeList, IndexDF

from pipeline.database.locks import STEPS_LOCK
from pipeline.database.marks import Mark, Marks
from pipeline.database.records import LIVE
from pipeline.database.tracking import LinearTransformMeta
from pipeline.engine.context import Run
from pipeline.engine.own_step import Memory, OwnStep, fingerprint_of, log, take_turn
from pipeline.engine.report import StepCounts
from pipeline.workers.tasks import Urgency

# Keys of one look: so many are held in memory, and the query for them costs as much as for all.
LOOK = 20_000
# The clock in the snapshot that a look was read in, as a column.
AS_OF = "_as_of"


class PendingRecords(NamedTuple):
    """Records that are pending as of a time (Unix, seconds), what is gone first."""

    as_of: float
    keys: pd.DataFrame


class BatchStep(OwnStep, BaseBatchTransformStep):
    """A step that makes its outputs record by record, in chunks."""

    @property
    def linear_meta(self) -> LinearTransformMeta:
        """Which records are done."""
        assert isinstance(self.meta, LinearTransformMeta)
        return self.meta

    def remove(self, run: Run) -> None:
        """Delete what was made of records that are gone; that waits for no backlog."""
        with contextlib.ExitStack() as stack:
            if take_turn(run, stack):
                counts = run.report.steps.setdefault(self.name, StepCounts())
                for look in self._looks(run, gone_only=True):
                    self._work_on(run, look, counts)

    def process_batch(
        self, ds: DataStore, idx: IndexDF, run_config: RunConfig | None = None
    ) -> ChangeList:
        """One chunk of keys, for upstream's ``run-idx`` and ``run-changelist``."""
        with self.database.lock(STEPS_LOCK, wait=True):
            as_of = self.database.clock.committed_ts()
            keys = idx.assign(**{LIVE: 1})
            return self._settle(None, keys, as_of, StepCounts(), self._config(run_config))

    def states(self) -> dict[str, int]:
        return self._marks.counts() | {"pending": self._count()}

    def failures(self) -> Iterable[Mark]:
        return self._marks.failures()

    def story(self, path: str) -> Sequence[Mark]:
        return self._marks.of_original(path)

    def retry(self, paths: Sequence[str] | None = None) -> int:
        return self._marks.retry(paths)

    @property
    def _marks(self) -> Marks:
        return Marks(self.linear_meta)

    def _work(self, run: Run, counts: StepCounts) -> None:
        memory, fingerprint = self._recall(), fingerprint_of(self)
        if memory.fingerprint != fingerprint:
            with self.database.writing():
                self.retry()
                self._remember(Memory(fingerprint))
        for number, look in enumerate(self._looks(run)):
            if not number:
                total = len(look.keys)
                if total == LOOK:
                    total = self._count()
                run.progress.start(f"records of {self.name}", total)
            self._work_on(run, look, counts)
        failed = self._marks.counts()["failed"]
        counts.failed_before = max(0, failed - counts.failed)

    def _looks(self, run: Run, gone_only: bool = False) -> Iterator[PendingRecords]:
        before: PendingRecords | None = None
        while True:
            look = self._look(gone_only)
            # Where a mark does not settle a record, as by a clock of another machine.
            if not len(look.keys) or (before is not None and look.keys.equals(before.keys)):
                return
            yield look
            if len(look.keys) < LOOK:
                return
            before = look

    def _count(self) -> int:
        return self.meta.get_changed_idx_count(self.ds, self._filters())

    def _filters(self) -> RunConfig | None:
        return self._apply_filters_to_run_config(RunConfig())

    def _look(self, gone_only: bool) -> PendingRecords:
        as_of, query = 0.0, self.linear_meta.records_sql(run_config=self._filters())
        names = [*self.transform_keys, LIVE, AS_OF]
        if query is None:
            # Upstream's query, which knows neither time nor whether anything is left.
            as_of = self.database.clock.committed_ts()
            upstream = self.linear_meta._build_changed_idx_sql(self.ds, run_config=self._filters())
            with self.database.reading() as con:
                keys = pd.read_sql_query(upstream.limit(LOOK), con)[self.transform_keys].dropna()
            return PendingRecords(as_of, keys.iloc[:0] if gone_only else keys.assign(**{LIVE: 1}))
        if gone_only:
            query = query.where(query.selected_columns[LIVE] == 0)
        way = sa.desc if self.order == "desc" else sa.asc
        first = [way(sa.text(key)) for key in self.order_by or ()]
        rest = [sa.text(key) for key in (LIVE, *self.transform_keys)]
        query = query.order_by(rest[0], *first, *rest[1:]).limit(LOOK)
        # Read in the very snapshot that shows the records.
        rows = self.database.rows(query.add_columns(self.database.clock.committed.label(AS_OF)))
        if rows:
            as_of = float(getattr(rows[0], AS_OF) or 0.0)
        keys = pd.DataFrame(rows, columns=names).drop(columns=AS_OF)
        filters = self._filters()
        others = {k: v for k, v in (filters.filters if filters else {}).items() if k not in keys}
        return PendingRecords(as_of, keys.assign(**others))

    def _work_on(self, run: Run, look: PendingRecords, counts: StepCounts) -> None:
        config = self._config(run)
        for start in range(0, len(look.keys), self.chunk_size):
            run.check_stop()
            run.attend(Urgency.BACKLOG)
            chunk = look.keys.iloc[start : start + self.chunk_size]
            self._settle(run, chunk, look.as_of, counts, config)
            run.progress.advance(len(chunk))

    def _settle(
        self,
        run: Run | None,
        keys: pd.DataFrame,
        as_of: float,
        counts: StepCounts,
        config: RunConfig,
    ) -> ChangeList:
        """Make and store what comes of these records; where that fails, half of them at a time."""
        idx = IndexDF(keys.drop(columns=LIVE).reset_index(drop=True))
        problem, is_made, changes = None, False, ChangeList()
        try:
            made = self.process_batch_dts(self.ds, idx, config)
            is_made = True
            changes = self.store_batch_result(self.ds, idx, made, as_of, config)
        except Exception as error:
            if is_made and isinstance(error, sa.exc.OperationalError) and self._stores_in_ours():
                raise  # such as a full disk: no record is to blame
            problem = error
        if problem is not None:
            # Not in the handler: each half would drag along the tracebacks of the wholes.
            return self._halve(run, keys, idx, as_of, counts, config, problem)
        there = int(keys[LIVE].sum())
        counts.done += there
        counts.removed += len(keys) - there
        return changes

    def _halve(
        self,
        run: Run | None,
        keys: pd.DataFrame,
        idx: IndexDF,
        as_of: float,
        counts: StepCounts,
        config: RunConfig,
        error: Exception,
    ) -> ChangeList:
        changes, half = ChangeList(), len(keys) // 2
        if half:
            for part in (keys.iloc[:half], keys.iloc[half:]):
                if run is not None:
                    run.check_stop()
                changes.extend(self._settle(run, part, as_of, counts, config))
            return changes
        keys_of = {str(key): value for key, value in idx.iloc[0].items()}
        reason = self._fail(run, counts, keys_of, error)
        try:
            # What was made of it before is stale, and worse than nothing.
            self._clear(idx, config)
        except Exception as also:
            # Not marked: the next run tries it again.
            log.warning("what %s made is stale, and cannot be deleted: %s", self.name, also)
            return changes
        self.meta.mark_rows_processed_error(idx, as_of, reason, config)
        return changes

    def _stores_in_ours(self) -> bool:
        stores = [getattr(each.dt.table_store, "dbconn", None) for each in self.output_specs]
        return all(store is self.database for store in stores)

    def _clear(self, idx: IndexDF, config: RunConfig) -> None:
        for output in self.output_specs:
            wanted = self._transform_idx_to_output_idx(idx, output)
            if wanted is not None:
                output.dt.delete_by_idx(output.dt.meta.get_existing_idx(wanted), run_config=config)
