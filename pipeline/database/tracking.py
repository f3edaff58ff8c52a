"""Change tracking: datapipe-core's, with a change query that stays linear.

What replaces a part of datapipe-core 0.15.0, and why:

``LinearTransformMeta._build_changed_idx_sql`` (``meta/sql_meta.py`` 748-835)
    It ends in a FULL OUTER JOIN of two aggregates, which SQLite runs in quadratic time: 281 s at
    100,000 rows.
``LinearTransformMeta.mark_rows_processed_success`` and ``_error``, ``TrackedTableMeta.update_rows``
    (``meta/sql_meta.py`` 598-684 and 285-303) One statement of all rows, compiled again at each
    call; and times of another clock than ours where a user's step writes.
``TrackedTableMeta._build_metadata_query``, ``get_existing_idx`` (``meta/sql_meta.py`` 138-151 and
    207-233), and ``TrackedTable.delete_rows``, ``read_rows`` (``store/database.py`` 224-289)
    They query pairs of keys, for which SQLite reads the whole table.
``TrackedTable`` in ``pipeline.database.tracked`` (``store/database.py`` 235-255)
    As ``update_rows`` above; and ``store/table_store.py`` 52-58, which hashes row by row.
``upsert`` and ``delete`` in ``pipeline.database.tracked`` (``datatable.py`` 56-128 and 130-141)
    They compare what is written with what is there, in seven frames: 6 ms even for one row.
``Database.con`` in ``pipeline.database.connection`` (``store/database.py`` 54-60, 73-80)
    ``datatable.py`` 56-128 writes a row and its meta in two transactions.

``tests/database/test_tracking.py`` compares the source of those parts with this list, and fails
when upstream changes one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import pandas as pd
import sqlalchemy as sa
from datapipe.compute import ComputeInput, ComputeOutput
from datapipe.datatable import DataStore
from datapipe.meta.sql_meta import SQLMetaPlane, SQLTableMeta, SQLTransformMeta
from datapipe.run_config import RunConfig
from datapipe.types import IndexDF, MetadataDF, MetaSchema

from pipeline.database.connection import Database
from pipeline.database.dialects import VALUES_AT_ONCE, Key
from pipeline.database.paging import chunks
from pipeline.database.records import LIVE, key_columns, meta_table, pending_records
from pipeline.database.tracked import (
    META_CHANGING,
    KeyFilter,
    KeyValues,
    insert_or_update,
    is_one_of,
    keys_of,
    plain_rows,
)

# Why a row is to be processed, in the order of urgency. A change of the first input (an original)
# is fresh; a change of no more than a later one (a recipe) is backlog.
KIND = "_kind"
FRESH, GONE, BACKLOG = 0, 1, 2
# When the first input was last found changed (Unix time, seconds).
FOUND_TS = "_found_ts"


class TrackedTableMeta(SQLTableMeta):
    """Upstream's table meta, written by one prepared statement and read through an index."""

    dbconn: Database

    def _build_metadata_query(
        self, sql: Any, idx: IndexDF | None = None, include_deleted: bool = False
    ) -> Any:
        query = super()._build_metadata_query(sql, None, include_deleted)
        if idx is None:
            return query
        return query.where(KeyFilter.of(idx[self.primary_keys]).among(self.sql_table.c))

    def get_existing_idx(self, idx: IndexDF | None = None) -> IndexDF:
        """The keys of rows that are there: all, or those that have keys of ``idx``."""
        names = [] if idx is None else [name for name in self.primary_keys if name in idx.columns]
        if idx is None or not names or not len(idx):
            return super().get_existing_idx(idx)
        columns = self.sql_table.c
        query = sa.select(*[columns[name] for name in self.primary_keys])
        query = query.where(columns.delete_ts.is_(None))
        found = []
        with self.dbconn.reading() as con:
            wanted, ours = idx[names].drop_duplicates(), [columns[name] for name in names]
            keys = chunks(keys_of(wanted, names), VALUES_AT_ONCE)
            found = [pd.read_sql_query(query.where(is_one_of(ours, each)), con) for each in keys]
        return IndexDF(pd.concat(found, ignore_index=True))

    def update_rows(self, df: MetadataDF) -> None:
        """Insert or update meta rows; nothing happens for an empty frame.

        What is new, changed or deleted gets the time of the transaction that writes it: a user's
        step takes another from the machine's clock, before it begins to write.
        """
        if not len(df):
            return
        with self.dbconn.writing() as write:
            is_now = df["update_ts"] == df["process_ts"]
            is_deleted = is_now & df["delete_ts"].notna()
            times = {"update_ts": is_now, "process_ts": is_now, "delete_ts": is_deleted}
            stamped = df.assign(
                **{name: df[name].mask(which, write.now) for name, which in times.items()}
            )
            rows = plain_rows(stamped)
            insert_or_update(self.dbconn, self.sql_table, self.primary_keys, META_CHANGING, rows)


