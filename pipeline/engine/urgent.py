"""Urgent work within a run: what changed in the input folder does not wait for a backlog.

The run continues where it was. It skips the originals that were handled here: what it read about
them before is out of date.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

from pipeline.engine.context import Run, RunOptions
from pipeline.engine.history import remember_run
from pipeline.engine.pending import NARROW_ROWS
from pipeline.engine.report import Report
from pipeline.engine.run import Plan, complete
from pipeline.engine.step import Step
from pipeline.states import Lane, Source
from pipeline.storage.walking import CSV_SUFFIXES, Passed
from pipeline.workers.tasks import Urgency


def work_within(plan: Plan, run: Run, options: RunOptions, steps: Sequence[Step]) -> Report:
    """Work ``steps``, the scan first, for the originals of the input folder that changed.

    ``options`` say what the scan looks at; the steps after it look at what it found to differ.

    Raises:
        LockstepError: whatever stops a run; what the scan found stays pending.
    """
    began = time.monotonic()
    scan, *others = steps
    within = run.part(
        options=options,
        report=Report(),
        progress=run.progress.lane(Lane.CHANGES),
        urgency=Urgency.FRESH,
        source=Source.INPUT,
        superseded=set(),
        urgent={},
        recipes_moved=set(),
        passed=Passed(deferred_suffixes=CSV_SUFFIXES),
        scanned=False,
        input=None,
        has_jobs=None,
    )
    try:
        with contextlib.closing(within):
            scan.work(within)
            for step in others:
                if step is plan.own:
                    # Last, and after a scan of the whole folder as well: the rest is the run's.
                    within.narrowed_to = list(within.touched.get(Source.INPUT, ()))
                if step.is_needed(within):
                    step.work(within)
    finally:
        found = within.touched.get(Source.INPUT, set())
        run.superseded |= found
        # More than are remembered: the run can no longer know what is out of date.
        run.overtaken |= len(found) > NARROW_ROWS
    run.has_jobs = run.has_jobs or within.has_jobs
    complete(plan, within)
    within.report.seconds = time.monotonic() - began
    remember_run(plan.database, within.report)
    return within.report
