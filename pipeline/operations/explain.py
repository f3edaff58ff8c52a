"""Explain: what is known about one original, what the next run would do with it, and why."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from pipeline.app import Lockstep
from pipeline.engine.pending import Pending
from pipeline.engine.render_step import KILLED_ONCE
from pipeline.imaging import RENDERER_VERSION
from pipeline.jobs.foresight import explain_csv
from pipeline.names import key_below, name_of
from pipeline.states import State
from pipeline.storage.folder import has_size, sha256_of
from pipeline.storage.walking import CSV_SUFFIXES, FoundFile, look_at, why_passed
from pipeline.takedowns.repository import TakedownRepository
from pipeline.text import iso, printable
from pipeline.transforms.recipes import Recipe, load_recipes


@dataclass
class RenditionStory:
    """One recipe's rendition: what there is, and the verdict for the next run."""

    recipe: str
    state: str | None
    file: str | None
    verdict: str
    reason: str | None = None
    since: str | None = None
    width_px: int | None = None
    height_px: int | None = None
    size_bytes: int | None = None
    fingerprint: str | None = None
    renderer: int | None = None


@dataclass
class Story:
    """All that is known of one original."""

    path: str
    known: bool
    exists: bool
    verdict: str
    sha256: str | None = None
    fingerprint: dict[str, int] = field(default_factory=dict)
    renditions: list[RenditionStory] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The result of ``datapipe explain --json``."""
        return asdict(self)

    def as_text(self) -> str:
        """The result as text for people."""
        lines = [f"{printable(self.path)}: {self.verdict}"]
        if self.sha256:
            lines.append(f"  sha256  {self.sha256}")
        if self.fingerprint:
            known = ", ".join(f"{name} {value}" for name, value in self.fingerprint.items())
            lines.append(f"  known   {known}")
        for story in self.renditions:
            lines.append(f"  {story.recipe}: {story.state or 'none yet'}; {story.verdict}")
            if story.file:
                lines.append(
                    f"    {printable(story.file)}, {story.width_px} x {story.height_px} px, "
                    f"{story.size_bytes:,} bytes, since {story.since}"
                )
            if story.reason:
                lines.append(f"    {story.reason} (since {story.since})")
        return "\n".join(lines)


@dataclass(frozen=True)
class _Content:
    """What the file of an original has now; ``blocked`` is why it must have no renditions."""

    is_there: bool
    sha256: str | None
    blocked: str | None
    cannot_read: str | None


def explain(app: Lockstep, typed: str) -> Story:
    """What the tables and the folder say of the original, or CSV, at ``typed``. Reads it once.

    Raises:
        RecipeError: ``recipes.toml`` has problems.
    """
    path = key_below(app.settings.input_dir, typed)
    if os.path.splitext(path)[1].lower() in CSV_SUFFIXES:
        return Story(path, *explain_csv(app.jobs, path))
    pending = app.render.pending
    renditions = pending.table
    marks = pending.meta.sql_table
    with app.database.reading() as con:
        row = con.execute(_stat_of(pending, path)).first()
        made = con.execute(
            sa.select(renditions).where(pending.ours, renditions.c.path == path)
        ).all()
        unmarked = set(
            con.execute(
                sa.select(marks.c.recipe).where(
                    marks.c.source == pending.source.value,
                    marks.c.path == path,
                    marks.c.is_success.is_not(sa.true()),
                )
            ).scalars()
        )
    there = look_at(app.settings.input_dir, path)
    passed = why_passed(app.settings.input_dir, path, app.scan.suffixes) if there else None
    now = there if passed is None else None
    digest, cannot_read = None, None
    if now is not None:
        try:
            digest = sha256_of(app.settings.input_dir / name_of(path))
        except OSError as error:
            cannot_read = f"it cannot be read ({error.strerror})"
    known = FoundFile(*row) if row is not None else None
    story = Story(
        path,
        known=known is not None or bool(made),
        exists=there is not None,
        verdict=_verdict(known, now) if passed is None else f"skipped: {passed}",
        sha256=digest,
        fingerprint={}
        if known is None
        else {k: v for k, v in known._asdict().items() if k != "path"},
    )
    by_recipe = {item.recipe: item for item in made}
    blocked = TakedownRepository(app.database).blocked_among([digest]).get(digest or "")
    content = _Content(now is not None, digest, blocked, cannot_read)
    recipes = load_recipes(app.settings.recipes_file)
    for name in sorted({*by_recipe, *recipes}):
        item = by_recipe.get(name)
        recipe = recipes.get(name)
        verdict = _rendition_verdict(
            item, recipe, content, name in unmarked, app.settings.output_dir
        )
        story.renditions.append(_story_of(name, item, verdict))
    if not story.known and now is None:
        story.renditions = []
    return story


def _stat_of(pending: Pending, path: str) -> sa.Select[Any]:
    columns = pending.original_table.c
    return sa.select(*[columns[name] for name in FoundFile._fields]).where(
        pending.our_originals, columns.path == path
    )


def _story_of(recipe: str, item: sa.Row[Any] | None, verdict: str) -> RenditionStory:
    if item is None:
        return RenditionStory(recipe, None, None, verdict)
    return RenditionStory(
        recipe,
        item.state,
        item.file,
        verdict,
        item.reason,
        iso(item.since),
        item.width_px,
        item.height_px,
        item.size_bytes,
        item.fingerprint,
        item.renderer,
    )


def _rendition_verdict(
    item: sa.Row[Any] | None,
    recipe: Recipe | None,
    content: _Content,
    is_unmarked: bool,
    output_dir: Path,
) -> str:
    """What the next run would do about one rendition, of which ``item`` is the row, and why."""
    if not content.is_there:
        return "would be deleted: the original is gone" if item else "nothing to do"
    if content.blocked is not None:
        return f"would not be rendered: {content.blocked}"
    if recipe is None:
        return "would be deleted: the recipe is gone"
    if item is None:
        return "would be rendered: it has none yet"
    if item.fingerprint != recipe.fingerprint:
        return "would be rendered: the recipe changed"
    if content.cannot_read is not None:
        return f"would fail: {content.cannot_read}"
    if item.reason == KILLED_ONCE:
        return "would be rendered again, alone: its worker was killed"
    if item.sha256 is None or is_unmarked:
        return "would be rendered: a retry was requested, or the last run was interrupted"
    if item.sha256 != content.sha256:
        return "would be rendered: the content changed"
    if item.state == State.FAILED.value:
        return "skipped: this exact file failed before; `datapipe retry` tries it again"
    if not has_size(output_dir / name_of(item.file), item.size_bytes):
        return "its file is missing or altered: runs do not check that (`datapipe verify`)"
    if item.renderer != RENDERER_VERSION:
        return "in step; made by an older renderer (`datapipe retry --older`)"
    return "in step"


def _verdict(known: FoundFile | None, now: FoundFile | None) -> str:
    if now is None:
        return "gone since the last run" if known else "there is no such original"
    if known is None:
        return "new: the next run picks it up"
    differs = [name for name in FoundFile._fields[1:] if getattr(known, name) != getattr(now, name)]
    if differs:
        return f"would be checked: {', '.join(differs)} changed since the last run"
    return "unchanged since the last run"
