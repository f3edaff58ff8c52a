"""The preview of a run: each of its steps says what it would do, and nothing is written."""

from __future__ import annotations

import time

import sqlalchemy as sa

from pipeline.app import Lockstep
from pipeline.engine.context import RunOptions, dry_run
from pipeline.engine.report import Report
from pipeline.engine.run import complete
from pipeline.engine.step import Step
from pipeline.takedowns.takeover import has_unknown


def preview(app: Lockstep, options: RunOptions) -> Report:
    """What a run would do now. Files whose times changed are hashed, for they may be the same.

    Steps that are not Lockstep's own cannot be previewed, and are left out.

    Raises:
        LockstepError: whatever would stop the run before its first write.
    """
    began = time.monotonic()
    try:
        run = dry_run(app.database, app.settings, options)
        if has_unknown(app.database, app.settings):
            run.report.warnings.append(
                "the database may lack takedowns that are in the journal; a run adds them, and "
                "renders nothing that is taken down"
            )
        for step in app.steps:
            if isinstance(step, Step) and step.is_needed(run):
                step.preview(run)
        complete(app.plan, run)
    except sa.exc.SQLAlchemyError as error:
        raise app.database.explain(error) from error
    run.report.seconds = time.monotonic() - began
    return run.report
