"""Records: what a step of the user's works on, by its keys, and the query for the pending ones.

An input that has all keys of the step in its rows covers it: each of its rows is one of a record.
The others tell something more about many records, and join on the keys that they have. Where none
covers, each record is a combination of one row of each, as renditions are of originals and recipes.

In this way the query is linear: no FULL OUTER JOIN, which SQLite runs in quadratic time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from datapipe.compute import ComputeInput
from datapipe.meta.sql_meta import SQLTableMeta

# Whether a record is still there: one of its rows is.
LIVE = "_live"

_UPDATE_TS = "_update_ts"


class Part(NamedTuple):
    """What one input tells: a query of its keys, ``_update_ts`` and ``_live``, and its keys."""

    query: sa.Subquery
    keys: tuple[str, ...]
    is_required: bool


def meta_table(compute_input: ComputeInput) -> sa.Table:
    """What datapipe-core remembers of each row of an input.

    Raises:
        TypeError: it is not in a database.
    """
    meta = compute_input.dt.meta
    if not isinstance(meta, SQLTableMeta):
        raise TypeError(f"{compute_input.dt.name} keeps its meta outside the database")
    return meta.sql_table


def key_columns(
    compute_input: ComputeInput, transform_keys: Sequence[str]
) -> dict[str, sa.Column[Any]]:
    """The keys of a step that an input has in its rows, with their columns."""
    table, names = meta_table(compute_input), compute_input.keys or {}
    own = {key: names.get(key, key) for key in transform_keys}
    known = compute_input.dt.primary_keys
    return {key: table.c[column] for key, column in own.items() if column in known}


def pending_records(
    inputs: Sequence[ComputeInput],
    done: sa.Table,
    transform_keys: Sequence[str],
    filters: Mapping[str, Any],
) -> sa.Select[Any] | None:
    """Keys of all records that are pending, with ``_live``.

    New and changed ones, those that are gone and of which something may be left, and those that are
    to be tried again. One that failed is not, until an input changes or its error is forgotten.

    ``None``: records that no single input tells are missing from a combination of them.
    """
    keys = list(transform_keys)
    parts = [_part(each, keys, filters) for each in inputs]
    covering = [part for part in parts if keys and len(part.keys) == len(keys)]
    if not covering:
        named = [key for part in parts for key in part.keys]
        has_own = [any(named.count(key) == 1 for key in part.keys) for part in parts]
        return _combined(parts, done, keys) if parts and all(has_own) else None
    first, present = _united(covering, keys)
    joined: sa.FromClause = first
    columns = {key: first.c[key] for key in keys}
    changed = [first.c[_UPDATE_TS]]
    for part in parts:
        if part not in covering:
            matches = [columns[key] == part.query.c[key] for key in part.keys]
            joined = joined.outerjoin(part.query, sa.and_(sa.true(), *matches))
            changed.append(part.query.c[_UPDATE_TS])
            present[part.query] = part.query.c[_UPDATE_TS].is_not(None)
    query = _pending(joined, done, columns, changed, first.c[LIVE])
    if not any(part.is_required for part in parts[1:]):
        return query
    return query.where(is_joined(inputs, [present[part.query] for part in parts]))


def is_joined(
    inputs: Sequence[ComputeInput], present: Sequence[sa.ColumnElement[bool]]
) -> sa.ColumnElement[bool]:
    """Whether a record comes of joining ``inputs``, by whether each has rows of it.

    As upstream does: one after the other, whole, or where both are there if the next is required.
    """
    is_there = present[0]
    for each, has in zip(inputs[1:], present[1:], strict=True):
        both = (is_there, has)
        is_there = sa.and_(*both) if each.join_type == "inner" else sa.or_(*both)
    return is_there


def _combined(parts: Sequence[Part], done: sa.Table, keys: Sequence[str]) -> sa.Select[Any]:
    joined: sa.FromClause = parts[0].query
    columns = {key: parts[0].query.c[key] for key in parts[0].keys}
    for part in parts[1:]:
        shared = [columns[key] == part.query.c[key] for key in part.keys if key in columns]
        joined = joined.join(part.query, sa.and_(sa.true(), *shared))
        columns |= {key: part.query.c[key] for key in part.keys if key not in columns}
    changed = [part.query.c[_UPDATE_TS] for part in parts]
    # One that lacks a row of any input is no combination any more.
    live = sa.case((sa.and_(*[part.query.c[LIVE] == 1 for part in parts]), 1), else_=0)
    return _pending(joined, done, {key: columns[key] for key in keys}, changed, live)


def _pending(
    joined: sa.FromClause,
    done: sa.Table,
    columns: Mapping[str, sa.ColumnElement[Any]],
    changed: Sequence[sa.ColumnElement[Any]],
    live: sa.ColumnElement[Any],
) -> sa.Select[Any]:
    joined = joined.outerjoin(done, sa.and_(*[done.c[key] == columns[key] for key in columns]))
    is_new = sa.and_(done.c.process_ts.is_(None), live == 1)
    is_to_try = sa.and_(done.c.is_success.is_(sa.false()), done.c.error.is_(None))
    is_changed = [update_ts > done.c.process_ts for update_ts in changed]
    return (
        sa.select(
            *[column.label(key) for key, column in columns.items()],
            live.label(LIVE),
        )
        .select_from(joined)
        .where(sa.or_(is_new, is_to_try, *is_changed))
    )


def _united(
    covering: Sequence[Part], keys: Sequence[str]
) -> tuple[sa.Subquery, dict[sa.Subquery, sa.ColumnElement[bool]]]:
    """The records that any of these has, with the last change of all and whether one is there; and
    for each of these whether it has the record."""
    if len(covering) == 1:
        return covering[0].query, {covering[0].query: sa.true()}
    marked = [
        sa.select(
            part.query,
            *[sa.literal(int(other is part)).label(f"_in{n}") for n, other in enumerate(covering)],
        )
        for part in covering
    ]
    flags = [f"_in{number}" for number in range(len(covering))]
    united = _grouped(sa.union_all(*marked).subquery(), keys, flags)
    return united, {part.query: united.c[f] == 1 for part, f in zip(covering, flags, strict=True)}


def _part(compute_input: ComputeInput, keys: Sequence[str], filters: Mapping[str, Any]) -> Part:
    table, columns = meta_table(compute_input), key_columns(compute_input, keys)
    query = sa.select(
        *[column.label(key) for key, column in columns.items()],
        table.c.update_ts.label(_UPDATE_TS),
        sa.case((table.c.delete_ts.is_(None), 1), else_=0).label(LIVE),
    )
    for name, value in filters.items():
        if name in columns:
            query = query.where(columns[name] == value)
        elif name in compute_input.dt.primary_keys:
            query = query.where(table.c[name] == value)
    rows = query.subquery()
    if {column.name for column in columns.values()} != set(compute_input.dt.primary_keys):
        rows = _grouped(rows, list(columns))
    return Part(rows, tuple(columns), compute_input.join_type == "inner")


def _grouped(rows: sa.Subquery, keys: Sequence[str], flags: Sequence[str] = ()) -> sa.Subquery:
    columns = [rows.c[key] for key in keys]
    greatest = [sa.func.max(rows.c[name]).label(name) for name in (_UPDATE_TS, LIVE, *flags)]
    return sa.select(*columns, *greatest).group_by(*columns).subquery()
