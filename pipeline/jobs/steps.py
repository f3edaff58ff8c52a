"""The steps of jobs, as ``app.py`` declares them.

Light on purpose: a run without jobs makes one query in all, one with finished jobs a few on small
tables, and neither imports the modules that read CSVs or speak HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from datapipe.compute import (
    Catalog,
    ComputeInput,
    ComputeOutput,
    ComputeStep,
    PipelineStep,
)
from datapipe.datatable import DataStore, DataTable

from pipeline.database.tracking import database_of
from pipeline.engine.context import Run
from pipeline.engine.step import Step
from pipeline.jobs.context import Jobs
from pipeline.jobs.copies import clear_copies
from pipeline.jobs.originals import has_jobs
from pipeline.jobs.rounds import Rounds
from pipeline.jobs.scanning import preview_csvs, scan_csvs
from pipeline.jobs.store import ACTIVE, ENDED, Job, JobRepository
from pipeline.settings.values import Settings
from pipeline.states import JobState, Source, WebhookState


class JobStep(Step):
    """A step of jobs: it works inside a run, with what the application hands it as ``jobs``."""

    sources = (Source.JOBS,)
    # Set by the application: among it is the render step, which is made after some of these.
    jobs: Jobs

    def __init__(
        self,
        name: str,
        ds: DataStore,
        settings: Settings,
        inputs: list[DataTable],
        outputs: list[DataTable],
    ) -> None:
        super().__init__(
            name=name,
            input_dts=[ComputeInput(dt=table) for table in inputs],
            output_dts=[ComputeOutput(dt=table) for table in outputs],
        )
        self.settings = settings
        self.repository = JobRepository(database_of(ds))

    def is_needed(self, run: Run) -> bool:
        return has_jobs(self.repository, run)


class ScanCsvsStep(JobStep):
    """Creates a job from every CSV below ``input/``, and detects changed and removed ones."""

    def is_needed(self, run: Run) -> bool:
        return run.options.job is None

    def work(self, run: Run) -> None:
        """Compare the CSVs with the jobs.

        Raises:
            TooManyRemovedError: nothing is deleted then.
        """
        clear_copies(self.repository, self.jobs.folders)
        if self._is_due(run):
            scan_csvs(self.jobs, run)
            run.has_jobs = None
        # Only now: a folder that was replaced for the originals was replaced for the CSVs as well.
        if run.input is not None and run.narrowed_to is None:
            run.input.remember()
            if run.folders is not None:
                run.folders.remember()

    def preview(self, run: Run) -> None:
        if self._is_due(run):
            preview_csvs(self.jobs, run)

    def _is_due(self, run: Run) -> bool:
        return not run.scanned or bool(run.passed.deferred) or has_jobs(self.repository, run)


class ReadCsvsStep(JobStep):
    """Checks the CSVs of new and changed jobs, and brings ``csv_rows`` in step with them."""

    def work(self, run: Run) -> None:
        jobs, deleted = self._due(run)
        if jobs or deleted:
            # Imported here: a run without a new CSV does not read one, which costs 150 ms.
            from pipeline.jobs.reading import read_csvs

            read_csvs(self.jobs, run, jobs, deleted)

    def preview(self, run: Run) -> None:
        jobs, deleted = self._due(run)
        run.expected.jobs_gone |= {job.reference for job in deleted}
        if jobs or run.expected.jobs_gone or run.expected.csvs:
            # Imported here: a run without a new CSV does not read one, which costs 150 ms.
            from pipeline.jobs.previewing import preview_reading

            preview_reading(self.jobs, run, jobs)

    def _due(self, run: Run) -> tuple[list[Job], list[Job]]:
        """Jobs whose CSV is to be read, and deleted ones of which something is left."""
        wanted = {JobState.RECEIVED, JobState.CHECKING}
        return self.repository.in_states(wanted, run.options.job), self.repository.to_clear()


class FetchStep(JobStep):
    """Fetches the URLs that wait, beside the steps that follow.

    What is fetched meanwhile is rendered and answered between two tasks of long steps, also of jobs
    that are submitted meanwhile; the rest by the step that answers.
    """

    def is_needed(self, run: Run) -> bool:
        return True

    def work(self, run: Run) -> None:
        is_any = has_jobs(self.repository, run)
        rounds = Rounds(self.jobs, run)
        if is_any:
            rounds.start()

    def preview(self, run: Run) -> None:
        if not has_jobs(self.repository, run) and not run.expected.urls:
            return
        if run.expected.urls or self.repository.in_states({JobState.FETCHING}, run.options.job):
            # Imported here: a run that fetches nothing does not speak HTTP, which costs 200 ms.
            from pipeline.jobs.fetching import preview_fetches

            preview_fetches(self.jobs, run)

    def recover(self, run: Run) -> None:
        """Repair what an interrupted run left in the state folder."""
        if self.jobs.folders.state.is_dir():
            # Imported here: most runs recover nothing, and HTTP costs 200 ms.
            from pipeline.jobs.fetching import recover_fetches

            recover_fetches(self.jobs, run)


class AnswerStep(JobStep):
    """Waits for what is fetched, writes the results of jobs whose images are settled, and sends
    their webhooks."""

    def __init__(
        self,
        name: str,
        ds: DataStore,
        settings: Settings,
        rows: DataTable,
        renditions: DataTable,
    ) -> None:
        super().__init__(name, ds, settings, [rows, renditions], [])
        self.rows = rows

    def work(self, run: Run) -> None:
        run.finish()
        jobs = self.repository.jobs
        outdated = sa.and_(
            jobs.c.state.in_([state.value for state in (*ENDED, JobState.REJECTED)]),
            jobs.c.made_for != self.jobs.settings_key,
        )
        waits = sa.or_(
            jobs.c.state.in_([state.value for state in ACTIVE]),
            outdated,
            jobs.c.webhook_state == WebhookState.PENDING.value,
        )
        is_due = self.repository.database.first(sa.select(jobs.c.reference).where(waits).limit(1))
        if is_due is None and not run.report.jobs.images.pending:
            return
        # Imported here: a run that answers no job does not read CSVs, which costs 150 ms.
        from pipeline.jobs.answering import answer_jobs

        answer_jobs(self.jobs, run)

    def preview(self, run: Run) -> None:
        active = {job.reference for job in self.repository.in_states(ACTIVE)}
        run.report.jobs.active = len(active - run.expected.jobs_gone)


@dataclass
class ScanCsvs(PipelineStep):
    """Declares that each CSV below ``PIPELINE_INPUT`` is a job."""

    settings: Settings

    def build_compute(self, ds: DataStore, catalog: Catalog) -> list[ComputeStep]:
        return [ScanCsvsStep("scan_csvs", ds, self.settings, [], [])]


@dataclass
class ReadCsvs(PipelineStep):
    """Declares that each row of a job's CSV is a row of ``output``."""

    output: str
    images: str
    settings: Settings

    def build_compute(self, ds: DataStore, catalog: Catalog) -> list[ComputeStep]:
        table = catalog.get_datatable
        rows, images = table(ds, self.output), table(ds, self.images)
        return [ReadCsvsStep("read_csvs", ds, self.settings, [], [rows, images])]


@dataclass
class Fetch(PipelineStep):
    """Declares that each URL of ``rows`` has, where its image could be fetched, a row of
    ``output``."""

    rows: str
    output: str
    settings: Settings

    def build_compute(self, ds: DataStore, catalog: Catalog) -> list[ComputeStep]:
        table = catalog.get_datatable
        rows, images = table(ds, self.rows), table(ds, self.output)
        return [FetchStep("fetch", ds, self.settings, [rows], [images])]


@dataclass
class Answer(PipelineStep):
    """Declares that each job has its CSV, with the addresses of its ``renditions``."""

    rows: str
    renditions: str
    settings: Settings

    def build_compute(self, ds: DataStore, catalog: Catalog) -> list[ComputeStep]:
        table = catalog.get_datatable
        rows, renditions = table(ds, self.rows), table(ds, self.renditions)
        return [AnswerStep("answer", ds, self.settings, rows, renditions)]
