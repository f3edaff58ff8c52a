"""What is pending: the change query joined with all that is known of each rendition, in pages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple, TypeAlias, cast

import sqlalchemy as sa
from datapipe.datatable import DataTable

from pipeline.database.ahead import Ahead
from pipeline.database.paging import chunks
from pipeline.database.tracked import KeyFilter, data_of, meta_of
from pipeline.database.tracking import FOUND_TS, FRESH, KIND, LinearTransformMeta
from pipeline.states import Source, State
from pipeline.transforms.features import PDQ, PREFIX, is_feature

# Rows of one page; also the number of changes that the first look fetches, so that a run with
# few changes runs the linear query once.
PAGE_ROWS = 4_000
# Originals that are queried by their keys: more take longer than the query for all.
NARROW_ROWS = 2_000
# Originals of which a worker or two render the renditions in about a second.
SLICE = 32

# Renditions by why they are pending: `FRESH`, `GONE` or `BACKLOG`.
Kinds: TypeAlias = dict[int, int]

# What identifies a rendition: source, path and recipe.
RenditionKey: TypeAlias = tuple[str, str, str]


class PendingRendition(NamedTuple):
    """One (original, recipe) that is pending, and what its row says, if it has one.

    The recipe may be a feature, which makes values and no file.
    ``size_bytes`` is the rendition's, ``original_bytes`` the original's when it was made, and
    ``stored_under`` the hash that a fetched original is stored under.
    """

    path: str
    recipe: str
    kind: int
    found_ts: float
    now_bytes: int | None
    stored_under: str | None
    state: str | None
    file: str | None
    size_bytes: int | None
    sha256: str | None
    original_bytes: int | None
    fingerprint: str | None
    reason: str | None
    since: float | None
    # The clock in the snapshot that this was read in: what is done with it is done as of then.
    as_of: str | None = None


# Those of its columns that the row of what was made has.
SAID = PendingRendition._fields[6:-1]


class PendingOriginal(NamedTuple):
    """All that is pending of one original."""

    path: str
    size_bytes: int | None
    stored_under: str | None
    found_ts: float
    renditions: tuple[PendingRendition, ...]

    @property
    def has_renditions(self) -> bool:
        """Whether any of the pending renditions was made, or failed, before."""
        return any(rendition.state is not None for rendition in self.renditions)


class Pending:
    """The tables of a render step, and the queries for what is pending between them of one source.

    It never changes, so pages and a run may query it at the same time; what one run keeps of the
    results is in its own :class:`Look`.
    """

    def __init__(
        self,
        meta: LinearTransformMeta,
        originals: DataTable,
        recipes: DataTable,
        renditions: DataTable,
        source: Source,
        features: DataTable | None = None,
    ) -> None:
        """Without a table of ``features`` those of ``recipes.toml`` are none of this step's."""
        self.source = source
        self.meta = meta
        self.originals = originals
        self.recipes = recipes
        self.renditions = renditions
        self.features = features

    @property
    def tables(self) -> list[sa.Table]:
        """The tables of what is made, of all sources: see :func:`recipe_in` and :func:`rows_in`."""
        return [self.table] if self.features is None else [self.table, data_of(self.features)]

    def output(self, recipe: str) -> DataTable:
        """The table that what this recipe, or feature, makes is a row of."""
        if self.features is not None and is_feature(recipe):
            return self.features
        return self.renditions

    @property
    def table(self) -> sa.Table:
        """The table of renditions, of all sources."""
        return data_of(self.renditions)

    @property
    def original_table(self) -> sa.Table:
        """The table of originals, of all sources."""
        return data_of(self.originals)

    def ours_in(self, table: sa.FromClause) -> sa.ColumnElement[bool]:
        """Whether a row of a table that has a ``source`` is one of this source."""
        return table.c.source == self.source.value

    @property
    def ours(self) -> sa.ColumnElement[bool]:
        """Whether a rendition is one of this source."""
        return self.ours_in(self.table)

    @property
    def our_originals(self) -> sa.ColumnElement[bool]:
        """Whether an original is one of this source."""
        return self.ours_in(self.original_table)

    @property
    def recipe_table(self) -> sa.Table:
        """The table of recipes, for all sources."""
        return data_of(self.recipes)

    @property
    def is_ok(self) -> sa.ColumnElement[bool]:
        """Whether a rendition is in step: see :func:`is_ok`."""
        return is_ok(self.table)

    def changed(
        self, paths: Collection[str] | None = None, everything: bool = False
    ) -> sa.Select[Any]:
        """The change query: of all originals, or of those at ``paths``, by their keys."""
        source = self.source.value
        only = KeyFilter(["source"], [(source,)])
        if paths is not None:
            only = KeyFilter(["source", "path"], [(source, path) for path in paths])
        query = self.meta.changed_sql(only, everything=everything)
        if self.features is None:
            query = query.where(~meta_of(self.recipes).c.recipe.startswith(PREFIX))
        return query

    def query(
        self,
        paths: Collection[str] | None = None,
        everything: bool = False,
        kind: int | None = None,
        after: str | None = None,
    ) -> sa.Select[Any]:
        """The change query joined with what is known, in the columns of
        :class:`PendingRendition`."""
        changed = self.changed(paths, everything).subquery("changed")
        originals, joined = self.original_table, cast(sa.FromClause, changed)
        ours = sa.and_(self.our_originals, originals.c.path == changed.c.path)
        joined = joined.outerjoin(originals, ours)
        for table in self.tables:
            keys = table.c.path == changed.c.path, recipe_in(table) == changed.c.recipe
            joined = joined.outerjoin(table, sa.and_(self.ours_in(table), *keys))
        query = sa.select(
            changed.c.path,
            changed.c.recipe,
            changed.c[KIND],
            changed.c[FOUND_TS],
            originals.c.size_bytes,
            originals.c.sha256,
            *[self._said(name) for name in SAID],
            self.meta.dbconn.clock.committed,
        ).select_from(joined)
        if kind is not None:
            query = query.where(changed.c[KIND] == kind).order_by(changed.c.path, changed.c.recipe)
        if after is not None:
            query = query.where(changed.c.path > after)
        return query

    def _said(self, name: str) -> sa.ColumnElement[Any]:
        """A column of what is made, from the one table that has the row."""
        columns = [table.c[name] for table in self.tables if name in table.c]
        return columns[0] if len(columns) == 1 else sa.func.coalesce(*columns)

    def fetch(self, query: sa.Select[Any]) -> list[PendingRendition]:
        """The rows of :meth:`query`."""
        with self.meta.dbconn.reading() as con:
            return _fetch(con, query)

    def count(self, paths: Collection[str] | None, everything: bool) -> tuple[Kinds, int]:
        """How many renditions are pending of each kind, empty where all is in step; and how many of
        all are not the hashes that nobody asked for."""
        changed = self.changed(paths, everything).subquery()
        kind, is_listed = changed.c[KIND], sa.case((changed.c.recipe == PDQ, 0), else_=1)
        query = sa.select(kind, sa.func.count(), sa.func.sum(is_listed)).group_by(kind)
        found = self.meta.dbconn.rows(query)
        return {row[0]: row[1] for row in found}, sum(int(row[2]) for row in found)

    def sizes_fresh(self, paths: Collection[str] | None = None) -> set[int]:
        """Sizes, in bytes, of new and changed originals: one that is gone may only have moved."""
        changed = self.changed(paths).subquery("changed")
        originals = self.original_table
        query = (
            sa.select(originals.c.size_bytes)
            .join(changed, changed.c.path == originals.c.path)
            .where(self.our_originals, changed.c[KIND] == FRESH)
            .distinct()
        )
        with self.meta.dbconn.reading() as con:
            return set(con.execute(query).scalars())

    def sizes_known(self, page: Sequence[PendingOriginal]) -> set[int]:
        """Sizes, in bytes, that occur twice in the page, or in a rendition of another original.

        An original of any other size cannot have bytes that are known already.
        """
        counted = Counter(original.size_bytes for original in page if original.size_bytes)
        known = {size for size, count in counted.items() if count > 1}
        path_of = {original.size_bytes: original.path for original in page}
        for table in self.tables:
            size, path = table.c.original_bytes, table.c.path
            query = (
                sa.select(size, sa.func.min(path), sa.func.max(path))
                .where(size.in_(counted), is_ok(table))
                .group_by(size)
            )
            with self.meta.dbconn.reading() as con:
                for found, first, last in con.execute(query):
                    if not first == last == path_of[found]:
                        known.add(found)
        return known


