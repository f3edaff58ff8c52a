"""The verdict: is everything in step? One answer for Home, ``datapipe status`` and ``/healthz``."""

from __future__ import annotations

from typing import Any, NamedTuple

from pipeline.jobs.store import ACTIVE
from pipeline.states import JobState, Word
from pipeline.text import counted

_BAD_JOBS = (JobState.REJECTED, JobState.FAILED, JobState.COMPLETED_WITH_ERRORS)


class VerdictState(Word):
    """What matters most now, to the people who look after the images."""

    COUNTING = "counting"
    STOPPED = "stopped"
    PENDING = "pending"
    UNVERIFIED = "unverified"
    FAILED = "failed"
    EMPTY = "empty"
    IN_STEP = "in_step"


class Verdict(NamedTuple):
    """A state, and the words for it."""

    state: VerdictState
    words: str

    @property
    def is_in_step(self) -> bool:
        """Whether nothing is failed, pending or unverified, jobs included."""
        return self.state in (VerdictState.EMPTY, VerdictState.IN_STEP)

    def as_json(self) -> dict[str, Any]:
        """For programs, and for the page."""
        return {"state": self.state.value, "words": self.words}


def verdict(status: dict[str, Any] | None, stopped_by: str | None = None) -> Verdict:
    """What the counts of ``status`` say; ``None`` before the first count.

    ``stopped_by`` is the error that stopped the last run, if one did.
    """
    if status is None:
        return Verdict(VerdictState.COUNTING, "Counting…")
    if stopped_by:
        return Verdict(VerdictState.STOPPED, "The last run was stopped")
    if pending := _pending(status):
        return Verdict(VerdictState.PENDING, ", ".join(pending))
    failed = sum(status["reasons"].values())
    # Of a job with errors, what failed is counted already.
    states = _BAD_JOBS[:2] if failed else _BAD_JOBS
    bad_jobs = sum(status["jobs"].get(state.value, 0) for state in states)
    words = [f"{failed:,} that failed"] if failed else []
    words += [counted(bad_jobs, "job")] if bad_jobs else []
    except_for = f"In step, except for {' and '.join(words)}"
    if status["unverified"] is not None:
        also = f", and {' and '.join(words)}" if words else ""
        return Verdict(VerdictState.UNVERIFIED, f"The output folder is not verified{also}")
    if words:
        return Verdict(VerdictState.FAILED, except_for)
    if not status["originals"] and not set(status["jobs"]) - {JobState.DELETED.value}:
        return Verdict(VerdictState.EMPTY, "Ready for the first originals")
    return Verdict(VerdictState.IN_STEP, "All in step")


def _pending(status: dict[str, Any]) -> list[str]:
    """What is still to be done, in words."""
    features = sum(counts["pending"] for counts in status["features"].values())
    records = sum(counts["pending"] for counts in status["steps"].values())
    words = {"rendition": status["pending"], "feature": features, "record": records}
    found = [f"{counted(count, what)} pending" for what, count in words.items() if count]
    active = sum(status["jobs"].get(state.value, 0) for state in ACTIVE)
    return found + ([f"{counted(active, 'job')} unfinished"] if active else [])
