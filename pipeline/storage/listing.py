"""The originals of a place, whether it is a folder or a bucket, in the order of the keys."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from pipeline.names import key_below, key_of, name_of
from pipeline.storage.folder import files_below
from pipeline.storage.opening import open_store
from pipeline.storage.places import Place
from pipeline.storage.walking import FoundFile, Passed, Row, reason_of_name, walk, why_passed

EMPTY_NAME = "key with an empty name in it"


def walk_place(
    place: Place, suffixes: frozenset[str], passed: Passed, below: str = ""
) -> Iterator[list[Row]]:
    """Every original of a place whose suffix is in ``suffixes``; see :func:`walking.walk`.

    Raises:
        OSError: the folder itself cannot be read.
        StoreError: the bucket cannot be listed to the end.
    """
    if place.folder is not None:
        yield from walk(place.folder, suffixes, passed, below)
        return
    wanted = suffixes | passed.deferred_suffixes
    folder, folder_reason = "", None
    for page in open_store(place).entries(below):
        rows: list[Row] = []
        for row in page:
            key = row[0]
            end = key.rfind("/") + 1
            if key[:end] != folder:
                folder = key[:end]
                folder_reason = _reason_of_folder(folder)
            reason = folder_reason
            suffix = key[key.rfind(".") :]
            if reason is None and (suffix not in suffixes or key[end] in ".~"):
                name = key[end:]
                # A console that shows folders makes an empty object for each.
                reason = reason_of_name(name, False, wanted) if name else EMPTY_NAME
                if reason is None and suffix.lower() in passed.deferred_suffixes:
                    passed.deferred.append(FoundFile(*row))
                    continue
            if reason is None:
                rows.append(row)
            else:
                passed.reasons[reason] += 1
        yield rows


def why_passed_at(place: Place, key: str, suffixes: frozenset[str]) -> str | None:
    """Why the walk would skip the object of this key; ``None`` if it is an original."""
    if place.folder is not None:
        return why_passed(place.folder, key, suffixes)
    folder, _, name = key.rpartition("/")
    reason = _reason_of_folder(f"{folder}/") if folder or key.startswith("/") else None
    return reason or (reason_of_name(name, False, suffixes) if name else EMPTY_NAME)


def keys_below(place: Place, prefix: str = "", apart: Collection[str] = ()) -> Iterator[str]:
    """The keys of all files below a prefix that ends with ``/``, or is empty.

    In a folder no link is followed. What is below the prefixes ``apart`` is left out.

    Raises:
        StoreError: the bucket cannot be listed to the end.
    """
    if place.folder is not None:
        folders = [place.folder / name_of(each) for each in apart]
        root = place.folder / name_of(prefix)
        for path, _ in files_below(root, folders, place.folder):
            yield prefix + key_of(path)
        return
    for page in open_store(place).entries(prefix.rstrip("/")):
        for row in page:
            if not row[0].startswith(tuple(apart)):
                yield row[0]


def key_at(place: Place, typed: str) -> str:
    """The key of what was typed: an address in the place, or a key; in a folder also a path from
    where we are."""
    if place.folder is not None:
        return key_below(place.folder, typed)
    return typed.removeprefix(f"{place.text}/")


def _reason_of_folder(folder: str) -> str | None:
    for name in folder.split("/")[:-1]:
        reason = reason_of_name(name, True, frozenset()) if name else EMPTY_NAME
        if reason is not None:
            return reason
    return None
