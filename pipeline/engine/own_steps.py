"""Own steps: steps of datapipe's own that a user declares beside ours, worked as ours are.

``app.py`` declares a stock ``BatchTransform`` or ``DatatableTransform``; :func:`adopt` makes the
step that comes of it one of these. What replaces a part of datapipe-core 0.15.0, and why:

``BaseBatchTransformStep.run_full``, ``process_batch`` and ``store_batch_err``
    (``step/batch_transform.py``) One record that raises fails its whole chunk, again at each run,
    which exits with 0 nevertheless. The time of a mark is the machine's, taken after the keys were
    read: what changes meanwhile would be missed. Keys are read within one transaction that lasts as
    long as the step.
``DatatableTransformStep.run_full`` (``step/datatable_transform.py``)
    An error is logged and forgotten; a table that did not change is processed at each run.

``tests/engine/test_own_steps_upstream.py`` fails when upstream changes one of those parts.

Records and their marks are those of :mod:`pipeline.database.records`. A function is never called
inside a transaction, and nothing is marked before all that was made is stored: killed at any
moment, the record is pending.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import sqlalchemy as sa
from datapipe.compute import ComputeStep
from datapipe.datatable import DataStore
from datapipe.step.batch_transform import BaseBatchTransformStep
from datapipe.step.datatable_transform import DatatableTransformStep

from pipeline.database.marks import Mark
from pipeline.database.records import meta_table
from pipeline.database.tracking import LinearMetaPlane, LinearTransformMeta
from pipeline.engine.context import Run
from pipeline.engine.own_batch import BatchStep
from pipeline.engine.own_step import Memory, OwnStep, fingerprint_of
from pipeline.engine.report import StepCounts
from pipeline.engine.step import Step
from pipeline.states import State


class TableStep(OwnStep):
    """A step over whole tables: its inputs are one record."""

    def _work(self, run: Run, counts: StepCounts) -> None:
        memory, fingerprint = self._recall(), fingerprint_of(self)
        as_of = self.database.clock.committed_ts()
        if self.follows_inputs and not self._is_due(memory, fingerprint):
            counts.failed_before = int(memory.error is not None)
            return
        run.progress.start(self.name, 1)
        reason: str | None = None
        try:
            self._call(run)
            counts.done += 1
        except Exception as error:
            reason = self._fail(run, counts, {}, error)
        since = memory.since if memory.error == reason else as_of
        if self.follows_inputs or reason != memory.error:
            self._remember(Memory(fingerprint, as_of, reason, since))

    def states(self) -> dict[str, int]:
        memory = self._recall()
        is_due = self.follows_inputs and self._is_due(memory, fingerprint_of(self))
        state = "pending" if is_due else "failed" if memory.error else "ok"
        return {"ok": 0, "failed": 0, "pending": 0} | {state: 1}

    def failures(self) -> Iterable[Mark]:
        memory = self._recall()
        failed = Mark({}, State.FAILED.value, memory.error, memory.since)
        return [] if memory.error is None else [failed]

    def retry(self, paths: Sequence[str] | None = None) -> int:
        memory = self._recall()
        if memory.error is None or paths is not None:
            return 0
        memory.fingerprint, memory.error = "", None
        with self.database.writing() as write:
            # Those that wait for a change of the tables learn of it by the clock.
            count = int(write.now > 0)
            self._remember(memory)
        return count

    def passed(self) -> float:
        """As of when it has seen its inputs (Unix time, seconds)."""
        return self._recall().as_of

    def _call(self, run: Run) -> None:
        step = cast(DatatableTransformStep, self)
        step.func(
            ds=self.ds,
            input_dts=[each.dt for each in self.input_dts],
            output_dts=[each.dt for each in self.output_dts],
            run_config=self._config(run),
            kwargs=step.kwargs,
        )

    def _is_due(self, memory: Memory, fingerprint: str) -> bool:
        if memory.fingerprint != fingerprint:
            return True
        for each in self.input_dts:
            last = sa.select(sa.func.max(meta_table(each).c.update_ts))
            if any((found or 0.0) > memory.as_of for found in self.database.column(last)):
                return True
        return False


class OtherStep(OwnStep):
    """A step of a class of the user's own: what it does is its own business."""

    def states(self) -> dict[str, int]:
        return {"ok": 0, "failed": 0, "pending": 0}

    def failures(self) -> Iterable[Mark]:
        return ()

    def retry(self, paths: Sequence[str] | None = None) -> int:
        return 0

    def _work(self, run: Run, counts: StepCounts) -> None:
        super(Step, self).run_full(self.ds, run)


def adopt(step: ComputeStep, store: DataStore) -> None:
    """Make a step that is none of ours an own step; nothing happens to ours.

    Its class becomes one of the same name, so that the commands show it as what was declared.
    """
    if isinstance(step, Step):
        return
    kind: type[OwnStep] = OtherStep
    follows = False
    if isinstance(step, BaseBatchTransformStep):
        kind, follows = BatchStep, True
        assert isinstance(step.meta, LinearTransformMeta)
        step.meta.is_own = True
    elif isinstance(step, DatatableTransformStep):
        kind = TableStep
        follows = bool(step.input_dts) and step.check_for_changes
    assert isinstance(store.meta_plane, LinearMetaPlane)
    store.meta_plane.read_beside |= {meta_table(each) for each in step.input_dts}
    step.__class__ = type(type(step).__name__, (kind, type(step)), {})
    own = cast(OwnStep, step)
    own.ds, own.follows_inputs = store, follows
