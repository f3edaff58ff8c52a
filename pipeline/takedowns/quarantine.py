"""Moving originals out of ``input/`` and back, so that a crash never loses one.

Within a file system a move is one rename. Across two the copy is whole and on the disk before its
source is removed.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from pipeline.names import name_of, shortened_name
from pipeline.storage.folder import digest_of
from pipeline.storage.moving import is_at
from pipeline.storage.places import Place


def free_place(place: Place, key: str, salt: str, is_taken: Callable[[str], bool]) -> str:
    """``key``, or another key beside it if that is taken.

    ``salt`` distinguishes two files that need the same place.
    """
    if _is_free(place, key) and not is_taken(key):
        return key
    within, _, name = key.rpartition("/")
    stem, suffix = os.path.splitext(name)
    number = 0
    while True:
        apart = shortened_name(stem, suffix, of=digest_of(f"{salt}/{number}/{key}"))
        # A file may be where the folder is needed.
        for candidate in (f"{within}/{apart}" if within else apart, apart):
            if _is_free(place, candidate) and not is_taken(candidate):
                return candidate
        number += 1


def _is_free(place: Place, key: str) -> bool:
    if place.folder is None:
        return not is_at(place, key)
    here = place.folder
    *folders, name = name_of(key).split("/")
    for part in folders:
        here /= part
        if os.path.lexists(here) and not here.is_dir():
            return False
    return not os.path.lexists(here / name)
