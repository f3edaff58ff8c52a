"""The rows of what is made, each in its table: renditions, and the values of features."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, TypeVar

from datapipe.datatable import DataTable

from pipeline.database.paging import chunks
from pipeline.database.tracked import data_of, delete, upsert
from pipeline.database.transaction import Write
from pipeline.engine.pending import Pending, PendingRendition, RenditionKey
from pipeline.transforms.features import own_name

T = TypeVar("T")


def store_rows(write: Write, pending: Pending, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows of renditions and of features; each says its ``recipe``."""
    for table, theirs in _by_table(pending, rows, lambda row: str(row["recipe"])):
        named = [{**row, "name": own_name(row["recipe"])} for row in theirs]
        known = data_of(table).c
        for chunk in chunks(named):
            columns = [name for name in chunk[0] if name in known]
            upsert(write, table, [{name: row[name] for name in columns} for row in chunk])


def delete_rows(write: Write, pending: Pending, gone: Sequence[PendingRendition]) -> None:
    """Delete the rows of renditions and of features."""
    for table, theirs in _by_table(pending, gone, lambda rendition: rendition.recipe):
        keys = [(pending.source.value, each.path, own_name(each.recipe)) for each in theirs]
        delete(write, table, keys)


def mark_done(pending: Pending, done: Sequence[PendingRendition]) -> None:
    """Record that these are in step, as of when it was read what was pending of them.

    A change that was written since has a later time, so that it stays pending.
    """
    for as_of, same in groupby(sorted(done, key=_as_of), key=_as_of):
        pending.meta.mark([marks_of(pending, each) for each in same], as_of)


def _as_of(rendition: PendingRendition) -> float:
    return float(rendition.as_of or 0.0)


def marks_of(pending: Pending, rendition: PendingRendition) -> RenditionKey:
    """The key of a rendition or feature among what the step has marked as done."""
    return (pending.source.value, rendition.path, rendition.recipe)


def _by_table(
    pending: Pending, items: Iterable[T], recipe_of: Callable[[T], str]
) -> Iterator[tuple[DataTable, list[T]]]:
    by_name: dict[str, tuple[DataTable, list[T]]] = {}
    for item in items:
        table = pending.output(recipe_of(item))
        by_name.setdefault(table.name, (table, []))[1].append(item)
    yield from by_name.values()
