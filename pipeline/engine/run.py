"""One run of the whole pipeline: recover, then every declared step in its order, then count."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from datapipe.compute import ComputeStep, run_steps
from datapipe.datatable import DataStore, DataTable
from datapipe.step.batch_transform import BaseBatchTransformStep

from pipeline.database.connection import Database
from pipeline.database.forgetting import forget_passed
from pipeline.database.locks import STEPS_LOCK
from pipeline.database.state import UNVERIFIED
from pipeline.database.tracking import LinearTransformMeta
from pipeline.engine.compare import Check, compare
from pipeline.engine.context import Run, RunOptions, open_run
from pipeline.engine.gone import note_gone, warn_of_gone
from pipeline.engine.history import count_states, remember_run, remember_stop
from pipeline.engine.own_step import OwnStep
from pipeline.engine.own_steps import TableStep
from pipeline.engine.progress import Progress
from pipeline.engine.recovery import forget_writing, recover, sweep_output
from pipeline.engine.render_step import RenderStep
from pipeline.engine.report import Report
from pipeline.engine.step import Before, Step
from pipeline.errors import LockedError, StoppedError
from pipeline.settings.values import Settings
from pipeline.states import Source, State
from pipeline.workers.base import AnyWorkers
from pipeline.workers.local import clear_temporary_of

OLDER = "the database is new, or older than this folder, or this is another folder"


@dataclass(frozen=True)
class Plan:
    """What runs work on, put together by the application.

    ``renders`` are all steps that make renditions; ``own`` is the one of the originals below the
    input folder, whose renditions a report counts. ``before`` is called at the start of every run,
    ``recovered`` when what an earlier run left has been fixed, ``worked`` when its steps have
    worked. ``checks`` compare what else lies in the output folder.
    """

    database: Database
    settings: Settings
    store: DataStore
    steps: Sequence[ComputeStep]
    own: RenderStep
    renders: Sequence[RenderStep]
    before: Sequence[Before] = ()
    recovered: Sequence[Before] = ()
    worked: Sequence[Before] = ()
    checks: Sequence[Check] = ()


def run_once(
    plan: Plan,
    options: RunOptions | None = None,
    progress: Progress | None = None,
    steps: Sequence[ComputeStep] | None = None,
    workers: AnyWorkers | None = None,
    source: Source | None = None,
) -> Report:
    """Bring everything in step, or the originals of one ``source``, or work ``steps`` alone.

    What was done is kept whatever ends it.

    ``workers`` that are passed in stay for the next run, but not where this one fails.

    Long because the order of a run, and what each way out of it owes, is read in one piece.

    Raises:
        LockstepError: settings, recipes, lock, a folder that looks unmounted, a full disk.
        KeyboardInterrupt: after the workers have ended and temporary files are gone.
    """
    began, database, output = time.monotonic(), plan.database, plan.settings.output_store
    is_whole = steps is None and source is None
    try:
        with open_run(database, plan.settings, options, progress, workers, plan.before) as run:
            ours = [step for step in plan.steps if isinstance(step, Step)]
            is_cut_off = recover(run, plan.renders)
            note_gone(run, plan.renders)
            for call in plan.recovered:
                call(run)
            if is_cut_off:
                for step in ours:
                    step.recover(run)
            try:
                if is_whole:
                    for step in ours:
                        step.look_ahead(run)
                _work(plan, run, plan.steps if steps is None else steps, source)
            except StoppedError:
                # Stopping must take less than a second, which walking the whole output folder would
                # not.
                for task in run.workers.close():
                    clear_temporary_of(task)
                raise
            except BaseException:
                # No worker may write after the cleanup.
                run.workers.close()
                with contextlib.suppress(sa.exc.SQLAlchemyError):  # the next run sweeps as well
                    sweep_output(output, plan.renders)
                raise
            if run.workers.lost:
                sweep_output(output, plan.renders)
            report = run.report
            if not run.workers.may_still_write:  # or the next run has to sweep after it
                forget_writing(run, all_fixed=is_whole)
            for call in plan.worked:
                call(run)
            if is_whole:
                report.warnings += warn_of_gone(run, plan.renders) + _compare_if_older(plan, run)
                _forget_passed(plan)
            complete(plan, run)
            report.seconds = time.monotonic() - began
            remember_run(database, report)
            if database.clock.written_ts >= run.began_ts:
                database.dialect.settle(database.engine)
    except sa.exc.SQLAlchemyError as error:
        raise database.explain(error) from error
    except BaseException as error:
        # Recorded for those who look later; the error itself matters more.
        with contextlib.suppress(sa.exc.SQLAlchemyError):
            remember_stop(database, error, time.monotonic() - began)
        raise
    # The lock is released: what is left depends on others, who may be slow.
    report.threads += [start() for start in run.afterwards]
    report.seconds = time.monotonic() - began
    return report


def _work(plan: Plan, run: Run, steps: Sequence[ComputeStep], only: Source | None) -> None:
    """Work the steps in their order; for one source of originals, only those that are for it."""
    run.source = only
    theirs = [s for s in steps if only is None or only in (getattr(s, "sources", ()) or (only,))]
    if run.options.leave_own_steps:
        theirs = [step for step in theirs if not isinstance(step, OwnStep)]
    run_steps(plan.store, theirs, run_config=run)
    run.finish()
    run.source = None


def _forget_passed(plan: Plan) -> None:
    """Forget rows that are gone, and that all steps have passed. Nothing happens while a user's
    step is at work beside the run: a later one does it."""
    own = [step for step in plan.steps if isinstance(step, OwnStep)]
    tables: dict[str, DataTable] = {}
    for step in own:
        tables |= {each.dt.name: each.dt for each in step.input_dts}
        tables |= {each.dt.name: each.dt for each in step.output_dts}
    metas = [step.meta for step in plan.steps if isinstance(step, BaseBatchTransformStep)]
    if not own:
        return
    passed: dict[str, float] = {}
    with contextlib.suppress(LockedError), plan.database.lock(STEPS_LOCK):
        for step in own:
            if isinstance(step, TableStep) and step.follows_inputs:
                for each in step.input_dts:
                    passed[each.dt.name] = min(step.passed(), passed.get(each.dt.name, math.inf))
        linear = [meta for meta in metas if isinstance(meta, LinearTransformMeta)]
        forget_passed(plan.database, tables.values(), linear, passed)


def complete(plan: Plan, run: Run) -> None:
    """Complete the report by what only the tables tell."""
    report = run.report
    report.workers = run.workers.used
    report.partial = run.narrowed_to is not None
    if report.partial:
        report.csvs_left = len(run.passed.deferred)
    else:
        pending = plan.own.pending
        for made, table in zip((report, report.features), pending.tables, strict=False):
            states = count_states(pending, table)
            made.in_step = states.get(State.OK, 0)
            made.failed_before = max(0, states.get(State.FAILED, 0) - made.failed)


def _compare_if_older(plan: Plan, run: Run) -> list[str]:
    """Compare rows with files once, if the database was older than the output folder, or new."""
    if run.repository.get(UNVERIFIED) != json.dumps(None):
        return []
    # The lock is held and no worker writes: no owner of a temporary file is alive.
    place = plan.settings.output_place
    found, _ = compare(
        place, plan.renders, plan.checks, lambda owner: False, check_stop=run.check_stop
    )
    if not found.count:
        run.repository.set(UNVERIFIED, None)
        return []
    run.repository.set(UNVERIFIED, json.dumps(found.counts))
    return [f"{place}: {OLDER}: {found.as_text()}"]
