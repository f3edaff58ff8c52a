"""Which files and folders are open to every user of the machine."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path


def open_to_others(places: Iterable[Path]) -> list[Path]:
    """Those of ``places`` that users can access who are neither their owner nor in their group.

    A group counts as meant: that is how one is shared on purpose. What lies in a folder that others
    cannot enter is closed to them, whatever its own mode.
    """
    # Elsewhere the mode does not say who may do what.
    return [place for place in places if _is_open(place)] if os.name == "posix" else []


def _is_open(place: Path) -> bool:
    try:
        real = Path(os.path.realpath(place))
        mode = real.stat().st_mode
        rights = stat.S_IROTH | stat.S_IWOTH | (stat.S_IXOTH if stat.S_ISDIR(mode) else 0)
        return bool(mode & rights) and all(
            folder.stat().st_mode & stat.S_IXOTH for folder in real.parents
        )
    except OSError:
        return False  # it is not there
