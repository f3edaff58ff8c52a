"""The type of keys: compared byte by byte on every database, however long they are.

A key of MySQL and MariaDB has at most 3,072 bytes in an index, which may hold three of them. So
there a longer one than ``KEY_BYTES`` (that of an object in a bucket never is) is stored as its
beginning and its hash, and in full in a table of its own: see :mod:`pipeline.database.long_keys`.
"""

from __future__ import annotations

import base64
import hashlib
import threading
from typing import Any, TypeAlias

import sqlalchemy as sa

KEY_BYTES = 1_024
# No key has this character: no file name can, and PostgreSQL stores none.
MARK = "\0"
DIGEST_CHARACTERS = 43
# What two long keys have to differ in to be stored in the order of their bytes.
ORDERED_BYTES = KEY_BYTES - len(MARK) - DIGEST_CHARACTERS
# Full keys that are remembered at once.
REMEMBERED = 10_000

# A row whose first column is a key.
KeyedRow: TypeAlias = tuple[Any, ...]

# By what is stored of each: true for ever, of every database.
known: dict[str, str] = {}
# Those that the statement names which this thread is about to send.
_named = threading.local()


def stored_form(key: str) -> str:
    """What MySQL stores of a key: itself, or for one that is too long, its beginning and hash."""
    if len(key) * 4 <= KEY_BYTES:
        return key
    whole = key.encode()
    if len(whole) <= KEY_BYTES:
        return key
    digest = base64.urlsafe_b64encode(hashlib.sha256(whole).digest()).decode().rstrip("=")
    stored = whole[:ORDERED_BYTES].decode(errors="ignore") + MARK + digest
    if len(known) >= REMEMBERED:
        known.clear()
    known[stored] = key
    vars(_named).setdefault("keys", {})[stored] = key
    return stored


def take_named() -> dict[str, str]:
    """The long keys of the statement that this thread is about to send; empty in the end."""
    named = vars(_named)
    return named.pop("keys", {}) if named else {}


def in_order(rows: list[KeyedRow], is_all: bool) -> tuple[list[KeyedRow], list[KeyedRow]]:
    """Rows that were read in the order of what is stored of their first column, a key, in the order
    of the keys themselves; and the last of them that others, not read yet, may come before."""
    rows.sort()
    # A character of the beginning may be cut off.
    certain = ORDERED_BYTES - 3
    beginning = rows[-1][0].encode()[:certain] if rows else b""
    if is_all or len(beginning) < certain:
        return rows, []
    end = len(rows)
    while end and rows[end - 1][0].encode().startswith(beginning):
        end -= 1
    return rows[:end], rows[end:]


class Text(sa.String):
    """A text on MySQL, which gives one that was made of keys as bytes."""

    def result_processor(self, dialect: Any, coltype: object) -> Any:
        decoded = dialect.long_keys.decoded
        return lambda value: decoded(value) if isinstance(value, bytes) else value


class KeyText(Text):
    """The type of a key's column on MySQL."""


class StoredKey(sa.types.TypeDecorator[str]):
    """Stores a key in its :func:`stored_form`; connections give it back in full."""

    impl = KeyText
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        return value if value is None else stored_form(value)


Key = (
    sa.String()
    .with_variant(sa.String(collation="C"), "postgresql")
    .with_variant(StoredKey(), "mysql")
)
