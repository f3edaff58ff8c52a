"""What a person names: the bytes to take down, and which original is meant."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

import sqlalchemy as sa

from pipeline.errors import LockstepError, NotFoundError
from pipeline.names import name_of
from pipeline.storage.at_hand import sha256_in
from pipeline.storage.listing import key_at
from pipeline.storage.opening import open_store
from pipeline.storage.walking import FoundFile
from pipeline.takedowns.context import Takedowns

SHA256 = re.compile("[0-9a-fA-F]{64}")
# What tells a SHA-256 from a PDQ hash: both have 64 digits.
SHA256_PREFIX = "sha256:"
# A file that changes while it is read is read again; one that keeps changing is refused.
TRIES = 3


class Target(NamedTuple):
    """What the target of a takedown is. ``found`` is its ``stat`` from when it was hashed."""

    sha256: str
    size_bytes: int | None
    path: str | None = None
    found: FoundFile | None = None


def resolve(context: Takedowns, target: str) -> Target:
    """The bytes that ``target``, a path or a SHA-256, stands for.

    Raises:
        NotFoundError: there is no such original.
        LockstepError: it cannot be read, or could be either of two.
    """
    if not target.strip() or "\0" in target:
        raise NotFoundError(f"{target!r}: name an original below the input folder, or a SHA-256")
    path = _path_of(context, target)
    if path is None:
        named = target.strip().lower().removeprefix(SHA256_PREFIX)
        return Target(named, _size_of(context, named))
    found, digest = _hashed(context, path)
    if found is not None and digest is not None:
        return Target(digest, found.size_bytes, path, found)
    table = context.own.pending.table
    query = sa.select(table.c.sha256, table.c.original_bytes).where(
        context.own.pending.ours, table.c.path == path, table.c.sha256.is_not(None)
    )
    row = context.database.first(query.limit(1))
    if row is None:
        raise NotFoundError(
            f"{target}: there is no such original below {context.settings.input_place}; give its "
            "path there, or its SHA-256"
        )
    return Target(row.sha256, row.original_bytes, path)


def _path_of(context: Takedowns, target: str) -> str | None:
    """The key of the original that ``target`` names; ``None`` where it is a SHA-256."""
    place = context.settings.input_place
    store, typed = open_store(place), key_at(place, target)
    # A page gives keys, a person may give a path from where they are: `input/a.jpg` can be both.
    as_key = target if target == os.path.normpath(target) else typed
    # A name that is no text is the same file as its key is: the key goes into the tables.
    files = {name_of(key): key for key in (as_key, typed)}
    names = [key for key in files.values() if _is_below(key)]
    names = [key for key in names if store.look_at(key) is not None]
    if len(names) > 1:
        raise LockstepError(
            f"{target}: this is {names[0]} and also {names[1]} below {place}; give the "
            f"absolute path, "
            "or the SHA-256"
        )
    if not names and SHA256.fullmatch(target.strip().lower().removeprefix(SHA256_PREFIX)):
        return None
    key = names[0] if names else typed
    if not _is_below(key):
        raise NotFoundError(f"{target}: this is outside the input folder {place}")
    passed = open_store(place).why_passed(key, context.suffixes)
    if passed is not None and names:
        raise NotFoundError(f"{target}: this is not an original of Lockstep ({passed})")
    return key


def _is_below(key: str) -> bool:
    return not key.startswith("/") and ".." not in key.split("/")


def _hashed(context: Takedowns, path: str) -> tuple[FoundFile | None, str | None]:
    store = context.settings.input_store
    for _ in range(TRIES):
        found = store.look_at(path)
        if found is None:
            return None, None
        try:
            digest = sha256_in(store, path)
        except FileNotFoundError:
            return None, None
        except OSError as error:
            raise LockstepError(
                f"{store.path_of(path)}: cannot be read ({error.strerror}); change its "
                f"permissions, "
                "or give its SHA-256"
            ) from None
        if store.look_at(path) == found:
            return found, digest
    raise LockstepError(f"{path}: it is being written; try again when it is complete")


def _size_of(context: Takedowns, digest: str) -> int | None:
    for step in context.renders:
        table = step.pending.table
        query = sa.select(table.c.original_bytes).where(
            table.c.sha256 == digest, table.c.original_bytes.is_not(None)
        )
        with context.database.reading() as con:
            size: int | None = con.execute(query.limit(1)).scalar()
        if size is not None:
            return size
    return None
