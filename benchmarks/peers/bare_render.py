"""Lockstep's own imaging code in two processes with nothing around: no scan, hash, table, worker.

The one file here that calls Lockstep from within. What `datapipe run` takes longer than this is
its bookkeeping; what this takes longer than `bare.py` is the care for colour, modes and limits.
"""

from __future__ import annotations

import json
import sys
import tempfile
from functools import cache
from pathlib import Path

from benchmarks.job import Recipe as JobRecipe
from benchmarks.job import recipes_toml
from benchmarks.peers.worker import Task, in_processes
from pipeline.imaging import Failure, Limits
from pipeline.imaging.render import render
from pipeline.transforms.recipes import Recipe, load_recipes


@cache
def _recipes() -> list[Recipe]:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    text = recipes_toml([JobRecipe.from_json(record) for record in job["recipes"]])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipes.toml"
        path.write_text(text, encoding="utf-8")
        return list(load_recipes(path).values())


def render_one(task: Task) -> None:
    data = Path(task["path"]).read_bytes()
    paths = {rendition["recipe"]: rendition["path"] for rendition in task["renditions"]}
    for made in render(data, _recipes(), Limits()):
        if isinstance(made, Failure):
            raise RuntimeError(f"{task['path']}: {made.reason}")
        Path(paths[made.recipe]).write_bytes(made.data)


if __name__ == "__main__":
    _recipes()  # before the workers are forked, so that the file is read once
    in_processes(render_one)
