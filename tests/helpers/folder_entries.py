"""Folders whose entries are stand-ins: what a scan asks of them is counted, or fails."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest


def list_with(patch: pytest.MonkeyPatch, stand_in: Callable[[os.DirEntry[str]], Any]) -> None:
    """Have a scan see each entry of a folder through ``stand_in``."""
    import pipeline.storage.walking as walk

    scandir = os.scandir

    class Listing:
        def __init__(self, folder: str) -> None:
            self.items = scandir(folder)

        def __enter__(self) -> "Listing":
            return self

        def __exit__(self, *error: object) -> None:
            self.items.close()

        def __iter__(self) -> Iterator[Any]:
            return map(stand_in, self.items)

    patch.setattr(walk.os, "scandir", Listing)
