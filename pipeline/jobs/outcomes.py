"""The outcome of each image of a job: fetched or not, and the files that the recipes made of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from pipeline.database.paging import chunks, pages
from pipeline.database.tracked import data_of, is_one_of
from pipeline.engine.pending import recipe_in
from pipeline.jobs.context import Jobs
from pipeline.jobs.store import in_job
from pipeline.reasons import NO_FAILURE, Code, Reason, known_code
from pipeline.states import Source, State, UrlState
from pipeline.transforms.features import PDQ

NOT_FETCHED = Reason(Code.NOT_FETCHED, "not fetched")
NOT_RENDERED = Reason(Code.NOT_RENDERED, "not rendered")
# Three values each stay below SQLite's 32,766 in one statement.
PAGE_ROWS = 5_000


@dataclass
class ImageOutcome:
    """One URL of a row. ``files`` are keys below ``output/``, by recipe, and ``values`` what
    features said; ``reasons`` why one is missing. ``reported``: a run has reported that it failed.
    """

    url: str
    reported: bool = False
    path: str | None = None
    files: dict[str, str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    reasons: list[Reason] = field(default_factory=list)

    @property
    def is_withdrawn(self) -> bool:
        """Whether it was taken down, which is no failure."""
        return any(reason.code is Code.WITHDRAWN for reason in self.reasons)

    @property
    def is_hidden(self) -> bool:
        """Whether nobody may see it: it was taken down, or is held."""
        return any(reason.code in NO_FAILURE for reason in self.reasons)

    @property
    def is_failed(self) -> bool:
        """Whether it is neither done nor withdrawn."""
        return bool(self.reasons) and not self.is_withdrawn


@dataclass(frozen=True)
class FailedImage:
    """One URL that failed, and why. ``sequence`` counts the URLs of a row from 0."""

    number: str
    product: str
    sequence: int
    url: str
    reason: str
    code: str


class Outcomes:
    """Reads the outcomes of one job."""

    def __init__(self, jobs: Jobs, reference: str) -> None:
        self._repository = jobs.repository
        self._reference = reference
        self._images = jobs.pending.original_table
        self._renditions = jobs.pending.table
        # Without the setting, there are no features of images of jobs.
        self._features = jobs.pending.tables[1:] if jobs.settings.jobs.features else []
        self._is_image = jobs.pending.our_originals
        self._is_rendition = jobs.pending.ours
        self._rows = data_of(jobs.rows)

    def of_rows(self, numbers: Sequence[str]) -> dict[str, list[ImageOutcome]]:
        """The images of some rows, by S. No., in the order of their URLs."""
        urls, fetches = self._repository.urls, self._repository.fetches
        images, renditions = self._images, self._renditions
        query = (
            sa.select(
                urls.c.number,
                urls.c.sequence,
                urls.c.told,
                fetches.c.url,
                fetches.c.reason,
                fetches.c.code,
                images.c.path,
                renditions.c.recipe,
                renditions.c.state,
                renditions.c.file,
                renditions.c.reason.label("why_not"),
                renditions.c.code.label("code_of_it"),
            )
            .select_from(urls)
            .join(fetches, fetches.c.url_key == urls.c.url_key)
            .outerjoin(
                images,
                sa.and_(self._is_image, images.c.path == urls.c.stem + fetches.c.suffix),
            )
            .outerjoin(renditions, sa.and_(self._is_rendition, renditions.c.path == images.c.path))
            .where(urls.c.reference == self._reference, urls.c.number.in_(numbers))
            .order_by(urls.c.number, urls.c.sequence, renditions.c.recipe)
        )
        found: dict[str, dict[int, ImageOutcome]] = {}
        with self._repository.database.reading() as con:
            for row in con.execute(query):
                of_row = found.setdefault(row.number, {})
                outcome = ImageOutcome(row.url, row.told, row.path)
                image = of_row.setdefault(row.sequence, outcome)
                reason = _reason(row)
                if reason is None:
                    image.files[row.recipe] = row.file
                elif reason not in image.reasons:
                    image.reasons.append(reason)
            self._add_values(con, [image for of in found.values() for image in of.values()])
        return {number: list(of_row.values()) for number, of_row in found.items()}

    def _add_values(self, con: sa.Connection, images: Sequence[ImageOutcome]) -> None:
        by_path = {image.path: image for image in images if image.path is not None}
        for table in self._features:
            for paths in chunks(by_path):
                ours = table.c.source == Source.JOBS.value, table.c.path.in_(paths), _listed(table)
                for row in con.execute(sa.select(table).where(*ours).order_by(table.c.name)):
                    image = by_path[row.path]
                    if row.state == State.OK.value:
                        image.values[row.name] = json.loads(row.value)
                        continue
                    reason = _not_made(row.state, row.reason, row.code)
                    if reason not in image.reasons:
                        image.reasons.append(reason)

    def failures(self, limit: int | None = None) -> Iterator[FailedImage]:
        """What failed, in the order of the S. No.; shorter ones first, so that 2 is before 10.

        Only what is known by now: an image that waits has not failed, nor one that was withdrawn.
        """
        urls, fetches = self._repository.urls, self._repository.fetches
        length = sa.func.length(urls.c.number).label("length")
        not_made = self._not_made()
        query = (
            sa.select(
                urls.c.number,
                urls.c.sequence,
                length,
                self._rows.c.name,
                fetches.c.url,
                sa.func.coalesce(sa.func.min(not_made.c.reason), fetches.c.reason).label("reason"),
                sa.func.coalesce(sa.func.min(not_made.c.code), fetches.c.code).label("code"),
            )
            .select_from(urls)
            .join(fetches, fetches.c.url_key == urls.c.url_key)
            .join(
                self._rows,
                sa.and_(
                    self._rows.c.reference == urls.c.reference,
                    self._rows.c.number == urls.c.number,
                ),
            )
            .outerjoin(not_made, not_made.c.path == urls.c.stem + fetches.c.suffix)
            .where(
                urls.c.reference == self._reference,
                fetches.c.state != UrlState.WAITING.value,
                sa.or_(fetches.c.sha256.is_(None), not_made.c.path.is_not(None)),
            )
            .group_by(
                *(urls.c.number, urls.c.sequence, self._rows.c.name),
                *(fetches.c.url, fetches.c.reason, fetches.c.code),
            )
        )
        keys = (length, urls.c.number, urls.c.sequence)
        for rows in pages(self._repository.database, query, keys, PAGE_ROWS, first=limit):
            for row in rows:
                code = known_code(row.code).value
                place = row.number, row.name, row.sequence
                yield FailedImage(*place, row.url, row.reason or "", code)

    def done(self) -> int:
        """How many images are rendered by now, by every recipe that has got to them."""
        table = self._renditions
        theirs = self._is_rendition, in_job(table.c.path, self._reference)
        state = table.c.state
        whole = sa.func.sum(sa.case((state == State.OK.value, 0), else_=1)) == 0
        paths = sa.select(table.c.path).where(*theirs).group_by(table.c.path).having(whole)
        query = sa.select(sa.func.count()).select_from(paths.subquery())
        return int(self._repository.database.rows(query)[0][0])

    def _not_made(self) -> sa.Subquery:
        """Path, reason and code of each rendition, and feature, of the job that there is none of,
        but for those that were withdrawn."""
        queries = []
        for table in [self._renditions, *self._features]:
            ours = table.c.source == Source.JOBS.value, in_job(table.c.path, self._reference)
            not_ok = table.c.state.not_in((State.OK.value, State.TAKEN_DOWN.value))
            is_held = table.c.state == State.HELD.value
            code = sa.case((is_held, Code.HELD.value), else_=table.c.code).label("code")
            query = sa.select(table.c.path, table.c.reason, code)
            queries.append(query.where(*ours, not_ok, _listed(table)))
        return sa.union_all(*queries).subquery("not_made")

    def mark_reported(self, found: dict[str, list[ImageOutcome]]) -> int:
        """Record which of these images have failed; returns how many were not reported before."""
        urls = self._repository.urls
        moved: dict[bool, list[tuple[str, int]]] = {True: [], False: []}
        for number, images in found.items():
            for sequence, image in enumerate(images):
                failed = image.is_failed
                if image.reported != failed:
                    moved[failed].append((number, sequence))
        for failed, places in moved.items():
            for chunk in chunks(places, PAGE_ROWS):
                keys = is_one_of([urls.c.number, urls.c.sequence], chunk)
                which = sa.and_(urls.c.reference == self._reference, keys)
                with self._repository.database.writing() as con:
                    con.execute(sa.update(urls).where(which).values(told=failed))
        return len(moved[True])

    def failed_numbers(self, numbers: Sequence[str]) -> set[str]:
        """Those rows that have a failed image."""
        found = self.of_rows(numbers)
        return {
            number for number, images in found.items() if any(image.is_failed for image in images)
        }

    def pending_paths(self, changed: sa.Subquery) -> list[str]:
        """Images of the job that a change query still has to do."""
        path = changed.c.path
        theirs = sa.select(path).where(in_job(path, self._reference)).distinct()
        return self._repository.database.column(theirs)


def _listed(table: sa.Table) -> sa.ColumnElement[bool]:
    return recipe_in(table) != PDQ


def _reason(row: Any) -> Reason | None:
    if row.path is None:
        return Reason(known_code(row.code), row.reason) if row.reason else NOT_FETCHED
    if row.state == State.OK.value:
        return None
    return _not_made(row.state, row.why_not, row.code_of_it)


def _not_made(state: str | None, reason: str | None, code: str | None) -> Reason:
    """Why there is none of what should be there; of a takedown no more than that it is one."""
    if state == State.TAKEN_DOWN.value:
        return Reason(Code.WITHDRAWN, "withdrawn")
    if state == State.HELD.value:
        return Reason(Code.HELD, reason or "held for review")
    return Reason(known_code(code), reason) if reason else NOT_RENDERED
