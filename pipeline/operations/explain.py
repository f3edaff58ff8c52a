"""Explain: what is known about one original, what the next run would do with it, and why."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from typing import Any

import sqlalchemy as sa

from pipeline.app import Lockstep
from pipeline.engine.own_step import record_name
from pipeline.jobs.scanning import explain_csv
from pipeline.storage.listing import key_at
from pipeline.storage.walking import CSV_SUFFIXES
from pipeline.text import iso, shortened
from pipeline.transforms.features import is_feature, own_name

# Characters of a value that a line shows; the JSON has all of it.
VALUE_SHOWN = 200


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
class FeatureStory:
    """One feature: what its function said, and the verdict for the next run."""

    name: str
    state: str | None
    value: Any
    verdict: str
    reason: str | None = None
    since: str | None = None
    fingerprint: str | None = None


@dataclass
class RecordStory:
    """What a user's step made of one of the records of an original."""

    step: str
    record: dict[str, Any]
    state: str
    reason: str | None
    since: str | None


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
    features: list[FeatureStory] = field(default_factory=list)
    steps: list[RecordStory] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The result of ``datapipe explain --json``."""
        return asdict(self)

    def as_lines(self) -> list[str]:
        """The result as text for people."""
        lines = [f"{self.path}: {self.verdict}"]
        if self.sha256:
            lines.append(f"  sha256  {self.sha256}")
        if self.fingerprint:
            known = ", ".join(f"{name} {value}" for name, value in self.fingerprint.items())
            lines.append(f"  known   {known}")
        for story in self.renditions:
            lines.append(f"  {story.recipe}: {story.state or 'none yet'}; {story.verdict}")
            if story.file:
                lines.append(
                    f"    {story.file}, {story.width_px} x {story.height_px} px, "
                    f"{story.size_bytes:,} bytes, since {story.since}"
                )
            if story.reason:
                lines.append(f"    {story.reason} (since {story.since})")
        for of in self.features:
            lines.append(f"  feature {of.name}: {of.state or 'none yet'}; {of.verdict}")
            if of.value is not None:
                shown = shortened(json.dumps(of.value, ensure_ascii=False), VALUE_SHOWN)
                lines.append(f"    {shown}, since {of.since}")
            if of.reason:
                lines.append(f"    {of.reason} (since {of.since})")
        for record in self.steps:
            keys = {key: value for key, value in record.record.items() if value != self.path}
            name = " ".join(filter(None, [record.step, record_name(keys)]))
            reason = f"; {record.reason} (since {record.since})" if record.reason else ""
            lines.append(f"  {name}: {record.state}{reason}")
        return lines


def explain(app: Lockstep, typed: str) -> Story:
    """What the steps say of the original, or CSV, at ``typed``. Reads it once.

    Raises:
        RecipeError: ``recipes.toml`` has problems.
    """
    path = key_at(app.settings.input_place, typed)
    if os.path.splitext(path)[1].lower() in CSV_SUFFIXES:
        return Story(path, *explain_csv(app.jobs, path))
    seen = app.scan.explain(path)
    sha256, said = app.render.explain(path, seen.is_original)
    known = seen.known is not None or any(row is not None for _, row, _ in said)
    if not known and not seen.is_original:
        said = []
    return Story(
        path,
        known=known,
        exists=seen.there is not None,
        verdict=seen.verdict,
        sha256=sha256,
        fingerprint={}
        if seen.known is None
        else {k: v for k, v in seen.known._asdict().items() if k != "path"},
        renditions=[_story_of(*each) for each in said if not is_feature(each[0])],
        features=[_feature_of(*each) for each in said if is_feature(each[0])],
        steps=[
            RecordStory(
                step.name,
                mark.keys,
                mark.state,
                mark.reason,
                None if mark.since is None else iso(mark.since),
            )
            for step in app.own_steps
            for mark in step.story(path)
        ],
    )


def _feature_of(recipe: str, item: sa.Row[Any] | None, verdict: str) -> FeatureStory:
    name = own_name(recipe)
    if item is None:
        return FeatureStory(name, None, None, verdict)
    value = item.value and json.loads(item.value)
    since = iso(item.since)
    return FeatureStory(name, item.state, value, verdict, item.reason, since, item.fingerprint)


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
