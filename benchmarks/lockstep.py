"""Calling Lockstep as its users do: the `datapipe` command, as a whole process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.job import Recipe, recipes_toml
from benchmarks.measure import Measured, measure

REPOSITORY = Path(__file__).resolve().parent.parent

# For recipes that call `functions:same`, and the feature beside them.
FUNCTIONS = "def same(image):\n    return image\n\n\ndef nothing(image):\n    return {}\n"
OWN_TABLE = """
from datapipe.step.batch_transform import BatchTransform
from datapipe.store.database import TableStoreDB
from sqlalchemy import Column, String

keys = [Column(name, String, primary_key=True) for name in ("source", "path", "recipe")]
placeholders = TableStoreDB(database, "placeholders", [*keys, Column("text", String)])
catalog.add_datatable("placeholders", Table(placeholders))


def placeholder(renditions):
    return renditions[["source", "path", "recipe"]].assign(text="placeholder")

"""
OWN_STEP = 'BatchTransform(placeholder, inputs=["renditions"], outputs=["placeholders"])'


def command() -> Path | None:
    """The `datapipe` beside this Python, or the one on the PATH."""
    beside = Path(sys.executable).with_name("datapipe")
    if beside.exists():
        return beside
    found = shutil.which("datapipe")
    return Path(found) if found else None


def missing() -> str | None:
    """Why Lockstep can't be run here, or None."""
    datapipe = command()
    if datapipe is None:
        return "no datapipe beside this Python: install the project first (make run)"
    if not (REPOSITORY / "app.py").exists():
        return f"no app.py in {REPOSITORY}"
    with tempfile.TemporaryDirectory() as folder:  # so that the project's own database is left be
        done = subprocess.run(
            [datapipe, "run", "--help"],
            cwd=REPOSITORY,
            env={**os.environ, "PIPELINE_DB": f"sqlite:///{folder}/db.sqlite"},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0 or "--json" not in done.stdout:
        return "`datapipe run` is not Lockstep's: install the project first (make run)"
    return None


@dataclass(frozen=True)
class Project:
    """A set of settings: one input folder, one output folder, one database."""

    folder: Path
    input: Path
    recipes: Sequence[Recipe]
    workers: int = 2
    # The module with the pipeline, of the repository or of `folder`.
    pipeline: str = "app"
    # The address of a server; without one, a file in `folder`.
    database: str | None = None

    @property
    def output(self) -> Path:
        return self.folder / "output"

    def prepare(self) -> None:
        """Leave nothing of an earlier run: a fresh database and an empty output folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.output.mkdir(parents=True)
        recipes = recipes_toml(self.recipes)
        (self.folder / "recipes.toml").write_text(recipes, encoding="utf-8")
        (self.folder / "functions.py").write_text(FUNCTIONS, encoding="utf-8")

    def env(self) -> dict[str, str]:
        return {
            "PIPELINE_INPUT": str(self.input),
            "PIPELINE_OUTPUT": str(self.output),
            "PIPELINE_DB": self.database or f"sqlite:///{self.folder / 'db.sqlite'}",
            "PIPELINE_RECIPES": str(self.folder / "recipes.toml"),
            "PIPELINE_WORKERS": str(self.workers),
            "PYTHONPATH": str(self.folder),
        }

    def with_step(self) -> Project:
        """The same project, with a stock step of datapipe's own over all renditions."""
        text = (REPOSITORY / "app.py").read_text(encoding="utf-8")
        text = text.replace("\nsources = (", f"\n{OWN_TABLE}\nsources = (")
        text = text.replace("    ]\n)\n\napp = ", f"        {OWN_STEP},\n    ]\n)\n\napp = ")
        (self.folder / "app_with_step.py").write_text(text, encoding="utf-8")
        return replace(self, pipeline="app_with_step")

    def run(self, timeout_s: float = 3600.0, beside: Collection[int] = ()) -> Measured:
        """One `datapipe run --json` over this project; `beside` are servers, as of `measure`."""
        datapipe = command()
        assert datapipe is not None
        return measure(
            [datapipe, "--pipeline", self.pipeline, "run", "--json"],
            cwd=REPOSITORY,
            env=self.env(),
            timeout_s=timeout_s,
            beside=beside,
        )


class UnexpectedRun(Exception):
    """A run that did not do what the measurement is about."""


def check(run: Measured, *, rendered: int, failed: int = 0) -> None:
    """Raise UnexpectedRun unless the run succeeded and rendered exactly that many."""
    if not run.ok:
        raise UnexpectedRun(run.complaint)
    renditions = json.loads(run.stdout)["renditions"]
    seen = (renditions["rendered"] + renditions.get("reused", 0), renditions["failed"])
    if seen != (rendered, failed):
        raise UnexpectedRun(f"rendered, failed = {seen}, expected {(rendered, failed)}")
