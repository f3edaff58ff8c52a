"""The pipeline of Lockstep, declared: which tables there are, and which step keeps which.

    recipes.toml --> recipes ------+
    input/**     --> input_images -+--> renditions --> output/<recipe>/<path>

A new original touches its own rows, a changed recipe its own, a removed one takes its renditions
along. Nothing here says when: `datapipe run` derives that from the tables.
"""

from datapipe.compute import Catalog, Pipeline, Table

from pipeline.app import Lockstep
from pipeline.engine.database import connect
from pipeline.engine.recipe_step import LoadRecipes
from pipeline.engine.render_step import Render
from pipeline.engine.scan import Scan
from pipeline.imaging import ORIGINAL_SUFFIXES
from pipeline.settings import load_settings
from pipeline.tables import (
    TrackedTable,
    input_images_columns,
    recipes_columns,
    renditions_columns,
)

settings = load_settings()
database = connect(settings.database_url)

catalog = Catalog(
    {
        "recipes": Table(TrackedTable(database, "recipes", recipes_columns())),
        "input_images": Table(TrackedTable(database, "input_images", input_images_columns())),
        "renditions": Table(TrackedTable(database, "renditions", renditions_columns())),
    }
)

steps = Pipeline(
    [
        LoadRecipes(output="recipes", settings=settings),
        Scan(output="input_images", suffixes=ORIGINAL_SUFFIXES, settings=settings),
        Render(
            originals="input_images",
            recipes="recipes",
            output="renditions",
            originals_dir=settings.input_dir,
            output_dir=settings.output_dir,
            settings=settings,
        ),
    ]
)

app = Lockstep(settings, database, catalog, steps)
