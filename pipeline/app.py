"""The application: datapipe's, with the settings, the connection and the render steps at hand."""

from __future__ import annotations

from typing import TypeVar

from datapipe.compute import Catalog, ComputeStep, DatapipeApp, Pipeline
from datapipe.store.database import DBConn

from pipeline.engine.plane import data_store
from pipeline.engine.recipe_step import LoadRecipesStep
from pipeline.engine.render_step import RenderStep
from pipeline.engine.scan import ScanStep
from pipeline.settings import Settings
from pipeline.tables import index_exceptions

StepT = TypeVar("StepT", bound=ComputeStep)


class Lockstep(DatapipeApp):
    """What the commands and the web page work on."""

    def __init__(
        self, settings: Settings, connection: DBConn, catalog: Catalog, pipeline: Pipeline
    ) -> None:
        super().__init__(data_store(connection), catalog, pipeline)
        self.settings = settings
        self.connection = connection
        for step in self.renders:
            index_exceptions(step.pending.table)

    @property
    def scan(self) -> ScanStep:
        """The step that compares ``input/`` with its table."""
        return self._all(ScanStep)[0]

    @property
    def load_recipes(self) -> LoadRecipesStep:
        """The step that reads ``recipes.toml``."""
        return self._all(LoadRecipesStep)[0]

    @property
    def render(self) -> RenderStep:
        """The step that makes the renditions of the originals below ``input/``."""
        return self.renders[0]

    @property
    def renders(self) -> list[RenderStep]:
        """Every step that makes renditions."""
        return self._all(RenderStep)

    def _all(self, kind: type[StepT]) -> list[StepT]:
        return [step for step in self.steps if isinstance(step, kind)]
