"""Forgetting rows that are gone, once every step that reads them has seen that.

A deleted row stays in its meta table so that what was made of it can be found and deleted; after
that it would only make every later change query longer.

A step that has no mark for a row has nothing to do for it, but may be making something of it right
now. So rows that only our own steps read are forgotten by the run that works them, and those that a
user's step reads by a run beside which no such step is at work.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import sqlalchemy as sa
from datapipe.compute import ComputeInput
from datapipe.datatable import DataTable
from datapipe.meta.sql_meta import SQLTableMeta

from pipeline.database.connection import Database
from pipeline.database.records import is_joined, key_columns, meta_table
from pipeline.database.tracking import LinearTransformMeta

Reader = tuple[LinearTransformMeta, ComputeInput]


def forget_deleted(
    step_meta: LinearTransformMeta, only: Mapping[str, Collection[str]] | None = None
) -> None:
    """Drop the meta rows of rows that are gone and whose renditions are gone as well.

    ``only`` rows with these values of their keys are looked at; without it, all rows are. Tables
    that a user's step reads are left to :func:`forget_passed`.
    """
    with step_meta.dbconn.writing() as con:
        for compute_input in step_meta.inputs:
            table = meta_table(compute_input)
            readers = _readers(step_meta.peers, table)
            if only is not None and not set(only) <= set(table.c.keys()):
                continue
            if table in step_meta.read_beside:
                continue
            which = sa.and_(_is_deleted(table, only), *[_has_seen(*it, table) for it in readers])
            if con.execute(sa.select(table).where(which).limit(1)).first() is None:
                continue
            for reader, read in readers:
                columns, done = key_columns(read, reader.transform_keys), reader.sql_table
                # SQLite looks single values up in an index, but not rows of one value.
                found = [done.c[key] for key in columns]
                matches = found[0] if len(found) == 1 else sa.tuple_(*found)
                keys = sa.select(*columns.values()).where(which)
                con.execute(sa.delete(done).where(matches.in_(keys)))
            con.execute(sa.delete(table).where(which))
        for output in step_meta.outputs:
            meta = output.dt.meta
            if isinstance(meta, SQLTableMeta) and meta.sql_table not in step_meta.read_beside:
                table = meta.sql_table
                seen = [_has_seen(*it, table) for it in _readers(step_meta.peers, table)]
                con.execute(sa.delete(table).where(_is_deleted(table, only), *seen))


def forget_passed(
    database: Database,
    tables: Iterable[DataTable],
    metas: Collection[LinearTransformMeta],
    passed: Mapping[str, float],
) -> None:
    """Drop the meta rows of rows of ``tables`` that are gone, and that all their readers passed.

    ``metas`` are those of all steps with one; ``passed`` says of which time (Unix, seconds) the
    changes are that steps without one have seen, by the name of the table. No step may be at work.
    """
    dropped: dict[str, LinearTransformMeta] = {}
    for each in tables:
        if not isinstance(each.meta, SQLTableMeta):
            continue
        table, readers = each.meta.sql_table, _readers(metas, each.meta.sql_table)
        seen = [_has_seen(*it, table) for it in readers]
        if each.name in passed:
            seen.append(table.c.update_ts <= passed[each.name])
        which = sa.and_(table.c.delete_ts.is_not(None), *seen)
        with database.reading() as con:
            if con.execute(sa.select(table).where(which).limit(1)).first() is None:
                continue
        with database.writing() as con:
            con.execute(sa.delete(table).where(which))
        dropped |= {reader.name: reader for reader, _ in readers}
    for reader in dropped.values():
        _drop_marks(reader)


def _drop_marks(reader: LinearTransformMeta) -> None:
    """Drop the marks of records that no rows of the inputs make any more."""
    done, keys = reader.sql_table, reader.transform_keys
    there, covering = [], []
    for compute_input in reader.inputs:
        columns = key_columns(compute_input, keys)
        rows = sa.select(sa.literal(1)).select_from(meta_table(compute_input))
        matches = [done.c[key] == column for key, column in columns.items()]
        there.append(rows.where(*matches).correlate(done).exists())
        if len(columns) == len(keys):
            covering.append(there[-1])
    is_record = sa.and_(*there)
    if covering:
        is_record = sa.and_(sa.or_(*covering), is_joined(reader.inputs, there))
    if keys and there:
        with reader.dbconn.writing() as con:
            con.execute(sa.delete(done).where(sa.not_(is_record)))


def _readers(metas: Iterable[LinearTransformMeta], table: sa.Table) -> list[Reader]:
    """The transforms that have the table among their inputs."""
    return [
        (meta, compute_input)
        for meta in metas
        for compute_input in meta.inputs
        if getattr(compute_input.dt.meta, "sql_table", None) is table
    ]


def _has_seen(
    reader: LinearTransformMeta, compute_input: ComputeInput, table: sa.Table
) -> sa.ColumnElement[bool]:
    """Whether a transform has nothing left to do for a row that is gone."""
    done = reader.sql_table
    columns = key_columns(compute_input, reader.transform_keys)
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
