"""What happened to originals: the history of one, and those that takedowns removed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from pipeline.blocklist import Blocklist
from pipeline.engine.pending import Pending
from pipeline.states import Kind, Source, State, TakedownState
from pipeline.text import iso


def times(pending: Pending, path: str) -> list[dict[str, str]]:
    """What happened to one original, as far as the tables remember, the oldest first."""
    history: list[tuple[float, str]] = []
    found = ("found in the input folder", "found changed")
    if pending.source is Source.JOBS:
        found = ("fetched for a job", "fetched again, and changed")
    tables = (
        (pending.originals.meta, *found),
        (pending.renditions.meta, "{}: first rendered", "{}: last rendered"),
    )
    made = pending.table
    others = sa.select(made.c.recipe, made.c.state, made.c.reason, made.c.since).where(
        pending.ours, made.c.path == path, made.c.state != State.OK.value
    )
    with pending.meta.dbconn.reading() as con:
        # A row says when it was written: of these, no rendition was.
        not_made = {row.recipe: row for row in con.execute(others)}
        for meta, first, last in tables:
            table = meta.sql_table  # type: ignore[attr-defined]
            query = sa.select(table).where(
                pending.ours_in(table),
                table.c.path == path,
                table.c.delete_ts.is_(None),
            )
            for row in con.execute(query):
                recipe = getattr(row, "recipe", "")
                if recipe in not_made:
                    continue
                history.append((row.create_ts, first.format(recipe)))
                if row.update_ts > row.create_ts:
                    history.append((row.update_ts, last.format(recipe)))
    history += [(row.since, _not_made(row)) for row in not_made.values()]
    return [{"at": iso(at), "what": what} for at, what in sorted(history)]


def _not_made(row: sa.Row[Any]) -> str:
    if row.state == State.FAILED.value:
        return f"{row.recipe} failed: {row.reason}"
    words = {State.TAKEN_DOWN.value: "blocked", State.HELD.value: "held"}
    what = f"{row.recipe}: {words.get(row.state, row.state)}"
    return f"{what}, {row.reason}" if row.reason else what


def removed_originals(pending: Pending) -> sa.Select[Any]:
    """Originals that takedowns in force have removed from the input folder, and their content."""
    blocklist = Blocklist(pending.meta.dbconn)
    acts, files = blocklist.acts, blocklist.files
    return (
        sa.select(files.c.path, acts.c.sha256)
        .join(acts, files.c.takedown == acts.c.id)
        .where(
            files.c.kind == Kind.ORIGINAL.value,
            files.c.removed.is_(sa.true()),
            files.c.restored.is_(None),
            acts.c.state != TakedownState.LIFTED.value,
        )
    )


def with_removed(
    con: sa.Connection, pending: Pending, paths: Sequence[str], images: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """``images``, and those of ``paths`` that no table but that of takedowns knows any more."""
    there = {image["path"] for image in images}
    gone = [path for path in paths if path not in there]
    removed = removed_originals(pending).subquery()
    found = con.execute(sa.select(removed).where(removed.c.path.in_(gone)).order_by(removed.c.path))
    last = {row.path: row.sha256 for row in found} if gone else {}
    state: dict[str, Any] = {"state": State.TAKEN_DOWN.value, "size_bytes": None, "renditions": []}
    images = images + [{"path": path, "sha256": last[path], **state} for path in last]
    order = {path: place for place, path in enumerate(paths)}
    return sorted(images, key=lambda image: order[str(image["path"])])
