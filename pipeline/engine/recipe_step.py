"""Loading ``recipes.toml`` into its table: only what changed is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from datapipe.compute import Catalog, ComputeOutput, ComputeStep, PipelineStep
from datapipe.datatable import DataStore, DataTable

from pipeline.database.tracked import TrackedTable, delete, upsert
from pipeline.engine.context import Run
from pipeline.engine.difference import RecipeDifference
from pipeline.engine.sources import Originals
from pipeline.engine.step import Step
from pipeline.errors import RecipeError
from pipeline.settings.values import Settings
from pipeline.states import Source
from pipeline.transforms.features import is_feature, is_listed
from pipeline.transforms.recipes import Transform


def compare_recipes(
    recipes: dict[str, Transform], table: DataTable, source: Source
) -> RecipeDifference:
    """What a run would add, change and remove for a source. Comments and order do not matter."""
    store = table.table_store
    assert isinstance(store, TrackedTable)
    columns = store.data_table.c
    query = sa.select(columns.recipe, columns.fingerprint).where(columns.source == source.value)
    rows = store.dbconn.rows(query)
    stored = {row.recipe: row.fingerprint for row in rows}
    difference = RecipeDifference(removed=sorted(set(stored) - set(recipes)))
    for name, recipe in recipes.items():
        if name not in stored:
            difference.added.append(name)
        elif stored[name] != recipe.fingerprint:
            difference.changed.append(name)
    return difference


class LoadRecipesStep(Step):
    """Brings the table of recipes in step with ``recipes.toml``, for each source of originals."""

    def __init__(
        self, name: str, output: DataTable, settings: Settings, originals: Sequence[Originals]
    ) -> None:
        super().__init__(name=name, input_dts=[], output_dts=[ComputeOutput(dt=output)])
        self.table = output
        self.settings = settings
        self.originals = originals
        self.sources = tuple(each.source for each in originals)

    # Whether the render step has a table for features: set by the application.
    may_make_features = False

    def work(self, run: Run) -> None:
        """Write what is new, changed and gone.

        Raises:
            RecipeError: the file has problems; nothing is written then.
        """
        for originals in self.originals:
            if run.works_on(originals.source):
                self._load(run, originals)

    def _load(self, run: Run, originals: Originals) -> None:
        source, recipes = originals.source, self._wanted(run, originals)
        difference = compare_recipes(recipes, self.table, source)
        written = [recipes[name] for name in (*difference.added, *difference.changed)]
        if not written and not difference.removed:
            return
        run.recipes_moved.add(source)
        with run.database.writing() as write:
            if written:
                rows = [
                    {
                        "source": source.value,
                        "recipe": recipe.name,
                        "fingerprint": recipe.fingerprint,
                        "spec": recipe.spec,
                    }
                    for recipe in written
                ]
                upsert(write, self.table, rows)
            if difference.removed:
                delete(write, self.table, [(source.value, name) for name in difference.removed])

    def _wanted(self, run: Run, originals: Originals) -> dict[str, Transform]:
        recipes = run.recipes
        if not self.may_make_features:
            # An older app.py goes on as before, without near duplicates.
            recipes = {name: each for name, each in recipes.items() if is_listed(name)}
        feature = next(filter(is_feature, recipes), None)
        if feature is not None and not self.may_make_features:
            raise RecipeError(
                f"{self.settings.recipes_file} has [{feature}], and app.py declares no table of "
                'features: add "features": tables.features_columns() to its columns, and '
                'features="features" to its Render step'
            )
        return originals.recipes(recipes)

    def preview(self, run: Run) -> None:
        """Note what is new, changed and gone.

        Raises:
            RecipeError: as :meth:`work`.
        """
        for originals in self.originals:
            recipes, source = self._wanted(run, originals), originals.source
            run.expected.recipes[source] = compare_recipes(recipes, self.table, source)


@dataclass
class LoadRecipes(PipelineStep):
    """Declares the loading of ``PIPELINE_RECIPES`` into ``output``, for each of ``sources``."""

    output: str
    sources: Sequence[Originals]
    settings: Settings

    def build_compute(self, ds: DataStore, catalog: Catalog) -> list[ComputeStep]:
        table = catalog.get_datatable(ds, self.output)
        return [LoadRecipesStep("load_recipes", table, self.settings, self.sources)]
