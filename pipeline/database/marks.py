"""Marks: what is remembered of each record of a user's step, for people to read and to reset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from pipeline.database.tracked import KeyFilter
from pipeline.database.tracking import LinearTransformMeta
from pipeline.states import Source, State

PENDING = "pending"


class Mark(NamedTuple):
    """The state of one record, why it is in it, and since when (Unix time, seconds)."""

    keys: dict[str, Any]
    state: str
    reason: str | None
    since: float | None


class Marks:
    """The marks of one step."""

    def __init__(self, meta: LinearTransformMeta) -> None:
        self._meta = meta
        self._table = meta.sql_table

    def counts(self) -> dict[str, int]:
        """How many records are ok, and how many failed."""
        is_ok = self._table.c.is_success.is_(sa.true())
        query = sa.select(
            sa.func.count(sa.case((is_ok, 1))), sa.func.count(sa.case((self._is_failed, 1)))
        )
        ok, failed = self._meta.dbconn.rows(query)[0]
        return {State.OK.value: ok, State.FAILED.value: failed}

    def failures(self) -> list[Mark]:
        """The records that failed, in the order of their keys."""
        return self._read(self._is_failed)

    def of_original(self, path: str) -> list[Mark]:
        """The records of an original of the input folder; none where no key is its path."""
        names = self._names()
        if "path" not in names:
            return []
        values = {"path": path, "source": Source.INPUT.value}
        only = {key: values[name] for name, key in names.items()}
        found = self._read(*[self._table.c[key] == value for key, value in only.items()])
        marks = {tuple(mark.keys.values()): mark for mark in found}
        pending = self._meta.records_sql(KeyFilter(list(only), [tuple(only.values())]))
        if pending is not None:
            with self._meta.dbconn.reading() as con:
                rows = con.execute(pending).mappings().all()
            for row in rows:
                keys = {key: row[key] for key in self._meta.transform_keys}
                marks[tuple(keys.values())] = Mark(keys, PENDING, None, None)
        return [marks[key] for key in sorted(marks, key=str)]

    def retry(self, paths: Sequence[str] | None) -> int:
        """Have records that failed tried again: all, or those of originals at or below ``paths``;
        returns how many."""
        names, condition = self._names(), self._is_failed
        if paths is not None:
            if "path" not in names:
                return 0
            path = self._table.c[names["path"]]
            below = [path.startswith(key + "/", autoescape=True) for key in paths]
            condition = sa.and_(condition, sa.or_(path.in_(paths), *below))
        statement = sa.update(self._table).where(condition).values(error=None)
        with self._meta.dbconn.writing() as write:
            # Those that wait for a change of the tables learn of it by the clock.
            return write.execute(statement).rowcount if write.now else 0

    @property
    def _is_failed(self) -> sa.ColumnElement[bool]:
        done = self._table.c
        return sa.and_(done.is_success.is_(sa.false()), done.error.is_not(None))

    def _read(self, *conditions: sa.ColumnElement[bool]) -> list[Mark]:
        keys = self._meta.transform_keys
        query = sa.select(self._table).where(*conditions)
        query = query.order_by(*[self._table.c[key] for key in keys])
        with self._meta.dbconn.reading() as con:
            rows = con.execute(query).mappings().all()
        return [
            Mark({key: row[key] for key in keys}, _state(row), row["error"], row["process_ts"])
            for row in rows
        ]

    def _names(self) -> dict[str, str]:
        """Which of the keys are the source and the path of an original."""
        found: dict[str, str] = {}
        for each in self._meta.inputs:
            for key in self._meta.transform_keys:
                name = (each.keys or {}).get(key, key)
                if name in ("source", "path") and name in each.dt.primary_keys:
                    found.setdefault(name, key)
        return found


def _state(row: sa.RowMapping) -> str:
    if row["is_success"]:
        return State.OK.value
    return State.FAILED.value if row["error"] else PENDING
