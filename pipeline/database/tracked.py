"""Tracked tables: tables of datapipe-core, written by few statements, however many the rows."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import pandas as pd
import sqlalchemy as sa
from datapipe.datatable import DataTable
from datapipe.store.database import TableStoreDB
from datapipe.types import DataDF, HashDF, IndexDF

from pipeline.database.connection import Database
from pipeline.database.dialects import VALUES_AT_ONCE
from pipeline.database.paging import chunks
from pipeline.database.transaction import Write

# The values of some columns, in their order.
KeyValues: TypeAlias = tuple[Any, ...]


class KeyFilter(NamedTuple):
    """Rows that have one of ``keys`` in the columns of these names."""

    names: Sequence[str]
    keys: Sequence[KeyValues]

    @classmethod
    def of(cls, rows: pd.DataFrame) -> KeyFilter:
        """The rows of a frame."""
        names = list(rows.columns)
        return cls(names, keys_of(rows, names))

    def among(
        self, columns: Mapping[str, Any] | sa.ColumnCollection[str, Any]
    ) -> sa.ColumnElement[bool]:
        """Whether ``columns`` hold one of the keys; names that they lack narrow nothing."""
        places = [place for place, name in enumerate(self.names) if name in columns]
        keys = self.keys
        if len(places) < len(self.names):
            keys = [tuple(key[place] for place in places) for key in keys]
        return is_one_of([columns[self.names[place]] for place in places], keys)


# Of what datapipe-core remembers of a row, all that moves when it is written again.
META_CHANGING = ("hash", "update_ts", "process_ts", "delete_ts")


class TrackedTable(TableStoreDB):
    """A table in the database, written by one prepared statement."""

    dbconn: Database

    def __init__(self, database: Database, name: str, columns: list[sa.Column[Any]]) -> None:
        super().__init__(database, name, columns)

    def update_rows(self, df: DataDF) -> None:
        """Insert or update rows; nothing happens for an empty frame."""
        rows = plain_rows(df)
        insert_or_update(self.dbconn, self.data_table, self.primary_keys, self.data_keys, rows)

    def delete_rows(self, idx: IndexDF) -> None:
        """Delete the rows of these keys; nothing happens for none."""
        for chunk in chunks(keys_of(idx, self.primary_keys), VALUES_AT_ONCE):
            with self.dbconn.writing() as con:
                con.execute(sa.delete(self.data_table).where(self._is_one_of(chunk)))

    def read_rows(self, idx: IndexDF | None = None) -> DataDF:
        """The rows of these keys; all rows for ``None``."""
        if idx is None or not len(idx):
            return super().read_rows(idx)
        query = sa.select(self.data_table)
        keys = chunks(keys_of(idx, self.primary_keys), VALUES_AT_ONCE)
        with self.dbconn.reading() as con:
            found = [pd.read_sql_query(query.where(self._is_one_of(each)), con) for each in keys]
        return pd.concat(found, ignore_index=True)

    def _is_one_of(self, keys: Sequence[KeyValues]) -> sa.ColumnElement[bool]:
        return is_one_of([self.data_table.c[name] for name in self.primary_keys], keys)

    def hash_rows(self, df: DataDF) -> HashDF:
        """A random number for each row, which marks it as changed.

        Stands in for ``TableStore.hash_rows``. Our steps only write changes, so no hash of the
        content is needed to find them; and its 32 bits would hide one change in four billion for
        ever, while a random number that happens to be the old one hides it until the next run.
        """
        keys = df[self.hash_keys].copy()
        keys["hash"] = [_any_hash() for _ in range(len(df))]
        return HashDF(keys)


def upsert(write: Write, table: DataTable, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert or update rows of a tracked table, each as changed; nothing happens for none.

    Stands in for ``DataTable.store_chunk``, which a user's step calls: that compares the rows with
    what is there, by seven frames. Our steps write only what changed.
    """
    if not rows:
        return
    now, keys = write.now, table.primary_keys
    store = table.table_store
    assert isinstance(store, TrackedTable)
    insert_or_update(store.dbconn, store.data_table, keys, store.data_keys, rows)
    times = {"create_ts": now, "update_ts": now, "process_ts": now, "delete_ts": None}
    marks = [{**{key: row[key] for key in keys}, "hash": _any_hash(), **times} for row in rows]
    insert_or_update(store.dbconn, meta_of(table), keys, META_CHANGING, marks)


