"""Loading ``recipes.toml`` into its table: a row per recipe, written only where one changed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import pandas as pd
import sqlalchemy as sa
from datapipe.compute import Catalog, ComputeOutput, ComputeStep, PipelineStep
from datapipe.datatable import DataStore, DataTable
from datapipe.types import IndexDF

from pipeline.database.tracked import TrackedTable
from pipeline.database.tracking import frame
from pipeline.engine.context import Run
from pipeline.engine.difference import RecipeDifference
from pipeline.engine.step import Step
from pipeline.errors import RecipeError
from pipeline.settings.values import Settings
from pipeline.transforms.recipes import Recipe


def compare_recipes(recipes: dict[str, Recipe], table: DataTable) -> RecipeDifference:
    """What a run would add, change and remove. Comments and order do not matter."""
    store = table.table_store
    assert isinstance(store, TrackedTable)
    columns = store.data_table.c
    with store.dbconn.reading() as con:
        rows = con.execute(sa.select(columns.recipe, columns.fingerprint)).all()
    stored = {row.recipe: row.fingerprint for row in rows}
    difference = RecipeDifference(removed=sorted(set(stored) - set(recipes)))
    for name, recipe in recipes.items():
        if name not in stored:
            difference.added.append(name)
        elif stored[name] != recipe.fingerprint:
            difference.changed.append(name)
    return difference


class LoadRecipesStep(Step):
    """Brings the table of recipes in step with ``recipes.toml``, or ``only`` some of them.

    Without ``required``, the first recipe is used if none of the names exists.
    """

    def __init__(
        self,
        name: str,
        output: DataTable,
        settings: Settings,
        only: Collection[str] | None = None,
        required: bool = False,
    ) -> None:
        super().__init__(name=name, input_dts=[], output_dts=[ComputeOutput(dt=output)])
        self.table = output
        self.only = only
        self.required = required
        self.settings = settings

    def work(self, run: Run) -> None:
        """Write what is new, changed and gone.

        Raises:
            RecipeError: the file has problems; nothing is written then.
        """
        recipes = self.wanted(run.recipes)
        difference = compare_recipes(recipes, self.table)
        written = [recipes[name] for name in (*difference.added, *difference.changed)]
        if not written and not difference.removed:
            return
        run.recipes_moved = True
        with run.database.writing() as write:
            self._write(written, difference.removed, write.now)

    def preview(self, run: Run) -> None:
        """Note what is new, changed and gone.

        Raises:
            RecipeError: as :meth:`work`.
        """
        difference = compare_recipes(self.wanted(run.recipes), self.table)
        run.expected.recipes[self.table.name] = difference

    def wanted(self, recipes: dict[str, Recipe]) -> dict[str, Recipe]:
        """Those of ``recipes``, as ``recipes.toml`` has them, that the table is to hold.

        Raises:
            RecipeError: what is required is missing.
        """
        if self.only is None:
            return recipes
        missing = [name for name in self.only if name not in recipes]
        if missing and self.required:
            raise RecipeError(
                f"PIPELINE_JOB_RECIPES={','.join(self.only)}: {self.settings.recipes_file} has no "
                f"[{missing[0]}]; it has {', '.join(recipes)}"
            )
        # Nobody configured one: a project whose recipes have other names can have jobs, too.
        names = [name for name in self.only if name in recipes] or list(recipes)[:1]
        return {name: recipes[name] for name in names}

    def _write(self, written: list[Recipe], removed: list[str], now: float) -> None:
        if written:
            rows = [
                {
                    "recipe": recipe.name,
                    "fingerprint": recipe.fingerprint,
                    "spec": recipe.spec,
                }
                for recipe in written
            ]
            columns = ("recipe", "fingerprint", "spec")
            self.table.store_chunk(frame(rows, columns), now=now)
        if removed:
            gone = pd.DataFrame({"recipe": removed})
            self.table.delete_by_idx(IndexDF(gone), now=now)


@dataclass
class LoadRecipes(PipelineStep):
    """Declares the loading of ``PIPELINE_RECIPES`` into ``output``."""

    output: str
    settings: Settings

    def build_compute(self, ds: DataStore, catalog: Catalog) -> list[ComputeStep]:
        table = catalog.get_datatable(ds, self.output)
        return [LoadRecipesStep("load_recipes", table, self.settings)]
