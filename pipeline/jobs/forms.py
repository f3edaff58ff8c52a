"""How the CSV of a job is read: by which mapping, and whether each product has to have an image.

A job keeps what its CSV was accepted with: its copy is read again for its result, long after the
settings or the named mappings may have changed.
"""

from __future__ import annotations

import json
from typing import Any

from pipeline.csvs.dialect import CsvDialect, detect_dialect
from pipeline.csvs.mapping import Mapping, mapping_of
from pipeline.csvs.mapping_file import read_mappings
from pipeline.csvs.reading import CsvForm
from pipeline.jobs.store import Job, JobFolders, JobRepository
from pipeline.settings.values import Settings

REPLACE = "replace"


def form_of(
    settings: Settings,
    given: Mapping | None = None,
    require_images: bool = False,
    base: str = "",
) -> CsvForm:
    """How a new CSV is read: by ``given``, or by what fits of the named and the known mappings.

    Raises:
        MappingsError: the file of named mappings is wrong.
    """
    jobs = settings.jobs
    named = () if given else read_mappings(jobs.mappings_file, jobs.mappings_given)
    return CsvForm(named, given, require_images or jobs.require_images, base)


def options_of(dialect: CsvDialect, result: str) -> str:
    """What is stored with the job of an accepted CSV. ``result`` is ``add`` or ``replace``."""
    mapping = dialect.mapping and dialect.mapping.as_json()
    sheet = dialect.sheet and dialect.sheet.name
    return json.dumps({"mapping": mapping, "result": result, "sheet": sheet})


def is_replaced(job: Job) -> bool:
    """Whether the new addresses stand in the place of the old ones, not in columns beside."""
    return bool(_options(job).get("result") == REPLACE)


def sheet_used(job: Job) -> str | None:
    """The sheet of the workbook that is read; None for a CSV."""
    return _options(job).get("sheet")


def mapping_used(job: Job) -> Mapping | None:
    """The mapping that the CSV of a job was accepted with; None for a job of an older release."""
    mapping = _options(job).get("mapping")
    return mapping_of(mapping) if mapping else None


def _options(job: Job) -> dict[str, Any]:
    options: dict[str, Any] = json.loads(job.options) if job.options else {}
    return options


def accepted_form(repository: JobRepository, reference: str) -> CsvForm:
    """How the CSV of a job is read again once it was accepted."""
    job = repository.get(reference)
    return CsvForm(given=mapping_used(job) if job else None)


def dialect_of(folders: JobFolders, job: Job) -> CsvDialect:
    """The dialect of the copy of a job's CSV.

    Raises:
        CsvError: the copy cannot be read.
        OSError: likewise.
    """
    return detect_dialect(folders.csv(job.reference), given=mapping_used(job))[0]
