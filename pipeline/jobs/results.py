"""The result CSVs that lie in the output folder, compared with the jobs that have one."""

from __future__ import annotations

from pathlib import Path

from pipeline.database.connection import Database
from pipeline.engine.compare import Mismatch
from pipeline.jobs.store import ENDED, JobRepository
from pipeline.storage.folder import file_below


def compare_results(database: Database, output_dir: Path, found: Mismatch, fix: bool) -> int:
    """Add the result CSVs that are missing to ``found``; how many are to be written again.

    With ``fix`` the next run writes them.
    """
    repository, missing = JobRepository(database), 0
    for job in repository.in_states(ENDED):
        found.checked += 1
        if job.answer and not file_below(output_dir, job.answer).is_file():
            missing += 1
            found.missing.append(job.answer)
            if fix:
                # As if written with other settings: the answer step writes it again.
                repository.update(job.reference, made_for="")
    return missing
