"""The images of jobs as originals: their bytes, their recipes, and the jobs that wait for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import sqlalchemy as sa

from pipeline.database.connection import Database
from pipeline.engine.context import Run
from pipeline.engine.report import Counts
from pipeline.engine.sources import Originals
from pipeline.errors import RecipeError
from pipeline.jobs.store import ENDED, JobFolders, JobRepository
from pipeline.names import folder_of
from pipeline.settings.values import Settings
from pipeline.states import JobState, Source
from pipeline.storage.blobs import blob_key
from pipeline.storage.places import folder_place
from pipeline.transforms.features import (
    PREFIX,
    is_feature,
    is_listed,
    listed_features,
    own_name,
)
from pipeline.transforms.recipes import JOBS_FOLDER, Transform


class JobImages(Originals):
    """The images that were fetched for the rows of CSVs.

    A finished job whose images change gets a new result.
    """

    source = Source.JOBS
    below = f"{JOBS_FOLDER}/"

    def __init__(self, settings: Settings) -> None:
        super().__init__(folder_place(JobFolders(settings.state_dir).fetched))
        self.settings = settings
        self.max_pixels = settings.jobs.max_pixels

    def key(self, path: str, sha256: str | None) -> str:
        """The bytes are stored under their hash, once for all jobs."""
        return blob_key(sha256 or "")

    def is_needed(self, run: Run) -> bool:
        return has_jobs(JobRepository(run.database), run)

    def recipes(self, recipes: dict[str, Transform]) -> dict[str, Transform]:
        """Those of ``PIPELINE_JOB_RECIPES``; without the setting, the first recipe is used if none
        of the names exists. And the features of ``PIPELINE_JOB_FEATURES``."""
        jobs = self.settings.jobs
        features = [PREFIX + name for name in jobs.features]
        unknown = [own_name(name) for name in features if name not in recipes]
        if unknown:
            there = listed_features(recipes)
            raise RecipeError(
                f"PIPELINE_JOB_FEATURES={','.join(jobs.features)}: {self.settings.recipes_file} "
                f"has no [{PREFIX}{unknown[0]}]; it has {', '.join(there) or 'no features'}"
            )
        ours = [name for name in recipes if not is_listed(name)]
        of_features = {name: recipes[name] for name in (*features, *ours)}
        recipes = {name: each for name, each in recipes.items() if not is_feature(name)}
        folders = dict.fromkeys(folder_of(name) for name in recipes)
        missing = [name for name in jobs.recipes if name not in folders]
        if missing and jobs.recipes_given:
            raise RecipeError(
                f"PIPELINE_JOB_RECIPES={','.join(jobs.recipes)}: {self.settings.recipes_file} has "
                f"no [{missing[0]}]; it has {', '.join(folders)}"
            )
        # None is configured: a project whose recipes have other names can have jobs, too.
        names = [name for name in jobs.recipes if name in folders] or list(folders)[:1]
        return {name: recipes[name] for name in recipes if folder_of(name) in names} | of_features

    def counts(self, run: Run) -> Counts:
        return run.report.jobs.images

    def settled(self, database: Database, paths: Collection[str]) -> None:
        repository = JobRepository(database)
        jobs = repository.jobs
        for reference, count in sorted(Counter(p.partition("/")[0] for p in paths).items()):
            repository.move(reference, ENDED, JobState.RENDERING)
            # A rejected one keeps the result of the previous content: marked as if of other
            # settings.
            repository.move(reference, {JobState.REJECTED}, JobState.REJECTED, made_for="")
            with repository.database.writing() as con:
                # For people who watch; the exact counts follow with the result.
                con.execute(
                    sa.update(jobs)
                    .where(
                        jobs.c.reference == reference,
                        jobs.c.state == JobState.RENDERING.value,
                        jobs.c.done + count <= jobs.c.fetched,
                    )
                    .values(done=jobs.c.done + count)
                )


def has_jobs(repository: JobRepository, run: Run) -> bool:
    """Whether there is any job; queried once per run."""
    if run.has_jobs is None:
        run.has_jobs = repository.any()
    return run.has_jobs
