"""The rows of originals of the input folder, in the order of their keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from datapipe.datatable import DataTable

from pipeline.database.keys import in_order
from pipeline.database.tracked import TrackedTable
from pipeline.states import Source
from pipeline.storage.walking import Row

# Rows read at once: a page is closed before anything is written, and bounds the memory.
PAGE_ROWS = 20_000


def stored_in(table: DataTable) -> tuple[TrackedTable, sa.ColumnCollection[str, Any]]:
    """The store of a table, and its columns."""
    store = table.table_store
    assert isinstance(store, TrackedTable)
    return store, store.data_table.c


def _rows_of(columns: sa.ColumnCollection[str, Any]) -> sa.Select[Any]:
    names = ("path", "size_bytes", "mtime_ns", "ctime_ns", "inode")
    return sa.select(*[columns[name] for name in names]).where(is_ours(columns))


def is_ours(columns: sa.ColumnCollection[str, Any]) -> sa.ColumnElement[bool]:
    """What is true of the originals of the input folder alone."""
    ours: sa.ColumnElement[bool] = columns.source == Source.INPUT.value
    return ours


def stored_below(table: DataTable, key: str) -> dict[str, tuple[Any, ...]]:
    """The rows of a file, and of all below a folder of that name."""
    store, columns = stored_in(table)
    query = _rows_of(columns).where(
        # "0" comes right after "/": a range of the keys, which the index finds.
        sa.or_(columns.path == key, sa.and_(columns.path > key + "/", columns.path < key + "0")),
    )
    found = {row[0]: tuple(row) for row in store.dbconn.rows(query)}
    # On MySQL the range of a key that is too long for its index has others in it.
    return {path: row for path, row in found.items() if path == key or path.startswith(key + "/")}


def count_of(table: DataTable, at_most: int | None = None) -> int:
    """How many there are; counting ends at ``at_most``."""
    store, columns = stored_in(table)
    rows = sa.select(columns.path).where(is_ours(columns)).limit(at_most).subquery()
    return int(store.dbconn.column(sa.select(sa.func.count()).select_from(rows))[0])


class Stored:
    """The rows of the table of originals in the order of keys, a page at a time."""

    def __init__(self, table: DataTable) -> None:
        store, self._columns = stored_in(table)
        self._database = store.dbconn
        self._page: list[tuple[Any, ...]] = []
        self._held: list[tuple[Any, ...]] = []  # what was read, but others may come before it
        self._next = 0
        self._is_last, self._last = False, None
        self._turn_page()

    def skip_equal(self, files: list[Row]) -> bool:
        """Pass over the next rows if they are just ``files``; else nothing happens."""
        end = self._next + len(files)
        if end > len(self._page) and not self._is_last:
            self._turn_page()
            end = self._next + len(files)
        if self._page[self._next : end] != files:
            return False
        self._next = end
        return True

    def before(self, path: str | None) -> Iterator[str]:
        """Pass over the rows before ``path`` (``None``: all that are left); give their paths."""
        while True:
            if self._next == len(self._page):
                if self._is_last:
                    return
                self._turn_page()
                continue
            key = self._page[self._next][0]
            if path is not None and key >= path:
                return
            self._next += 1
            yield key

    def at(self, path: str) -> tuple[Any, ...] | None:
        """Pass over the row of ``path`` and give it; ``None`` if there is none."""
        if self._next == len(self._page) or self._page[self._next][0] != path:
            return None
        self._next += 1
        return self._page[self._next - 1]

    def _turn_page(self) -> None:
        """Append the next page to what is left of this one."""
        path = self._columns.path
        query = _rows_of(self._columns).order_by(path).limit(PAGE_ROWS)
        if self._last is not None:
            query = query.where(path > self._last)
        with self._database.reading() as con:
            # The driver's own tuples compare with ours in C; SQLAlchemy's rows do not.
            cursor: Any = con.execute(query).cursor
            rows = list(cursor.fetchall())
        self._is_last, self._last = len(rows) < PAGE_ROWS, rows[-1][0] if rows else None
        rows, self._held = in_order(self._held + rows, self._is_last)
        self._page = self._page[self._next :] + rows
        self._next = 0
