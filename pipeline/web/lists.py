"""Which list of originals a request is about: the same words in every address that has one.

The page of an image knows the list that it was opened from, and so do its neighbours, the way back,
and whatever is done with a whole list.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Depends, Query
from starlette.exceptions import HTTPException

from pipeline.imaging.formats import ORIGINAL_FORMATS
from pipeline.operations import gallery
from pipeline.operations.listing import Filter, Sort
from pipeline.states import Source, State
from pipeline.web import models

STATE_PATTERN = f"^({'|'.join(gallery.states())})?$"
FORMAT_PATTERN = f"^({'|'.join(ORIGINAL_FORMATS)})?$"
SORT_PATTERN = f"^({'|'.join(sort.value for sort in Sort)})?$"
JOB_PATTERN = r"^[0-9]{0,40}$"


@dataclass(frozen=True)
class AskedList:
    """A list, as its address says: all of it is text, empty where it was not asked for."""

    state: str = ""
    folder: str = ""
    text: str = ""
    format: str = ""
    recipe: str = ""
    since: str = ""
    until: str = ""
    sort: str = ""
    job: str = ""

    @property
    def source(self) -> Source:
        """Where its originals come from."""
        return Source.JOBS if self.job else Source.INPUT

    @property
    def wanted(self) -> Filter:
        """What narrows it down."""
        # All images of a job are in one folder named by its reference.
        folder = self.job or self.folder
        since_ts, until_ts = moment(self.since), moment(self.until, is_end=True)
        return Filter(self.state, folder, self.text, self.format, self.recipe, since_ts, until_ts)

    def seen_at(self, seen: str) -> Filter:
        """What of it was there when it was ``seen``, a time in ISO 8601; all of it if empty.

        Raises:
            HTTPException: 422, that is no time.
        """
        wanted, seen_ts = self.wanted, moment(seen)
        if seen_ts is None:
            return wanted
        return replace(wanted, until_ts=min(seen_ts, wanted.until_ts or seen_ts))

    @property
    def order(self) -> Sort:
        """Its order; that of time for those of some time, which has an index for it."""
        if self.state == State.TAKEN_DOWN.value:
            # What was removed is no original any more: only its name is known.
            return Sort.NAME
        if self.sort:
            return Sort(self.sort)
        return Sort.NEWEST if self.since or self.until else Sort.NAME

    @property
    def is_narrowed(self) -> bool:
        """Whether it is not all originals."""
        return any(value for name, value in self.query.items() if name != "sort")

    @property
    def query(self) -> dict[str, str]:
        """What its address says, in the order of the fields."""
        said = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in said.items() if value}

    def address(self, path: str = "/images", **more: Any) -> str:
        """An address with the list, and ``more`` where that is not empty."""
        values = {**self.query, **{name: value for name, value in more.items() if value}}
        return f"{path}?{urlencode(values)}" if values else path

    @classmethod
    def read(cls, said: Mapping[str, Any]) -> AskedList:
        """The list that the fields of a form or of JSON name, its ends checked.

        Raises:
            HTTPException: 422, a time is none.
        """
        values = {each.name: str(said.get(each.name) or "").strip() for each in fields(cls)}
        asked = cls(**{**values, "folder": values["folder"].strip("/")})
        moment(asked.since), moment(asked.until)
        return asked


def now() -> str:
    """The time at which a list is shown, which the form of a whole list sends back."""
    return datetime.datetime.now().astimezone().isoformat()


def moment(text: str, is_end: bool = False) -> float | None:
    """A date or a time in ISO 8601 as Unix time in seconds; the end of a date if ``is_end``.

    One without a zone is in that of this machine.

    Raises:
        HTTPException: 422, it is neither.
    """
    if not text:
        return None
    try:
        found = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
        if is_end and len(text) == len("2026-01-31"):
            found += datetime.timedelta(days=1)
        return found.timestamp()
    except (ValueError, OverflowError, OSError):
        raise HTTPException(
            422, "a time is written as 2026-01-31, or as 2026-01-31T12:00:00+01:00"
        ) from None


def _asked(
    state: str = Query("", pattern=STATE_PATTERN),
    folder: models.Text = "",
    text: models.Text = "",
    format: str = Query("", pattern=FORMAT_PATTERN, description="by the suffix"),
    recipe: models.Text = "",
    since: str = Query("", max_length=40, description="found from this date or time on"),
    until: str = Query("", max_length=40, description="found up to this date or time"),
    sort: str = Query("", pattern=SORT_PATTERN),
    job: str = Query("", pattern=JOB_PATTERN),
) -> AskedList:
    return AskedList.read(locals())


Asked = Annotated[AskedList, Depends(_asked)]
