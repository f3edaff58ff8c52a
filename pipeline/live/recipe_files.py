"""Whether the recipes have changed: their file, or those of the functions in them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeAlias

from pipeline.errors import RecipeError
from pipeline.transforms.recipes import files_of, load_recipes

_Stamp: TypeAlias = "tuple[int, int, int] | None"


class RecipeFiles:
    """The files that decide what recipes make, as they were when last looked at."""

    def __init__(self, recipes_file: Path) -> None:
        self._recipes_file = recipes_file
        self._stamps: dict[str, _Stamp] = {}
        self.look_again()

    def have_changed(self) -> bool:
        """Whether any of them has changed since the last look. Costs a stat for each."""
        return any(_stamp(file) != before for file, before in self._stamps.items())

    def look_again(self) -> None:
        """From now on, the files as they are now count."""
        file = self._recipes_file
        try:
            files = files_of(file, load_recipes(file).values())
        except RecipeError:  # which the next run reports; a fix may be in any of them
            files = files_of(file, ()) | self._stamps.keys()
        self._stamps = {file: _stamp(file) for file in files}


def _stamp(file: str) -> _Stamp:
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
