"""The gallery: originals in the order of their keys, a page at a time, with their renditions.

Every query uses an index and starts at the key where the page before ended: the last page of ten
million costs as much as the first. What no index can answer (a text in the middle of a name) is
searched among a bounded number of originals; the page may then be short, or empty, and still says
where to continue.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import sqlalchemy as sa

from pipeline.database.tracking import GONE, KIND
from pipeline.engine.pending import Pending, recipe_in, rows_in
from pipeline.operations.history import removed_originals, with_removed
from pipeline.states import Source, State
from pipeline.tables import EXCEPTION
from pipeline.text import iso
from pipeline.transforms.features import PDQ, PREFIX, is_feature, is_listed, own_name

# Originals that one page may search: 10 ms of SQLite's time.
LOOKED_THROUGH = 20_000
# The same where each costs a look at its renditions.
CHECKED = 1_000
# The character after "/": all keys of a folder lie between `folder/` and `folder0`.
AFTER_SLASH = chr(ord("/") + 1)
FOLDERS_SHOWN = 40
PENDING = "pending"
# A rendition that has no row yet.
NOT_YET = {
    "recipe": None,
    "state": PENDING,
    "file": None,
    "width_px": None,
    "height_px": None,
    "size_bytes": None,
    "reason": None,
    "since": None,
}

NO_VALUE_YET = {"name": None, "state": PENDING, "value": None, "reason": None, "since": None}


@dataclass(frozen=True)
class Filter:
    """Which originals: every field that is not empty narrows them down.

    ``state`` is one of :func:`states`; ``folder`` is a key, such as ``shoes/summer``; ``text`` may
    be anywhere in the key, in any case.
    """

    state: str = ""
    folder: str = ""
    text: str = ""


class Page(NamedTuple):
    """Originals, and the key to continue ``after``; ``None`` if there are no more."""

    images: list[dict[str, Any]]
    next: str | None


def states() -> tuple[str, ...]:
    """The words for the state of an original: those of its renditions, and ``pending``."""
    return (*(state.value for state in State), PENDING)


def page(pending: Pending, wanted: Filter, after: str = "", limit: int = 48) -> Page:
    """Up to ``limit`` originals whose keys come after ``after``."""
    with pending.meta.dbconn.reading() as con:
        if wanted.state == PENDING:
            paths, rest = _pending_paths(con, pending, wanted, after, limit)
        elif wanted.state and wanted.state != State.OK.value:
            paths, rest = _exceptions(con, pending, wanted, after, limit)
        else:
            paths, rest = _walk(con, pending, wanted, after, limit)
        images = _described(con, pending, paths)
        if wanted.state == State.TAKEN_DOWN.value:
            images = with_removed(con, pending, paths, images)
    if wanted.state == State.OK.value:
        # Whether a rendition is pending or in step is decided from the rows of this page only.
        images = [image for image in images if image["state"] == State.OK.value]
    return Page(images, rest)


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
            keys = _below(every, path, folder, after).order_by(path)
            found = con.execute(keys.limit(1)).scalar()
            if found is not None and "/" not in found[len(prefix) :]:
                if not may_look_through:
                    break
                may_look_through -= 1
                near = keys.limit(LOOKED_THROUGH).subquery().c.path
                inside = sa.func.substr(near, len(prefix) + 1).contains("/")
                found = con.execute(sa.select(sa.func.min(near)).where(inside)).scalar()
            if found is None:
                break
            names.append(found[len(prefix) :].partition("/")[0])
            after = prefix + names[-1] + AFTER_SLASH
    return names


def _walk(
    con: sa.Connection, pending: Pending, wanted: Filter, after: str, limit: int
) -> tuple[list[str], str | None]:
    """Originals by key, those with an exception left out where all must be ``ok``."""
    path, made = pending.original_table.c.path, pending.table
    every, theirs = sa.select(path).where(pending.our_originals), sa.select(made.c.path)
    conditions: list[Condition] = []
    if wanted.state:
        conditions += [
            lambda path: theirs.where(pending.ours, made.c.path == path).exists(),
            lambda path: (
                ~theirs.where(
                    pending.ours, made.c.path == path, made.c.state != State.OK.value
                ).exists()
            ),
        ]
    return _look_through(
        con,
        lambda after: _below(every, path, wanted.folder, after).order_by(path),
        conditions,
        wanted.text,
        after,
        limit,
    )


def _exceptions(
    con: sa.Connection, pending: Pending, wanted: Filter, after: str, limit: int
) -> tuple[list[str], str | None]:
    """Originals one of whose renditions is in a state other than ``ok``."""
    made = pending.table
    path: Any = made.c.path
    keys = sa.select(path).where(pending.ours, made.c.state == wanted.state, sa.text(EXCEPTION))
    if wanted.state == State.TAKEN_DOWN.value and pending.source is Source.INPUT:
        removed = removed_originals(pending).subquery()
        path = keys.union(sa.select(removed.c.path)).subquery().c.path
        keys = sa.select(path)
    keys = keys.distinct().order_by(path)
    return _look_through(
        con,
        lambda after: _below(keys, path, wanted.folder, after),
        [],
        wanted.text,
        after,
        limit,
    )


Condition = Callable[[Any], sa.ColumnElement[bool]]


def _look_through(
    con: sa.Connection,
    keys: Callable[[str], sa.Select[Any]],
    conditions: Sequence[Condition],
    text: str,
    after: str,
    limit: int,
) -> tuple[list[str], str | None]:
    """Up to ``limit`` of the sorted ``keys`` after ``after``, and where to go on.

    If no index covers the filter, a bounded number is read: few at first, because a common text is
    found at once, and then more and more.
    """
    if not text and not conditions:
        return _cut(list(con.execute(keys(after).limit(limit + 1)).scalars()), limit)
    found: list[str] = []
    left = CHECKED if conditions else LOOKED_THROUGH
    window = max(limit, left // 16)
    while left > 0:
        near = keys(after).limit(window).subquery().c.path
        last = con.execute(sa.select(sa.func.max(near), sa.func.count(near))).one()
        matches = sa.select(near).order_by(near).limit(limit + 1 - len(found))
        if text:
            matches = matches.where(_holds(near, text))
        for condition in conditions:
            matches = matches.where(condition(near))
        found += con.execute(matches).scalars()
        if len(found) > limit:
            return _cut(found, limit)
        if last[1] < window:
            return found, None
        after = last[0]
        left -= window
        window = min(window * 4, max(left, 1))
    return found, after


def _pending_paths(
    con: sa.Connection, pending: Pending, wanted: Filter, after: str, limit: int
) -> tuple[list[str], str | None]:
    """Originals with pending renditions. Costs the linear query if there are few or none."""
    changed = pending.changed().subquery("changed")
    query = (
        _below(sa.select(changed.c.path), changed.c.path, wanted.folder, after)
        .where(changed.c[KIND] != GONE, ~changed.c.recipe.startswith(PREFIX))
        .distinct()
        .order_by(changed.c.path)
    )
    if wanted.text:
        query = query.where(_holds(changed.c.path, wanted.text))
    return _cut(list(con.execute(query.limit(limit + 1)).scalars()), limit)


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
        "since": iso(row.since),
    }


def _worst(found: Sequence[str], no_recipes: bool) -> str:
    """The state of an original: that of its renditions which matters most to a person."""
    for state in (State.TAKEN_DOWN.value, State.HELD.value, PENDING, State.FAILED.value):
        if state in found:
            return state
    return State.OK.value if found or no_recipes else PENDING


def _below(query: sa.Select[Any], path: Any, folder: str, after: str) -> sa.Select[Any]:
    # One lower bound: of two, SQLite enters the index at whichever comes first in the statement.
    if not folder:
        return query.where(path > after)
    return query.where(path > max(after, folder + "/"), path < folder + AFTER_SLASH)


def _holds(path: Any, text: str) -> sa.ColumnElement[bool]:
    return sa.func.lower(path).contains(text.lower(), autoescape=True)


def _cut(found: list[str], limit: int) -> tuple[list[str], str | None]:
    return found[:limit], found[limit - 1] if len(found) > limit else None
