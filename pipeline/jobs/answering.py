"""Answering: a job whose images are settled gets its result CSV, and its webhook is sent."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from pathlib import Path

import sqlalchemy as sa

from pipeline.csvs.dialect import CsvDialect
from pipeline.csvs.products import CsvProduct, Problems, chunks_of_rows, iter_products
from pipeline.csvs.returning import write_added, write_replaced
from pipeline.csvs.writing import ProductAnswer, output_address, write_answer, write_problems
from pipeline.engine.context import Run
from pipeline.engine.recovery import remember_writing
from pipeline.errors import CsvError
from pipeline.jobs.context import Jobs
from pipeline.jobs.forms import dialect_of, is_replaced
from pipeline.jobs.images import forget_lost
from pipeline.jobs.outcomes import NOT_FETCHED, NOT_RENDERED, ImageOutcome, Outcomes
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
        if self._lacks_addresses():
            return
        # The result of the previous content is kept in step; the job stays rejected.
        is_rejected = job.state is JobState.REJECTED
        if not is_rejected and not self.repository.move(reference, {job.state}, JobState.WRITING):
            return
        try:
            key = self._write()
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

    def _write(self) -> str:
        """Write the result, in the form that the job was accepted with; returns its key."""
        job, store = self.job, self.jobs.settings.output_store
        csv, dialect = self.jobs.folders.csv(job.reference), dialect_of(self.jobs.folders, job)
        key = job.answer_name(is_workbook=dialect.sheet is not None)
        products = self._read(csv, dialect)
        if is_replaced(job):
            # Of a recipe with several widths the largest one.
            folder = folder_of(self.recipes[0])
            recipes = [name for name in self.recipes if folder_of(name) == folder]
            failed = write_replaced(store, key, csv, dialect, products, self._product, recipes)
            if job.state is not JobState.REJECTED:
                # There the list has what is wrong with newer content.
                self._list_failed(failed)
        elif dialect.sheet is None:
            write_answer(store, key, dialect, products, self.recipes, self._product, self.features)
        else:
            answers = self._product, self.recipes, self.features
            write_added(store, key, csv, dialect, products, *answers)
        if job.answer not in (None, key):
            store.remove(job.answer)
        return key

    def _list_failed(self, failed: Problems) -> None:
        """What failed, in a file of its own where the result has no column for it."""
        store, name = self.jobs.settings.output_store, self.job.problems_name
        if failed.count:
            write_problems(store, name, failed.first, failed.count)
        else:
            store.remove(name)

    def _lacks_addresses(self) -> bool:
        """Whether the result would have paths in the place of addresses; it stays as it was."""
        settings_key = self.jobs.settings_key
        if not is_replaced(self.job) or self.jobs.settings.jobs.public_url:
            return False
        reason = (
            "its result has whole addresses, which need PIPELINE_PUBLIC_URL; set it, and submit "
            "the file again"
        )
        if self.job.state in ENDED | {JobState.REJECTED}:
            self.repository.update(self.job.reference, made_for=settings_key)
            self.run.report.warnings.append(f"job {self.job.reference}: {reason}")
        elif self.repository.move(self.job.reference, {self.job.state}, JobState.WRITING):
            self.run.report.warnings.append(f"job {self.job.reference}: {reason}")
            # Customers read this one: they know no setting.
            self._end(
                JobState.FAILED,
                reason="its result needs the public address of the images, which the service does "
                "not have now; tell the people who run it, and submit the file again",
            )
        return True

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

    def _read(self, csv: Path, dialect: CsvDialect) -> Iterator[CsvProduct]:
        """The products of the CSV; the outcomes of a thousand rows are queried at once."""
        for products in chunks_of_rows(iter_products(csv, dialect), CHUNK_ROWS):
            self.run.check_stop()
            self.run.attend(Urgency.JOBS)
            self._found = self.outcomes.of_rows([p.number for p in products if p.images])
            yield from products
            self.unreported += self.outcomes.mark_reported(self._found)

    def _product(self, product: CsvProduct) -> ProductAnswer:
        images = self._found.get(product.number, []) if product.images else []
        if tuple(image.url for image in images) != product.urls:
            # Its rows belong to other content: somebody changed the tables by hand.
            images = [ImageOutcome(url, reasons=[NOT_FETCHED]) for url in product.urls]
        for image in images:
            # Made by none of them: a recipe was added between rendering and writing.
            if not image.reasons and not self.always <= set(image.files):
                image.reasons.append(NOT_RENDERED)
        self.failed += sum(image.is_failed for image in images)
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
        errors = [
            f"{image.url}: {'; '.join(text for _, text in image.reasons)}"
            if image.reasons
            else None
            for image in images
        ]
        codes = [image.reasons[0].code.value if image.reasons else None for image in images]
        is_hidden = [image.is_hidden for image in images]
        return ProductAnswer(outputs, errors, values, codes, is_hidden)

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