def delete(write: Write, table: DataTable, keys: Sequence[KeyValues]) -> None:
    """Delete rows of a tracked table; those that read it learn of it. Nothing happens for none.

    Stands in for ``DataTable.delete_by_idx`` as :func:`upsert` does for ``store_chunk``.
    """
    data, meta, now = data_of(table), meta_of(table), write.now
    gone = {"hash": 0, "update_ts": now, "process_ts": now, "delete_ts": now}
    for chunk in chunks(keys, VALUES_AT_ONCE):
        is_its = is_one_of([data.c[name] for name in table.primary_keys], chunk)
        write.execute(sa.delete(data).where(is_its))
        is_its = is_one_of([meta.c[name] for name in table.primary_keys], chunk)
        write.execute(sa.update(meta).where(is_its, meta.c.delete_ts.is_(None)).values(gone))


def _any_hash() -> int:
    return random.getrandbits(32) - (1 << 31)


# Values of one key that do not narrow a statement enough.
FEW = 8


def is_one_of(columns: Sequence[Any], keys: Sequence[KeyValues]) -> sa.ColumnElement[bool]:
    """Whether the ``columns`` hold the values of one of ``keys``.

    SQLite looks lists of values up in an index, but reads the whole table for a list of rows. So
    the first keys are compared by themselves as well, up to one of more than ``FEW`` values: SQLite
    looks up each value of one list for each of the lists before it.
    """
    conditions: list[sa.ColumnElement[bool]] = [sa.true()]
    several: list[int] = []
    is_narrow = False
    for place, column in enumerate(columns):
        values = list(dict.fromkeys(key[place] for key in keys))
        if len(values) > 1:
            several.append(place)
        if len(values) <= 1 or not is_narrow:
            conditions.append(column.in_(values))
        is_narrow = is_narrow or len(values) > FEW
    if len(several) > 1:
        together = sa.tuple_(*[columns[place] for place in several])
        conditions.append(together.in_([tuple(key[place] for place in several) for key in keys]))
    return sa.and_(*conditions)


def insert_or_update(
    database: Database,
    table: sa.Table,
    keys: Sequence[str],
    changing: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
) -> None:
    """Write ``rows`` in one transaction; where a key is there already, only ``changing`` moves.

    Nothing happens for no rows, of which SQLAlchemy would make one of NULLs.
    """
    if rows:
        with database.writing() as write:
            database.dialect.upsert(write.con, table, keys, changing, rows)


def keys_of(rows: pd.DataFrame, names: Sequence[str]) -> list[KeyValues]:
    """The values of these columns of a frame, row by row."""
    return list(rows[list(names)].itertuples(index=False, name=None))


def plain_rows(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """A frame as plain Python values: databases know NULL, but neither NaN nor numpy integers."""
    columns = [
        rows[name].to_numpy(dtype="object", na_value=None).tolist()  # type: ignore[call-overload]
        for name in rows.columns
    ]
    return [dict(zip(rows.columns, values, strict=True)) for values in zip(*columns, strict=True)]


def data_of(table: DataTable) -> sa.Table:
    """The rows of a tracked table, for queries."""
    store = table.table_store
    assert isinstance(store, TrackedTable)
    return store.data_table


def meta_of(table: DataTable) -> sa.Table:
    """What datapipe-core remembers of each row of a tracked table."""
    meta: Any = table.meta
    found = meta.sql_table
    assert isinstance(found, sa.Table)
    return found


def touch(write: Write, table: DataTable, where: sa.ColumnElement[bool]) -> None:
    """Have those who read a tracked table look again at rows of it, named by columns of its meta.

    For what writes to the rows themselves, within the same transaction.
    """
    meta = meta_of(table)
    changed = {"hash": _any_hash(), "update_ts": write.now, "process_ts": write.now}
    write.execute(sa.update(meta).where(where).values(changed))
