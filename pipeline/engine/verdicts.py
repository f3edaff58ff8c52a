"""What happens to each rendition, and why: the rules of a run, of a dry run and of ``explain``."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import sqlalchemy as sa

from pipeline.blocklist import Blocklist
from pipeline.database.paging import chunks
from pipeline.database.tracking import FRESH
from pipeline.engine.context import Run
from pipeline.engine.holding import Withheld
from pipeline.engine.pending import (
    PAGE_ROWS,
    SAID,
    Pending,
    PendingOriginal,
    PendingRendition,
    recipe_in,
    rows_in,
)
from pipeline.engine.publish import correct_counts, is_withheld_already
from pipeline.engine.sources import Originals
from pipeline.imaging import RENDERER_VERSION
from pipeline.reasons import Code, Reason
from pipeline.settings.values import Settings
from pipeline.states import State
from pipeline.storage.at_hand import digests_in
from pipeline.storage.base import Store
from pipeline.storage.opening import open_store
from pipeline.transforms.features import PDQ, is_feature, is_listed
from pipeline.transforms.recipes import Transform, load_recipes, recipe_of
from pipeline.workers.tasks import Outcome, RenditionWanted, md5s_of
from pipeline.workers.worker import is_current

# Reasons of a failure; the first one makes the next run retry the original alone.
KILLED_ONCE = Reason(
    Code.WORKER_KILLED,
    "its worker was killed, also when it was tried by itself (out of memory, or a restart?); the "
    "next run tries it once more",
)
KILLED_TWICE = Reason(
    Code.WORKER_KILLED,
    "its worker was killed in two runs, also when it was tried by itself (out of memory?)",
)


# Size in bytes of an original, and the hash that a fetched one is stored under.
Now: TypeAlias = "tuple[int | None, str | None]"
# A recipe, the row of its rendition, and what a run would do about it, and why.
Verdict: TypeAlias = tuple[str, "sa.Row[Any] | None", str]


def recipes_of(pending: Pending, run: Run) -> dict[str, Transform]:
    """The recipes of a run by name, and the features, if the step makes any.

    The table may have one that the file has no more, where the step that loads recipes was not
    among the steps: it is kept in step until that has worked.
    """
    table = pending.recipe_table
    query = sa.select(table.c.recipe, table.c.spec)
    rows = pending.meta.dbconn.rows(query.where(pending.ours_in(table)))
    # What a feature calls is in the file alone: one that is gone from there cannot be made.
    stored = {row.recipe: recipe_of(row.spec) for row in rows if not is_feature(row.recipe)}
    return stored | {
        name: recipe
        for name, recipe in run.recipes.items()
        if pending.features is not None or not is_feature(name)
    }


def wanted_of(
    rendition: PendingRendition, recipe: Transform, recovering: bool = False
) -> RenditionWanted:
    """A pending rendition for the workers: what it was made of, if the recipe was the same.

    After an interrupted run a file may hold other bytes than its row says: it is made again.
    """
    same = rendition.fingerprint == recipe.fingerprint and not recovering
    made_of = rendition.sha256 if same else None
    return RenditionWanted(recipe, made_of, rendition.file, rendition.size_bytes)


def preview_renditions(run: Run, pending: Pending, originals: Originals) -> None:
    """Count what the render step would do for the originals of one source.

    What is pending now, and what is added by what the steps before would write.
    """
    preview = _Preview(run, pending, originals)
    preview.count_pending()
    preview.count_found()
    preview.count_backlog()
    preview.count_deleted()


class _Preview:
    """The work of one render step, counted. Recipes that ``moved`` are new or changed."""

    def __init__(self, run: Run, pending: Pending, originals: Originals) -> None:
        self.run, self.pending, self.counts = run, pending, originals.counts(run)
        self.file_of = originals.key
        self.input = open_store(originals.place)
        self.store = run.settings.output_store
        self.blocklist = Blocklist(run.database)
        self.blocked_sizes = self.blocklist.blocked_sizes(pending.tables)
        # Of content on a list, the size is not known: each original may be blocked.
        self.lists_content = self.blocklist.lists_content()
        self.originals = run.expected.originals[pending.source]
        difference = run.expected.recipes[pending.source]
        every = recipes_of(pending, run)
        self.moved = [n for n in (*difference.added, *difference.changed) if n in every]
        self.removed = difference.removed
        table = pending.recipe_table
        query = sa.select(table.c.recipe).where(pending.ours_in(table))
        stored = run.database.column(query)
        names = {*stored, *difference.added} - {*difference.removed}
        self.recipes = {name: every[name] for name in sorted(names & every.keys())}
        # Pending renditions by recipes that moved, counted one by one.
        self.moved_counted: Counter[str] = Counter()

    def count_pending(self) -> None:
        """What is pending already, but for what the other counts have anyway."""
        look = self.run.look(self.pending)
        for kind in look.counts():
            for page in look.pages(kind):
                left = [(original, self._left_of(original)) for original in page]
                self._count([o._replace(renditions=wanted) for o, wanted in left if wanted])

    def count_found(self) -> None:
        """New and changed originals."""
        # Later than all that is in the tables: found by this run.
        found = {path: (size, None) for path, size in self.originals.found.items()}
        self._count_all(found, list(self.recipes), math.inf)
        self._count_rendered(self.originals.coming, self.recipes)

    def count_backlog(self) -> None:
        """All other originals, by the recipes that moved; only what may be blocked is read."""
        if not self.moved:
            return
        originals = self.pending.original_table
        ours = self.pending.our_originals
        sizes = sa.select(originals.c.path, originals.c.size_bytes, originals.c.sha256).where(ours)
        looked_at = self.originals.found.keys() | self.originals.removed
        suspects: dict[str, Now] = {}
        with self.run.database.reading() as con:
            count = con.execute(
                sa.select(sa.func.count()).select_from(originals).where(ours)
            ).scalar_one()
            for chunk in chunks(self.blocked_sizes):
                rows = con.execute(sizes.where(originals.c.size_bytes.in_(chunk))).tuples()
                suspects |= {
                    path: (size, digest) for path, size, digest in rows if path not in looked_at
                }
        self._count_all(suspects, self.moved, 0.0)
        others = count - self.originals.changed - len(self.originals.removed) - len(suspects)
        self._count_rendered(others, self.moved)
        for recipe, count in self.moved_counted.items():
            self.counts.of(recipe).rendered -= count

    def _count_rendered(self, originals: int, recipes: Iterable[str]) -> None:
        for recipe in recipes:
            self.counts.of(recipe).rendered += originals

    def count_deleted(self) -> None:
        """Renditions and features whose original or recipe goes now."""
        counts, source = self.counts, self.pending.source.value
        for made, table in zip((counts, counts.features), self.pending.tables, strict=False):
            count = sa.select(sa.func.count()).select_from(table)
            count = count.where(table.c.source == source, recipe_in(table) != PDQ)
            by_recipe = recipe_in(table).in_(self.removed)
            with self.run.database.reading() as con:
                made.deleted += con.execute(count.where(by_recipe)).scalar_one()
                for chunk in chunks(self.originals.removed):
                    gone = count.where(table.c.path.in_(chunk), ~by_recipe)
                    made.deleted += con.execute(gone).scalar_one()

    def _left_of(self, original: PendingOriginal) -> tuple[PendingRendition, ...]:
        """Those of its pending renditions to count one by one; those that are gone are counted."""
        wanted: list[PendingRendition] = []
        is_there = original.path in self.originals.found or original.size_bytes is not None
        for rendition in original.renditions:
            recipe = rendition.recipe
            if original.path in self.originals.removed or recipe in self.removed:
                continue
            if not is_there or recipe not in self.recipes:
                self.counts.of(recipe).deleted += rendition.state is not None
            elif original.path in self.originals.found:
                continue
            elif recipe not in self.moved:
                wanted.append(rendition)
            elif original.size_bytes not in self.blocked_sizes:
                self.moved_counted[recipe] += 1
                wanted.append(rendition)
        return tuple(wanted)

    def _count_all(
        self, originals: Mapping[str, Now], names: Sequence[str], found_ts: float
    ) -> None:
        """Count originals by the recipes of these names."""
        for paths in chunks(originals, PAGE_ROWS):
            with self.run.database.reading() as con:
                rows = _made(con, self.pending, paths)
            made = {(row.path, row.recipe): row for row in rows}
            page = []
            for path in paths:
                now = originals[path]
                renditions = [
                    PendingRendition(
                        path, name, FRESH, found_ts, *now, *_known(made.get((path, name)))
                    )
                    for name in names
                ]
                page.append(PendingOriginal(path, *now, found_ts, tuple(renditions)))
            self._count(page)

    def _count(self, page: Sequence[PendingOriginal]) -> None:
        """Count what the workers would do about each pending rendition."""
        counts = self.counts
        outcomes = [self._hashed(original) for original in page]
        digests = [outcome.sha256 for outcome in outcomes]
        blocked = self.blocklist.blocked_among(digests, md5s_of(outcomes))
        for original, outcome in zip(page, outcomes, strict=True):
            digest = outcome.sha256
            correct_counts(counts, outcome, original, self.run.began_ts, mark_unchanged=True)
            for rendition in original.renditions:
                if digest in blocked:
                    why = Withheld(State.TAKEN_DOWN, blocked[digest])
                    is_new = not is_withheld_already(rendition, digest, why)
                    counts.of(rendition.recipe).taken_down += is_new
                    continue
                wanted = wanted_of(rendition, self.recipes[rendition.recipe], self.run.recovering)
                is_made = not is_current(wanted, digest, self.store)
                counts.of(rendition.recipe).rendered += is_made

    def _hashed(self, original: PendingOriginal) -> Outcome:
        """Its hashes, where anything depends on them and it can be read."""
        hashed = Outcome(original.path, original.stored_under)
        is_known = any(rendition.sha256 is not None for rendition in original.renditions)
        is_suspect = original.size_bytes in self.blocked_sizes or self.lists_content
        if not is_suspect and (original.stored_under is not None or not is_known):
            return hashed
        if original.size_bytes is None:
            return hashed
        key = self.file_of(original.path, original.stored_under)
        with contextlib.suppress(OSError):
            hashed.sha256, hashed.md5 = digests_in(self.input, key)
        return hashed


def _made(con: sa.Connection, pending: Pending, paths: Sequence[str]) -> list[sa.Row[Any]]:
    """What was made of these originals: rows of renditions and of features."""
    rows: list[sa.Row[Any]] = []
    for table in pending.tables:
        ours = pending.ours_in(table)
        rows += con.execute(rows_in(table).where(ours, table.c.path.in_(paths))).all()
    return rows


def _known(row: sa.Row[Any] | None) -> list[Any]:
    """What a row of what was made has for its columns of :class:`PendingRendition`."""
    return [None if row is None else getattr(row, name) for name in SAID]


@dataclass(frozen=True)
class _Content:
    """What the file of an original has now; ``blocked`` is why it must have no renditions."""

    is_there: bool
    sha256: str | None
    blocked: str | None
    cannot_read: str | None


def explain_renditions(
    settings: Settings,
    pending: Pending,
    originals: Originals,
    path: str,
    is_there: bool,
) -> tuple[str | None, list[Verdict]]:
    """The SHA-256 of an original, and what a run would do about each of its renditions, and why.

    Raises:
        RecipeError: ``recipes.toml`` has problems.
    """
    digest, md5, cannot_read = None, "", None
    if is_there:
        try:
            digest, md5 = digests_in(open_store(originals.place), path)
        except OSError as error:
            cannot_read = f"it cannot be read ({error.strerror})"
    database, marks = pending.meta.dbconn, pending.meta.sql_table
    changed = pending.changed([path]).subquery()
    blocked = Blocklist(database).blocked_among([digest], {digest or "": md5}).get(digest or "")
    content = _Content(is_there, digest, blocked, cannot_read)
    with database.reading() as con:
        made = _made(con, pending, [path])
        its = pending.ours_in(marks), marks.c.path == path
        rows = con.execute(sa.select(marks.c.recipe, marks.c.is_success).where(*its))
        marked = {row.recipe: row.is_success for row in rows}
        waiting = set(con.execute(sa.select(changed.c.recipe)).scalars())
    unmarked = {name for name, is_success in marked.items() if not is_success}
    by_recipe, recipes = {row.recipe: row for row in made}, load_recipes(settings.recipes_file)
    store = settings.output_store
    verdicts: list[Verdict] = []
    for name in filter(is_listed, sorted({*by_recipe, *recipes})):
        row, recipe = by_recipe.get(name), recipes.get(name)
        if row is None and recipe and recipe.above and name in marked.keys() - waiting:
            verdict = "nothing to do: a smaller width shows all of it"
        else:
            verdict = _verdict(row, recipe, content, name in unmarked, store)
        if is_feature(name):
            verdict = verdict.replace("rendered", "made").replace("the recipe", "the feature")
        verdicts.append((name, row, verdict))
    return digest, verdicts


def _verdict(
    item: Any,
    recipe: Transform | None,
    content: _Content,
    is_unmarked: bool,
    store: Store,
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
    wanted = wanted_of(item, recipe)
    if item.fingerprint != recipe.fingerprint:
        return "would be rendered: the recipe changed"
    if content.cannot_read is not None:
        return f"would fail: {content.cannot_read}"
    if item.reason == KILLED_ONCE.text:
        return "would be rendered again, alone: its worker was killed"
    if wanted.made_of is None or is_unmarked:
        return "would be rendered: a retry was requested, or the last run was interrupted"
    if wanted.made_of != content.sha256:
        return "would be rendered: the content changed"
    if item.state == State.HELD.value:
        return "would not be rendered: a person has to decide (`datapipe review`)"
    if item.state == State.FAILED.value:
        return "skipped: this exact file failed before; `datapipe retry` tries it again"
    if not is_current(wanted, content.sha256, store):
        return "its file is missing or altered: runs do not check that (`datapipe verify`)"
    if item.renderer != RENDERER_VERSION:
        return "in step; made by an older renderer (`datapipe retry --older`)"
    return "in step"
