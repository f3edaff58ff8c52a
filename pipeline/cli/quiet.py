"""What a run says where nobody watches, as under cron: nothing, unless there is something new.

Every line that cron finds becomes an email. What was done goes to stdout, one line a run, and what
newly went wrong to stderr; what was said before and has not changed is not said again.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from pipeline.cli.terminal import say, say_warnings
from pipeline.database.state import SAID, StateRepository
from pipeline.errors import LockedError, LockstepError, in_one_line
from pipeline.text import counts_in_words, iso

if TYPE_CHECKING:
    from pipeline.database.connection import Database
    from pipeline.engine.report import Report

FAILURES_SAID = 10


def say_error(database: Database, error: LockstepError, warnings: Sequence[str]) -> None:
    """Say what goes before the error that stopped a run, and take care that it is said once.

    That another run is in progress is no failure: it is a line of the log. An error that stopped
    the run before as well is not said again, but where a person watches.

    Raises:
        LockstepError: ``error`` itself, which is still to be said.
    """
    if sys.stderr.isatty():
        say_warnings(warnings)
        raise error
    if isinstance(error, LockedError):
        say(f"{iso(time.time())}  skipped: {in_one_line(error)}")
        return
    stopped_by = in_one_line(error)
    new = _new(database, [*warnings, stopped_by])
    say_warnings(warning for warning in warnings if warning in new)
    if stopped_by in new:
        raise error


def say_report(database: Database, report: Report, warnings: Sequence[str]) -> None:
    """Say what a run did, in one line, and what newly went wrong; nothing if it did nothing."""
    warnings = [*warnings, *report.warnings]
    new = _new(database, warnings)
    say_warnings(warnings if sys.stderr.isatty() else new)
    jobs = report.jobs
    failures = [f"failed  {what}: {reason}" for what, reason in report.failures]
    count = report.failure_count
    if jobs.bad:
        failures += [f"failed  job {end}" for end in jobs.ends]
        count += jobs.rejected + jobs.failed + jobs.completed_with_errors
    say(*failures[:FAILURES_SAID], err=True)
    if count > FAILURES_SAID:
        say(f"and {count - FAILURES_SAID:,} more failed: see `datapipe errors`", err=True)
    if report.did_anything or report.pending or jobs.any:
        say(f"{iso(time.time())}  {one_line(report)}")


def one_line(report: Report, more: str = "") -> str:
    """What a run did, and how long it took; ``more`` is added to what it did."""
    counts = [
        (report.new, "new"),
        (report.changed, "changed"),
        (report.removed, "removed"),
        (report.rendered, "rendered"),
        (report.reused, "reused"),
        (report.deleted, "deleted"),
        (report.taken_down, "taken down"),
        (report.held, "held for review"),
        (report.failed, "failed"),
        (report.pending, "still to do"),
    ]
    done = [counts_in_words(counts), report.steps_in_words(), more]
    return f"{', '.join(filter(None, done)) or 'nothing changed'} ({report.seconds:.2f} s)"


def _new(database: Database, lines: Sequence[str]) -> list[str]:
    """Those that were not said last time; these are what was said last from now on."""
    repository = StateRepository(database)
    try:
        before = json.loads(repository.get(SAID) or "[]")
        repository.set(SAID, json.dumps(sorted(set(lines))) if lines else None)
    except (SQLAlchemyError, LockstepError):
        return list(lines)  # the database itself may be what is wrong: rather twice than never
    return [line for line in lines if line not in before]
