"""The result CSVs that lie in the output folder, compared with the jobs that have one."""

from __future__ import annotations

from pipeline.database.connection import Database
from pipeline.engine.compare import Mismatch
from pipeline.jobs.store import ENDED, JobRepository
from pipeline.storage.opening import open_store
from pipeline.storage.places import Place


def compare_results(database: Database, place: Place, found: Mismatch, fix: bool) -> int:
    """Add the result CSVs that are missing to ``found``; how many are to be written again.

    With ``fix`` the next run writes them.
    """
    repository, store, missing = JobRepository(database), open_store(place), 0
    for job in repository.in_states(ENDED):
        found.checked += 1
        if job.answer and store.look_at(job.answer) is None:
            missing += 1
            found.missing.append(job.answer)
            if fix:
                # As if written with other settings: the answer step writes it again.
                repository.update(job.reference, made_for="")
    return missing
