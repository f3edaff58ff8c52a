"""The statements that insert rows, or move some columns of those that are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa


def or_update(insert: Any, keys: Sequence[str], changing: Sequence[str]) -> Any:
    """An INSERT that moves ``changing`` where a row of the same ``keys`` is there already."""
    if not changing:
        return insert.on_conflict_do_nothing(index_elements=list(keys))
    moved = {name: insert.excluded[name] for name in changing}
    return insert.on_conflict_do_update(index_elements=list(keys), set_=moved)


def unnested(
    values: Mapping[str, list[Any]], types: Mapping[str, sa.types.TypeEngine[Any]]
) -> sa.Select[Any]:
    """A query whose rows have the ``values`` of each column: PostgreSQL's ``unnest``."""
    # Imported here: on SQLite nothing of it is needed, which takes 200 ms.
    from sqlalchemy.dialects.postgresql import ARRAY

    def sent(name: str, value: Any, type_: sa.types.TypeEngine[Any]) -> sa.Cast[Any]:
        # Without a type of its own: a driver takes a list as it is.
        return sa.cast(sa.bindparam(name, value, type_=sa.types.NullType()), type_)

    # What all rows have in common is sent once.
    differ = {name: each for name, each in values.items() if each.count(each[0]) < len(each)}
    arrays = [sent(name, each, ARRAY(types[name])) for name, each in differ.items()]
    rows = sa.func.unnest(*arrays).table_valued(*differ).render_derived()
    return sa.select(
        *[
            rows.c[name] if name in differ else sent(name, each[0], types[name]).label(name)
            for name, each in values.items()
        ]
    )
