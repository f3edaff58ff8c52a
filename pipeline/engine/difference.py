"""How folders and files differ from their tables, and what a dry run expects of them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

from pipeline.states import Source
from pipeline.storage.walking import FoundFile, Passed


@dataclass
class Difference:
    """How the folder differs from the table.

    Paths of removed originals are collected, never files.
    """

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: list[str] = field(default_factory=list)
    passed: Passed = field(default_factory=Passed)
    # Originals were known, and not one of those is there any more, not even under another name.
    all_gone: bool = False
    # And no other one is, nor a CSV.
    is_empty: bool = False
    # Size in bytes and mtime of the first new ones: what a rename leaves as it is.
    arrived: set[tuple[int, int]] = field(default_factory=set)

    @property
    def known(self) -> int:
        """How many originals the table had."""
        return self.changed + self.unchanged + len(self.removed)


class Sighting(NamedTuple):
    """One original: its row, its file, and why the scan skips that."""

    known: FoundFile | None
    there: FoundFile | None
    passed: str | None

    @property
    def is_original(self) -> bool:
        """Whether the next scan finds it."""
        return self.there is not None and self.passed is None

    @property
    def verdict(self) -> str:
        """What the next scan would do about it."""
        if self.passed is not None:
            return f"skipped: {self.passed}"
        if self.there is None:
            return "gone since the last run" if self.known else "there is no such original"
        if self.known is None:
            return "new: the next run picks it up"
        both = zip(FoundFile._fields, self.known, self.there, strict=True)
        differs = [name for name, before, now in both if before != now]
        if differs:
            return f"would be checked: {', '.join(differs)} changed since the last run"
        return "unchanged since the last run"


@dataclass
class RecipeDifference:
    """How the file differs from the table, by recipe name."""

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)


@dataclass
class ExpectedOriginals:
    """How the table of originals will have changed; sizes in bytes."""

    # New and changed ones, with their sizes, and how many of them the table has already. `None`:
    # the file is still to be fetched, and what is there now says nothing.
    found: dict[str, int | None] = field(default_factory=dict)
    changed: int = 0
    removed: set[str] = field(default_factory=set)
    # How many more will be fetched that have no file yet.
    coming: int = 0


@dataclass
class Expected:
    """What the steps of a dry run would have written so far, for those that come after them."""

    originals: defaultdict[Source, ExpectedOriginals] = field(
        default_factory=lambda: defaultdict(ExpectedOriginals)
    )
    recipes: defaultdict[Source, RecipeDifference] = field(
        default_factory=lambda: defaultdict(RecipeDifference)
    )
    # Jobs that will be deleted, by their references.
    jobs_gone: set[str] = field(default_factory=set)
    # CSVs that will be read: reference, empty for a job that will be new, and source.
    csvs: list[tuple[str, str]] = field(default_factory=list)
    # Keys of the URLs that will wait because of them.
    urls: set[str] = field(default_factory=set)
