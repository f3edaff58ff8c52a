"""Where originals come from, and what is special about those of each source.

All originals are rows of one table, and one render step works on them all. What it needs to know of
a source is here: where the bytes of an original lie, where its renditions go, which recipes are
used for it, and where they are counted.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import TYPE_CHECKING

from pipeline.database.connection import Database
from pipeline.engine.report import Counts
from pipeline.names import name_of
from pipeline.settings.values import Settings
from pipeline.states import Source
from pipeline.storage.folder import inside
from pipeline.storage.places import Place
from pipeline.transforms.recipes import Transform

if TYPE_CHECKING:
    from pipeline.engine.context import Run


class Originals:
    """The originals of one source.

    Their bytes are at ``place``. The keys of their renditions begin with ``below``, which is empty
    or ends with ``/``. ``max_pixels`` is a lower limit than that of the settings.
    """

    source: Source
    below = ""
    max_pixels: int | None = None
    # Whether a file of the folder may be a link: into it, people put what they want.
    may_be_link = False

    def __init__(self, place: Place) -> None:
        self.place = place

    def key(self, path: str, sha256: str | None) -> str:
        """The key, at the place, of the original whose row has these values."""
        return path

    def file(self, path: str, sha256: str | None) -> str | None:
        """That file, if it is one and lies in the real folder; ``None`` also for a bucket."""
        if self.place.folder is None:
            return None
        return inside(self.place.folder, self.key(path, sha256), self.may_be_link)

    def is_in_the_way(self, path: str) -> bool:
        """Whether a folder has replaced a removed original, or a file its folder.

        Its renditions would then be in the way of the new ones.
        """
        return False

    def is_needed(self, run: Run) -> bool:
        """Whether there can be any original of this source."""
        return True

    def recipes(self, recipes: dict[str, Transform]) -> dict[str, Transform]:
        """Those recipes, and features, of ``recipes.toml`` that are used for this source.

        Raises:
            RecipeError: one that is required is missing.
        """
        return recipes

    def counts(self, run: Run) -> Counts:
        """Where a run counts what it did for these originals."""
        return run.report

    def settled(self, database: Database, paths: Collection[str]) -> None:
        """Called with the paths of each batch, inside the transaction that records it."""


class InputFolder(Originals):
    """The originals below ``PIPELINE_INPUT``."""

    source = Source.INPUT
    may_be_link = True

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.input_place)

    def is_in_the_way(self, path: str) -> bool:
        if self.place.folder is None:
            return False  # a bucket has no folders
        try:
            os.stat(self.place.folder / name_of(path))
        except FileNotFoundError:
            return False
        except (OSError, ValueError):
            return True
        return True
