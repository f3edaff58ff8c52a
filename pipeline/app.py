"""The application: datapipe's, with the settings, the connection and the render steps at hand."""

from __future__ import annotations

from typing import TypeVar

from datapipe.compute import Catalog, ComputeStep, DatapipeApp, Pipeline

from pipeline.database.changes import data_store
from pipeline.database.connection import Database
from pipeline.engine.context import RunOptions
from pipeline.engine.progress import Progress
from pipeline.engine.recipe_step import LoadRecipesStep
from pipeline.engine.render_step import RenderStep
from pipeline.engine.report import Report
from pipeline.engine.scan import ScanStep
from pipeline.errors import SettingsError
from pipeline.jobs.context import Jobs
from pipeline.jobs.steps import AnswerStep, FetchStep, JobStep
from pipeline.settings.values import Settings
from pipeline.tables import index_exceptions, make_tables

StepT = TypeVar("StepT", bound=ComputeStep)


class Lockstep(DatapipeApp):
    """What the commands and the web page work on."""

    def __init__(
        self, settings: Settings, database: Database, catalog: Catalog, pipeline: Pipeline
    ) -> None:
        super().__init__(data_store(database), catalog, pipeline)
        self.settings = settings
        self.database = database
        for step in self.renders:
            index_exceptions(step.pending.table, database.dialect)
        self.jobs = self._jobs()
        for job_step in self._all(JobStep):
            job_step.jobs = self.jobs
        self._has_tables = False

    def make_tables(self) -> None:
        """Make the tables that are missing, once a process: a question to a new database is no
        error.

        Raises:
            DatabaseError: they are of another layout.
        """
        if not self._has_tables:
            make_tables(self.database)
            self._has_tables = True

    @property
    def scan(self) -> ScanStep:
        """The step that compares ``input/`` with its table."""
        return self._first(ScanStep)

    @property
    def load_recipes(self) -> LoadRecipesStep:
        """The step that reads ``recipes.toml``."""
        return self._first(LoadRecipesStep)

    @property
    def load_job_recipes(self) -> LoadRecipesStep:
        """The step that reads the recipes of jobs."""
        return self._all(LoadRecipesStep)[-1]

    @property
    def render(self) -> RenderStep:
        """The step that makes the renditions of the originals below ``input/``."""
        return self.renders[0]

    @property
    def renders(self) -> list[RenderStep]:
        """The steps that make renditions: of the originals, then of the images of jobs."""
        return self._all(RenderStep)

    @property
    def fetch(self) -> FetchStep:
        """The step that asks for the URLs of jobs."""
        return self._first(FetchStep)

    @property
    def answer(self) -> AnswerStep:
        """The step that writes the answers of jobs."""
        return self._first(AnswerStep)

    @property
    def job_steps(self) -> list[ComputeStep]:
        """The steps that one job needs: all but the scan and the renditions of originals."""
        return [step for step in self.steps if step not in (self.scan, self.render)]

    @property
    def render_and_answer(self) -> list[ComputeStep]:
        """The steps that bring renditions in step with the tables, and answers with them."""
        return [step for step in self.steps if isinstance(step, (RenderStep, AnswerStep))]

    def _jobs(self) -> Jobs:
        answer = self._named("answer", AnswerStep)
        return Jobs(
            database=self.database,
            settings=self.settings,
            rows=answer.rows,
            images=answer.images,
            recipes=answer.recipes,
            renditions=answer.renditions,
            load_recipes=self._named("load_job_recipes", LoadRecipesStep),
            render=self._named("render_jobs", RenderStep),
            run=self._run_jobs,
        )

    def _run_jobs(self, options: RunOptions, progress: Progress | None) -> Report:
        from pipeline.engine.run import run_once

        return run_once(self, options, progress, steps=self.job_steps)

    def _named(self, name: str, kind: type[StepT]) -> StepT:
        for step in self._all(kind):
            if step.name == name:
                return step
        raise SettingsError(
            f"app.py declares no step `{name}`, which this release of Lockstep works with; "
            "take its app.py over, and then your own steps into it"
        )

    def _first(self, kind: type[StepT]) -> StepT:
        for step in self._all(kind):
            return step
        declared = kind.__name__.removesuffix("Step")
        raise SettingsError(
            f"app.py declares no {declared} step, which this release of Lockstep works with; "
            "take its app.py over, and then your own steps into it"
        )

    def _all(self, kind: type[StepT]) -> list[StepT]:
        return [step for step in self.steps if isinstance(step, kind)]
