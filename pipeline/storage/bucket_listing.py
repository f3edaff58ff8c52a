"""Listing a bucket in the order of its keys, as a folder is walked.

A row of a listing stands in the columns of a file: ``mtime_ns`` is the time that the store says, in
whole seconds (a listing has it finer than a look at one object), ``ctime_ns`` is 0, and ``inode``
is 63 bits of the SHA-256 of its ETag. The version that a bucket with versions gives to an object is
no part of it: listings do not tell it, and a version with the same ETag has the same bytes.
"""

from __future__ import annotations

import calendar
import functools
import hashlib
import os
import re
import time
from collections.abc import Iterable, Iterator
from typing import Any

import obstore

from pipeline.errors import StoreError
from pipeline.names import TEMPORARY_PREFIX, key_of, name_of
from pipeline.storage.bucket_client import Client
from pipeline.storage.bucket_ranges import objects_at_once
from pipeline.storage.places import Place
from pipeline.storage.s3 import Listed
from pipeline.storage.walking import (
    OTHER_SUFFIX,
    SYSTEM_NAMES,
    TEMPORARY_SUFFIXES,
    FoundFile,
    Passed,
    Row,
)

# Below this prefix is what is staged; no listing shows it.
STAGED = f"{TEMPORARY_PREFIX}staged/"
NO_NAME = "not a name of a file (// or .. or a control character)"
_NO_NAME = re.compile(r"(?:^|/)(?:\.{0,2}(?:/|$))|[\x00-\x1f\x7f\udc80-\udcff]")
# Whatever needs a closer look: hidden and temporary names, and those that are none.
_ODD = re.compile(r"(?:^|/)[./~]|[\x00-\x1f\x7f\udc80-\udcff\uef80-\uefff]|~$|/$", re.MULTILINE)


def row_of(key: str, size_bytes: int, modified_s: int, e_tag: str) -> FoundFile:
    """One object as the table of originals has it."""
    digest = hashlib.sha256(e_tag.encode()).digest()
    inode = int.from_bytes(digest[:8], "big") >> 1
    return FoundFile(key, size_bytes, modified_s * 1_000_000_000, 0, inode)


def found_of(key: str, meta: Any) -> FoundFile:
    """The same for what obstore says of an object."""
    modified_s = int(meta["last_modified"].timestamp())
    return row_of(key, meta["size"], modified_s, meta["e_tag"] or "")


def pages(client: Client, place: Place, below: str = "") -> Iterator[list[FoundFile]]:
    """Every object of a place whose key begins with ``below``, in the order of the keys.

    Those with odd names as well, and staged ones only where they are asked for.

    Raises:
        StoreError: the listing broke off, or has another order.
        Answered: the store refused it.
    """
    prefix = place.prefix + below
    skip, last = len(place.prefix), ""
    listed = objects_at_once(client.s3, prefix) if client.s3 else _listed(client.objects, prefix)
    for objects in listed:
        page = []
        for name, size_bytes, modified, e_tag in objects:
            if name <= last:
                raise StoreError(
                    f"{place.text}: the listing is not in the order of the keys, or is another "
                    "meanwhile; nothing was deleted. Directory buckets cannot be used"
                )
            last = name
            key = name[skip:]
            if below == STAGED or not key.startswith(STAGED):
                page.append(row_of(key, size_bytes, _seconds(modified[:19]), e_tag))
        if page:
            yield page


def walk(
    found: Iterable[list[FoundFile]], suffixes: frozenset[str], passed: Passed
) -> Iterator[list[Row]]:
    """Those that are originals, by the rules of a walk through a folder; the rest is counted."""
    for page in found:
        rows: list[Row] = []
        for row in page:
            key = row[0]
            suffix = key[key.rfind(".") :]
            if (suffix in suffixes or suffix.lower() in suffixes) and not _ODD.search(key):
                rows.append(row)
                continue
            reason = why_passed(key, suffixes | passed.deferred_suffixes)
            if reason is not None:
                passed.reasons[reason] += 1
            elif os.path.splitext(key)[1].lower() in passed.deferred_suffixes:
                passed.deferred.append(row)
            else:
                rows.append(row)
        if rows:
            yield rows


def why_passed(key: str, suffixes: frozenset[str]) -> str | None:
    """Why an object is no original; ``None`` if it is one."""
    if _NO_NAME.search(key) or key_of(name_of(key)) != key:
        return NO_NAME
    names = key.split("/")
    for name in names:
        if name[0] == ".":
            return "temporary" if name.startswith(TEMPORARY_PREFIX) else "hidden"
        if name.lower() in SYSTEM_NAMES:
            return "hidden"
    name = names[-1]
    suffix = os.path.splitext(name)[1].lower()
    if name.startswith("~$") or name.endswith("~") or suffix in TEMPORARY_SUFFIXES:
        return "temporary"
    return None if suffix in suffixes else f"{OTHER_SUFFIX} ({suffix or 'none'})"


def is_listed(client: Client, place: Place, key: str) -> bool:
    """Whether a listing has this very key: of a bucket that is not there, there is none.

    Raises:
        StoreError, Answered: see :func:`pages`.
    """
    name = place.prefix + key
    if client.s3:
        objects, _, _ = client.s3.page(name, most=1)
        return any(each.name == name for each in objects)
    return any(each.name == name for page in _listed(client.objects, name) for each in page)


def check(client: Client, place: Place) -> None:
    """Raise unless the place can be listed; it may well be empty.

    Raises:
        StoreError, Answered: see :func:`pages`.
    """
    if client.s3:
        client.s3.page(place.prefix, most=1)
        return
    next(_listed(client.objects, place.prefix), None)


def _listed(objects: Any, prefix: str) -> Iterator[list[Listed]]:
    """The same of obstore, for stores that are not like S3."""
    # It takes whole parts of names for a prefix.
    folder = prefix.rpartition("/")[0]
    for page in obstore.list(objects, folder or None, chunk_size=1_000):
        yield [
            Listed(
                each["path"],
                each["size"],
                each["last_modified"].strftime("%Y-%m-%dT%H:%M:%S"),
                each["e_tag"] or "",
            )
            for each in page
            if each["path"].startswith(prefix)
        ]


@functools.lru_cache(maxsize=4096)
def _seconds(text: str) -> int:
    """Unix time, in whole seconds, of ``2026-11-22T05:30:41``."""
    return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))
