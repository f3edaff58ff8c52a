"""Folders of recipes that are gone with all their renditions, as where a disk is not mounted.

A run looks at no single rendition, only whether the folder of each recipe is there and not empty.
Nothing is rendered again without a request: the disk may come back. A folder that was found missing
is remembered, because the next rendition creates it again; its renditions are checked one by one
until all are there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from pipeline.database.state import FOLDERS_GONE
from pipeline.engine.compare import rows_in_step
from pipeline.engine.context import Run
from pipeline.engine.recovery import folders_of, has_renditions
from pipeline.engine.render_step import RenderStep
from pipeline.names import name_of


def note_gone(run: Run, renders: Sequence[RenderStep]) -> None:
    """Remember the folders that are missing now; call it before the run creates one of them
    again."""
    root = run.settings.output_dir
    gone = {
        _below(root, folder)
        for step in renders
        for name, folder in folders_of(step).items()
        if _is_gone(folder) and has_renditions(step, name)
    }
    if gone:
        _remember(run, gone | set(_noted(run)))


def warn_of_gone(run: Run, renders: Sequence[RenderStep]) -> list[str]:
    """A warning for each folder that was found missing while renditions of it still are."""
    noted = _noted(run)
    missing: dict[str, str] = {}
    for step in renders if noted else ():
        for name, folder in folders_of(step).items():
            below = _below(run.settings.output_dir, folder)
            if below in noted and _is_any_missing(step, name):
                what = (
                    "is gone with all its renditions"
                    if _is_gone(folder)
                    else ("was gone with all its renditions, and some are still missing")
                )
                missing[below] = (
                    f"{folder}: the folder {what}; mount its disk, "
                    "or render them again with `datapipe verify --fix`"
                )
    if noted:
        _remember(run, set(missing))
    return list(missing.values())


def _is_gone(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return not any(True for _ in entries)
    except (FileNotFoundError, NotADirectoryError):
        return True


def _is_any_missing(step: RenderStep, recipe: str) -> bool:
    return any(
        not os.path.lexists(step.output_dir / name_of(row.file))
        for row in rows_in_step(step.pending, recipe)
    )


def _below(root: Path, folder: Path) -> str:
    return folder.relative_to(root).as_posix()


def _noted(run: Run) -> list[str]:
    noted: list[str] = json.loads(run.repository.get(FOLDERS_GONE) or "[]")
    return noted


def _remember(run: Run, folders: set[str]) -> None:
    run.repository.set(FOLDERS_GONE, json.dumps(sorted(folders)) if folders else None)
