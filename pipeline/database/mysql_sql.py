"""SQL as MySQL and MariaDB have it, where SQLAlchemy or datapipe-core write another one.

What stands in for parts of datapipe-core 0.15.0, which knows SQLite and PostgreSQL alone:

``Insert`` (``store/database.py`` 70-73, 243-253; ``meta/sql_meta.py`` 285-303, 553-684)
    Upserts are written with ON CONFLICT, which is ON DUPLICATE KEY UPDATE here.
``Types`` (``meta/sql_meta.py`` 43-49, 401-406, and the columns of a user's tables)
    FLOAT has four bytes here, in which times step by 128 s; a text without a length is refused.
``Statements.visit_unary`` (``meta/sql_meta.py`` 819-834)
    NULLS LAST is not known. In descending order, which upstream asks for, it is the order.
``Statements.visit_join`` (``meta/sql_meta.py`` 796-808)
    Nor is a FULL OUTER JOIN: upstream's change query, which few steps of users need, is refused.

``tests/database/test_mysql.py`` fails when upstream changes one of these parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.mysql import dml
from sqlalchemy.dialects.mysql.base import MySQLCompiler, MySQLTypeCompiler
from sqlalchemy.sql import operators

from pipeline.database.keys import KEY_BYTES, KeyText

# The longest key of InnoDB, whose pages have 16 KiB.
INDEX_BYTES = 3_072


class Insert(dml.Insert):
    """An INSERT that is written as on SQLite and PostgreSQL."""

    inherit_cache = False  # as of the one that it extends

    @property
    def excluded(self) -> Any:
        """The row that could not be inserted."""
        return self.inserted

    def on_conflict_do_update(
        self, index_elements: Any, set_: Mapping[str, Any], where: Any = None
    ) -> Insert:
        """Update the row that has one of the keys already, if ``where`` is true of both."""
        if where is not None:
            columns = self.table.c
            set_ = {name: sa.case((where, new), else_=columns[name]) for name, new in set_.items()}
        return self.on_duplicate_key_update(dict(set_))

    def on_conflict_do_nothing(self, index_elements: Any = None) -> Insert:
        """Leave the row as it is that has one of the keys already."""
        # INSERT IGNORE would pass over every other error as well.
        table: Any = self.table
        first = next(iter(table.primary_key.columns))
        return self.on_duplicate_key_update({first.name: first})


class Types(MySQLTypeCompiler):
    """Column types that hold what they hold on other databases, compared byte by byte."""

    def visit_float(self, type_: Any, **kw: Any) -> str:
        return "DOUBLE"

    def visit_string(self, type_: Any, **kw: Any) -> str:
        """A text: bytes if it is part of a key, else as long as it is, in the order of its bytes.

        As bytes, a key may have three times as many of them as in a character set, which reserves
        four for each character; and nothing of them is padded or folded.
        """
        column = kw.get("type_expression")
        beside = _texts_beside(column) if isinstance(column, sa.Column) else 0
        if isinstance(type_, KeyText) or (beside and type_.length is None):
            return f"VARBINARY({min(KEY_BYTES, INDEX_BYTES // max(beside, 1))})"
        name = f"VARCHAR({type_.length})" if type_.length else "LONGTEXT"
        order = type_.collation or collation(self.dialect.is_mariadb)
        return f"{name} CHARACTER SET utf8mb4 COLLATE {order}"


def collation(is_mariadb: bool) -> str:
    """The collation that compares byte by byte, and pads nothing with spaces."""
    return "utf8mb4_nopad_bin" if is_mariadb else "utf8mb4_0900_bin"


def _texts_beside(column: sa.Column[Any]) -> int:
    """Of how many texts the largest index has a part that has this one; 0 without an index."""
    table = column.table
    groups: list[Any] = [table.primary_key.columns, *(index.columns for index in table.indexes)]
    groups += [each.columns for each in table.constraints if isinstance(each, sa.UniqueConstraint)]
    counts = [sum(isinstance(c.type, sa.String) for c in g) for g in groups if column in set(g)]
    return max(counts, default=0)


class Statements(MySQLCompiler):
    """Statements that mean the same as on other databases."""

    def visit_lower_func(self, function: Any, **kw: Any) -> str:
        return f"lower({self._text(function, **kw)})"

    def visit_substr_func(self, function: Any, **kw: Any) -> str:
        # Of bytes it would count bytes.
        rest = [self.process(each, **kw) for each in list(function.clauses)[1:]]
        return f"substr({', '.join([self._text(function, **kw), *rest])})"

    def _text(self, function: Any, **kw: Any) -> str:
        first = self.process(next(iter(function.clauses)), **kw)
        order = collation(self.dialect.is_mariadb)
        return f"CONVERT({first} USING utf8mb4) COLLATE {order}"

    def visit_binary(self, binary: Any, *args: Any, **kw: Any) -> str:
        """Rows are compared column by column: the server finds no index for a pair of rows."""
        left, right = binary.left, binary.right
        if binary.operator in _STRICT and isinstance(left, sa.sql.elements.Tuple):
            pairs = list(zip(left.clauses, right.clauses, strict=True))
            return str(self.process(_compared(binary.operator, pairs).self_group(), **kw))
        text = str(super().visit_binary(binary, *args, **kw))  # type: ignore[no-untyped-call]
        if binary.operator is operators.in_op and self.isdelete and " IN (SELECT " in text:
            # No rows are deleted of a table that the query reads meanwhile, so it is read before.
            before, _, query = text.partition(" IN (SELECT ")
            return f"{before} IN (SELECT * FROM (SELECT DISTINCT {query} AS found)"
        return text

    def visit_unary(self, unary: Any, *args: Any, **kw: Any) -> str:
        if unary.modifier is operators.nulls_last_op:
            return str(self.process(unary.element, **kw))
        return str(super().visit_unary(unary, *args, **kw))  # type: ignore[no-untyped-call]

    def visit_join(self, join: Any, *args: Any, **kw: Any) -> str:
        if join.full:
            raise sa.exc.CompileError(
                "a step reads tables that only a FULL OUTER JOIN brings together, which MySQL and "
                "MariaDB lack; give the step keys that all its inputs have, or use PostgreSQL"
            )
        return super().visit_join(join, *args, **kw)


# Each with the one that decides where the first columns differ.
_STRICT = {operators.gt: operators.gt, operators.ge: operators.gt}
_STRICT |= {operators.lt: operators.lt, operators.le: operators.lt}


def _compared(operator: Any, pairs: list[tuple[Any, Any]]) -> sa.ColumnElement[bool]:
    (ours, theirs), rest = pairs[0], pairs[1:]
    if not rest:
        return operator(ours, theirs)  # type: ignore[no-any-return]
    return sa.or_(
        _STRICT[operator](ours, theirs), sa.and_(ours == theirs, _compared(operator, rest))
    )
