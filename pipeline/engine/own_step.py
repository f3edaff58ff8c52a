"""What all own steps have in common: steps that a user declares, worked as ours are."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import logging
import math
import time
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from datapipe.compute import ComputeStep
from datapipe.datatable import DataStore
from datapipe.run_config import RunConfig

from pipeline.database.connection import Database
from pipeline.database.locks import STEPS_LOCK
from pipeline.database.marks import Mark
from pipeline.database.state import StateRepository
from pipeline.database.tracking import database_of
from pipeline.engine.context import Run
from pipeline.engine.report import StepCounts
from pipeline.engine.step import Step
from pipeline.errors import LockedError
from pipeline.text import shortened

log = logging.getLogger("lockstep.steps")

REASON_CHARACTERS = 300
# How long a run waits for its turn without `--wait`, and how often it tries.
TURN_S, TURN_POLL_S = 10.0, 0.01


@dataclass
class Memory:
    """What is remembered of a step: the function that it last ran with, and of one over whole
    tables as of when it has seen them, and how that ended."""

    fingerprint: str = ""
    as_of: float = 0.0
    error: str | None = None
    since: float = 0.0


class OwnStep(Step):
    """A step of the user's. It has records: what it works on, by its keys."""

    ds: DataStore
    # Whether it has something to do only when one of its inputs has changed.
    follows_inputs: bool

    @property
    def database(self) -> Database:
        """The database of its marks."""
        return database_of(self.ds)

    def work(self, run: Run) -> None:
        """Work on what is pending, unless another process does and does not give way in time."""
        with contextlib.ExitStack() as stack:
            if not take_turn(run, stack):
                run.report.warnings.append(
                    f"the step {self.name} is left to another process, where a step is at work"
                )
                return
            stack.callback(run.progress.stop)
            self._work(run, run.report.steps.setdefault(self.name, StepCounts()))

    def states(self) -> dict[str, int]:
        """How many records are ok, failed and pending."""
        raise NotImplementedError

    def failures(self) -> Iterable[Mark]:
        """The records that failed."""
        raise NotImplementedError

    def story(self, path: str) -> Sequence[Mark]:
        """What became of the records of an original of the input folder."""
        return ()

    def retry(self, paths: Sequence[str] | None = None) -> int:
        """Have what failed tried again, all or what is of originals at or below ``paths``.

        Returns how many records.
        """
        raise NotImplementedError

    def _work(self, run: Run, counts: StepCounts) -> None:
        raise NotImplementedError

    def _config(self, run: RunConfig | None) -> RunConfig:
        return RunConfig.add_labels(run, {"step_name": self.name})

    def _fail(
        self, run: Run | None, counts: StepCounts, keys: dict[str, Any], error: Exception
    ) -> str:
        reason = reason_of(error)
        if not counts.failed:
            # The first alone: a function with a mistake in it fails for every record.
            log.warning("%s in the step %s", reason, self.name, exc_info=error)
        counts.failed += 1
        if run is not None:
            run.report.add_failure(f"{record_name(keys)} [{self.name}]".lstrip(), reason)
        return reason

    def _recall(self) -> Memory:
        noted = StateRepository(self.database).get(f"step:{self.name}")
        return Memory(**json.loads(noted)) if noted else Memory()

    def _remember(self, memory: Memory) -> None:
        StateRepository(self.database).set(f"step:{self.name}", json.dumps(asdict(memory)))


def take_turn(run: Run, stack: contextlib.ExitStack) -> bool:
    """Take the lock of users' steps, which is given up between two calls of a function; whether it
    was taken. A function that hangs must not make all runs hang as well.

    Raises:
        StoppedError
    """
    give_up_at = math.inf if run.options.wait else time.monotonic() + TURN_S
    while True:
        try:
            stack.enter_context(run.database.lock(STEPS_LOCK))
            return True
        except LockedError:
            run.check_stop()
            if time.monotonic() >= give_up_at:
                return False
            time.sleep(TURN_POLL_S)


def fingerprint_of(step: ComputeStep) -> str:
    """Changes with the source of a step's function."""
    function = getattr(step, "func", type(step))
    function = inspect.unwrap(getattr(function, "func", function))
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):
        source = getattr(function, "__qualname__", type(function).__qualname__)
    return hashlib.sha256(source.encode()).hexdigest()[:16]


def reason_of(error: BaseException) -> str:
    """The last line of a traceback, for people."""
    return shortened(traceback.format_exception_only(error)[-1].strip(), REASON_CHARACTERS)


def record_name(keys: dict[str, Any]) -> str:
    """A record as people read it: the values of its keys, but for where an original comes from."""
    return " ".join(str(value) for key, value in keys.items() if key != "source")
