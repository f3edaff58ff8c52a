"""Reuse: originals with the same bytes share what was made of one of them.

A rename, a move and a copy cost a hard link, and no decode.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pipeline.database.paging import known_among
from pipeline.database.tracked import data_of
from pipeline.engine.pending import Pending, is_ok, recipe_in
from pipeline.engine.placing import Places
from pipeline.errors import LinkInTheWay
from pipeline.imaging import RENDERER_VERSION, format_of_suffix, suffix_for
from pipeline.names import rendition_key
from pipeline.transforms.features import is_feature
from pipeline.workers.tasks import Made, Outcome, Task

# Contents that are asked for in one query.
AT_ONCE = 250


class Reuse:
    """Finds renditions of the same bytes, and stages them for another original."""

    def __init__(self, pending: Pending, fingerprints: Mapping[str, str], places: Places) -> None:
        """``fingerprints`` of the recipes by name, from ``recipes.toml`` as this run read it."""
        self.pending = pending
        self.fingerprints = fingerprints
        self.places = places
        self._sources: dict[tuple[str | None, str], list[sa.Row[Any]]] = {}
        self._coming: list[str] = []

    def forget(self) -> None:
        """Rows are about to change: ask the table again."""
        self._sources.clear()

    def known_content(self, digests: Sequence[str | None]) -> set[str]:
        """Those of ``digests`` (SHA-256) that something was made of; a file may still be
        missing."""
        known: set[str] = set()
        for table in self.pending.tables:
            known |= known_among(self.pending.meta.dbconn, table.c.sha256, digests, is_ok(table))
        self._coming = sorted(known)
        return known

    def stage(self, outcome: Outcome, task: Task) -> Outcome | None:
        """``outcome`` with the renditions of other originals with the same bytes, to publish.

        Those that are in place already stay as they are. ``None``, and nothing staged, unless each
        of the others is there to be taken.
        """
        places = self.places
        taken = Outcome(
            task.path,
            outcome.sha256,
            outcome.size_bytes,
            unchanged=outcome.unchanged,
            reused=True,
            md5=outcome.md5,
        )
        for recipe in (wanted.recipe for wanted in task.wanted):
            if recipe.name in outcome.unchanged:
                continue
            made_before = self._made_of(outcome.sha256, recipe.name)
            itself = (self.pending.source.value, task.path)
            row = next((row for row in made_before if (row.source, row.path) != itself), None)
            if row is not None and is_feature(recipe.name):
                taken.values.append((recipe.name, row.value))
                continue
            if row is None or not places.has(row.file, row.size_bytes):
                break
            suffix = _appended(task.path, row.file)
            key = task.below + rendition_key(task.path, recipe.name, suffix)
            try:
                temporary = places.stage_copy(row.file, key)
            except (FileNotFoundError, NotADirectoryError, LinkInTheWay):
                break
            taken.made.append(
                Made(
                    recipe.name,
                    key,
                    temporary,
                    row.width_px,
                    row.height_px,
                    row.size_bytes,
                    row.file_sha256,
                    (),
                )
            )
        else:
            return taken
        places.discard(taken.made)
        return None

    def _made_of(self, sha256: str | None, recipe: str) -> Sequence[sa.Row[Any]]:
        """Up to two rows that are in step, of these bytes by this recipe.

        Kept until the next flush: of thousands of copies, each would ask the same. Asked together
        for the contents that come next in the order of their hashes.
        """
        if (sha256, recipe) not in self._sources:
            start = bisect_left(self._coming, sha256 or "")
            digests = {sha256, *self._coming[start : start + AT_ONCE]}
            self._sources |= {(digest, recipe): [] for digest in digests}
            table = data_of(self.pending.output(recipe))
            place = sa.func.row_number().over(
                partition_by=table.c.sha256, order_by=(table.c.source, table.c.path)
            )
            numbered = sa.select(table, place.label("place")).where(
                table.c.sha256.in_(digests),
                recipe_in(table) == recipe,
                is_ok(table),
                table.c.fingerprint == self.fingerprints[recipe],
                table.c.renderer == RENDERER_VERSION,
            )
            rows = numbered.subquery()
            for row in self.pending.meta.dbconn.rows(sa.select(rows).where(rows.c.place <= 2)):
                self._sources[row.sha256, recipe].append(row)
        return self._sources[sha256, recipe]


def _appended(path: str, file: str) -> str | None:
    """The suffix to append to the name of ``path`` for a rendition with the bytes of ``file``."""
    made = format_of_suffix(os.path.splitext(file)[1])
    if made is None or made == format_of_suffix(os.path.splitext(path)[1]):
        return None
    return suffix_for(made)
