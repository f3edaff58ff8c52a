"""Verify: the files of ``output/`` against the rows that say what should be there."""

from __future__ import annotations

import sqlalchemy as sa

from pipeline.app import Lockstep
from pipeline.engine.compare import Found, compare
from pipeline.engine.context import RunOptions
from pipeline.engine.database import explain_database_error
from pipeline.engine.lock import run_lock
from pipeline.engine.owners import is_alive
from pipeline.engine.recovery import sweep_output
from pipeline.engine.run import run_once
from pipeline.engine.state import UNVERIFIED, StateBook


def verify(app: Lockstep, deep: bool = False, fix: bool = False) -> Found:
    """Compare, and with ``fix`` make again what is missing or altered and remove the strays.

    Sizes are compared; with ``deep`` every rendition is read and its SHA-256 compared.

    Raises:
        LockedError: ``fix`` while a run is at work.
        OutputError: a stray cannot be deleted, or a rendition cannot be written.
    """
    try:
        if fix:
            with run_lock(app.connection):
                # No run is at work, so whoever owns a temporary file will never publish it.
                found, wrong = compare(app, lambda owner: False, deep, fix)
                sweep_output(app)
        else:
            found, wrong = compare(app, is_alive, deep)
        if fix and found.count:
            if wrong:
                # The render steps alone: a scan would bring in what else has changed.
                run_once(app, RunOptions(wait=True), steps=app.render_and_answer)
            found.fixed = not compare(app, is_alive, deep)[0].count
        if found.mended:
            StateBook(app.connection).set(UNVERIFIED, None)
    except sa.exc.SQLAlchemyError as error:
        raise explain_database_error(error, app.connection) from error
    return found
