"""Loading ``recipes.toml`` into its table: a row per recipe, written only where one changed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

import pandas as pd
import sqlalchemy as sa
from datapipe.compute import Catalog, ComputeOutput, ComputeStep, PipelineStep
from datapipe.datatable import DataStore, DataTable
from datapipe.executor import Executor
from datapipe.run_config import RunConfig
from datapipe.types import IndexDF

from pipeline.engine.context import Run, run_of
from pipeline.engine.database import one_transaction
from pipeline.engine.plane import frame
from pipeline.recipes import Recipe, load_recipes
from pipeline.settings import Settings
from pipeline.tables import TrackedTable


@dataclass
class RecipeDifference:
    """How the file differs from the table, by recipe name."""

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)


def compare_recipes(recipes: dict[str, Recipe], table: DataTable) -> RecipeDifference:
    """What a run would add, change and remove. A comment or another order changes nothing."""
    store = table.table_store
    assert isinstance(store, TrackedTable)
    columns = store.data_table.c
    with store.dbconn.con.begin() as con:
        rows = con.execute(sa.select(columns.recipe, columns.fingerprint)).all()
    stored = {row.recipe: row.fingerprint for row in rows}
    difference = RecipeDifference(removed=sorted(set(stored) - set(recipes)))
    for name, recipe in recipes.items():
        if name not in stored:
            difference.added.append(name)
        elif stored[name] != recipe.fingerprint:
            difference.changed.append(name)
    return difference


class LoadRecipesStep(ComputeStep):
    """Brings the table of recipes in step with ``recipes.toml``."""

    def __init__(self, name: str, output: DataTable, settings: Settings) -> None:
        super().__init__(name=name, input_dts=[], output_dts=[ComputeOutput(dt=output)])
        self.table = output
        self.settings = settings

    def run_full(
        self,
        ds: DataStore,
        run_config: RunConfig | None = None,
        executor: Executor | None = None,
    ) -> None:
        """Write what is new, changed and gone.

        Raises:
            RecipeError: the file has faults; nothing is written then.
        """
        with run_of(run_config, ds.meta_dbconn, self.settings) as run:
            recipes = load_recipes(self.settings.recipes_file)
            difference = compare_recipes(recipes, self.table)
            written = [recipes[name] for name in (*difference.added, *difference.changed)]
            if not written and not difference.removed:
                return
            run.touched = None
            with one_transaction(ds.meta_dbconn):
                self._write(written, difference.removed, run)

    def _write(self, written: list[Recipe], removed: list[str], run: Run) -> None:
        if written:
            rows = [
                {
                    "recipe": recipe.name,
                    "fingerprint": recipe.fingerprint,
                    "spec": json.dumps(asdict(recipe), sort_keys=True),
                }
                for recipe in written
            ]
            columns = ("recipe", "fingerprint", "spec")
            self.table.store_chunk(frame(rows, columns), now=run.clock.now())
        if removed:
            gone = pd.DataFrame({"recipe": removed})
            self.table.delete_by_idx(IndexDF(gone), now=run.clock.now())
        run.clock.remember()


@dataclass
class LoadRecipes(PipelineStep):
    """Declares the loading of ``PIPELINE_RECIPES`` into ``output``."""

    output: str
    settings: Settings

    def build_compute(self, ds: DataStore, catalog: Catalog) -> list[ComputeStep]:
        table = catalog.get_datatable(ds, self.output)
        return [LoadRecipesStep("load_recipes", table, self.settings)]