class LinearTransformMeta(SQLTransformMeta):
    """Upstream's transform meta with a change query of one LEFT JOIN.

    ``inputs x ... LEFT JOIN transform``: deleted rows stay in the inputs' meta tables with a new
    ``update_ts``, so a join that starts from the inputs loses nothing. Inputs join on the keys they
    share, and cross where they share none. Inputs whose keys are not all transform keys would
    need the aggregates; those fall back to upstream's query.
    """

    dbconn: Database
    # All transforms of the same plane, this one included: those that may read the same tables.
    peers: Sequence[LinearTransformMeta] = ()
    # A user's step, which has records.
    is_own = False
    # Tables that users' steps read: these may be at work beside the run that changes the tables.
    read_beside: set[sa.Table]

    @classmethod
    def compute_transform_schema(
        cls,
        inputs: Sequence[ComputeInput],
        outputs: Sequence[ComputeOutput],
        transform_keys: list[str] | None,
    ) -> tuple[list[str], MetaSchema]:
        """Upstream's, in the order of the inputs: it infers keys in an order that each start
        changes."""
        keys, schema = super().compute_transform_schema(inputs, outputs, transform_keys)
        if transform_keys is not None:
            return keys, schema
        order = [key for each in inputs for key in each.primary_keys]
        columns = dict(zip(keys, schema, strict=True))
        keys = sorted(keys, key=order.index)
        return keys, [columns[key] for key in keys]

    def changed_sql(
        self,
        only: KeyFilter | None = None,
        run_config: RunConfig | None = None,
        everything: bool = False,
    ) -> sa.Select[Any]:
        """Keys to process and their ``_kind``; with ``everything``, also keys that are in step."""
        metas: list[tuple[sa.Table, dict[str, sa.Column[Any]]]] = []
        for compute_input in self.inputs:
            table = meta_table(compute_input)
            metas.append((table, key_columns(compute_input, self.transform_keys)))

        first, keys = metas[0]
        keys = dict(keys)
        joined: sa.FromClause = first
        for table, columns in metas[1:]:
            shared = [keys[key] == column for key, column in columns.items() if key in keys]
            joined = joined.join(table, sa.and_(*shared) if shared else sa.true())
            keys |= {key: column for key, column in columns.items() if key not in keys}

        done = self.sql_table
        joined = joined.outerjoin(
            done, sa.and_(*[done.c[key] == keys[key] for key in self.transform_keys])
        )
        gone = sa.or_(*[table.c.delete_ts.is_not(None) for table, _ in metas])
        later = [table.c.update_ts for table, _ in metas[1:]]
        stale = sa.or_(sa.false(), *[first.c.update_ts < update_ts for update_ts in later])
        kind = sa.case((gone, GONE), (stale, BACKLOG), else_=FRESH)
        changed = sa.or_(
            done.c.process_ts.is_(None),
            done.c.is_success.is_not(sa.true()),
            *[table.c.update_ts > done.c.process_ts for table, _ in metas],
        )
        query = (
            sa.select(
                *[keys[key].label(key) for key in self.transform_keys],
                kind.label(KIND),
                first.c.update_ts.label(FOUND_TS),
            )
            .select_from(joined)
            .where(sa.or_(changed, sa.not_(gone)) if everything else changed)
        )
        if only is not None:
            query = query.where(only.among(keys))
        for key, value in (run_config.filters if run_config else {}).items():
            if key in keys:
                query = query.where(keys[key] == value)
        return query

    def records_sql(
        self, only: KeyFilter | None = None, run_config: RunConfig | None = None
    ) -> sa.Select[Any] | None:
        """The records that are pending, as :func:`~pipeline.database.records.pending_records`."""
        filters = run_config.filters if run_config else {}
        query = pending_records(self.inputs, self.sql_table, self.transform_keys, filters)
        if query is None or only is None:
            return query
        columns = query.selected_columns
        return query.where(only.among({key: columns[key] for key in self.transform_keys}))

    def _build_changed_idx_sql(
        self,
        ds: DataStore,
        filters_idx: IndexDF | None = None,
        order_by: list[str] | None = None,
        order: Literal["asc", "desc"] = "asc",
        run_config: RunConfig | None = None,
    ) -> Any:
        only = None if filters_idx is None else KeyFilter.of(filters_idx)
        query, first = self.records_sql(only, run_config), LIVE
        if not self.is_own:
            query, first = self.changed_sql(only, run_config), KIND
        elif query is None:
            return super()._build_changed_idx_sql(ds, filters_idx, order_by, order, run_config)
        columns: list[sa.ColumnClause[Any]] = [
            sa.column(key) for key in order_by or [first, *self.transform_keys]
        ]
        return query.order_by(*[c.desc() if order == "desc" else c.asc() for c in columns])

    def mark_rows_processed_success(
        self, idx: IndexDF, process_ts: float, run_config: RunConfig | None = None
    ) -> None:
        """Remember that ``idx`` is in step as of ``process_ts`` (Unix time, seconds)."""
        if not self.transform_keys:
            super().mark_rows_processed_success(idx, process_ts, run_config)
            return
        rows = idx[self.transform_keys].drop_duplicates().dropna()
        self.mark(keys_of(rows, self.transform_keys), process_ts)

    def mark_rows_processed_error(
        self, idx: IndexDF, process_ts: float, error: str, run_config: RunConfig | None = None
    ) -> None:
        """Remember that ``idx`` failed as of ``process_ts`` (Unix time, seconds), and why."""
        if not self.transform_keys:
            super().mark_rows_processed_error(idx, process_ts, error, run_config)
            return
        rows = idx[self.transform_keys].drop_duplicates().dropna()
        self.mark(keys_of(rows, self.transform_keys), process_ts, error)

    def mark(self, keys: Sequence[KeyValues], as_of: float, error: str | None = None) -> None:
        """Remember that these are in step, or failed, as of a time (Unix, seconds)."""
        end = {"process_ts": as_of, "is_success": error is None, "priority": 0, "error": error}
        rows = [dict(zip(self.transform_keys, key, strict=True)) | end for key in keys]
        changing = ("process_ts", "is_success", "error")
        insert_or_update(self.dbconn, self.sql_table, self.transform_keys, changing, rows)


