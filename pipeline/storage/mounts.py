"""Mount points below a folder."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path

from pipeline.names import key_of, name_of

# The kernel's list of what is mounted for this process (Linux, see proc(5)); also bind mounts of
# the very same device are in it, which `stat` does not show.
MOUNTS = Path("/proc/self/mountinfo")

_ESCAPED = re.compile(rb"\\([0-7]{3})")


def mount_points(folder: Path, candidates: Collection[str]) -> list[str]:
    """The keys of the mount points below ``folder``, without hidden ones.

    Where the system keeps no list that we can read, those of ``candidates`` that are one.
    """
    try:
        lines = MOUNTS.read_bytes().splitlines()
    except OSError:
        return sorted(key for key in candidates if os.path.ismount(folder / name_of(key)))
    root = os.path.join(os.path.realpath(folder), "")
    found = set()
    for line in lines:
        place = os.fsdecode(_ESCAPED.sub(_unescaped, line.split(b" ")[4]))
        # There are no originals below a hidden folder: snapshots may come and go there.
        if place.startswith(root) and f"{os.sep}." not in place[len(root) - 1 :]:
            found.add(key_of(place[len(root) :].replace(os.sep, "/")))
    return sorted(found)


def _unescaped(match: re.Match[bytes]) -> bytes:
    return bytes((int(match.group(1), 8),))
