"""Rounds: what is fetched beside a run is rendered and answered, while its other steps go on.

Light on purpose, as ``pipeline.jobs.steps``.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pipeline.engine.context import STOP_POLL_S, Run
from pipeline.engine.pending import NARROW_ROWS
from pipeline.engine.progress import Growing, Silent
from pipeline.engine.recovery import remember_writing
from pipeline.jobs.context import Jobs
from pipeline.jobs.store import Job
from pipeline.states import JobState, Lane, Source
from pipeline.workers.tasks import Urgency

if TYPE_CHECKING:
    from pipeline.jobs.fetching import Fetching
    from pipeline.jobs.slices import Slices

# How long after a round the next one begins, at the soonest.
ROUND_S = 0.5
# How often a job is looked at whose URLs should all be there, and are not: files that were stored
# may be lost, also those that were fetched for it once more.
TRIES = 3
# How long the rendering of one round takes, about; a job that is ready meanwhile waits for it.
SLICE_S = 2.0
SLICE_FIRST, SLICE_LEAST = 64, 16
READING = frozenset((JobState.RECEIVED, JobState.CHECKING))


class Rounds:
    """The jobs of one run from their CSV to the result, a round at a time, in the run's thread."""

    def __init__(self, jobs: Jobs, run: Run) -> None:
        self._jobs, self._run = jobs, run
        self._repository = jobs.repository
        self._fetching: Fetching | None = None
        # Jobs whose CSV this run has read, or has left to the next.
        self._read: set[str] = set()
        if run.has_jobs:
            self._read |= {job.reference for job in self._in_states(READING)}
        # Jobs by when they began to be fetched: how often they were looked at in vain.
        self._in_vain: Counter[tuple[str, float]] = Counter()
        # Images of jobs that are fetched, still to be rendered; and how many in one round.
        self._to_render: dict[str, Slices] = {}
        self._slice = SLICE_FIRST
        self._rendered = 0
        self._shown = Growing(run.progress.lane(Lane.JOB_IMAGES), "images")
        # The steps before have ended; nothing has come since all was finished.
        self._is_waiting = self._is_finished = False
        self._next_at = time.monotonic() + ROUND_S
        run.urgent[Urgency.JOBS] = self._attend
        run.beside.append(self)

    def start(self) -> None:
        """Fetch what waits, beside the steps that follow.

        Raises:
            OutputError: the disk is full, or permissions are missing.
        """
        for job in self._in_states({JobState.FETCHING}):
            # What is there, for example from another CSV, is added before anything is deleted:
            # renditions of the same bytes are taken over, and not made again.
            self._move_on(job)
        self._fetch(self._in_states({JobState.FETCHING}))

    def finish(self) -> None:
        """Work until nothing of any job is left to fetch and to render, or another run is due.

        Raises:
            LockstepError: whatever stops a run.
        """
        run = self._run
        if not run.has_jobs or self._is_finished:
            return
        self._is_waiting = True
        for job in self._in_states({JobState.RENDERING}):
            # Some of its images were left to the steps before this one.
            if job.reference not in self._to_render:
                self._slices_of(job.reference).add_pending()
        while self._round() or self._is_fetching:
            if run.options.is_outdated() and not self._to_render:
                # Recorded before this run ends: nothing may be written after it.
                self.close()
                break
            self._wait()
        self._is_finished = True
        if self in run.writers:
            run.writers.remove(self)

    def close(self) -> None:
        """End all that goes on; what is done is kept."""
        self._shown.stop()
        if self._fetching is not None:
            self._fetching.close()

    def _attend(self, run: Run) -> None:
        """A round, if the last one was a while ago."""
        if self._fetching is not None:
            self._fetching.check()
        if time.monotonic() >= self._next_at:
            self._round()

    def _wait(self) -> None:
        """Until there may be something to do in a round."""
        fetching = self._fetching
        while fetching is not None and time.monotonic() < self._next_at:
            self._run.check_stop()
            self._run.attend(Urgency.JOBS)
            if fetching.news.wait(STOP_POLL_S):
                fetching.news.clear()
                return

    @property
    def _is_fetching(self) -> bool:
        return self._fetching is not None and self._fetching.is_alive

    def _in_states(self, states: Collection[JobState]) -> list[Job]:
        return self._repository.in_states(states, self._run.options.job)

    def _round(self) -> bool:
        """Read what came, move on what is fetched, render and answer; whether more is to come."""
        if self._fetching is not None:
            self._fetching.check()
        unread = [job for job in self._in_states(READING) if job.reference not in self._read]
        if unread:
            self._read_csvs(unread)
        # In this order: a job that is ready was being fetched before it is looked for.
        ready = set() if self._fetching is None else self._fetching.take_ready()
        fetching = self._in_states({JobState.FETCHING})
        is_open = self._fetch(fetching)
        for job in fetching:
            if job.reference in ready and not self._move_on(job):
                self._in_vain[job.reference, job.changed_ts] += 1
                if self._fetching is not None:
                    self._fetching.look_again(job.reference)
        if self._to_render:
            self._render()
        else:
            self._shown.stop()
        # At once if there is more to render; what this interrupts gets on by one task.
        self._next_at = 0.0 if self._to_render else time.monotonic() + ROUND_S
        return is_open or bool(self._to_render)

    def _read_csvs(self, unread: list[Job]) -> None:
        # Imported here: a run without a new CSV does not read one, which costs 150 ms.
        from pipeline.jobs.reading import read_csvs

        self._run.has_jobs = True
        self._read.update(job.reference for job in unread)
        part = self._part()
        read_csvs(self._jobs, part, unread, [])
        self._run.touch(Source.JOBS, part.touched.get(Source.JOBS, ()))

    def _fetch(self, fetching: list[Job]) -> bool:
        """Have a thread that fetches, if there is anything for it; whether there is."""
        is_open = any(self._in_vain[job.reference, job.changed_ts] < TRIES for job in fetching)
        if is_open and not self._is_fetching:
            # Imported here: a run that fetches nothing does not speak HTTP, which costs 200 ms.
            from pipeline.jobs.fetching import Fetching

            if self._fetching is None:
                self._fetching = Fetching(self._jobs, self._run)
            if self not in self._run.writers:
                self._run.writers.append(self)
            remember_writing(self._run)
            self._is_finished = False
            self._fetching.start()
        return is_open

    def _move_on(self, job: Job) -> bool:
        """Bring the images of a job in step with what was fetched, and have them rendered; whether
        nothing is left to fetch."""
        part = self._part()
        is_settled = self._settle(job, part)
        touched = part.touched.get(Source.JOBS, ())
        self._run.touch(Source.JOBS, touched)
        if touched or is_settled:
            self._slices_of(job.reference).add(touched)
        return is_settled

    def _slices_of(self, reference: str) -> Slices:
        # Imported here: a run without an active job does not need it, which costs 150 ms.
        from pipeline.jobs.slices import Slices

        self._is_finished = False
        return self._to_render.setdefault(reference, Slices(self._jobs, reference))

    def _render(self) -> None:
        """Render some images of each job, so that a small one does not wait for a large one, and
        answer the jobs of which none is left."""
        share = max(1, self._slice // len(self._to_render))
        self._show()
        part = self._part()
        part.narrowed_to = [
            path for slices in self._to_render.values() for path in slices.take(share)
        ]
        count = len(part.narrowed_to)
        if count:
            images = self._run.report.jobs.images
            pending, began = images.pending, time.monotonic()
            self._jobs.render.work(part)
            images.pending += pending
            if count >= self._slice:
                fitting = count * SLICE_S / max(time.monotonic() - began, 0.01)
                self._slice = min(NARROW_ROWS, max(SLICE_LEAST, int(fitting)))
        self._rendered += count
        self._show()
        done = [reference for reference, slices in self._to_render.items() if slices.is_empty]
        if done:
            # Imported here: a run that answers no job does not read CSVs, which costs 150 ms.
            from pipeline.jobs.answering import answer_jobs

            answer_jobs(self._jobs, part, done)
        for reference in done:
            del self._to_render[reference]
        if part.afterwards and self._goes_on():
            # No receiver should be notified hours later. At the end of the run, the last step does
            # it, because the lock must be free while a slow receiver is notified.
            self._run.report.threads += [start() for start in part.afterwards]

    def _show(self) -> None:
        left = sum(slices.left for slices in self._to_render.values())
        self._shown.show(self._rendered, self._rendered + left)

    def _goes_on(self) -> bool:
        """Whether the run has more to do than to end."""
        is_over = self._is_waiting and not self._to_render
        return not is_over or bool(self._in_states({JobState.FETCHING}))

    def _settle(self, job: Job, part: Run) -> bool:
        """Add what was fetched for a job, and move it on if no URL waits; whether that was done.

        Not if files were lost, or a refresh was requested just now.
        """
        # Imported here: a run that fetches nothing does without HTTP, which costs 200 ms.
        from pipeline.jobs.images import (
            add_fetched,
            bring_in_step,
            image_counts,
            remove_obsolete,
        )

        repository, table = self._repository, self._repository.jobs
        waits = repository.database.column(sa.select(repository.waits_for_urls(job.reference)))[0]
        if waits:
            add_fetched(self._jobs, part, job.reference)
            remove_obsolete(self._jobs, part, job.reference)
            return False
        if bring_in_step(self._jobs, part, job.reference):
            return False
        counts = image_counts(repository, job.reference)
        with repository.database.writing() as con:
            done = con.execute(
                sa.update(table)
                .where(
                    table.c.reference == job.reference,
                    table.c.state == JobState.FETCHING.value,
                    table.c.ask_again.is_(sa.false()),
                )
                .values(state=JobState.RENDERING.value, changed_ts=time.time(), **counts)
            )
        return done.rowcount == 1

    def _part(self) -> Run:
        """A part of the run that works on the images of jobs alone."""
        # What is shown is all that is left, not what one round renders.
        return self._run.part(source=Source.JOBS, progress=Silent(), narrowed_to=[], afterwards=[])
