"""Handing in a CSV: it is copied, checked whole, and becomes a job, or leaves nothing behind.

No lock is needed: any number of people may submit at once, also while a run is at work.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import CsvError, CsvRejectedError, SettingsError
from pipeline.jobs.copies import held_copy
from pipeline.jobs.csv_read import check_csv
from pipeline.jobs.reading import copy_hashed, csv_limits
from pipeline.jobs.store import SUBMITTED, JobBook, JobFolders, made
from pipeline.jobs.urls import UrlRefused, checked_url
from pipeline.names import key_of
from pipeline.tables import JobState

if TYPE_CHECKING:
    from pipeline.app import Lockstep


@dataclass(frozen=True)
class Submitted:
    """The job that was made of a CSV; the next run works on it."""

    reference: str
    state: str


def submit(app: Lockstep, source: Path, filename: str, webhook: str | None = None) -> Submitted:
    """Check the CSV in ``source`` and make a job of it; ``filename`` is what people called it.

    ``webhook`` is an address that is told when the job ends, in place of PIPELINE_WEBHOOK_URL.

    Raises:
        CsvRejectedError: it has faults, all of which are told; nothing is left behind.
        CsvError: it cannot be read.
        SettingsError: ``webhook`` is no address that may be asked, or the state folder cannot be.
        OutputError: the disk is full, or rights are missing.
    """
    if webhook:
        try:
            checked_url(webhook, app.settings.fetch.ports)
        except UrlRefused as error:
            raise SettingsError(f"--webhook {webhook}: {error}") from None
    app.make_tables()
    folders = JobFolders(app.settings.state_dir)
    # The copy is what is checked and kept: whatever becomes of the source meanwhile.
    with held_copy(made(folders.csvs)) as copy:
        try:
            digest = copy_hashed(source, copy)
        except OSError as error:
            raise CsvError(
                f"{source}: cannot be read ({error.strerror}); name a CSV of products"
            ) from None
        check = check_csv(copy, csv_limits(app.settings))
        if check.faults:
            faults = [asdict(fault) for fault in check.faults]
            raise CsvRejectedError(filename, faults, check.fault_count)
        reference = JobBook(app.database).create(
            SUBMITTED,
            key_of(filename).replace("\0", ""),
            lambda reference: copy.replace(folders.csv(reference)),
            csv_sha256=digest,
            rows=check.rows,
            total=check.images,
            webhook=webhook,
        )
    return Submitted(reference, JobState.RECEIVED.value)
