"""Change tracking: datapipe-core's, with a change query that stays linear.

What replaces a part of datapipe-core 0.15.0, and why:

``LinearTransformMeta._build_changed_idx_sql`` (``meta/sql_meta.py`` 748-835)
    It ends in a FULL OUTER JOIN of two aggregates, which SQLite runs in quadratic time: 281 s at
    100,000 rows.
``LinearTransformMeta.mark_rows_processed_success``, ``TrackedTableMeta.update_rows``
    (``meta/sql_meta.py`` 598-655 and 285-303) One statement of all rows, compiled again at each
    call.
``TrackedTableMeta._build_metadata_query`` (``meta/sql_meta.py`` 138-151), and
``TrackedTable.delete_rows`` (``store/database.py`` 224-233)
    They query pairs of keys, for which SQLite reads the whole table.
``TrackedTable`` in ``pipeline.database.tracked`` (``store/database.py`` 235-255)
    As ``update_rows`` above; and ``store/table_store.py`` 52-58, which hashes row by row.
``Database.con`` in ``pipeline.database.connection`` (``store/database.py`` 54-60, 73-80)
    ``datatable.py`` 56-128 writes a row and its meta in two transactions.

``tests/database/test_tracking.py`` compares the source of those parts with this list, and fails
when upstream changes one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import pandas as pd
import sqlalchemy as sa
from datapipe.compute import ComputeInput, ComputeOutput
from datapipe.datatable import DataStore
from datapipe.meta.sql_meta import SQLMetaPlane, SQLTableMeta, SQLTransformMeta
from datapipe.run_config import RunConfig
from datapipe.types import IndexDF, MetadataDF

from pipeline.database.connection import Database
from pipeline.database.tracked import insert_or_update, is_one_of

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
        return query.where(is_one_of(self.sql_table.c, idx[self.primary_keys]))

    def update_rows(self, df: MetadataDF) -> None:
        """Insert or update meta rows; nothing happens for an empty frame."""
        changing = ("hash", "update_ts", "process_ts", "delete_ts")
        insert_or_update(self.dbconn, self.sql_table, self.primary_keys, changing, df)


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

    def changed_sql(
        self,
        filters_idx: IndexDF | None = None,
        run_config: RunConfig | None = None,
        everything: bool = False,
    ) -> sa.Select[Any]:
        """Keys to process and their ``_kind``; with ``everything``, also keys that are in step."""
        metas: list[tuple[sa.Table, dict[str, sa.Column[Any]]]] = []
        for compute_input in self.inputs:
            table = _meta_table(compute_input)
            metas.append((table, _key_columns(compute_input, table)))

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
        if filters_idx is not None:
            wanted = filters_idx[[name for name in filters_idx.columns if name in keys]]
            query = query.where(is_one_of(keys, wanted))
        for key, value in (run_config.filters if run_config else {}).items():
            if key in keys:
                query = query.where(keys[key] == value)
        return query

    def _build_changed_idx_sql(
        self,
        ds: DataStore,
        filters_idx: IndexDF | None = None,
        order_by: list[str] | None = None,
        order: Literal["asc", "desc"] = "asc",
        run_config: RunConfig | None = None,
    ) -> Any:
        if not all(_keys_are_known(i, self.transform_keys) for i in self.inputs):
            return super()._build_changed_idx_sql(ds, filters_idx, order_by, order, run_config)
        query = self.changed_sql(filters_idx, run_config)
        columns: list[sa.ColumnClause[Any]] = [
            sa.column(key) for key in order_by or [KIND, *self.transform_keys]
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
        rows = rows.assign(process_ts=process_ts, is_success=True, priority=0, error=None)
        changing = ("process_ts", "is_success", "error")
        insert_or_update(self.dbconn, self.sql_table, self.transform_keys, changing, rows)


class LinearMetaPlane(SQLMetaPlane):
    """Creates the two classes above wherever datapipe-core needs table or transform meta."""

    dbconn: Database

    def __init__(self, dbconn: Database) -> None:
        super().__init__(dbconn)
        self._transforms: list[LinearTransformMeta] = []

    def create_table_meta(
        self,
        name: str,
        primary_schema: list[sa.Column[Any]],
        meta_schema: list[sa.Column[Any]] = [],  # noqa: B006 - upstream's signature
    ) -> TrackedTableMeta:
        return TrackedTableMeta(
            dbconn=self.dbconn,
            name=name,
            primary_schema=primary_schema,
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
        made.peers = self._transforms
        self._transforms.append(made)
        return made


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


def forget_deleted(
    step_meta: LinearTransformMeta, only: Mapping[str, Collection[str]] | None = None
) -> None:
    """Drop the meta rows of rows that are gone and whose renditions are gone as well.

    ``only`` rows with these values of their keys are looked at; without it, all rows are.

    A deleted input stays in its meta table so that its renditions can be found and deleted; after
    that it would only make every later change query longer. It stays until every transform that
    reads it has seen that it is gone.
    """
    with step_meta.dbconn.writing() as con:
        for compute_input in step_meta.inputs:
            table = _meta_table(compute_input)
            if only is not None and not set(only) <= set(table.c.keys()):
                continue
            readers = [(step_meta, compute_input), *_other_readers(step_meta, table)]
            which = sa.and_(_is_deleted(table, only), *[_has_seen(*it, table) for it in readers])
            if con.execute(sa.select(table).where(which).limit(1)).first() is None:
                continue
            for reader, read in readers:
                columns, done = _key_columns(read, table), reader.sql_table
                # SQLite looks single values up in an index, but not rows of one value.
                found = [done.c[key] for key in columns]
                matches = found[0] if len(found) == 1 else sa.tuple_(*found)
                gone = sa.select(*columns.values()).where(which)
                con.execute(sa.delete(done).where(matches.in_(gone)))
            con.execute(sa.delete(table).where(which))
        for output in step_meta.outputs:
            meta = output.dt.meta
            if isinstance(meta, SQLTableMeta):
                table = meta.sql_table
                seen = [_has_seen(*it, table) for it in _other_readers(step_meta, table)]
                con.execute(sa.delete(table).where(_is_deleted(table, only), *seen))


def _other_readers(
    step_meta: LinearTransformMeta, table: sa.Table
) -> list[tuple[LinearTransformMeta, ComputeInput]]:
    """Transforms but this one that have the table among their inputs."""
    return [
        (peer, compute_input)
        for peer in step_meta.peers
        if peer is not step_meta
        for compute_input in peer.inputs
        if getattr(compute_input.dt.meta, "sql_table", None) is table
    ]


def _has_seen(
    reader: LinearTransformMeta, compute_input: ComputeInput, table: sa.Table
) -> sa.ColumnElement[bool]:
    """Whether a transform has nothing left to do for a row that is gone."""
    if not _keys_are_known(compute_input, reader.transform_keys):
        # What it made of single rows is unknown: those are never forgotten.
        return sa.false()
    done = reader.sql_table
    columns = _key_columns(compute_input, table)
    waits = sa.exists().where(
        *[done.c[key] == column for key, column in columns.items()],
        sa.or_(done.c.is_success.is_not(sa.true()), done.c.process_ts < table.c.update_ts),
    )
    return ~waits.correlate(table)


def _is_deleted(
    table: sa.Table, only: Mapping[str, Collection[str]] | None
) -> sa.ColumnElement[bool]:
    wanted = [table.c[name].in_(values) for name, values in (only or {}).items()]
    return sa.and_(*wanted, table.c.delete_ts.is_not(None))


def _meta_table(compute_input: ComputeInput) -> sa.Table:
    meta = compute_input.dt.meta
    if not isinstance(meta, SQLTableMeta):
        raise TypeError(f"{compute_input.dt.name} keeps its meta outside the database")
    return meta.sql_table


def _key_columns(compute_input: ComputeInput, table: sa.Table) -> dict[str, sa.Column[Any]]:
    names = compute_input.keys or {key: key for key in compute_input.dt.primary_keys}
    return {key: table.c[column] for key, column in names.items()}


def _keys_are_known(compute_input: ComputeInput, transform_keys: list[str]) -> bool:
    names = compute_input.keys or {key: key for key in compute_input.dt.primary_keys}
    return set(names) <= set(transform_keys) and set(names.values()) == set(
        compute_input.dt.primary_keys
    )


def frame(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """Rows as a frame of Python objects: an integer beside a NULL stays an integer."""
    series = {name: pd.Series([row[name] for row in rows], dtype="object") for name in columns}
    rows_of_objects: pd.DataFrame = pd.DataFrame(series)
    return rows_of_objects
