"""The objects of a bucket matched with the rows of renditions: both in the order of the keys.

A request for each rendition would take hours where a listing takes minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pipeline.database.paging import pages
from pipeline.engine.recovery import prefixes_apart, stray_test
from pipeline.states import State
from pipeline.storage.at_hand import sha256_in
from pipeline.storage.at_once import at_once
from pipeline.storage.base import Store

if TYPE_CHECKING:
    from pipeline.engine.pending import Pending
    from pipeline.engine.render_step import RenderStep

PAGE_ROWS = 10_000
MISSING, ALTERED, STRAY = "missing", "altered", "stray"


def matched(
    step: RenderStep,
    renders: list[RenderStep],
    is_alive: Callable[[str], bool],
    deep: bool,
    check_stop: Callable[[], None],
) -> Iterator[tuple[str | None, str, Any]]:
    """What is wrong with each rendition of a step (``None``: nothing), its key and its row; and
    strays, which have no row.

    Raises:
        StoreError: the bucket cannot be listed to the end.
    """
    store = step.settings.output_store
    apart, is_stray = tuple(prefixes_apart(step, renders)), stray_test(step, is_alive)
    rows = _rows_by_file(step.pending)
    row = next(rows, None)
    for page in store.entries(step.prefix.rstrip("/")):
        check_stop()
        there = []
        for key, size_bytes, *_ in page:
            if key.startswith(apart):
                continue
            while row is not None and row.file < key:
                yield MISSING, row.file, row
                row = next(rows, None)
            if row is None or row.file != key:
                if is_stray(key):
                    yield STRAY, key, None
                continue
            if size_bytes != row.size_bytes:
                yield ALTERED, key, row
            elif deep:
                there.append(row)
            else:
                yield None, key, row
            row = next(rows, None)
        yield from _read(store, there)
    while row is not None:
        yield MISSING, row.file, row
        row = next(rows, None)


def _read(store: Store, rows: list[Any]) -> Iterator[tuple[str | None, str, Any]]:
    digests = at_once(lambda row: sha256_in(store, row.file), rows)
    for row, digest in zip(rows, digests, strict=True):
        if isinstance(digest, FileNotFoundError):
            yield MISSING, row.file, row
        elif isinstance(digest, Exception):
            raise digest
        else:
            yield (None if digest == row.file_sha256 else ALTERED), row.file, row


def _rows_by_file(pending: Pending) -> Iterator[Any]:
    table = pending.table
    keys = (table.c.file, table.c.source, table.c.path, table.c.recipe)
    query = sa.select(*keys, table.c.size_bytes, table.c.file_sha256).where(
        table.c.state == State.OK.value
    )
    for rows in pages(pending.meta.dbconn, query, keys, PAGE_ROWS):
        yield from rows
