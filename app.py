"""The pipeline of Lockstep, declared: which tables there are, and which step keeps which.

    recipes.toml --> recipes ----+
    input/**     --> originals --+--> renditions, features --> output/<recipe>/<path>
    *.csv --> csv_rows --^                                 --> output/<reference>.csv

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
from pipeline.engine.sources import InputFolder
from pipeline.imaging import ORIGINAL_SUFFIXES
from pipeline.jobs.originals import JobImages
from pipeline.jobs.steps import Answer, Fetch, ReadCsvs, ScanCsvs
from pipeline.settings.load import load_settings

settings = load_settings()
database = tables.connect(settings.database_url)

columns = {
    "recipes": tables.recipes_columns(),
    "originals": tables.originals_columns(),
    "renditions": tables.renditions_columns(),
    "features": tables.features_columns(),
    "csv_rows": tables.csv_rows_columns(),
}
catalog = Catalog(
    {name: Table(TrackedTable(database, name, cols)) for name, cols in columns.items()}
)

sources = (InputFolder(settings), JobImages(settings))

steps = Pipeline(
    [
        LoadRecipes(output="recipes", sources=sources, settings=settings),
        Scan(output="originals", suffixes=ORIGINAL_SUFFIXES, settings=settings),
        ScanCsvs(settings=settings),
        ReadCsvs(output="csv_rows", images="originals", settings=settings),
        Fetch(rows="csv_rows", output="originals", settings=settings),
        Render(
            originals="originals",
            recipes="recipes",
            output="renditions",
            features="features",
            sources=sources,
            settings=settings,
        ),
        # Waits for what is fetched: steps of your own that work on images of jobs go after it.
        Answer(rows="csv_rows", renditions="renditions", settings=settings),
    ]
)

app = Lockstep(settings, database, catalog, steps)
