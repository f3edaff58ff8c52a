"""Long results and long lists, in pieces of bounded size."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa

from pipeline.database.dialects import VALUES_AT_ONCE

if TYPE_CHECKING:
    from pipeline.database.connection import Database

T = TypeVar("T")


def chunks(items: Iterable[T], size: int = VALUES_AT_ONCE) -> Iterator[list[T]]:
    """``items`` in lists of ``size``; the last may be shorter."""
    coming = iter(items)
    while chunk := list(itertools.islice(coming, size)):
        yield chunk


def pages(
    database: Database,
    query: sa.Select[Any],
    keys: Sequence[sa.ColumnElement[Any]],
    size: int,
    first: int | None = None,
) -> Iterator[list[sa.Row[Any]]]:
    """The rows of ``query`` in the order of ``keys``, in pages of ``size``; the last is shorter.

    The query must select ``keys`` under their own names, and they must identify each row. Each page
    is a transaction of its own and starts behind the last row of the one before, so rows may be
    written meanwhile. Yields at most ``first`` rows.
    """
    names = [key.key for key in keys if key.key is not None]
    place = keys[0] if len(keys) == 1 else sa.tuple_(*keys)
    query = query.order_by(*keys)
    page, left = query, first
    while left is None or left > 0:
        limit = size if left is None else min(left, size)
        rows = list(database.rows(page.limit(limit)))
        if rows:
            yield rows
        if len(rows) < limit:
            return
        left = None if left is None else left - limit
        # Of the type of its key: what is stored of a long one is what it is compared with.
        values = [getattr(rows[-1], name) for name in names]
        last = [sa.literal(v, key.type) for v, key in zip(values, keys, strict=True)]
        page = query.where(place > (last[0] if len(last) == 1 else sa.tuple_(*last)))


def known_among(
    database: Database,
    column: sa.Column[T] | sa.ColumnElement[T],
    values: Collection[Any],
    *conditions: sa.ColumnElement[bool],
) -> set[T]:
    """Those of ``values`` that ``column`` holds in a row for which ``conditions`` are true."""
    known: set[T] = set()
    for chunk in chunks(values):
        query = sa.select(column).where(column.in_(chunk), *conditions).distinct()
        known.update(database.column(query))
    return known
