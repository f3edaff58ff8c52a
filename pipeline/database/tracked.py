"""Tracked tables: tables of datapipe-core, written by one prepared statement."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, TypeVar, cast

import pandas as pd
import sqlalchemy as sa
from datapipe.datatable import DataTable
from datapipe.sql_util import sql_apply_idx_filter_to_table
from datapipe.store.database import TableStoreDB
from datapipe.types import DataDF, HashDF, IndexDF

from pipeline.database.connection import Database
from pipeline.database.dialects import VALUES_AT_ONCE


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
            chunk = cast(IndexDF, idx.iloc[start : start + VALUES_AT_ONCE])
            statement = narrowed(sa.delete(self.data_table), self.data_table.c, chunk)
            statement = sql_apply_idx_filter_to_table(
                statement, self.data_table, self.primary_keys, chunk
            )
            with self.dbconn.writing() as con:
                con.execute(statement)

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

StatementT = TypeVar("StatementT", bound=sa.Select[Any] | sa.Delete)


def narrowed(
    statement: StatementT, columns: sa.ColumnCollection[str, Any], idx: IndexDF
) -> StatementT:
    """``statement``, for the values of the first keys in ``idx`` alone.

    It changes no answer of a statement that names whole keys. But SQLite finds no index for a list
    of pairs, and would read the whole table for each.
    """
    for name in idx.columns:
        values = idx[name].unique().tolist()
        statement = cast(StatementT, statement.where(columns[name].in_(values)))
        # A key of few values, such as a source, leaves nearly all rows of the table.
        if len(values) > FEW:
            break
    return statement


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
