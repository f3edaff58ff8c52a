"""The shapes of JSON that go in and out: what the reference at ``/docs`` is made of."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from pipeline.operations.verdict import VerdictState
from pipeline.states import Lane

# No path, host or text of ours holds a NUL, and PostgreSQL takes none.
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$", max_length=4096)]
NonEmpty = Annotated[str, StringConstraints(pattern=r"^[^\x00]*\S[^\x00]*$", max_length=2000)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$")]
# The largest number that a column of ids holds.
ID_MAX = 2**31 - 1


class Sent(BaseModel):
    """What is sent to us. An unknown field is refused, because it was meant for something."""

    model_config = ConfigDict(extra="forbid")


class Nothing(Sent):
    """No field: the audit names the person who is logged in."""


class OneOriginal(Sent):
    """What is meant: the ``path`` of an original, or the ``sha256`` of its content."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["path"]}, {"required": ["sha256"]}]}
    )
    path: NonEmpty = ""
    sha256: Sha256 = ""

    @model_validator(mode="after")
    def _one_of_both(self) -> OneOriginal:
        if bool(self.path) == bool(self.sha256):
            raise ValueError("give either path or sha256")
        return self


class Problem(BaseModel):
    """What went wrong, in public words; the log has the rest under ``request_id``."""

    error: str
    request_id: str


class ProblemJson(BaseModel):
    """One thing that is wrong with what was sent, and where."""

    line: int | None = None
    column: str | None = None
    message: str


class ProblemsJson(BaseModel):
    """All that is wrong with what was sent."""

    errors: list[ProblemJson]


class Unusable(BaseModel):
    """Either the problems one by one, or one message."""

    errors: list[ProblemJson] | None = None
    error: str | None = None
    request_id: str | None = None


class RecipeCounts(BaseModel):
    """Renditions of one recipe, values of one feature, or records of one step, by state."""

    model_config = ConfigDict(extra="allow")
    ok: int
    failed: int
    pending: int


class CountsJson(BaseModel):
    """As ``datapipe status --json``, and when it was counted."""

    model_config = ConfigDict(extra="allow")
    originals: int
    renditions: int
    failed: int
    pending: int
    recipes: dict[str, RecipeCounts]
    features: dict[str, RecipeCounts]
    steps: dict[str, RecipeCounts] = Field(description="records of the users' own steps")
    reasons: dict[str, int] = Field(description="all that failed, by the code of its reason")
    counted: str


class Now(BaseModel):
    """What the worker of this service is doing."""

    state: str = Field(description="resting, waiting (for another run) or running")
    what: str | None
    done: int
    total: int
    since: str | None
    seconds_left: float | None


class LaneJson(BaseModel):
    """What one lane is doing beside the others."""

    lane: str = Field(description=", ".join(lane.value for lane in Lane))
    what: str
    done: int
    total: int
    since: str
    seconds_left: float | None


class RunDone(BaseModel):
    """One run that did something, or was stopped."""

    id: int
    began: str
    seconds: float
    report: dict[str, Any] | None
    stopped_by: str | None


class VerdictJson(BaseModel):
    """What matters most now, and the words for it."""

    state: str = Field(description=", ".join(state.value for state in VerdictState))
    words: str


class Status(BaseModel):
    """Is everything in step?"""

    in_step: bool
    verdict: VerdictJson
    counts: CountsJson | None = Field(description="null until they have been counted once")
    now: Now
    lanes: list[LaneJson] = Field(description="what goes on side by side; none while idle")
    elsewhere: str | None = Field(description="another process that is running now")
    last_error: str | None
    runs: list[RunDone]


class RenditionJson(BaseModel):
    """What one recipe makes of one original. Sizes in bytes and pixels."""

    recipe: str
    state: str
    file: str | None = None
    url: str | None = None
    width_px: int | None = None
    height_px: int | None = None
    size_bytes: int | None = None
    reason: str | None = None
    code: str | None = Field(default=None, description="the kind of the reason")
    since: str | None = None


class ImageJson(BaseModel):
    """One original with its renditions."""

    path: str
    state: str
    size_bytes: int | None
    sha256: str | None
    renditions: list[RenditionJson]


