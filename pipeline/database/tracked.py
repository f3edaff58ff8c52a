"""Tracked tables: tables of datapipe-core, written by one prepared statement."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import sqlalchemy as sa
from datapipe.datatable import DataTable
from datapipe.store.database import TableStoreDB
from datapipe.types import DataDF, HashDF, IndexDF

from pipeline.database.connection import Database
from pipeline.database.dialects import VALUES_AT_ONCE
from pipeline.database.transaction import Write


class TrackedTable(TableStoreDB):
    """A table in the database, written by one prepared statement."""

    dbconn: Database

    def __init__(self, database: Database, name: str, columns: list[sa.Column[Any]]) -> None:
        super().__init__(database, name, columns)

    def update_rows(self, df: DataDF) -> None:
        """Insert or update rows; nothing happens for an empty frame."""
        insert_or_update(self.dbconn, self.data_table, self.primary_keys, self.data_keys, df)

    def delete_rows(self, idx: IndexDF) -> None:
        """Delete the rows of these keys; nothing happens for none."""
        for start in range(0, len(idx), VALUES_AT_ONCE):
            chunk = idx.iloc[start : start + VALUES_AT_ONCE]
            keys = is_one_of(self.data_table.c, chunk[self.primary_keys])
            with self.dbconn.writing() as con:
                con.execute(sa.delete(self.data_table).where(keys))

    def read_rows(self, idx: IndexDF | None = None) -> DataDF:
        """The rows of these keys; all rows for ``None``."""
        if idx is None or not len(idx):
            return super().read_rows(idx)
        query, found = sa.select(self.data_table), []
        with self.dbconn.reading() as con:
            for start in range(0, len(idx), VALUES_AT_ONCE):
                chunk = idx.iloc[start : start + VALUES_AT_ONCE]
                keys = is_one_of(self.data_table.c, chunk[self.primary_keys])
                found.append(pd.read_sql_query(query.where(keys), con))
        return pd.concat(found, ignore_index=True)

    def hash_rows(self, df: DataDF) -> HashDF:
        """A random number for each row, which marks it as changed.

        Stands in for ``TableStore.hash_rows``. Our steps only write changes, so no hash of the
        content is needed to find them; and its 32 bits would hide one change in four billion for
        ever, while a random number that happens to be the old one hides it until the next run.
        """
        keys = df[self.hash_keys].copy()
        keys["hash"] = [random.getrandbits(32) - (1 << 31) for _ in range(len(df))]
        return HashDF(keys)


# Values of one key that do not narrow a statement enough.
FEW = 8


def is_one_of(
    columns: Mapping[str, Any] | sa.ColumnCollection[str, Any], rows: pd.DataFrame
) -> sa.ColumnElement[bool]:
    """Whether the ``columns`` of these names hold the values of one of ``rows``, which are keys.

    SQLite looks lists of values up in an index, but reads the whole table for a list of rows. So
    the first keys are compared by themselves as well, up to one of more than ``FEW`` values: SQLite
    looks up each value of one list for each of the lists before it.
    """
    conditions: list[sa.ColumnElement[bool]] = [sa.true()]
    several: list[str] = []
    is_narrow = False
    for name in rows.columns:
        values = rows[name].unique().tolist()
        if len(values) > 1:
            several.append(name)
        if len(values) <= 1 or not is_narrow:
            conditions.append(columns[name].in_(values))
        is_narrow = is_narrow or len(values) > FEW
    if len(several) > 1:
        keys = sa.tuple_(*[columns[name] for name in several])
        conditions.append(keys.in_(list(rows[several].itertuples(index=False, name=None))))
    return sa.and_(*conditions)


def insert_or_update(
    database: Database,
    table: sa.Table,
    keys: Sequence[str],
    changing: Sequence[str],
    rows: pd.DataFrame,
) -> None:
    """Write ``rows`` in one transaction; where a key is there already, only ``changing`` moves.

    Nothing happens for an empty frame, of which SQLAlchemy would make one row of NULLs.
    """
    if not len(rows):
        return
    insert = database.insert(table)
    statement = insert.on_conflict_do_update(
        index_elements=list(keys), set_={name: insert.excluded[name] for name in changing}
    )
    with database.writing() as con:
        con.execute(statement, _records(rows))


def _records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain Python values: databases know NULL, but neither NaN nor numpy integers."""
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
    changed = {"hash": random.getrandbits(32) - (1 << 31)}
    times = {"update_ts": write.now, "process_ts": write.now}
    write.execute(sa.update(meta).where(where).values(changed | times))
