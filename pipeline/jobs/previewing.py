"""What the reading of CSVs would do, for a dry run: by the checks and comparisons of a run."""

from __future__ import annotations

import contextlib
from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from pipeline.csvs.products import CsvProduct, chunks_of_rows, iter_products
from pipeline.csvs.reading import check_csv
from pipeline.database.paging import chunks, known_among
from pipeline.engine.context import Run
from pipeline.errors import CsvError
from pipeline.jobs.context import Jobs
from pipeline.jobs.forms import accepted_form, form_of
from pipeline.jobs.images import paths_of
from pipeline.jobs.reading import CHUNK_ROWS, csv_limits, differing_rows, numbers_gone, stem_of
from pipeline.jobs.store import SUBMITTED, Job, url_key
from pipeline.states import Source, UrlState
from pipeline.storage.at_hand import at_hand


def preview_reading(jobs: Jobs, run: Run, unread: Sequence[Job]) -> None:
    """Check the CSVs that would be read, and note what would become of URLs and images.

    ``unread`` are the jobs that wait to be read already. Whether a URL can be fetched is not known
    before: each is expected to give an image.
    """
    expected, counts = run.expected, run.report.jobs
    counts.deleted = len(expected.jobs_gone)
    removed = expected.originals[Source.JOBS].removed
    with run.database.reading() as con:
        for reference in expected.jobs_gone:
            removed.update(con.execute(paths_of(jobs, reference)).scalars())
    done = expected.jobs_gone | {reference for reference, _ in expected.csvs}
    expected.csvs += [(job.reference, job.source) for job in unread if job.reference not in done]
    for reference, source in expected.csvs:
        held: AbstractContextManager[Path]
        if source == SUBMITTED:
            held = contextlib.nullcontext(jobs.folders.csv(reference))
            form = accepted_form(jobs.repository, reference)
        else:
            held, form = at_hand(jobs.settings.input_place, source), form_of(jobs.settings)
        try:
            with held as file:
                check = check_csv(file, csv_limits(jobs.settings), form)
                if check.problems or check.dialect is None:
                    counts.rejected += 1
                else:
                    _preview_rows(jobs, run, reference, iter_products(file, check.dialect))
        except (CsvError, OSError):
            counts.failed += 1


def _preview_rows(jobs: Jobs, run: Run, reference: str, products: Iterable[CsvProduct]) -> None:
    """Note the URLs of one CSV that would be requested, and which images would come, change, go."""
    urls, expected = run.expected.urls, run.expected.originals[Source.JOBS]
    key, state = jobs.repository.fetches.c.url_key, jobs.repository.fetches.c.state
    seen: array[int] = array("q")
    for read in chunks_of_rows(products, CHUNK_ROWS):
        some = [product for product in read if product.images]
        seen.extend(hash(row.number) for row in some)
        differing, _ = differing_rows(jobs, reference, some)
        fresh = {url_key(url) for row in differing for url in row.urls}
        kept = {url_key(url) for row in some for url in row.urls} - fresh
        urls |= fresh - known_among(jobs.database, key, fresh, state == UrlState.FETCHED.value)
        urls |= known_among(jobs.database, key, kept, state == UrlState.WAITING.value)
        wanted = {
            stem_of(reference, row, sequence): url_key(url)
            for row in differing
            for sequence, url in enumerate(row.urls)
        }
        for image in _images(jobs, reference, [row.number for row in differing]):
            found = wanted.pop(image.stem, None)
            if found is None:
                expected.removed.add(image.path)
            elif found != image.url_key:
                expected.found[image.path] = None
                expected.changed += 1
        expected.coming += len(wanted)
    for numbers in numbers_gone(jobs.repository, reference, seen):
        expected.removed.update(image.path for image in _images(jobs, reference, numbers))


def _images(jobs: Jobs, reference: str, numbers: Collection[str]) -> Iterator[sa.Row[Any]]:
    """The images of these rows of a job, each with its stem and the key of its URL."""
    images, urls = jobs.pending.original_table, jobs.repository.urls
    fetches = jobs.repository.fetches
    is_its = sa.and_(jobs.pending.our_originals, images.c.path == urls.c.stem + fetches.c.suffix)
    query = (
        sa.select(images.c.path, urls.c.stem, urls.c.url_key)
        .select_from(urls)
        .join(fetches, fetches.c.url_key == urls.c.url_key)
        .join(images, is_its)
    )
    for some in chunks(numbers):
        with jobs.database.reading() as con:
            theirs = query.where(urls.c.reference == reference, urls.c.number.in_(some))
            yield from con.execute(theirs).all()
