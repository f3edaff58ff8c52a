"""What the parts of this room work with: handed over by name, made once by the application."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

import sqlalchemy as sa
from datapipe.datatable import DataTable

from pipeline.database.connection import Database
from pipeline.engine.context import RunOptions
from pipeline.engine.pending import Pending
from pipeline.engine.progress import Progress
from pipeline.engine.render_step import RenderStep
from pipeline.engine.report import Report
from pipeline.jobs.store import JobFolders, JobRepository
from pipeline.settings.values import Settings
from pipeline.states import Source
from pipeline.transforms.features import PDQ

# One run of the steps that a job needs; it raises what any run does.
RunJobs: TypeAlias = Callable[[RunOptions, Progress | None], Report]


@dataclass(frozen=True)
class Jobs:
    """The tables, settings and folders of jobs.

    ``rows`` is the table of CSV rows, ``render`` the step that makes the renditions of their
    images.
    """

    database: Database
    settings: Settings
    rows: DataTable
    render: RenderStep
    run: RunJobs
    # Since when this process has fetched for a job, of the state that it had at that time.
    fetching_since: dict[tuple[str, float], float] = field(default_factory=dict)

    @cached_property
    def repository(self) -> JobRepository:
        """The rows of jobs."""
        return JobRepository(self.database)

    @property
    def folders(self) -> JobFolders:
        """Paths inside the state folder."""
        return JobFolders(self.settings.state_dir)

    @property
    def pending(self) -> Pending:
        """Images of jobs, the recipes for them and their renditions; what is pending of these."""
        return self.render.pending_of[Source.JOBS]

    @property
    def settings_key(self) -> str:
        """The settings that the text of a result depends on."""
        jobs = self.settings.jobs
        key = f"{','.join(jobs.recipes)} {jobs.public_url}"
        return f"{key} {','.join(jobs.features)}" if jobs.features else key

    def unrendered(self) -> sa.Subquery:
        """The change query of the render step: images that it still has to do.

        Jobs do not wait for what only finds near duplicates.
        """
        changed = self.pending.changed().subquery()
        return sa.select(changed).where(changed.c.recipe != PDQ).subquery()
