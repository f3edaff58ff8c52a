"""Listing originals: which, in which order, a page at a time, and how many there are.

Every query uses an index and starts at the place where the page before ended: the last page of ten
million costs as much as the first. What no index can answer (a text in the middle of a name) is
searched among a bounded number of originals; the page may then be short, or empty, and still says
where to continue.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import sqlalchemy as sa

from pipeline.database.keys import Key
from pipeline.database.tracked import meta_of
from pipeline.database.tracking import GONE, KIND
from pipeline.engine.pending import Pending
from pipeline.imaging.formats import suffixes_of
from pipeline.operations.history import removed_originals
from pipeline.states import Source, State
from pipeline.tables import EXCEPTION
from pipeline.transforms.features import PREFIX

# Originals that one page may search: 10 ms of SQLite's time. As many are sorted for one page.
LOOKED_THROUGH = 20_000
# The same where each costs a look at its renditions.
CHECKED = 1_000
# How many are counted at most, for the total; and where each costs a look at its renditions.
COUNTED, COUNTED_CHECKED = 100_000, 10_000
# The character after "/": all keys of a folder lie between `folder/` and `folder0`.
AFTER_SLASH = chr(ord("/") + 1)
PENDING = "pending"


class Sort(str, enum.Enum):
    """The order of a list; among equals, that of the names."""

    NAME = "name"
    NEWEST = "newest"
    OLDEST = "oldest"
    LARGEST = "largest"
    SMALLEST = "smallest"

    @property
    def is_descending(self) -> bool:
        """Whether the greatest value comes first, and the last name."""
        return self in (Sort.NEWEST, Sort.LARGEST)


@dataclass(frozen=True)
class Filter:
    """Which originals: every field that is not empty narrows them down.

    ``state`` is one of :func:`pipeline.operations.gallery.states`, of any rendition, or of that of
    ``recipe``; ``folder`` is a key, such as ``shoes/summer``; ``text`` may be anywhere in the key,
    in any case; ``format`` is that of the suffix. They were found from ``since_ts`` on and before
    ``until_ts``, Unix times in seconds.
    """

    state: str = ""
    folder: str = ""
    text: str = ""
    format: str = ""
    recipe: str = ""
    since_ts: float | None = None
    until_ts: float | None = None


class Place(NamedTuple):
    """Where in a list an original is; ``value`` is what the list is sorted by before the names."""

    path: str
    value: float | None = None

    def as_text(self) -> str:
        """For the address of a page, which :meth:`read` reads."""
        return self.path if self.value is None else f"{self.value!r}:{self.path}"

    @classmethod
    def read(cls, text: str, sort: Sort) -> Place | None:
        """The place that an address names; ``None`` where it names none of a list in this order."""
        if sort is Sort.NAME:
            return cls(text) if text else None
        value, colon, path = text.partition(":")
        try:
            return cls(path, float(value)) if colon else None
        except ValueError:
            return None


@dataclass(frozen=True)
class Start:
    """Where a page begins: after ``place``, or at it, or (``is_back``) where it ends before it."""

    place: Place | None = None
    is_back: bool = False
    is_at: bool = False


class Keys(NamedTuple):
    """The keys of a page, and the place to continue after; ``None`` if there are no more."""

    places: list[Place]
    next: Place | None


class Count(NamedTuple):
    """How many there are, and how many come before a place; ``None`` where too many to count."""

    total: int | None
    before: int | None


Condition = Callable[[Any], sa.ColumnElement[bool]]


@dataclass
class _List:
    """Originals in an order, and what has to be checked of each because no index says it."""

    query: sa.Select[Any]
    path: sa.ColumnElement[Any]
    value: sa.ColumnElement[Any] | None = None
    is_descending: bool = False
    folder: str = ""
    cheap: list[Condition] = field(default_factory=list)
    costly: list[Condition] = field(default_factory=list)

    def after(self, start: Start) -> sa.Select[Any]:
        """The rows behind a place, in the order in which they are read."""
        is_down = self.is_descending != start.is_back
        query = self._bounded(start, is_down)
        columns = [self.path] if self.value is None else [self.value, self.path]
        return query.order_by(*[column.desc() if is_down else column for column in columns])

    def _bounded(self, start: Start, is_down: bool) -> sa.Select[Any]:
        query, place = self.query, start.place
        low, high = (self.folder + "/", self.folder + AFTER_SLASH) if self.folder else ("", None)
        if self.value is None:
            # One bound on each side: of two, SQLite enters the index at whichever comes first in
            # the statement.
            if place is not None and not is_down and place.path > low:
                query = query.where(
                    self.path >= place.path if start.is_at else self.path > place[0]
                )
                low = ""
            if place is not None and is_down and (high is None or place.path < high):
                query = query.where(
                    self.path <= place.path if start.is_at else self.path < place[0]
                )
                high = None
        elif place is not None:
            here = sa.tuple_(self.value, self.path)
            there = sa.tuple_(sa.literal(place.value), sa.literal(place.path, Key))
            if start.is_at:
                query = query.where(here <= there if is_down else here >= there)
            else:
                query = query.where(here < there if is_down else here > there)
        query = query.where(self.path > low) if low else query
        return query if high is None else query.where(self.path < high)

    def holds(self, path: Any) -> list[sa.ColumnElement[bool]]:
        """What has to be true of each original, for a page that is searched."""
        return [condition(path) for condition in (*self.cheap, *self.costly)]


def keys(
    con: sa.Connection, pending: Pending, wanted: Filter, sort: Sort, start: Start, limit: int
) -> Keys:
    """Up to ``limit`` originals from ``start`` on, in the order of ``sort``.

    Backwards they are those that end before the place, nearest last, and ``next`` is the place to
    go on before.
    """
    found, rest = _look_through(con, _list(con, pending, wanted, sort), start, limit)
    return Keys(found[::-1] if start.is_back else found, rest)


def every(pending: Pending, wanted: Filter, sort: Sort = Sort.NAME) -> Iterator[list[str]]:
    """All originals of a filter, in pages, each in a transaction of its own."""
    start = Start()
    while True:
        with pending.meta.dbconn.reading() as con:
            page = keys(con, pending, wanted, sort, start, CHECKED)
        if page.places:
            yield [place.path for place in page.places]
        if page.next is None:
            return
        start = Start(page.next)


def place_of(con: sa.Connection, pending: Pending, path: str, sort: Sort) -> Place | None:
    """Where the original of this name is in a list; ``None`` if there is none."""
    if sort is Sort.NAME:
        return Place(path)
    query, column, _ = _base(pending, sort)
    row = con.execute(query.where(column == path)).first()
    if row is None:
        return None
    return Place(path, row.value)


def count(
    con: sa.Connection, pending: Pending, wanted: Filter, sort: Sort, place: Place | None
) -> Count:
    """How many there are, and how many come before ``place``."""
    if wanted.state == PENDING:
        # The linear query once more, for a number.
        return Count(None, 0 if place is None else None)
    of = _list(con, pending, wanted, sort)
    total = _count(con, of, of.after(Start()))
    before = _count(con, of, of.after(Start(place, is_back=True))) if place is not None else 0
    return Count(total, before)


def _count(con: sa.Connection, of: _List, query: sa.Select[Any]) -> int | None:
    most = COUNTED_CHECKED if of.costly else COUNTED
    near = query.limit(most + 1).subquery()
    total = con.execute(sa.select(sa.func.count()).select_from(near)).scalar_one()
    if total > most:
        return None
    if of.cheap or of.costly:
        matches = sa.select(sa.func.count()).select_from(near).where(*of.holds(near.c.path))
        total = con.execute(matches).scalar_one()
    return int(total)


def _base(
    pending: Pending, sort: Sort
) -> tuple[sa.Select[Any], sa.ColumnElement[Any], sa.ColumnElement[Any] | None]:
    """All originals, with their path and what they are sorted by."""
    originals = pending.original_table
    if sort is Sort.NAME:
        path = originals.c.path
        return sa.select(path).where(pending.our_originals), path, None
    if sort in (Sort.LARGEST, Sort.SMALLEST):
        path, value = originals.c.path, originals.c.size_bytes
        query = sa.select(path, value.label("value")).where(pending.our_originals)
        return query, path, value
    found = meta_of(pending.originals)
    query = sa.select(found.c.path, found.c.create_ts.label("value")).where(
        pending.ours_in(found), found.c.delete_ts.is_(None)
    )
    return query, found.c.path, found.c.create_ts


def _list(con: sa.Connection, pending: Pending, wanted: Filter, sort: Sort) -> _List:
    """What to walk along for a filter in an order, and what to check on the way."""
    narrow = _narrow(pending, wanted)
    if narrow is not None and sort is Sort.NAME:
        return _with_checks(_List(narrow[0], narrow[1], folder=wanted.folder), pending, wanted)
    query, path, value = _base(pending, sort)
    of = _List(query, path, value, sort.is_descending, wanted.folder)
    if sort is Sort.NAME:
        return _with_state(_with_checks(of, pending, wanted), pending, wanted)
    all_paths, column = narrow or _base(pending, Sort.NAME)[:2]
    few = _List(all_paths, column, folder=wanted.folder)
    bounded = few.after(Start()).limit(LOOKED_THROUGH + 1).subquery()
    is_few = narrow is not None or wanted.folder
    if wanted.state == PENDING or (
        is_few
        and con.execute(sa.select(sa.func.count()).select_from(bounded)).scalar_one()
        <= LOOKED_THROUGH
    ):
        # Few enough to be sorted: the order's own index, of all originals, is of no use.
        assert value is not None
        of.query = query.where(path.in_(few.after(Start()).order_by(None)))
        of.value = value + 0
        if narrow is not None:
            return _with_checks(of, pending, wanted)
    return _with_state(_with_checks(of, pending, wanted), pending, wanted)


def _narrow(pending: Pending, wanted: Filter) -> tuple[sa.Select[Any], Any] | None:
    """The originals of a state that few have, by an index of its own; else ``None``."""
    made = pending.table
    if wanted.state == PENDING:
        changed = pending.changed().subquery("changed")
        query = sa.select(changed.c.path).where(
            changed.c[KIND] != GONE, ~changed.c.recipe.startswith(PREFIX)
        )
        query = query.where(changed.c.recipe == wanted.recipe) if wanted.recipe else query
        return query.distinct(), changed.c.path
    if wanted.state and wanted.state != State.OK.value:
        query = sa.select(made.c.path).where(
            pending.ours, made.c.state == wanted.state, sa.text(EXCEPTION)
        )
        query = query.where(made.c.recipe == wanted.recipe) if wanted.recipe else query
        path: sa.ColumnElement[Any] = made.c.path
        if wanted.state == State.TAKEN_DOWN.value and pending.source is Source.INPUT:
            # What was removed is no original any more; takedowns know its name.
            removed = removed_originals(pending).subquery()
            path = query.union(sa.select(removed.c.path)).subquery().c.path
            query = sa.select(path)
        return query.distinct(), path
    return None


def _with_checks(of: _List, pending: Pending, wanted: Filter) -> _List:
    """What a name says, and when the original was found."""
    if wanted.text:
        text = wanted.text.lower()
        of.cheap.append(lambda path: sa.func.lower(path).contains(text, autoescape=True))
    if wanted.format:
        ends = [f"%{suffix}" for suffix in suffixes_of(wanted.format)]
        of.cheap.append(lambda path: sa.or_(*[sa.func.lower(path).like(end) for end in ends]))
    times = [("since_ts", wanted.since_ts), ("until_ts", wanted.until_ts)]
    if all(moment is None for _, moment in times):
        return of
    found = meta_of(pending.originals)
    in_time = [
        found.c.create_ts >= moment if name == "since_ts" else found.c.create_ts < moment
        for name, moment in times
        if moment is not None
    ]
    if of.path.table is found:
        of.query = of.query.where(*in_time)
    else:
        row = sa.select(found.c.path).where(pending.ours_in(found), *in_time)
        of.costly.append(lambda path: row.where(found.c.path == path).exists())
    return of


def _with_state(of: _List, pending: Pending, wanted: Filter) -> _List:
    """What the rows of the renditions say, for states that no index narrows down."""
    made = pending.table
    theirs = sa.select(made.c.path).where(pending.ours)
    theirs = theirs.where(made.c.recipe == wanted.recipe) if wanted.recipe else theirs
    if wanted.state and wanted.state != State.OK.value:
        has = theirs.where(made.c.state == wanted.state)
        of.costly.append(lambda path: has.where(made.c.path == path).exists())
    elif wanted.state or wanted.recipe:
        of.costly.append(lambda path: theirs.where(made.c.path == path).exists())
    if wanted.state == State.OK.value:
        bad = theirs.where(made.c.state != State.OK.value)
        of.costly.append(lambda path: ~bad.where(made.c.path == path).exists())
    return of


def _look_through(
    con: sa.Connection, of: _List, start: Start, limit: int
) -> tuple[list[Place], Place | None]:
    """Up to ``limit`` places of a list from ``start`` on, and where to go on.

    If no index covers the filter, a bounded number is read: few at first, because a common text is
    found at once, and then more and more.
    """
    if not of.cheap and not of.costly:
        return _cut(_places(con, of.after(start).limit(limit + 1)), limit)
    found: list[Place] = []
    left = CHECKED if of.costly else LOOKED_THROUGH
    window = max(limit, left // 16)
    while left > 0:
        last = _places(con, of.after(start).offset(window - 1).limit(1))
        near = of.after(start).limit(window).subquery()
        matches = sa.select(near).where(*of.holds(near.c.path))
        columns = [near.c.path] if of.value is None else [near.c.value, near.c.path]
        is_down = of.is_descending != start.is_back
        matches = matches.order_by(*[column.desc() if is_down else column for column in columns])
        found += _places(con, matches.limit(limit + 1 - len(found)))
        if len(found) > limit:
            return _cut(found, limit)
        if not last:
            return found, None
        start = Start(last[0], start.is_back)
        left -= window
        window = min(window * 4, max(left, 1))
    return found, start.place


def _places(con: sa.Connection, query: sa.Select[Any]) -> list[Place]:
    return [Place(*row) for row in con.execute(query)]


def _cut(found: Sequence[Place], limit: int) -> tuple[list[Place], Place | None]:
    return list(found[:limit]), found[limit - 1] if len(found) > limit else None
