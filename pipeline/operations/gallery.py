"""The gallery: originals a page at a time, with their renditions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

import sqlalchemy as sa

from pipeline.database.tracking import GONE, KIND
from pipeline.engine.pending import Pending, recipe_in, rows_in
from pipeline.operations import listing
from pipeline.operations.history import with_removed
from pipeline.operations.listing import (
    AFTER_SLASH,
    PENDING,
    Filter,
    Sort,
    Start,
    keys,
    place_of,
)
from pipeline.states import State
from pipeline.text import iso
from pipeline.transforms.features import PDQ, PREFIX, is_feature, is_listed, own_name

FOLDERS_SHOWN = 40
# A rendition that has no row yet.
NOT_YET = {
    "recipe": None,
    "state": PENDING,
    "file": None,
    "width_px": None,
    "height_px": None,
    "size_bytes": None,
    "reason": None,
    "code": None,
    "since": None,
}

BEGINNING = Start()
NO_VALUE_YET = {
    "name": None,
    "state": PENDING,
    "value": None,
    "reason": None,
    "code": None,
    "since": None,
}


class Page(NamedTuple):
    """Originals, and the place to continue after; ``None`` if there are no more.

    Of a page that goes back: the place to continue before.
    """

    images: list[dict[str, Any]]
    next: str | None


def states() -> tuple[str, ...]:
    """The words for the state of an original: those of its renditions, and ``pending``."""
    return (*(state.value for state in State), PENDING)


def page(
    pending: Pending,
    wanted: Filter,
    start: Start = BEGINNING,
    limit: int = 48,
    sort: Sort = Sort.NAME,
) -> Page:
    """Up to ``limit`` originals from ``start`` on, with their renditions."""
    with pending.meta.dbconn.reading() as con:
        found = keys(con, pending, wanted, sort, start, limit)
        paths = [place.path for place in found.places]
        images = _described(con, pending, paths)
        if wanted.state == State.TAKEN_DOWN.value:
            images = with_removed(con, pending, paths, images)
    if wanted.state == State.OK.value:
        # Whether a rendition is pending or in step is decided from the rows of this page only.
        images = [image for image in images if _is_in_step(image, wanted.recipe)]
    return Page(images, found.next and found.next.as_text())


def neighbours(
    pending: Pending, wanted: Filter, sort: Sort, path: str
) -> tuple[str | None, str | None]:
    """The originals before and after one in a list; ``None`` where it is the first or the last."""
    with pending.meta.dbconn.reading() as con:
        place = place_of(con, pending, path, sort)
        if place is None:
            return None, None
        near = [
            keys(con, pending, wanted, sort, Start(place, is_back), 1).places
            for is_back in (True, False)
        ]
    before, after = (found[0].path if found else None for found in near)
    return before, after


def _is_in_step(image: dict[str, Any], recipe: str) -> bool:
    states = [item["state"] for item in image["renditions"] if item["recipe"] == recipe]
    return bool((states or [image["state"]])[0] == State.OK.value)


def describe(pending: Pending, path: str) -> dict[str, Any] | None:
    """One original as a page lists it, and its features; ``None`` if it is not known."""
    with pending.meta.dbconn.reading() as con:
        found = _described(con, pending, [path])
        return {**found[0], "features": _features(con, pending, path)} if found else None


def folders(pending: Pending, folder: str = "") -> list[str]:
    """Names of the folders in ``folder``, the first forty. Files between them are skipped.

    Jumps from folder to folder in the index; of thousands of files between two, it reads a bounded
    number, and then lists what it has.
    """
    path = pending.original_table.c.path
    every = sa.select(path).where(pending.our_originals)
    prefix = f"{folder}/" if folder else ""
    names: list[str] = []
    after, may_look_through = prefix, 2
    with pending.meta.dbconn.reading() as con:
        while len(names) < FOLDERS_SHOWN:
            # One lower bound: of two, SQLite enters the index at whichever comes first.
            below = every.where(path > after).order_by(path)
            below = below.where(path < folder + AFTER_SLASH) if folder else below
            found = con.execute(below.limit(1)).scalar()
            if found is not None and "/" not in found[len(prefix) :]:
                if not may_look_through:
                    break
                may_look_through -= 1
                near = below.limit(listing.LOOKED_THROUGH).subquery().c.path
                inside = sa.func.substr(near, len(prefix) + 1).contains("/")
                found = con.execute(sa.select(sa.func.min(near)).where(inside)).scalar()
            if found is None:
                break
            names.append(found[len(prefix) :].partition("/")[0])
            after = prefix + names[-1] + AFTER_SLASH
    return names


def _described(con: sa.Connection, pending: Pending, paths: Sequence[str]) -> list[dict[str, Any]]:
    if not paths:
        return []
    originals, made = pending.original_table, pending.table
    changed = pending.changed(paths).subquery("changed")
    found = sa.select(originals.c.path, originals.c.size_bytes, originals.c.sha256).where(
        pending.our_originals, originals.c.path.in_(paths)
    )
    there = {row.path: row for row in con.execute(found)}
    waiting = {
        (row.path, row.recipe)
        for row in con.execute(
            sa.select(changed.c.path, changed.c.recipe).where(changed.c[KIND] != GONE)
        )
    }
    rows = con.execute(
        sa.select(made)
        .where(pending.ours, made.c.path.in_(paths))
        .order_by(made.c.path, made.c.recipe)
    ).all()
    by_path = {path: list(group) for path, group in groupby(rows, key=lambda row: row.path)}
    of_source = pending.ours_in(pending.recipe_table)
    names = con.execute(sa.select(pending.recipe_table.c.recipe).where(of_source)).scalars()
    no_recipes = all(map(is_feature, names))
    images = []
    for path in paths:
        if path not in there and path not in by_path:
            continue
        renditions = [_rendition(row, waiting) for row in by_path.get(path, [])]
        known = {rendition["recipe"] for rendition in renditions}
        renditions += [
            {**NOT_YET, "recipe": recipe}
            for of, recipe in sorted(waiting)
            if of == path and recipe not in known and not is_feature(recipe)
        ]
        original = there.get(path)
        made_of = next((row.sha256 for row in by_path.get(path, []) if row.sha256), None)
        images.append(
            {
                "path": path,
                "state": _worst([rendition["state"] for rendition in renditions], no_recipes),
                "size_bytes": original.size_bytes if original else None,
                "sha256": (original.sha256 if original else None) or made_of,
                "renditions": renditions,
            }
        )
    return images


def _features(con: sa.Connection, pending: Pending, path: str) -> list[dict[str, Any]]:
    """What the features say of one original; one without a row has no ``value`` yet."""
    changed = pending.changed([path]).subquery("changed")
    is_waiting = changed.c[KIND] != GONE, changed.c.recipe.startswith(PREFIX)
    every = con.execute(sa.select(changed.c.recipe).where(*is_waiting)).scalars()
    waiting = [recipe for recipe in every if is_listed(recipe)]
    found = {own_name(recipe): {**NO_VALUE_YET, "name": own_name(recipe)} for recipe in waiting}
    for table in pending.tables[1:]:
        ours = pending.ours_in(table)
        its = ours, table.c.path == path, recipe_in(table) != PDQ
        for row in con.execute(rows_in(table).where(*its)):
            found[row.name] = {
                "name": row.name,
                "state": PENDING if row.recipe in waiting else row.state,
                "value": row.value and json.loads(row.value),
                "reason": row.reason,
                "code": row.code,
                "since": iso(row.since),
            }
    return [found[name] for name in sorted(found)]


def _rendition(row: sa.Row[Any], waiting: set[tuple[str, str]]) -> dict[str, Any]:
    return {
        "recipe": row.recipe,
        "state": PENDING if (row.path, row.recipe) in waiting else row.state,
        "file": row.file,
        "width_px": row.width_px,
        "height_px": row.height_px,
        "size_bytes": row.size_bytes,
        "reason": row.reason,
        "code": row.code,
        "since": iso(row.since),
    }


def _worst(found: Sequence[str], no_recipes: bool) -> str:
    """The state of an original: that of its renditions which matters most to a person."""
    for state in (State.TAKEN_DOWN.value, State.HELD.value, PENDING, State.FAILED.value):
        if state in found:
            return state
    return State.OK.value if found or no_recipes else PENDING
