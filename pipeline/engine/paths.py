"""Paths that people type, as keys of originals."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.names import key_of


def key_below(folder: Path, typed: str) -> str:
    """The key of a path that was typed below ``folder``, or as a path that leads into it."""
    here = Path(os.path.normpath(Path.cwd() / typed))
    if here.is_relative_to(folder) and here != folder:
        return key_of(here.relative_to(folder).as_posix())
    return key_of(Path(os.path.normpath(typed)).as_posix())
