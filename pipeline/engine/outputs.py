"""The rows of what is made, each in its table: renditions, and the values of features."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import pandas as pd
from datapipe.datatable import DataTable
from datapipe.types import IndexDF

from pipeline.database.paging import chunks
from pipeline.database.tracked import data_of
from pipeline.database.tracking import frame
from pipeline.engine.pending import Pending
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


def delete_rows(pending: Pending, pairs: Sequence[tuple[str, str]], now: float) -> None:
    """Delete the rows of these paths and recipes, as of ``now``."""
    for table, theirs in _by_table(pending, pairs, lambda pair: pair[1]):
        keys = [(pending.source.value, path, own_name(recipe)) for path, recipe in theirs]
        table.delete_by_idx(_index(keys, table.primary_keys), now=now)


def mark_done(pending: Pending, pairs: Sequence[tuple[str, str]], as_of: float) -> None:
    """Remember that these paths and recipes are in step as of a time."""
    pending.meta.mark_rows_processed_success(marks_of(pending, pairs), process_ts=as_of)


def marks_of(pending: Pending, pairs: Sequence[tuple[str, str]]) -> IndexDF:
    """The keys of these paths and recipes among what the step has marked as done."""
    keys = [(pending.source.value, *pair) for pair in pairs]
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
