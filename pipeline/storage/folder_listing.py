"""What a folder holds, in the order of the keys, and which folder it is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path

from pipeline.names import TEMPORARY_PREFIX, key_of, name_of
from pipeline.storage.mounts import mount_points
from pipeline.storage.walking import FoundFile, Passed, Row, found_as, look_at, walk, why_passed


class FolderListing:
    """The part of a store in a folder that only looks."""

    root: str

    def entries(self, below: str = "") -> Iterator[list[FoundFile]]:
        """Every file that is not temporary, in the order of the keys; links are not followed.

        A file or folder that goes away meanwhile is left out.

        Raises:
            OSError: a folder cannot be read; ``FileNotFoundError`` where there is no ``below``.
        """
        start = os.path.join(self.root, name_of(below)) if below else self.root
        yield from _entries(start, f"{below}/" if below else "")

    def walk(
        self, suffixes: frozenset[str], passed: Passed, below: str = ""
    ) -> Iterator[list[Row]]:
        """The originals in it; see :func:`pipeline.storage.walking.walk`.

        Raises:
            OSError: the folder itself cannot be read.
        """
        return walk(Path(self.root), suffixes, passed, below)

    def why_passed(self, key: str, suffixes: frozenset[str]) -> str | None:
        """Why the walk would skip the file of this key; ``None`` if it is an original."""
        return why_passed(Path(self.root), key, suffixes)

    def look_at(self, key: str) -> FoundFile | None:
        """The ``stat`` of a file; ``None`` where there is none."""
        return look_at(Path(self.root), key)

    def identity(self) -> str:
        """Device and inode of the folder, and of every disk that is mounted below it.

        Raises:
            OSError: it is not there.
        """
        places = ["", *mount_points(Path(self.root), ())]
        seen = []
        for key in places:
            status = os.stat(os.path.join(self.root, name_of(key)))
            seen.append(f"{key}:{status.st_dev}-{status.st_ino}")
        return "/".join(seen)


def _is_temporary(name: str) -> bool:
    return name.startswith(TEMPORARY_PREFIX)


def _entries(folder: str, prefix: str) -> Iterator[list[FoundFile]]:
    found: list[tuple[str, FoundFile | str]] = []
    with os.scandir(folder) as items:
        for item in items:
            key = prefix + key_of(item.name)
            try:
                if item.is_dir(follow_symlinks=False):
                    found.append((f"{key}/", item.path))
                elif item.is_file(follow_symlinks=False) and not _is_temporary(item.name):
                    found.append((key, found_as(key, item.stat(follow_symlinks=False))))
            except FileNotFoundError:
                continue
    page: list[FoundFile] = []
    for key, each in sorted(found, key=itemgetter(0)):
        if isinstance(each, FoundFile):
            page.append(each)
            continue
        if page:
            yield page
            page = []
        try:
            yield from _entries(each, key)
        except FileNotFoundError:
            continue
    if page:
        yield page
