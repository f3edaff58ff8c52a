"""The shapes of JSON of what failed, and of retrying it."""

from __future__ import annotations

from pydantic import BaseModel, Field

from pipeline.reasons import Code
from pipeline.web.models import NonEmpty, Sent


class FailedItem(BaseModel):
    """One original, image of a job, or record of a user's step that failed."""

    name: str
    reason: str | None
    source: str | None = Field(description="where the original comes from; null: a record")
    path: str | None = Field(description="null: no original")
    job: str | None
    size_bytes: int | None


class FailedReason(BaseModel):
    """One reason, and how many renditions, features, images or records failed for it."""

    code: str = Field(description=", ".join(code.value for code in Code))
    reason: str
    count: int
    pictures: int = Field(description="of how many originals and images of jobs, or records")
    paths: list[str] = Field(description="the first originals of the input folder")
    items: list[FailedItem] = Field(description="the first of them")
    step: str | None = Field(description="null: no records of a user's step")


class FailedJob(BaseModel):
    """A job that has no images because of its CSV."""

    reference: str
    filename: str
    state: str
    reason: str | None


class Failed(BaseModel):
    """What failed, by reason."""

    reasons: list[FailedReason]
    failed: int
    jobs: list[FailedJob]


class RetryRequest(Sent):
    """What to try again; everything that failed where nothing is given."""

    paths: list[NonEmpty] = Field(default=[], max_length=1000)
    code: Code | None = Field(default=None, description="what failed for this reason")
    step: NonEmpty | None = Field(default=None, description="the records of this step")


class Retried(BaseModel):
    """How many renditions and features the next run, which begins now, tries again."""

    retried: int
