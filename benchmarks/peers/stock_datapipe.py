"""datapipe-core as its documentation shows it: a folder, a BatchTransform, a folder.

Run with `datapipe`'s own `run_steps` rather than its CLI, whose `run` Lockstep replaces. It takes
one flat folder of JPEG files and makes JPEG; it runs in one process, whatever the job allows.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from datapipe.compute import Catalog, DatapipeApp, Pipeline, Table, run_steps
from datapipe.datatable import DataStore
from datapipe.step.batch_transform import BatchTransform
from datapipe.step.update_external_table import UpdateExternalTable
from datapipe.store.database import DBConn
from datapipe.store.filedir import PILFile, TableStoreFiledir
from PIL import Image

from benchmarks.job import Recipe

DATABASE = "stock.sqlite"


def build(job: dict[str, Any]) -> DatapipeApp:
    recipes = [Recipe.from_json(record) for record in job["recipes"]]
    output = Path(job["output"])
    encoder = job["encoder"]
    catalog = Catalog(
        {
            "originals": Table(
                store=TableStoreFiledir(Path(job["input"]) / "{id}.jpg", PILFile("jpeg"))
            ),
            **{
                recipe.name: Table(
                    store=TableStoreFiledir(
                        output / recipe.name / "{id}.jpg",
                        PILFile(
                            "jpeg",
                            quality=recipe.quality,
                            subsampling=encoder["jpeg_subsampling"],
                            optimize=encoder["jpeg_optimise_huffman"],
                            progressive=encoder["jpeg_progressive"],
                        ),
                        enable_rm=True,
                    )
                )
                for recipe in recipes
            },
        }
    )

    def resize(df: pd.DataFrame) -> tuple[pd.DataFrame, ...]:
        made = []
        for recipe in recipes:
            renditions = df.copy()
            renditions["image"] = [_resized(image, recipe) for image in df["image"]]
            made.append(renditions)
        return tuple(made)

    pipeline = Pipeline(
        [
            UpdateExternalTable(output="originals"),
            BatchTransform(
                resize,
                inputs=["originals"],
                outputs=[recipe.name for recipe in recipes],
                chunk_size=100,
            ),
        ]
    )
    store = DataStore(DBConn(f"sqlite:///{output / DATABASE}"), create_meta_table=True)
    return DatapipeApp(store, catalog, pipeline)


def _resized(image: Image.Image, recipe: Recipe) -> Image.Image:
    return image.resize(recipe.size(*image.size), Image.Resampling.LANCZOS)


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    app = build(job)
    run_steps(app.ds, app.steps)


if __name__ == "__main__":
    main()
