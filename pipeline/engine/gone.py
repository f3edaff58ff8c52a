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

import sqlalchemy as sa

from pipeline.database.state import FOLDERS_GONE
from pipeline.engine.compare import rows_in_step
from pipeline.engine.context import Run
from pipeline.engine.recovery import folders_of, has_renditions
from pipeline.engine.render_step import RenderStep
from pipeline.storage.places import Place


def note_gone(run: Run, renders: Sequence[RenderStep]) -> None:
    """Remember the folders that are missing now; call it before the run creates one of them
    again."""
    place = run.settings.output_place
    gone = {
        folder
        for step in renders
        for which, folder in folders_of(step).items()
        if _is_gone(place, folder) and has_renditions(step, *which)
    }
    if gone:
        _remember(run, gone | set(_noted(run)))


def warn_of_gone(run: Run, renders: Sequence[RenderStep]) -> list[str]:
    """A warning for each folder that was found missing while renditions of it still are."""
    noted, place = _noted(run), run.settings.output_place
    missing: dict[str, str] = {}
    for step in renders if noted else ():
        for which, below in folders_of(step).items():
            folder = place.at(below)
            if below in noted and _is_any_missing(step, *which):
                what = (
                    "is gone with all its renditions"
                    if _is_gone(place, below)
                    else ("was gone with all its renditions, and some are still missing")
                )
                missing[below] = (
                    f"{folder}: the folder {what}; mount its disk, "
                    "or render them again with `datapipe verify --fix`"
                )
    if noted:
        _remember(run, set(missing))
    return list(missing.values())


def _is_gone(place: Place, folder: str) -> bool:
    if place.folder is None:
        # A prefix is no disk: what was deleted below it is found by `verify`.
        return False
    try:
        with os.scandir(place.folder / folder) as entries:
            return not any(True for _ in entries)
    except (FileNotFoundError, NotADirectoryError):
        return True


def _is_any_missing(step: RenderStep, source: str, recipe: str) -> bool:
    table, store = step.pending.table, step.settings.output_store
    by_recipe = sa.and_(table.c.source == source, table.c.recipe == recipe)
    return any(
        not os.path.lexists(store.path_of(row.file))
        for row in rows_in_step(step.pending, by_recipe)
    )


def _noted(run: Run) -> list[str]:
    noted: list[str] = json.loads(run.repository.get(FOLDERS_GONE) or "[]")
    return noted


def _remember(run: Run, folders: set[str]) -> None:
    run.repository.set(FOLDERS_GONE, json.dumps(sorted(folders)) if folders else None)
