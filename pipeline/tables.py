"""Every table of Lockstep in one place: columns and keys.

``recipes``        a row per recipe of ``recipes.toml``
``input_images``   a row per original below ``input/``: what the file system says of it
``renditions``     a row per original and recipe: what was made, of which bytes, by what

Not tracked: ``lockstep_state``, a few values about the tables themselves.

datapipe-core keeps a ``<table>_meta`` beside each tracked table, and ``render_meta`` for the step.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Sequence
from typing import Any, TypeVar, cast

import pandas as pd
import sqlalchemy as sa
from datapipe.sql_util import sql_apply_idx_filter_to_table
from datapipe.store.database import DBConn, TableStoreDB
from datapipe.types import DataDF, HashDF, IndexDF

# Raise it with every change of a column, and teach `engine.database` the way from the old one.
LAYOUT_VERSION = 1

# Keys of one statement, times two or three columns: below SQLite's 32,766 variables.
DELETED_AT_ONCE = 2_000

# Keys are compared byte by byte on every database: the scan walks the folder in this very order.
Key = sa.String().with_variant(sa.String(collation="C"), "postgresql")


class State(str, enum.Enum):
    """What became of a rendition. The same words stand in the tables, the CLI and JSON."""

    OK = "ok"
    FAILED = "failed"


class TrackedTable(TableStoreDB):
    """A table in the database, written by one prepared statement."""

    def __init__(self, connection: DBConn, name: str, columns: list[sa.Column[Any]]) -> None:
        super().__init__(connection, name, columns)

    def update_rows(self, df: DataDF) -> None:
        """Insert or update rows; nothing happens for an empty frame."""
        insert_or_update(self.dbconn, self.data_table, self.primary_keys, self.data_keys, df)

    def delete_rows(self, idx: IndexDF) -> None:
        """Delete the rows of these keys; nothing happens for none."""
        for start in range(0, len(idx), DELETED_AT_ONCE):
            chunk = cast(IndexDF, idx.iloc[start : start + DELETED_AT_ONCE])
            statement = narrowed(sa.delete(self.data_table), self.data_table.c, chunk)
            statement = sql_apply_idx_filter_to_table(
                statement, self.data_table, self.primary_keys, chunk
            )
            with self.dbconn.con.begin() as con:
                con.execute(statement)

    def hash_rows(self, df: DataDF) -> HashDF:
        """A random number for each row, which says: changed.

        Stands in for ``TableStore.hash_rows``. Our steps hand in changes only, so no hash of the
        content is needed to find them; and its 32 bits would hide one change in four billion for
        ever, while a random number that happens to be the old one hides it until the next run.
        """
        keys = df[self.hash_keys].copy()
        keys["hash"] = [random.getrandbits(32) - (1 << 31) for _ in range(len(df))]
        return HashDF(keys)


StatementT = TypeVar("StatementT", bound=sa.Select[Any] | sa.Delete)


def narrowed(
    statement: StatementT, columns: sa.ColumnCollection[str, Any], idx: IndexDF
) -> StatementT:
    """``statement``, for the values of the first key in ``idx`` alone.

    It changes no answer of a statement that names whole keys. But SQLite finds no index for a list
    of pairs, and would read the whole table for each.
    """
    first = idx.columns[0]
    return cast(StatementT, statement.where(columns[first].in_(idx[first].unique().tolist())))


def insert_or_update(
    connection: DBConn,
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
    insert = connection.insert(table)
    statement = insert.on_conflict_do_update(
        index_elements=list(keys), set_={name: insert.excluded[name] for name in changing}
    )
    with connection.con.begin() as con:
        con.execute(statement, _records(rows))


def _records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as Python's own values: databases know NULL, not NaN, and no numpy integers."""
    columns = [
        rows[name].to_numpy(dtype="object", na_value=None).tolist()  # type: ignore[call-overload]
        for name in rows.columns
    ]
    return [dict(zip(rows.columns, values, strict=True)) for values in zip(*columns, strict=True)]


def recipes_columns() -> list[sa.Column[Any]]:
    """``fingerprint`` changes whenever the bytes of a rendition would; ``spec`` is for people."""
    return [
        sa.Column("recipe", Key, primary_key=True),
        sa.Column("fingerprint", sa.String, nullable=False),
        sa.Column("spec", sa.String, nullable=False),
    ]


def input_images_columns() -> list[sa.Column[Any]]:
    """What one ``stat`` tells; a difference in any column makes the file be looked at again."""
    return [
        sa.Column("path", Key, primary_key=True),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("mtime_ns", sa.BigInteger, nullable=False),
        sa.Column("ctime_ns", sa.BigInteger, nullable=False),
        sa.Column("inode", sa.BigInteger, nullable=False),
    ]


def renditions_columns() -> list[sa.Column[Any]]:
    """What was made of which bytes, by which recipe and renderer, and in which state it is.

    ``file`` is below ``output/``, and NULL where the state is ``failed``. ``sha256`` and
    ``original_bytes`` are the original's, ``file_sha256`` and ``size_bytes`` the rendition's.
    ``since`` is the Unix time, in seconds, at which the state and its reason began.
    """
    return [
        sa.Column("path", Key, primary_key=True),
        sa.Column("recipe", Key, primary_key=True),
        sa.Column("file", Key, nullable=True, index=True),
        sa.Column("width_px", sa.BigInteger, nullable=True),
        sa.Column("height_px", sa.BigInteger, nullable=True),
        sa.Column("size_bytes", sa.BigInteger, nullable=True),
        sa.Column("file_sha256", sa.String, nullable=True),
        sa.Column("sha256", sa.String, nullable=True, index=True),
        sa.Column("original_bytes", sa.BigInteger, nullable=True, index=True),
        sa.Column("state", sa.String, nullable=False, index=True),
        sa.Column("reason", sa.String, nullable=True),
        sa.Column("since", sa.Float, nullable=False),
        sa.Column("fingerprint", sa.String, nullable=False),
        sa.Column("renderer", sa.BigInteger, nullable=False),
    ]


def state_table(metadata: sa.MetaData) -> sa.Table:
    """``lockstep_state``: layout version, clock, and what an interrupted run leaves to mend."""
    return sa.Table(
        "lockstep_state",
        metadata,
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("value", sa.String, nullable=False),
        extend_existing=True,
    )
