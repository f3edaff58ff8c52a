"""Keys of a place, whether it is a folder or a bucket."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from pipeline.names import key_below, key_of, name_of
from pipeline.storage.folder import files_below
from pipeline.storage.opening import open_store
from pipeline.storage.places import Place


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
