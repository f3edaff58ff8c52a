"""Verify: the files of ``output/`` against the rows that say what should be there."""

from __future__ import annotations

import json

import sqlalchemy as sa

from pipeline.app import Lockstep
from pipeline.database.locks import RUN_LOCK
from pipeline.database.state import UNVERIFIED, StateRepository
from pipeline.engine.compare import Mismatch, compare
from pipeline.engine.context import RunOptions
from pipeline.engine.generation import is_older
from pipeline.engine.recovery import sweep_output
from pipeline.engine.report import Report
from pipeline.engine.run import OLDER, run_once
from pipeline.storage.owners import is_alive


def verify(app: Lockstep, deep: bool = False, fix: bool = False) -> Mismatch:
    """Compare, and with ``fix`` make again what is missing or altered and remove the strays.

    Where the database is older than the folder, as after a restore, ``fix`` begins with a run: it
    finds what changed in the input folder, and carries out takedowns that the database lacked.

    Sizes are compared; with ``deep`` every rendition is read and its SHA-256 compared.

    Raises:
        LockedError: ``fix`` during a run.
        OutputError: a stray cannot be deleted, or a rendition cannot be written.
    """
    report = _catch_up(app) if fix else None
    where = (app.settings.output_place, app.plan.renders, app.plan.checks)
    try:
        if fix:
            with app.database.lock(RUN_LOCK):
                # No run is in progress, so no temporary file will ever be published.
                found, wrong = compare(*where, lambda owner: False, deep, fix)
                sweep_output(app.settings.output_store, app.plan.renders)
        else:
            found, wrong = compare(*where, is_alive, deep)
        if fix and found.count:
            if wrong:
                # The render steps alone: a scan would bring in what else has changed.
                run_once(app.plan, RunOptions(wait=True), steps=app.render_and_answer)
            found.fixed = not compare(*where, is_alive, deep)[0].count
        found.run = report
        if found.all_fixed:
            StateRepository(app.database).set(UNVERIFIED, None)
    except sa.exc.SQLAlchemyError as error:
        raise app.database.explain(error) from error
    return found


def _catch_up(app: Lockstep) -> Report | None:
    """Work a whole run if the database is older than the output folder; ``None`` if it is not."""
    repository = StateRepository(app.database)
    is_new = app.database.clock.committed_ts() == 0.0
    compared = repository.get(UNVERIFIED) != json.dumps(None)
    if compared and not is_older(repository, app.settings.output_place, is_new):
        return None
    report = run_once(app.plan)
    # The same is said below, with what was done about it.
    report.warnings = [each for each in report.warnings if OLDER not in each]
    return report
