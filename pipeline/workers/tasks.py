"""The tasks of a worker, and their outcomes."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from pipeline.reasons import Reason
from pipeline.transforms.features import Feature
from pipeline.transforms.recipes import Transform


class RenditionWanted(NamedTuple):
    """One rendition, or feature, to make, unless ``made_of`` (a SHA-256) is the original's content
    still."""

    recipe: Transform
    made_of: str | None
    file: str | None
    size_bytes: int | None


class Task(NamedTuple):
    """One task: hash one original, and make the wanted renditions of it.

    The bytes are in the file ``original`` of ``originals_dir``, a folder or the address of a bucket
    like ``output_dir``; ``path`` is what renditions are
    named after. Their keys begin with ``below``, which is empty or ends with ``/``.
    """

    path: str
    wanted: tuple[RenditionWanted, ...]
    originals_dir: str
    original: str
    output_dir: str
    below: str = ""
    hash_only: bool = False
    # A lower limit than the workers', for originals from untrusted servers.
    max_pixels: int | None = None
    # SHA-256 of contents whose MD5 is known.
    digested: tuple[str, ...] = ()
    # Made with any rendition, also where it is not wanted: what it says decides about the others.
    beside: Feature | None = None


class Urgency(enum.IntEnum):
    """Whose tasks come first. Each has outcomes of its own, so that one may pause for another."""

    FRESH = 0
    JOBS = 1
    BACKLOG = 2


class Made(NamedTuple):
    """A finished rendition in ``temporary``, to be published as ``file``: keys below the output
    folder."""

    recipe: str
    file: str
    temporary: str
    width_px: int
    height_px: int
    size_bytes: int
    file_sha256: str
    notes: tuple[str, ...]


@dataclass
class Outcome:
    """The outcome of one task. ``sha256`` is ``None`` where the file could not be read."""

    path: str
    sha256: str | None = None
    size_bytes: int | None = None
    made: list[Made] = field(default_factory=list)
    # What features said, as JSON, by their names among the recipes.
    values: list[tuple[str, str]] = field(default_factory=list)
    # What the feature `beside` of the task said, where it was not among those wanted; empty where
    # it failed.
    beside: str | None = None
    failed: list[tuple[str, Reason]] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    # Recipes by which nothing is to be made of it.
    unneeded: list[str] = field(default_factory=list)
    # What functions raised, in full.
    tracebacks: list[str] = field(default_factory=list)
    # How long the worker took.
    seconds: float = 0.0
    # The file was removed or changed meanwhile: the next run looks again.
    unsettled: bool = False
    # Set by the main process: the renditions are those of another original with the same bytes.
    reused: bool = False
    # Its worker was killed from outside, which is not the original's fault.
    killed: bool = False
    # It failed for now: the next run retries it once.
    try_again: bool = False
    # Nothing was done: a folder is no longer the one that the worker is confined to.
    moved: bool = False
    # Only where it was not known.
    md5: str | None = None


def md5s_of(outcomes: Iterable[Outcome]) -> dict[str, str]:
    """The MD5 of what was hashed, by SHA-256, where workers have found it."""
    return {each.sha256: each.md5 for each in outcomes if each.sha256 and each.md5}


class Folders(NamedTuple):
    """All that a confined worker reads beside its own code, and all that it writes to."""

    readable: tuple[str, ...]
    writable: tuple[str, ...]


class WorkerSetup(NamedTuple):
    """What every worker needs to know. Memory in megabytes; without ``folders`` no sandbox.

    ``carried`` is a folder for files that are on their way from or to a bucket, if there is one.
    """

    max_pixels: int
    max_frames: int
    memory_mb: int
    folders: Folders | None = None
    carried: str | None = None
