"""The application: puts the parts together, and decides nothing."""

from __future__ import annotations

from functools import cached_property, partial
from typing import TypeVar

from datapipe.compute import Catalog, ComputeStep, DatapipeApp, Pipeline

from pipeline.database.connection import Database
from pipeline.database.tracked import meta_of
from pipeline.database.tracking import data_store
from pipeline.engine.own_step import OwnStep
from pipeline.engine.own_steps import adopt
from pipeline.engine.recipe_step import LoadRecipesStep
from pipeline.engine.render_step import RenderStep
from pipeline.engine.run import Plan, run_once
from pipeline.engine.scan import ScanStep
from pipeline.engine.step import Step
from pipeline.errors import SettingsError
from pipeline.jobs.context import Jobs
from pipeline.jobs.results import compare_results
from pipeline.jobs.steps import AnswerStep, JobStep, ScanCsvsStep
from pipeline.settings.values import Settings
from pipeline.states import Source
from pipeline.tables import index_originals, index_states
from pipeline.takedowns.context import Takedowns
from pipeline.takedowns.shared import SharedBlocklist
from pipeline.takedowns.steps import exchange_in, finish_in, take_down_held_in, take_over_in

StepT = TypeVar("StepT", bound=ComputeStep)


class Lockstep(DatapipeApp):
    """What the commands and the web page use.

    The steps of Lockstep are known by their names, so that ``app.py`` may declare any others beside
    them and in any order.
    """

    def __init__(
        self, settings: Settings, database: Database, catalog: Catalog, pipeline: Pipeline
    ) -> None:
        """Put the steps that ``pipeline`` declares together.

        Raises:
            SettingsError: one of Lockstep's own steps is missing, or a step makes renditions
                outside of the output folder.
        """
        super().__init__(data_store(database), catalog, pipeline)
        self.settings = settings
        self.database = database
        for step in self.steps:
            adopt(step, self.ds)
        self.own_steps = [step for step in self.steps if isinstance(step, OwnStep)]
        self.scan = self._named("scan", ScanStep)
        self.load_recipes = self._named("load_recipes", LoadRecipesStep)
        self.render = self._named("render", RenderStep)
        self.scan_csvs = self._named("scan_csvs", ScanCsvsStep)
        self.answer = self._named("answer", AnswerStep)
        self.renders = [step for step in self.steps if isinstance(step, RenderStep)]
        for step in self.renders:
            self._check_folder(step)
            for table in step.pending.tables:
                index_states(table, database.dialect)
            index_originals(
                step.pending.original_table, meta_of(step.pending.originals), database.dialect
            )
        self._check_tables()
        self.load_recipes.may_make_features = self.render.pending.features is not None
        for each in self.steps:
            if isinstance(each, Step):
                each.before = self.plan.before
            if isinstance(each, OwnStep):
                each.settings = settings
            if isinstance(each, JobStep):
                each.jobs = self.jobs

    @cached_property
    def takedowns(self) -> Takedowns:
        """What takedowns work on."""
        url, instance = self.settings.blocklist_url, self.settings.instance
        shared = None if url is None else SharedBlocklist(url, instance)
        return Takedowns(
            self.database, self.settings, self.scan.suffixes, self.render, self.renders, shared
        )

    @cached_property
    def plan(self) -> Plan:
        """What runs work on."""
        return Plan(
            self.database,
            self.settings,
            self.ds,
            self.steps,
            self.render,
            self.renders,
            before=(take_over_in, partial(exchange_in, self.takedowns)),
            recovered=(partial(finish_in, self.takedowns),),
            worked=(partial(take_down_held_in, self.takedowns),),
            checks=(partial(compare_results, self.database, self.settings.output_place),),
        )

    @cached_property
    def jobs(self) -> Jobs:
        """What jobs work on."""
        return Jobs(
            database=self.database,
            settings=self.settings,
            rows=self.answer.rows,
            render=self.render,
            run=partial(run_once, self.plan, source=Source.JOBS),
        )

    @property
    def render_and_answer(self) -> list[ComputeStep]:
        """The steps that bring renditions in step with the tables, and result CSVs with them."""
        return [step for step in self.steps if step is self.answer or step in self.renders]

    def _named(self, name: str, kind: type[StepT]) -> StepT:
        for step in self.steps:
            if step.name == name and isinstance(step, kind):
                return step
        declared = "".join(word.capitalize() for word in name.split("_"))
        raise SettingsError(
            f"app.py declares no {declared} step, which this release of Lockstep works with; "
            "start from its app.py, and add your own steps to it"
        )

    def _check_tables(self) -> None:
        """Each render step deletes from its tables what it has not made."""
        writers: dict[str, str] = {}
        for step in self.renders:
            for table in step.output_dts:
                other = writers.setdefault(table.dt.name, step.name)
                if other != step.name:
                    raise SettingsError(
                        f"app.py: the steps {other!r} and {step.name!r} both write the table "
                        f"{table.dt.name!r}; give each Render step a table of its own"
                    )

    def _check_folder(self, step: RenderStep) -> None:
        if step.output_dir and not step.output_dir.is_relative_to(self.settings.output_dir):
            raise SettingsError(
                f"app.py: the step {step.name!r} makes renditions in {step.output_dir}; its folder "
                f"must lie in PIPELINE_OUTPUT={str(self.settings.output_dir)!r}"
            )
