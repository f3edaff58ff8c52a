"""Telling an unmounted disk from an intended removal: what is gone with its disk is not deleted.

An unmounted disk leaves an empty folder behind, or what was below its mount point before. Either is
a different folder from the one remembered: another device, or another inode on it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from pipeline.database.state import INPUT, KNOWN_BEFORE, StateRepository
from pipeline.errors import TooManyRemovedError
from pipeline.names import name_of
from pipeline.storage.mounts import mount_points
from pipeline.storage.opening import open_store
from pipeline.storage.places import Place
from pipeline.text import counted

if TYPE_CHECKING:
    from pipeline.blocklist import Blocklist
    from pipeline.engine.difference import Difference

# Below this many a percentage says little: removing two of three photos may well be intended, and
# so may replacing the only one. All of several are another matter.
REMOVED_AT_LEAST = 100

# Device and inode of a folder; what its store says of a bucket.
Identity = tuple[int | str, ...]


class InputMounts:
    """The input folder as the last whole run saw it, and as this one does.

    ``""`` stands for the folder itself; other keys are mount points below it.

    Raises:
        TooManyRemovedError: it is not there, and ``allow_missing`` is false.
    """

    def __init__(
        self, place: Place, repository: StateRepository, allow_missing: bool = False
    ) -> None:
        self.place = place
        self._repository = repository
        self._allow_missing = allow_missing
        remembered = json.loads(repository.get(INPUT) or "{}")
        self._remembered = {key: tuple(value) for key, value in remembered.items()}
        self._before = self._after = self._look()

    @property
    def identity(self) -> Identity:
        """That of the folder itself; zeros where it is allowed to be missing."""
        return self._before[""]

    def look_again(self, noticed: Iterable[str] = ()) -> None:
        """Look after the walk: a disk may have come or gone meanwhile.

        ``noticed`` are folders that the walk took for mount points.

        Raises:
            TooManyRemovedError: see the class.
        """
        self._after = self._look(noticed)

    @property
    def moved(self) -> list[str]:
        """What differs from the run before; nothing is known before the first run."""
        last = self._remembered
        if not last:
            return []
        looks = (self._before, self._after)
        keys = last.keys() | self._before.keys() | self._after.keys()
        return sorted(key for key in keys if any(look.get(key) != last.get(key) for look in looks))

    def remember(self) -> None:
        """Make the next run expect what this one saw; nothing is written if that is unchanged."""
        self._repository.set(INPUT, json.dumps(self._after, sort_keys=True))
        self._repository.set(KNOWN_BEFORE, None)

    def note_refused(self, known: int) -> None:
        """Note how many were ``known``: what is new has rows by now, and must not outweigh what is
        gone when the same is to be refused again."""
        noted = self._repository.get(KNOWN_BEFORE)
        self._repository.set(KNOWN_BEFORE, str(known if noted is None else min(known, int(noted))))

    def are_all_gone(self, difference: Difference) -> bool:
        """Whether none of those is there that were known before."""
        noted = self._repository.get(KNOWN_BEFORE)
        return difference.all_gone or (noted is not None and len(difference.removed) >= int(noted))

    def known(self, difference: Difference) -> int:
        """How many originals were known before this scan, and any that was refused before it."""
        noted = self._repository.get(KNOWN_BEFORE)
        return difference.known if noted is None else min(int(noted), difference.known)

    def _look(self, noticed: Iterable[str] = ()) -> dict[str, Identity]:
        seen = {"": identity_of(self.place, self._allow_missing)}
        folder = self.place.folder
        if folder is None:
            return seen
        for key in mount_points(folder, {*self._remembered, *noticed} - {""}):
            try:
                status = os.stat(folder / name_of(key))
            except OSError:
                continue  # a disk that does not respond counts as gone
            seen[key] = (status.st_dev, status.st_ino)
        return seen


def identity_of(place: Place, allow_missing: bool = False) -> Identity:
    """What distinguishes a folder from the mount point that a disk leaves behind: device and inode.

    Raises:
        TooManyRemovedError: it is not there, and that is not allowed.
        StoreError: it is a bucket that cannot be used; that is never allowed.
    """
    if place.folder is None:
        return (open_store(place).identity(),)
    try:
        status = os.stat(place.folder)
    except OSError as error:
        if allow_missing:
            return 0, 0
        raise not_there(place, error.strerror) from None
    return status.st_dev, status.st_ino


def not_there(place: Place, reason: str | None) -> TooManyRemovedError:
    """The error for an input folder that cannot be examined."""
    return TooManyRemovedError(
        f"{place}: the input folder cannot be read ({reason}); nothing was deleted. "
        "Mount it, create it, or name another in PIPELINE_INPUT; if it is gone on purpose, "
        "run again with --allow-removed"
    )


def refuse_too_many(
    difference: Difference, max_percent: float, input_folder: InputMounts, takedowns: Blocklist
) -> None:
    """Raise where so much is gone, or in such a way, that a missing disk is more likely than
    intent.

    What takedowns removed is gone on purpose, and does not count.

    Raises:
        TooManyRemovedError: at least 100 originals are gone, and more than ``max_percent`` of all;
            or any is, and the folder is empty now, or it or a disk in it is another one; or all
            are, and those that are there now are others.
    """
    if not difference.removed:
        return
    place, known = input_folder.place, input_folder.known(difference)
    gone = len(difference.removed) - takedowns.removed_among(difference.removed)
    if gone >= REMOVED_AT_LEAST and gone * 100 > known * max_percent:
        raise _refusal(
            place,
            f"{gone:,} of {known:,} originals are gone, more than the {max_percent:g} % of "
            "PIPELINE_MAX_REMOVED",
        )
    for key in input_folder.moved:
        below = [path for path in difference.removed if not key or path.startswith(f"{key}/")]
        gone_below = len(below) - takedowns.removed_among(below)
        if gone_below:
            what = f"{_is_another(place, key)}, and {_counted(gone_below)}"
            raise _refusal(place, what, key)
    if gone and difference.is_empty:
        kind = "bucket or prefix" if place.is_bucket else "input folder"
        raise _refusal(place, f"the {kind} is empty now: {_counted(gone)}")
    if gone and input_folder.are_all_gone(difference) and known > 1 and max_percent < 100:
        raise _refusal(
            place,
            f"not one of the {counted(known, 'original')} known before is there, which "
            "PIPELINE_MAX_REMOVED counts whatever their number",
        )


def refuse_csvs(
    sources: Sequence[str], images: int, is_empty: bool, place: Place, moved: Collection[str]
) -> None:
    """The same for CSVs below the input folder: ``sources`` are gone, with ``images`` of theirs.

    Raises:
        TooManyRemovedError: the folder is empty now, or it or a disk in it is another one.
    """
    for key in sorted(moved):
        below = [path for path in sources if not key or path.startswith(f"{key}/")]
        if below:
            raise _refusal(place, f"{_is_another(place, key)}, and {_csvs(below, images)}", key)
    if sources and is_empty:
        kind = "bucket or prefix" if place.is_bucket else "folder"
        raise _refusal(place, f"the {kind} is empty, and {_csvs(sources, images)}")


def _is_another(place: Place, key: str) -> str:
    """What is wrong with a folder of :attr:`InputMounts.moved`."""
    if place.is_bucket:
        return "this is not the bucket that was here in the last run (of another store)"
    if not key:
        return "this is not the folder that was here in the last run (another device or inode)"
    return "the disk that was mounted here in the last run is gone, or another one is"


def _counted(gone: int) -> str:
    return "an original is gone" if gone == 1 else f"{gone:,} originals are gone"


def _csvs(sources: Sequence[str], images: int) -> str:
    csvs = "a CSV" if len(sources) == 1 else f"{len(sources):,} CSVs"
    fetched = "a fetched image" if images == 1 else f"{images:,} fetched images"
    return f"{fetched} of {csvs} would be deleted"


def _refusal(place: Place, what: str, key: str = "") -> TooManyRemovedError:
    if place.is_bucket:
        remedy = f"Check that {place} is what you mean, and what was deleted there"
    else:
        remedy = "If a disk is not mounted, mount it and run again"
    where = place.at(name_of(key)) if key else place.text
    return TooManyRemovedError(
        f"{where}: {what}; nothing was deleted. {remedy}; "
        "if they are gone on purpose, run again with --allow-removed"
    )