class Look:
    """What one run queries from a :class:`Pending`, and keeps of the results; for one thread only.

    If it were shared, another thread's query would overwrite what the run is about to work on.
    """

    def __init__(self, pending: Pending) -> None:
        self.pending = pending
        self._only: Collection[str] | None = None
        self._first: tuple[bool, list[PendingRendition]] | None = None
        self._ahead: Ahead[list[PendingRendition]] | None = None
        # Of what was counted last: all but hashes.
        self.listed = 0

    def narrow(self, paths: Collection[str] | None) -> None:
        """Query only these originals from now on, by their keys; ``None``: all.

        Above one page, all originals are queried: one linear query costs less.
        """
        self._only = few_of(paths)

    def look_ahead(self) -> None:
        """Start the query, in a thread, for what is pending now.

        A run with no change spends its time on the scan, in Python, and on this query, in the
        database: side by side, the query costs nothing.
        """
        query = self._first_query()
        self._ahead = Ahead(self.pending.meta.dbconn, lambda con: _fetch(con, query))

    def close(self) -> None:
        """Stop the query, if it is still running; its result is dropped."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def counts(self, everything: bool = False, touched: Collection[str] | None = None) -> Kinds:
        """How many renditions are pending of each kind; empty where all is in step.

        Costs one linear query where no more than a page is pending, and keeps that page.
        ``touched`` are the originals whose rows were written since :meth:`look_ahead`: for all
        others its result holds, and only they are queried again. ``None``: all are.
        """
        rows = None if everything or touched is None else self._looked_ahead(touched)
        if rows is None:
            rows = self.pending.fetch(self._first_query(everything))
        self.close()
        if len(rows) > PAGE_ROWS:
            self._first = None
            counts, self.listed = self.pending.count(self._only, everything)
            return counts
        self.listed = sum(row.recipe != PDQ for row in rows)
        self._first = everything, rows
        return dict(Counter(row.kind for row in rows))

    def look_again(self) -> None:
        """Forget the first look: the next pages are queried again."""
        self._first = None

    def pages(self, kind: int, everything: bool = False) -> Iterator[list[PendingOriginal]]:
        """Pending originals of one kind in the order of their paths, whole ones in each page.

        Rows that are settled while a page is worked on do not disturb the next.
        """
        if self._first and self._first[0] == everything:
            rows = [row for row in self._first[1] if row.kind == kind]
            rows.sort(key=lambda row: row[:2])
            if rows:
                yield _originals(rows)
            return
        after, only = None, self._only
        while True:
            # With a condition on what comes after, SQLite reads all of that, not those few.
            query = self.pending.query(only, everything, kind, after if only is None else None)
            rows = self.pending.fetch(query.limit(PAGE_ROWS))
            if not rows:
                return
            last = rows[-1].path
            if len(rows) == PAGE_ROWS and rows[0].path != last:
                # The last original may have more rows than fit: leave it to the next page.
                rows = [row for row in rows if row.path != last]
            after = rows[-1].path
            yield _originals(rows)
            only = only and [path for path in only if path > after]

    def sizes_fresh(self) -> set[int]:
        """Sizes, in bytes, of new and changed originals: one that is gone may only have moved."""
        if not self._first:
            return self.pending.sizes_fresh(self._only)
        rows = self._first[1]
        return {row.now_bytes for row in rows if row.kind == FRESH and row.now_bytes is not None}

    def _looked_ahead(self, touched: Collection[str]) -> list[PendingRendition] | None:
        """The result of the look ahead, brought up to date;

        ``None`` if there is none, or only a part.
        """
        if self._ahead is None:
            return None
        rows = self._ahead.result()
        if len(rows) > PAGE_ROWS:
            return None
        if touched:
            rows = [row for row in rows if row.path not in touched]
            rows += self.pending.fetch(self.pending.query(touched))
        return rows

    def _first_query(self, everything: bool = False) -> sa.Select[Any]:
        return self.pending.query(self._only, everything).limit(PAGE_ROWS + 1)


def few_of(paths: Collection[str] | None) -> Collection[str] | None:
    """``paths`` if they are few enough to query one by one; ``None`` stands for all."""
    return None if paths is None or len(paths) > NARROW_ROWS else paths


def slices(pages: Iterable[list[PendingOriginal]]) -> Iterator[list[PendingOriginal]]:
    """The originals of all pages, a few at a time."""
    for page in pages:
        yield from chunks(page, SLICE)


def recipe_in(table: sa.Table) -> sa.ColumnElement[str]:
    """What made a row of renditions or of features, by the name that it has among recipes."""
    return table.c.recipe if "recipe" in table.c else sa.literal(PREFIX) + table.c.name


def rows_in(table: sa.Table) -> sa.Select[Any]:
    """The rows of renditions or of features, these with the ``recipe`` and the file of those."""
    if "recipe" in table.c:
        return sa.select(table)
    none = [sa.null().label(name) for name in ("file", "size_bytes")]
    return sa.select(table, recipe_in(table).label("recipe"), *none)


def is_ok(table: sa.Table) -> sa.ColumnElement[bool]:
    """Whether a row is in step, as a condition beside one on a column with an index.

    Nearly all are, which SQLite does not know: given the column itself, it would take the index of
    states and read them all.
    """
    return table.c.state + "" == State.OK.value


def _fetch(con: sa.Connection, query: sa.Select[Any]) -> list[PendingRendition]:
    return [PendingRendition(*row) for row in con.execute(query)]


def _originals(rows: list[PendingRendition]) -> list[PendingOriginal]:
    return [
        PendingOriginal(path, group[0].now_bytes, group[0].stored_under, group[0].found_ts, group)
        for path, group in ((path, tuple(g)) for path, g in groupby(rows, key=lambda row: row.path))
    ]
