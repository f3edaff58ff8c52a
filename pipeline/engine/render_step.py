"""The render step: keeps renditions and features in step with originals x recipes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from datapipe.compute import Catalog, ComputeInput, ComputeOutput, ComputeStep, PipelineStep
from datapipe.datatable import DataStore
from datapipe.executor import ExecutorConfig
from datapipe.run_config import RunConfig
from datapipe.step.batch_transform import BaseBatchTransformStep
from datapipe.types import ChangeList, IndexDF

from pipeline.database.tracking import LinearTransformMeta
from pipeline.engine.context import Run
from pipeline.engine.pending import Pending
from pipeline.engine.rendering import Rendering
from pipeline.engine.sources import Originals
from pipeline.engine.step import Step
from pipeline.engine.verdicts import Verdict, explain_renditions, preview_renditions
from pipeline.errors import LockstepError
from pipeline.settings.values import Settings
from pipeline.states import Source
from pipeline.storage.folder import prefix_of


class RenderStep(Step, BaseBatchTransformStep):
    """Keeps ``output`` (renditions), and ``features``, in step with originals x recipes."""

    def __init__(
        self,
        ds: DataStore,
        name: str,
        originals: ComputeInput,
        recipes: ComputeInput,
        output: ComputeOutput,
        sources: Sequence[Originals],
        output_dir: Path | None,
        settings: Settings,
        executor_config: ExecutorConfig | None = None,
        features: ComputeOutput | None = None,
    ) -> None:
        """``sources`` are those whose originals have renditions below ``output_dir``."""
        super().__init__(
            ds=ds,
            name=name,
            input_dts=[originals, recipes],
            output_dts=[output] if features is None else [output, features],
            transform_keys=["source", "path", "recipe"],
            executor_config=executor_config,
        )
        assert isinstance(self.meta, LinearTransformMeta)
        self.linear_meta = self.meta
        self.settings = settings
        self.output_dir = output_dir
        # What the keys of its renditions begin with.
        self.prefix = "" if output_dir is None else prefix_of(output_dir, settings.output_dir)
        self.originals = {each.source: each for each in sources}
        self.sources = tuple(self.originals)
        tables = (self.meta, originals.dt, recipes.dt, output.dt)
        values = None if features is None else features.dt
        self.pending_of = {source: Pending(*tables, source, values) for source in self.sources}

    @property
    def pending(self) -> Pending:
        """What is pending of the first source; its tables are those of all."""
        return self.pending_of[self.sources[0]]

    def below(self, source: Source) -> str:
        """What the keys of the renditions of a source begin with, below the output folder."""
        return self.prefix + self.originals[source].below

    def settled(self, source: Source, paths: Collection[str]) -> None:
        """Called with the paths of each batch, inside the transaction that records it."""
        self.originals[source].settled(self.linear_meta.dbconn, paths)

    def process_batch(
        self, ds: DataStore, idx: IndexDF, run_config: RunConfig | None = None
    ) -> ChangeList:
        """Not for single keys: upstream's ``run-idx`` and ``run-changelist`` call this."""
        raise LockstepError(
            f"the step {self.name} works on everything that is pending: use `datapipe run`, or "
            f"`datapipe step --name={self.name} run`"
        )

    def work(self, run: Run) -> None:
        """Bring all renditions in step.

        Raises:
            OutputError: a rendition cannot be written or deleted; what is done is kept.
        """
        for source in self._needed(run):
            if run.works_on(source):
                originals = self.originals[source]
                Rendering(run, self.pending_of[source], originals, self.below(source)).work()

    def preview(self, run: Run) -> None:
        """Count what would be rendered and deleted; files whose row may still hold are hashed."""
        for source in self._needed(run):
            preview_renditions(run, self.pending_of[source], self.originals[source])

    def explain(self, path: str, is_there: bool) -> tuple[str | None, list[Verdict]]:
        """The SHA-256 of an original, and what would become of each of its renditions, and why.

        Raises:
            RecipeError: ``recipes.toml`` has problems.
        """
        source = self.sources[0]
        return explain_renditions(
            self.settings, self.pending_of[source], self.originals[source], path, is_there
        )

    def look_ahead(self, run: Run) -> None:
        for source in self._needed(run):
            run.look(self.pending_of[source]).look_ahead()

    def _needed(self, run: Run) -> list[Source]:
        return [source for source, each in self.originals.items() if each.is_needed(run)]


@dataclass
class Render(PipelineStep):
    """Declares that each of ``originals`` has, by each of ``recipes``, a row of ``output``.

    By each feature among these, it has a row of ``features``; without that table, by none.
    Those of ``sources`` alone: of the others, other steps may make something. The files go below
    ``output_dir``, by default the output folder itself.
    """

    originals: str
    recipes: str
    output: str
    sources: Sequence[Originals]
    settings: Settings
    output_dir: Path | None = None
    name: str = "render"
    features: str | None = None

    def build_compute(self, ds: DataStore, catalog: Catalog) -> list[ComputeStep]:
        values = self.features and ComputeOutput(catalog.get_datatable(ds, self.features))
        return [
            RenderStep(
                ds,
                name=self.name,
                originals=ComputeInput(catalog.get_datatable(ds, self.originals)),
                recipes=ComputeInput(catalog.get_datatable(ds, self.recipes)),
                output=ComputeOutput(catalog.get_datatable(ds, self.output)),
                features=values or None,
                sources=self.sources,
                output_dir=self.output_dir,
                settings=self.settings,
            )
        ]
