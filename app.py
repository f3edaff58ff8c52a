"""The pipeline of Lockstep, declared: which tables there are, and which step keeps which.

    recipes.toml --> recipes ---------+
    input/**     --> input_images ----+--> renditions ---------> output/<recipe>/<path>
    *.csv --> csv_rows --> fetched_images --+
                            job_recipes ----+--> job_renditions --> output/<reference>.csv

A new original touches its own rows, a changed recipe its own, a removed one its renditions, and so
does a row of a CSV. Nothing here says when: `datapipe run` derives that from the tables.
"""

from datapipe.compute import Catalog, Pipeline, Table

from pipeline import tables
from pipeline.app import Lockstep
from pipeline.database.tracked import TrackedTable
from pipeline.engine.recipe_step import LoadRecipes
from pipeline.engine.render_step import Render
from pipeline.engine.scan import Scan
from pipeline.imaging import ORIGINAL_SUFFIXES
from pipeline.jobs.steps import Answer, Fetch, LoadJobRecipes, ReadCsvs, RenderJobs, ScanCsvs
from pipeline.settings.load import load_settings

settings = load_settings()
database = tables.connect(settings.database_url)

columns = {
    "recipes": tables.recipes_columns(),
    "input_images": tables.input_images_columns(),
    "renditions": tables.renditions_columns(),
    "job_recipes": tables.recipes_columns(),
    "csv_rows": tables.csv_rows_columns(),
    "fetched_images": tables.fetched_images_columns(),
    "job_renditions": tables.renditions_columns(),
}
catalog = Catalog(
    {name: Table(TrackedTable(database, name, cols)) for name, cols in columns.items()}
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
        ScanCsvs(settings=settings),
        LoadJobRecipes(output="job_recipes", settings=settings),
        ReadCsvs(output="csv_rows", images="fetched_images", settings=settings),
        Fetch(rows="csv_rows", output="fetched_images", settings=settings),
        RenderJobs(
            images="fetched_images",
            recipes="job_recipes",
            output="job_renditions",
            settings=settings,
        ),
        Answer(
            rows="csv_rows",
            images="fetched_images",
            recipes="job_recipes",
            renditions="job_renditions",
            settings=settings,
        ),
    ]
)

app = Lockstep(settings, database, catalog, steps)