class Images(BaseModel):
    """A page of originals. Continue with ``after`` = ``next``, also from an empty page."""

    images: list[ImageJson]
    next: str | None
    previous: str | None = Field(description="go back with ``before``")
    total: int | None = Field(description="on the first page; null where too many to be counted")


class FeatureJson(BaseModel):
    """What one feature says of one original."""

    name: str
    state: str
    value: dict[str, Any] | None = None
    reason: str | None = None
    code: str | None = Field(default=None, description="the kind of the reason")
    since: str | None = None


class ImageStory(ImageJson):
    """One original with its features, what the next run would do and what happened to it."""

    features: list[FeatureJson]
    srcset: dict[str, str] = Field(description="by recipe with widths, for the attribute of `img`")
    explain: dict[str, Any]
    history: list[dict[str, str]]


class SimilarOriginal(BaseModel):
    """An original that looks like another; or, without a path, a blocked picture that does."""

    source: str | None
    path: str | None
    sha256: str | None
    size_bytes: int | None
    distance: int = Field(description="in how many of 256 bits they differ")
    blocked: str | None = Field(description="who blocks the picture: a takedown or a list")


class Similar(BaseModel):
    """What looks like an original with this PDQ hash, the nearest first."""

    path: str
    pdq: str
    similar: list[SimilarOriginal]


class RecipeChange(BaseModel):
    """What a run would do now, with ``recipes.toml`` as it is."""

    recipes: list[dict[str, Any]]
    added: list[str]
    changed: list[str]
    removed: list[str]
    preview: dict[str, Any] | None
    fault: str | None


class Takedown(BaseModel):
    """One takedown in the audit."""

    model_config = ConfigDict(extra="allow")
    id: int
    sha256: str
    state: str
    who: str
    instance: str | None = Field(description="the one that took it down, if it is another one")
    reason: str
    when: str


class StoryEvent(BaseModel):
    """One thing that happened to the content of a takedown."""

    at: str
    what: str
    who: str | None
    note: str | None
    takedown: int | None


class TakedownStory(Takedown):
    """One takedown with its whole story, the first event first."""

    story: list[StoryEvent]


class Takedowns(BaseModel):
    """A page of the audit. Continue with ``before`` = ``next``."""

    takedowns: list[Takedown]
    next: int | None


class TakenDownJson(BaseModel):
    """What a takedown did: the originals that were removed, and how many renditions were
    deleted."""

    id: int
    sha256: str
    originals: list[str]
    renditions: int
    near: list[TakenDownJson] = Field(description="the takedowns of what looks like it")


class ReinstatedJson(BaseModel):
    """What was put back.

    ``set_apart``: from the old path to the new one, where the old one was taken.
    """

    sha256: str
    takedowns: list[int]
    originals: list[str]
    set_apart: dict[str, str]
    missing: list[str]


class JobImages(BaseModel):
    """Images of a job, by how far they are."""

    total: int
    fetched: int
    done: int
    failed: int
    withdrawn: int


class JobListed(BaseModel):
    """A job as ``datapipe job status --json`` prints it."""

    model_config = ConfigDict(extra="allow")
    reference: str
    state: str
    filename: str
    created: str
    ended: str | None
    rows: int
    without_images: int
    images: JobImages
    answer: str | None


class JobFailure(BaseModel):
    """One image that could not be fetched or rendered."""

    number: str
    product: str
    sequence: int
    url: str
    reason: str
    code: str


class JobJson(JobListed):
    """One job, with the first of its failures."""

    failures: list[JobFailure]
    output_url: str | None


class JobsJson(BaseModel):
    """A page of jobs. Continue with ``before`` = ``next``."""

    jobs: list[JobListed]
    next: str | None


class JobSubmitted(BaseModel):
    """The job that was created from a CSV; ``webhook_secret`` only where it has its own webhook."""

    reference: str
    status_url: str
    webhook_secret: str | None = None


class CsvProblemsJson(BaseModel):
    """Every problem of a CSV, up to the first thousand; ``line`` counts from 1."""

    errors: list[ProblemJson]


class JobDeleted(BaseModel):
    """``removed``: all of it is already gone."""

    reference: str
    removed: bool


class RequestedJson(BaseModel):
    """How many URLs are fetched again."""

    asked: int
