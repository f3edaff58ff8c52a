"""Answering: a job whose images are settled gets its result CSV, and its webhook is sent."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from pathlib import Path

import sqlalchemy as sa

from pipeline.csvs.dialect import detect_dialect
from pipeline.csvs.reading import CsvRow, iter_rows
from pipeline.csvs.writing import RowAnswer, output_address, write_answer
from pipeline.database.paging import chunks
from pipeline.engine.context import Run
from pipeline.engine.recovery import remember_writing
from pipeline.errors import CsvError
from pipeline.jobs.context import Jobs
from pipeline.jobs.images import forget_lost
from pipeline.jobs.outcomes import ImageOutcome, Outcomes
from pipeline.jobs.store import ACTIVE, ENDED, UNREAD, Job
from pipeline.jobs.webhooks import webhooks_due
from pipeline.names import folder_of
from pipeline.states import JobState, Source, WebhookState
from pipeline.text import counted
from pipeline.transforms.features import is_feature
from pipeline.transforms.recipes import Recipe, recipe_of
from pipeline.workers.tasks import Urgency

CHUNK_ROWS = 1_000


def answer_jobs(jobs: Jobs, run: Run, only: Collection[str] | None = None) -> None:
    """Write the results that are due, of all jobs or ``only`` of these; send webhooks after the
    run.

    Raises:
        OutputError: a result cannot be written; the next run continues with it.
    """
    repository = jobs.repository
    if run.report.jobs.images.pending and only is None:
        # Images whose file could not be read, including those of jobs that ended long ago.
        for reference in _unsettled_references(jobs):
            repository.move(reference, ENDED, JobState.RENDERING)
    due = {JobState.RENDERING, JobState.WRITING}
    to_answer = [
        job
        for job in repository.in_states(due | ENDED | {JobState.REJECTED})
        if (job.state in due or (job.answer and job.made_for != jobs.settings_key))
        and (only is None or job.reference in only)
    ]
    if to_answer:
        remember_writing(run)
    for job in to_answer:
        _Answer(jobs, run, job).work()
    run.report.jobs.active = len(repository.in_states(ACTIVE))
    if sending := webhooks_due(repository, jobs.settings):
        run.afterwards.append(sending)


class _Answer:
    """The result of one job."""

    def __init__(self, jobs: Jobs, run: Run, job: Job) -> None:
        self.jobs, self.run, self.job = jobs, run, job
        self.repository = jobs.repository
        self.outcomes = Outcomes(jobs, job.reference)
        recipes = _recipes(jobs)
        self.recipes = [recipe.name for recipe in recipes]
        # The others make nothing of an image that is no wider than a smaller one of their widths.
        self.always = {recipe.name for recipe in recipes if recipe.above is None}
        self.features = jobs.settings.jobs.features
        self.done = self.failed = self.unreported = 0

    def work(self) -> None:
        """Bring the job to its end; nothing happens while images are still to be rendered."""
        job, reference = self.job, self.job.reference
        if self._waits():
            return
        # The result of the previous content is kept in step; the job stays rejected.
        is_rejected = job.state is JobState.REJECTED
        if not is_rejected and not self.repository.move(reference, {job.state}, JobState.WRITING):
            return
        csv = self.jobs.folders.csv(reference)
        store, key = self.jobs.settings.output_store, job.answer or job.answer_name
        try:
            dialect = detect_dialect(csv)[0]
            rows = self._read(csv)
            write_answer(store, key, dialect, rows, self.recipes, self._row, self.features)
        except (CsvError, OSError) as error:
            self._lost_csv(str(error))
            return
        if is_rejected:
            self.repository.update(reference, made_for=self.jobs.settings_key)
            return
        self._end(
            JobState.COMPLETED_WITH_ERRORS if self.failed else JobState.COMPLETED,
            reason=None,
            answer=key,
            made_for=self.jobs.settings_key,
            fetched=job.fetched,
            done=self.done,
            failed=self.failed,
        )

    def _waits(self) -> bool:
        waiting = self.outcomes.pending_paths(self.jobs.unrendered())
        if not waiting:
            return False
        lost = forget_lost(self.jobs, self.run, waiting)
        if lost:
            self.run.report.warnings.append(
                f"{self.jobs.folders.fetched}: {counted(lost, 'fetched image')} of job "
                f"{self.job.reference} are missing there; the next run restores them"
            )
            self.repository.move(self.job.reference, {self.job.state}, JobState.FETCHING)
        return True

    def _lost_csv(self, why: str) -> None:
        """The copy of the CSV is gone; a CSV below the input folder is read again."""
        reason = f"the copy of its CSV cannot be read ({why})"
        if self.job.state is JobState.REJECTED:
            # There is nothing to write the old result from; the next valid content gets its own.
            self.repository.update(self.job.reference, made_for=self.jobs.settings_key)
            return
        if self.job.was_submitted:
            self._end(JobState.FAILED, reason=reason)
            return
        self.repository.move(self.job.reference, {JobState.WRITING}, JobState.RECEIVED, **UNREAD)
        self.run.report.warnings.append(
            f"job {self.job.reference}: {reason}; the next run reads {self.job.source} again"
        )

    def _read(self, csv: Path) -> Iterator[CsvRow]:
        """The rows of the CSV; their outcomes are queried a thousand at a time."""
        dialect = detect_dialect(csv)[0]
        for rows in chunks(iter_rows(csv, dialect), CHUNK_ROWS):
            self.run.check_stop()
            self.run.attend(Urgency.JOBS)
            self._found = self.outcomes.of_rows([row.number for row in rows])
            yield from rows
            self.unreported += self.outcomes.mark_reported(self._found)

    def _row(self, row: CsvRow) -> RowAnswer:
        images = self._found.get(row.number, [])
        if [image.url for image in images] != list(row.urls):
            # Its rows belong to other content: somebody changed the tables by hand.
            images = [ImageOutcome(url, reasons=["not fetched"]) for url in row.urls]
        for image in images:
            # Made by none of them: a recipe was added between rendering and writing.
            if not image.reasons and not self.always <= set(image.files):
                image.reasons.append("not rendered")
        self.failed += sum(bool(image.reasons) for image in images)
        self.done += sum(not image.reasons for image in images)
        public_url = self.jobs.settings.jobs.public_url
        outputs = {
            recipe: [
                output_address(image.files[recipe], public_url) if recipe in image.files else None
                for image in images
            ]
            for recipe in self.recipes
        }
        values = {name: [image.values.get(name) for image in images] for name in self.features}
        errors = [f"{image.url}: {'; '.join(image.reasons)}" for image in images if image.reasons]
        return RowAnswer(outputs, errors, values)

    def _end(self, state: JobState, **values: object) -> None:
        job, settings = self.job, self.jobs.settings
        rewritten = job.state in ENDED
        if not rewritten:
            values["ended_ts"] = time.time()
            if job.webhook or settings.jobs.webhook_url:
                values["webhook_state"] = WebhookState.PENDING.value
        if not self.repository.move(job.reference, {JobState.WRITING}, state, **values):
            return
        if rewritten:
            return
        counts = self.run.report.jobs
        counts.failed_images += self.unreported
        setattr(counts, state.value, getattr(counts, state.value) + 1)
        if state is JobState.FAILED:
            counts.add_line(f"{job.reference} ({job.filename}) failed: {values['reason']}")
        elif self.failed:
            counts.add_line(
                f"{job.reference} ({job.filename}): {self.failed:,} of {job.total:,} images "
                f"failed, see `datapipe job errors {job.reference}`"
            )


def _unsettled_references(jobs: Jobs) -> set[str]:
    """The jobs of all images that are yet to be rendered."""
    changed = jobs.unrendered()
    with jobs.database.reading() as con:
        paths = con.execute(sa.select(changed.c.path).distinct()).scalars()
        return {path.partition("/")[0] for path in paths}


def _recipes(jobs: Jobs) -> list[Recipe]:
    """The recipes of jobs, in the order of the setting, and their widths from small to large."""
    table = jobs.pending.recipe_table
    query = sa.select(table.c.recipe, table.c.spec).where(table.c.source == Source.JOBS.value)
    rows = jobs.database.rows(query.order_by(table.c.recipe))
    recipes = [recipe_of(row.spec) for row in rows if not is_feature(row.recipe)]
    there = sorted(recipes, key=lambda recipe: recipe.above or 0)
    wanted = jobs.settings.jobs.recipes
    last = len(wanted)
    order = {name: at for at, name in enumerate(wanted)}
    return sorted(there, key=lambda recipe: order.get(folder_of(recipe.name), last))
