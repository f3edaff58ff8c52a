"""The folders that a database belongs to: its rows must never meet the files of another project.

Over other folders, every known original would look removed, and its renditions would be deleted
where the new folders are, or be left without a row where the old ones are.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa

from pipeline.database.connection import Database
from pipeline.database.state import FOLDERS, StateRepository
from pipeline.errors import OtherFoldersError
from pipeline.settings.values import PREFIX, Settings
from pipeline.storage.folder import holds_anything
from pipeline.storage.places import Place, folder_place
from pipeline.tables import jobs_table

ORIGINALS = "originals"
STATE = "STATE"
OUTPUT = "OUTPUT"


class KnownPlace(NamedTuple):
    """One folder; device and inode are zero where it is not there, and for a bucket."""

    path: str
    device: int = 0
    inode: int = 0

    def is_same_as(self, other: KnownPlace) -> bool:
        """Whether they are one folder: of one path, or one that was renamed or bound elsewhere.

        The same path may well be another folder (a disk mounted again, a restored backup): what
        is gone from it is noticed by other means, see :mod:`pipeline.engine.unmounted`.
        """
        return self.path == other.path or (self.inode != 0 and self[1:] == other[1:])


class KnownFolders:
    """The folders that the database knows, and those of the settings.

    A path is compared from the folder of an SQLite database on as well: a project that was moved
    or copied as a whole, with its database, is the same project.
    """

    def __init__(self, settings: Settings, database: Database, repository: StateRepository) -> None:
        self._database = database
        self._repository = repository
        self._places = {
            "INPUT": settings.input_place,
            OUTPUT: settings.output_place,
            STATE: folder_place(settings.state_dir),
        }
        files = database.dialect.files
        self._base = str(files[0].absolute().parent) if files else ""
        known = json.loads(repository.get(FOLDERS) or "{}")
        self._base_before = known.pop("base", "")
        self._before = {name: KnownPlace(*place) for name, place in known.items()}

    def check(self, relocate: bool = False) -> None:
        """Refuse other folders than those known, unless they were moved there (``relocate``).

        A database that knows neither an original nor a job belongs to no folders yet.

        Raises:
            OtherFoldersError
        """
        others = [name for name in self._before if not self._is_known(name)]
        if others and not relocate:
            # The state folder holds what belongs to jobs, and nothing else.
            has_jobs = _has_any(self._database, jobs_table(self._database.sqla_metadata).name)
            has_any = has_jobs or _has_any(self._database, ORIGINALS)
            refused = [name for name in others if (has_jobs if name == STATE else has_any)]
            if refused:
                raise self._refusal(refused)

    @property
    def is_other_output(self) -> bool:
        """Whether the output folder may hold other files than at the last run.

        Another device alone does not say so: networks and plugs number disks as they come.
        """
        before, now = self._before.get(OUTPUT), _known(self._places[OUTPUT])
        if before is not None and self._places[OUTPUT].is_bucket:
            return before.path != now.path
        if before is None or not before.inode:
            return False
        if before.path != now.path and not before.is_same_as(now):
            return True
        return before.inode != now.inode and holds_anything(Path(now.path))

    def remember(self) -> None:
        """Make the folders of the settings the known ones; nothing is written if they are."""
        places = {}
        for name, each in self._places.items():
            place, before = _known(each), self._before.get(name)
            is_away = not place.inode and before is not None and before.path == place.path
            places[name] = before if is_away else place
        known = {"base": self._base, **places}
        self._repository.set(FOLDERS, json.dumps(known, sort_keys=True))

    def _is_known(self, name: str) -> bool:
        before, now = self._before[name], _known(self._places[name])
        return before.is_same_as(now) or (
            bool(self._base and self._base_before)
            and _below(before.path, self._base_before) == _below(now.path, self._base) != ""
        )

    def _refusal(self, names: list[str]) -> OtherFoldersError:
        url = self._database.engine.url
        return OtherFoldersError(
            f"{url.database if self._base else self._database.shown}: this database belongs to "
            "other folders; nothing was changed",
            [
                *(
                    f"{PREFIX}{name} was {self._before[name].path}, "
                    f"and would be {self._places[name]}"
                    for name in names
                ),
                "if they were moved there, run `datapipe run --relocate` once",
                f"if this is another project, name a database of its own in {PREFIX}DB, "
                "for example sqlite:///other.sqlite",
            ],
        )


def check_known(settings: Settings, database: Database) -> None:
    """Refuse to write where the database belongs to other folders; its tables have been made.

    Raises:
        OtherFoldersError
    """
    KnownFolders(settings, database, StateRepository(database)).check()


def _known(place: Place) -> KnownPlace:
    if place.folder is None:
        return KnownPlace(place.text)
    try:
        status = os.stat(place.folder)
    except OSError:
        return KnownPlace(place.text)
    return KnownPlace(place.text, status.st_dev, status.st_ino)


def _below(path: str, base: str) -> str:
    """``path`` from ``base`` on; ``""`` where it is not below it."""
    return os.path.relpath(path, base) if Path(path).is_relative_to(base) else ""


def _has_any(database: Database, name: str) -> bool:
    tables = [table for table in database.sqla_metadata.tables.values() if table.name == name]
    return any(
        database.first(sa.select(sa.literal(1)).select_from(table).limit(1)) for table in tables
    )
