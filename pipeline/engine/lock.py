"""One run at a time on one database, by a lock that dies with its process.

A second lock, held for moments, keeps a takedown and the publishing of a run apart.

SQLite: a lock of the operating system (``flock``) on ``<database>.lock``. PostgreSQL: an advisory
lock on a connection of its own, so that two machines cannot run on one database either.
Who holds the lock stands in ``<database>.lock.json``, or in the server's list of connections.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from datapipe.store.database import DBConn

from pipeline.engine.files import explained
from pipeline.errors import DatabaseError, LockedError, OutputError

# "LOCKSTEP" in ASCII, as one 64-bit number: the key of the advisory lock.
ADVISORY_KEY = int.from_bytes(b"LOCKSTEP", "big")
POLL_S = 0.1
# "LOCKPUBL", the key of the second lock.
PUBLISH_KEY = int.from_bytes(b"LOCKPUBL", "big")
PUBLISH_POLL_S = 0.01

# Who holds the lock. A watcher holds it for moments, so a run that finds it held by one waits a
# little, although it was not told to: its turn comes.
RUN, WATCH = "run", "watch"
WATCH_GRACE_S = 10.0
ADVISORY_NAMES = {RUN: "lockstep run", WATCH: "lockstep watch"}


@contextlib.contextmanager
def run_lock(connection: DBConn, wait: bool = False, holder: str = RUN) -> Iterator[None]:
    """Hold the lock for the length of a ``with`` block, as ``RUN`` or as ``WATCH``.

    Raises:
        LockedError: another process holds it and ``wait`` is false.
    """
    url = sa.make_url(connection.connstr)
    held = (
        _advisory(connection, wait, holder)
        if url.database is None or "postgres" in url.drivername
        else (_file_lock(Path(url.database), wait, holder))
    )
    with held:
        yield


def holder(connection: DBConn) -> str | None:
    """Who else holds the lock now, as ``process 12 on shop, since ...``, if anybody does.

    Takes no lock, not even for a moment: that would turn away a run from cron.
    """
    url = sa.make_url(connection.connstr)
    if url.database is None or "postgres" in url.drivername:
        with connection.con.connect() as con:
            return _advisory_holder(con).strip(" ()") or None
    note = Path(url.database).with_name(Path(url.database).name + ".lock.json")
    try:
        written = json.loads(note.read_text("utf-8"))
        if written["host"] == socket.gethostname():
            if written["pid"] == os.getpid():
                return None
            os.kill(written["pid"], 0)  # a note outlives a process that was killed
    except PermissionError:
        pass
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return _holder(note).strip(" ()") or None


@contextlib.contextmanager
def publish_lock(connection: DBConn) -> Iterator[None]:
    """Wait for, and hold, the right to publish renditions or to take some down.

    A run holds it from its look at the takedowns until the rows of a batch are written. So a
    takedown that holds it finds either the rows of what was published, or a run that will look.
    """
    url = sa.make_url(connection.connstr)
    if url.database is None or "postgres" in url.drivername:
        with connection.con.connect() as con:
            con.execute(sa.select(sa.func.pg_advisory_lock(PUBLISH_KEY)))
            con.commit()
            try:
                yield
            finally:
                with contextlib.suppress(sa.exc.SQLAlchemyError):
                    con.execute(sa.select(sa.func.pg_advisory_unlock(PUBLISH_KEY)))
                    con.commit()
        return
    from filelock import FileLock

    path = Path(url.database)
    lock = FileLock(path.with_name(path.name + ".publish.lock"))
    try:
        lock.acquire(poll_interval=PUBLISH_POLL_S)
    except OSError as error:
        raise _not_written(Path(lock.lock_file), error) from None
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _file_lock(database: Path, wait: bool, holder: str) -> Iterator[None]:
    # Imported here: no command but a run needs it, and it costs 30 ms.
    from filelock import FileLock, Timeout

    path = database.with_name(database.name + ".lock")
    note = database.with_name(database.name + ".lock.json")
    lock = FileLock(path, timeout=-1 if wait else 0)
    try:
        try:
            lock.acquire(poll_interval=POLL_S)
        except Timeout:
            if holder == WATCH or not _may_be_watcher(note):
                raise
            lock.acquire(WATCH_GRACE_S, poll_interval=POLL_S)
    except Timeout:
        raise LockedError(
            f"another run is at work{_holder(note)}; wait for it, or use --wait"
        ) from None
    except OSError as error:
        raise _not_written(path, error) from None
    try:
        try:
            # Beside the lock file: opening that one to lock it empties it.
            note.write_text(json.dumps(_ourselves(holder)), "utf-8")
        except OSError as error:
            raise _not_written(note, error) from None
        yield
    finally:
        with contextlib.suppress(OSError):
            note.unlink()
        lock.release()


def _not_written(file: Path, error: OSError) -> DatabaseError:
    fault = explained(error, file)
    if isinstance(fault, OutputError):
        return DatabaseError(str(fault))
    return DatabaseError(
        f"{file}: cannot be written ({error.strerror}); the database's folder must be writable"
    )


@contextlib.contextmanager
def _advisory(connection: DBConn, wait: bool, holder: str) -> Iterator[None]:
    give_up_at = None if wait else time.monotonic()
    with connection.con.connect() as con:
        con.execute(sa.text(f"SET application_name = '{ADVISORY_NAMES[holder]}'"))
        con.commit()
        while not con.execute(sa.select(sa.func.pg_try_advisory_lock(ADVISORY_KEY))).scalar():
            if give_up_at is not None and holder == RUN and _advisory_is_watcher(con):
                give_up_at += WATCH_GRACE_S
                holder = ""  # the grace is given once
            con.commit()
            if give_up_at is not None and time.monotonic() >= give_up_at:
                raise LockedError(
                    f"another run is at work{_advisory_holder(con)}; wait for it, or use --wait"
                )
            time.sleep(POLL_S)
        con.commit()
        try:
            yield
        finally:
            with contextlib.suppress(sa.exc.SQLAlchemyError):
                con.execute(sa.select(sa.func.pg_advisory_unlock(ADVISORY_KEY)))
                con.commit()


def _ourselves(holder: str) -> dict[str, str | int]:
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": now, "as": holder}


def _may_be_watcher(note: Path) -> bool:
    try:
        return bool(json.loads(note.read_text("utf-8")).get("as") == WATCH)
    except (OSError, ValueError, AttributeError):
        # It is written a moment after the lock is taken, and taken away a moment before it is
        # given back: one or the other is going on.
        return True


def _holder(note: Path) -> str:
    try:
        holder = json.loads(note.read_text("utf-8"))
        return f" (process {holder['pid']} on {holder['host']}, since {holder['since']})"
    except (OSError, ValueError, KeyError):
        return ""


def _advisory_row(con: sa.Connection) -> sa.Row[Any] | None:
    return con.execute(
        sa.text(
            "SELECT a.pid, a.client_addr, a.backend_start, a.application_name FROM pg_locks l "
            "JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory' AND l.granted "
            "AND l.classid = :high AND l.objid = :low"
        ),
        {"high": ADVISORY_KEY >> 32, "low": ADVISORY_KEY & 0xFFFFFFFF},
    ).first()


def _advisory_is_watcher(con: sa.Connection) -> bool:
    row = _advisory_row(con)
    return row is not None and row.application_name == ADVISORY_NAMES[WATCH]


def _advisory_holder(con: sa.Connection) -> str:
    row = _advisory_row(con)
    if row is None:
        return ""
    host, since = row.client_addr or "this host", f"{row.backend_start:%Y-%m-%d %H:%M:%S}"
    return f" (connection {row.pid} from {host}, since {since})"
