"""One run of the whole pipeline: recover, then every declared step in its order, then count."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence

import sqlalchemy as sa
from datapipe.compute import ComputeStep, run_steps

from pipeline.app import Lockstep
from pipeline.database.state import UNVERIFIED
from pipeline.engine.compare import compare
from pipeline.engine.context import Run, RunOptions, open_run
from pipeline.engine.gone import note_gone, warn_of_gone
from pipeline.engine.history import count_states, remember_run, remember_stop
from pipeline.engine.progress import Progress
from pipeline.engine.recovery import forget_writing, recover, sweep_output
from pipeline.engine.report import Report
from pipeline.errors import StoppedError
from pipeline.states import State
from pipeline.takedowns import finish
from pipeline.workers.local import Workers, clear_temporary_of


def run_once(
    app: Lockstep,
    options: RunOptions | None = None,
    progress: Progress | None = None,
    steps: Sequence[ComputeStep] | None = None,
    workers: Workers | None = None,
) -> Report:
    """Bring everything in step, or work ``steps`` alone; what was done is kept whatever ends it.

    ``workers`` that are handed in stay for the next run, but not where this one fails.

    Raises:
        LockstepError: settings, recipes, lock, a folder that looks unmounted, a full disk.
        KeyboardInterrupt: after the workers have ended and temporary files are gone.
    """
    began = time.monotonic()
    try:
        with open_run(app.database, app.settings, options, progress, workers) as run:
            is_cut_off = recover(run, app)
            note_gone(run, app.renders)
            run.report.warnings += finish(app)
            if is_cut_off:
                app.fetch.recover(run)
            try:
                if steps is None:
                    run.has_jobs = app.answer.book.any()
                    for step in app.renders if run.has_jobs else app.renders[:1]:
                        run.look(step.pending).look_ahead()
                run_steps(app.ds, app.steps if steps is None else steps, run_config=run)
            except StoppedError:
                # A stop is to take no second: a walk through all of the output folder would.
                for task in run.workers.close():
                    clear_temporary_of(task)
                raise
            except BaseException:
                # No worker may write after we have cleared up.
                run.workers.close()
                with contextlib.suppress(sa.exc.SQLAlchemyError):  # the next run sweeps as well
                    sweep_output(app)
                raise
            if run.workers.lost:
                sweep_output(app)
            report = run.report
            forget_writing(run, mended=steps is None)
            if steps is None:
                report.warnings += warn_of_gone(run, app.renders) + _compare_if_older(app, run)
            report.jobs.count_renditions(run.job_report)
            report.partial = run.narrowed_to is not None
            if report.partial:
                report.csvs_left = len(run.passed.aside)
            else:
                states = count_states(app.render.pending)
                report.in_step = states.get(State.OK, 0)
                report.failed_before = max(0, states.get(State.FAILED, 0) - report.failed)
            report.seconds = time.monotonic() - began
            remember_run(app.database, report)
            if app.database.clock.written_ts >= run.began_ts:
                app.database.dialect.settle(app.database.engine)
    except sa.exc.SQLAlchemyError as error:
        raise app.database.explain(error) from error
    except BaseException as error:
        # Whoever looks later is to see why nothing came; the error itself is what counts.
        with contextlib.suppress(sa.exc.SQLAlchemyError):
            remember_stop(app.database, error, time.monotonic() - began)
        raise
    # The lock is given back: what is left is for others, who may be slow.
    report.threads += [start() for start in run.afterwards]
    report.seconds = time.monotonic() - began
    return report


def _compare_if_older(app: Lockstep, run: Run) -> list[str]:
    """Compare rows with files once, if the database was older than the output folder, or new."""
    if run.book.get(UNVERIFIED) != json.dumps(None):
        return []
    # The lock is held and no worker writes: no owner of a temporary file is at work.
    found, _ = compare(app, lambda owner: False, check_stop=run.check_stop)
    if not found.count:
        run.book.set(UNVERIFIED, None)
        return []
    run.book.set(UNVERIFIED, json.dumps(found.counts))
    return [
        f"{app.settings.output_dir}: the database is new, or older than this folder: "
        f"{found.as_text()}"
    ]
