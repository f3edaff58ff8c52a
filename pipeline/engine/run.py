"""One run of the whole pipeline: recover, then every declared step in its order, then count."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

import sqlalchemy as sa
from datapipe.compute import ComputeStep, run_steps

from pipeline.app import Lockstep
from pipeline.engine.context import RunOptions, open_run
from pipeline.engine.database import explain_database_error
from pipeline.engine.files import clear_temporary
from pipeline.engine.history import remember_run, remember_stop
from pipeline.engine.progress import Progress
from pipeline.engine.recovery import recover
from pipeline.engine.render_step import RenderStep
from pipeline.engine.report import Report
from pipeline.engine.state import INTERRUPTED
from pipeline.engine.status import count_states
from pipeline.errors import StoppedError
from pipeline.tables import State
from pipeline.takedowns import finish
from pipeline.workers import Workers, clear_temporary_of


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
        with open_run(app.connection, app.settings, options, progress, workers) as run:
            recover(run, app.renders)
            run.report.warnings += finish(app)
            if run.recovering:
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
                clear_temporary(app.settings.output_dir)
                raise
            if run.workers.lost:
                clear_temporary(app.settings.output_dir)
            report = run.report
            if steps is None or run.book.get(INTERRUPTED) == repr(run.began_ts):
                # That of an earlier run stays until a whole run has mended all it left.
                run.book.set(INTERRUPTED, None)
            if steps is None:
                report.warnings += _folders_gone(app.renders if run.has_jobs else app.renders[:1])
            report.jobs.count_renditions(run.job_report)
            report.partial = run.narrowed_to is not None
            if report.partial:
                report.csvs_left = len(run.passed.aside)
            else:
                states = count_states(app.render.pending)
                report.in_step = states.get(State.OK, 0)
                report.failed_before = max(0, states.get(State.FAILED, 0) - report.failed)
            report.seconds = time.monotonic() - began
            remember_run(app.connection, report)
    except sa.exc.SQLAlchemyError as error:
        raise explain_database_error(error, app.connection) from error
    except BaseException as error:
        # Whoever looks later is to see why nothing came; the error itself is what counts.
        with contextlib.suppress(sa.exc.SQLAlchemyError):
            remember_stop(app.connection, error, time.monotonic() - began)
        raise
    # The lock is given back: what is left is for others, who may be slow.
    report.threads += [start() for start in run.afterwards]
    report.seconds = time.monotonic() - began
    return report


def _folders_gone(renders: Sequence[RenderStep]) -> list[str]:
    """Warn of recipes whose whole folder is gone; a run looks at no single rendition.

    Nothing is made again unasked: the disk with the renditions may only not be mounted.
    """
    warnings = []
    for step in renders:
        table, recipes = step.pending.table, step.pending.recipe_table
        connection = step.pending.meta.dbconn
        with connection.con.begin() as con:
            names = con.execute(sa.select(recipes.c.recipe)).scalars().all()
        for name in names:
            folder = step.output_dir / name
            if folder.is_dir():
                continue
            made = sa.select(table.c.path).where(
                table.c.recipe == name, table.c.state == State.OK.value
            )
            with connection.con.begin() as con:
                if con.execute(made.limit(1)).first() is not None:
                    warnings.append(
                        f"{folder}: the folder is gone with all its renditions; mount its disk, "
                        "or have them made again with `datapipe verify --fix`"
                    )
    return warnings
