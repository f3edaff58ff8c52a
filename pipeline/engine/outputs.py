"""The rows of what is made, each in its table: renditions, and the values of features."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, TypeVar

import pandas as pd
from datapipe.datatable import DataTable
from datapipe.types import IndexDF

from pipeline.database.paging import chunks
from pipeline.database.tracked import data_of
from pipeline.database.tracking import frame
from pipeline.engine.pending import Pending, PendingRendition
from pipeline.transforms.features import own_name

T = TypeVar("T")


def store_rows(pending: Pending, rows: Sequence[dict[str, Any]], now: float) -> None:
    """Write rows of renditions and of features, as of ``now``; each says its ``recipe``."""
    for table, theirs in _by_table(pending, rows, lambda row: str(row["recipe"])):
        named = [{**row, "name": own_name(row["recipe"])} for row in theirs]
        known = data_of(table).c
        for chunk in chunks(named):
            columns = [name for name in chunk[0] if name in known]
            table.store_chunk(frame(chunk, columns), now=now)


def delete_rows(pending: Pending, gone: Sequence[PendingRendition], now: float) -> None:
    """Delete the rows of renditions and of features, as of ``now``."""
    for table, theirs in _by_table(pending, gone, lambda rendition: rendition.recipe):
        keys = [(pending.source.value, each.path, own_name(each.recipe)) for each in theirs]
        table.delete_by_idx(_index(keys, table.primary_keys), now=now)


def mark_done(pending: Pending, done: Sequence[PendingRendition]) -> None:
    """Record that these are in step, as of when it was read what was pending of them.

    A change that was written since has a later time, so that it stays pending.
    """
    for as_of, same in groupby(sorted(done, key=_as_of), key=_as_of):
        pending.meta.mark_rows_processed_success(marks_of(pending, list(same)), as_of)


def _as_of(rendition: PendingRendition) -> float:
    return float(rendition.as_of or 0.0)


def marks_of(pending: Pending, renditions: Sequence[PendingRendition]) -> IndexDF:
    """The keys of these renditions and features among what the step has marked as done."""
    keys = [(pending.source.value, each.path, each.recipe) for each in renditions]
    return _index(keys, pending.meta.transform_keys)


def _index(keys: Sequence[tuple[str, ...]], columns: Sequence[str]) -> IndexDF:
    return IndexDF(pd.DataFrame(keys, columns=list(columns), dtype="object"))


def _by_table(
    pending: Pending, items: Iterable[T], recipe_of: Callable[[T], str]
) -> Iterator[tuple[DataTable, list[T]]]:
    by_name: dict[str, tuple[DataTable, list[T]]] = {}
    for item in items:
        table = pending.output(recipe_of(item))
        by_name.setdefault(table.name, (table, []))[1].append(item)
    yield from by_name.values()
