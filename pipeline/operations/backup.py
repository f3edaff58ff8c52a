"""Backup: a copy of the database as it is at one moment, while runs go on."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from pathlib import Path

import sqlalchemy as sa

from pipeline.app import Lockstep
from pipeline.database.state import GENERATION, STATE_TABLE, UNVERIFIED
from pipeline.errors import DatabaseError, OutputError, SettingsError
from pipeline.storage.folder import sync_folder

# How each SQLite database begins (https://www.sqlite.org/fileformat.html).
_MAGIC = b"SQLite format 3\0"
# Of a state value: not compared yet.
_NOT_COMPARED = "null"


def back_up(app: Lockstep, file: Path) -> int:
    """Write a copy of the database to ``file``, and return its size in bytes.

    An older backup of that name is replaced once the new one is complete and was read whole. The
    copy says of itself that the output folder has to be compared with it.

    Raises:
        SettingsError: the database is on a server, or ``file`` is something else than a backup.
        OutputError: the copy cannot be written.
        DatabaseError: the database is damaged.
    """
    _refuse_other(app, file)
    try:
        handle, name = tempfile.mkstemp(suffix=".partial", prefix=f".{file.name}.", dir=file.parent)
    except OSError as error:
        raise _unwritable(file, error.strerror or str(error)) from None
    os.close(handle)
    copy = Path(name)
    try:
        try:
            app.database.dialect.copy(app.database.engine, copy, file)
        except sqlite3.OperationalError as error:
            raise _unwritable(file, str(error)) from None
        except (sqlite3.DatabaseError, sa.exc.SQLAlchemyError) as error:
            raise app.database.explain(error) from error
        _finish(copy, app)
        size_bytes = copy.stat().st_size
        os.replace(copy, file)
        sync_folder(file.parent)
    finally:
        for end in ("", "-wal", "-shm", "-journal"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{copy}{end}")
    return size_bytes


def _refuse_other(app: Lockstep, file: Path) -> None:
    """Refuse to replace the database itself, or what is no backup."""
    if file.is_dir():
        raise SettingsError(
            f"{file}: a folder; name a file in it, such as {file / 'backup.sqlite'}"
        )
    if not file.exists():
        return
    if any(place.exists() and place.samefile(file) for place in app.database.dialect.files):
        raise SettingsError(f"{file}: this is the database itself; name another file")
    with file.open("rb") as there:
        if there.read(len(_MAGIC)) not in (_MAGIC, b""):
            raise SettingsError(f"{file}: it exists and is no backup; name another file")


def _finish(copy: Path, app: Lockstep) -> None:
    """Read the copy whole, and mark it: restored, it is an older database.

    The number of runs alone would not tell, if the run that goes on now never ends: both would have
    the same one.
    """
    with contextlib.closing(sqlite3.connect(copy)) as con:
        # A single file: no journal beside it that has to be copied with it.
        con.execute("PRAGMA journal_mode = DELETE")
        (said,) = con.execute("PRAGMA quick_check(1)").fetchone()
        if said != "ok":
            raise DatabaseError(f"{app.database.shown}: it is damaged ({said}); no copy was made")
        with con:
            con.execute(f"DELETE FROM {STATE_TABLE} WHERE name IN (?, ?)", (GENERATION, UNVERIFIED))
            con.execute(f"INSERT INTO {STATE_TABLE} VALUES (?, ?)", (UNVERIFIED, _NOT_COMPARED))
    with copy.open("rb") as whole:
        os.fsync(whole.fileno())


def _unwritable(file: Path, why: str) -> OutputError:
    return OutputError(
        f"{file}: cannot be written ({why}); free space, or name a file in a writable folder"
    )