class LinearMetaPlane(SQLMetaPlane):
    """Creates the two classes above wherever datapipe-core needs table or transform meta."""

    dbconn: Database

    def __init__(self, dbconn: Database) -> None:
        super().__init__(dbconn)
        self._transforms: list[LinearTransformMeta] = []
        self.read_beside: set[sa.Table] = set()

    def create_table_meta(
        self,
        name: str,
        primary_schema: list[sa.Column[Any]],
        meta_schema: list[sa.Column[Any]] = [],  # noqa: B006 - upstream's signature
    ) -> TrackedTableMeta:
        return TrackedTableMeta(
            dbconn=self.dbconn,
            name=name,
            primary_schema=[_compared_by_bytes(column) for column in primary_schema],
            meta_schema=meta_schema,
            create_table=self.create_meta_table,
        )

    def create_transform_meta(
        self,
        name: str,
        input_dts: Sequence[ComputeInput],
        output_dts: Sequence[ComputeOutput],
        transform_keys: list[str] | None = None,
        order_by: list[str] | None = None,
        order: Literal["asc", "desc"] = "asc",
    ) -> LinearTransformMeta:
        made = LinearTransformMeta(
            dbconn=self.dbconn,
            name=name,
            inputs=input_dts,
            outputs=output_dts,
            transform_keys=transform_keys,
            order_by=order_by,
            order=order,
            create_table=self.create_meta_table,
        )
        made.peers, made.read_beside = self._transforms, self.read_beside
        self._transforms.append(made)
        return made


def _compared_by_bytes(column: sa.Column[Any]) -> sa.Column[Any]:
    """A key of a user's table as ours are: PostgreSQL compares no two of different collations."""
    if not isinstance(column.type, sa.String):
        return column
    copied = column._copy()
    copied.type = Key
    return copied


def data_store(database: Database) -> DataStore:
    """A ``DataStore`` with linear change tracking."""
    store = DataStore(database)
    store.meta_plane = LinearMetaPlane(database)
    return store


def database_of(store: DataStore) -> Database:
    """The database of one of our ``DataStore``s."""
    database = store.meta_dbconn
    if not isinstance(database, Database):
        raise TypeError("the data store is not on a database of pipeline.database.connection")
    return database
