"""People who use the page: their names, their roles, and their tokens.

A token is shown once, when it is made. What is stored is its id and a scrypt hash of it: someone
who reads the database cannot log in with it. The id, which is random as well, says whose token it
is: a guess that names nobody costs no scrypt.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from pipeline.database.connection import Database
from pipeline.errors import LockstepError, NotFoundError
from pipeline.moderation_tables import users_table
from pipeline.states import Role
from pipeline.text import iso

# The holder of PIPELINE_TOKEN; no user may have this name.
ADMIN = "admin"
NAME_MAX = 100
ID_BYTES = 8
SECRET_BYTES = 32
# 16 MB and some 50 ms. A token has 256 random bits, so that more would protect nothing.
SCRYPT = {"n": 1 << 14, "r": 8, "p": 1}
SALT_BYTES = 16
_TOKEN = re.compile(r"lockstep_([0-9a-f]{16})_[A-Za-z0-9_-]{43}")


class User(NamedTuple):
    """One person; ``created_ts`` is Unix time in seconds."""

    name: str
    role: Role
    token_id: str
    token_hash: str
    created_ts: float

    def as_json(self) -> dict[str, Any]:
        """An element of ``datapipe user list --json``; nothing in it is of the token."""
        return {"name": self.name, "role": self.role.value, "created": iso(self.created_ts)}


class UserRepository:
    """Reads and writes ``users``."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._table = users_table(database.sqla_metadata)

    def all(self) -> list[User]:
        """Everybody, by name."""
        rows: Sequence[sa.Row[Any]] = self._database.rows(sa.select(self._table))
        return sorted(_user(row) for row in rows)

    def add(self, name: str, role: Role) -> str:
        """Add somebody; returns the token, which nothing can show again.

        Raises:
            LockstepError: the name is not one, or somebody has it.
        """
        name = checked_name(name)
        for user in self.all():
            # In the audit, Ada and ada would be taken for the same person.
            if user.name.casefold() == name.casefold():
                raise LockstepError(
                    f"{name}: there is already a user {user.name}, with the role "
                    f"{user.role.value}; remove that one first, with "
                    f"`datapipe user remove {user.name}`"
                )
        token_id = secrets.token_hex(ID_BYTES)
        token = f"lockstep_{token_id}_{secrets.token_urlsafe(SECRET_BYTES)}"
        row = {
            "name": name,
            "role": role.value,
            "token_id": token_id,
            "token_hash": hash_of(token),
            "created_ts": time.time(),
        }
        with self._database.writing() as write:
            write.execute(sa.insert(self._table).values(row))
        return token

    def remove(self, name: str) -> None:
        """Remove somebody: their token and all of their sessions end.

        Raises:
            NotFoundError: there is no such user.
        """
        with self._database.writing() as write:
            done = write.execute(sa.delete(self._table).where(self._table.c.name == name.strip()))
        if not done.rowcount:
            raise NotFoundError(
                f"{name}: there is no such user; `datapipe user list` shows their names"
            )


def checked_name(name: str) -> str:
    """``name`` as the audit shows it.

    Raises:
        LockstepError: it is empty, too long, or reserved, or has characters that are not printed.
    """
    name = name.strip()
    if not name or len(name) > NAME_MAX or not name.isprintable():
        raise LockstepError(
            f"{name!r}: a name has 1 to {NAME_MAX} characters, all of them printable"
        )
    if name.casefold() == ADMIN:
        raise LockstepError(
            f"{name}: in the audit this is the holder of PIPELINE_TOKEN; choose another name"
        )
    return name


def token_id_of(token: str) -> str | None:
    """The id in a token; ``None`` if it has not the form of one."""
    found = _TOKEN.fullmatch(token)
    return found[1] if found else None


def hash_of(token: str) -> str:
    """What is stored of a token."""
    salt = secrets.token_bytes(SALT_BYTES)
    return f"scrypt:{salt.hex()}:{_scrypt(token, salt).hex()}"


def is_token(token: str, token_hash: str) -> bool:
    """Whether the hash is that of this token. Takes some 50 ms of a processor."""
    _, salt, digest = token_hash.split(":")
    return hmac.compare_digest(_scrypt(token, bytes.fromhex(salt)), bytes.fromhex(digest))


def _scrypt(token: str, salt: bytes) -> bytes:
    return hashlib.scrypt(token.encode(), salt=salt, **SCRYPT)


def _user(row: sa.Row[Any]) -> User:
    return User(row.name, Role(row.role), row.token_id, row.token_hash, row.created_ts)
