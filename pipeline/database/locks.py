"""Locks by name that die with their process.

``RUN_LOCK``      one run at a time
``PUBLISH_LOCK``  held for moments: keeps a takedown and the publishing of a run apart
``STEPS_LOCK``    one worker of the users' own steps at a time, in a run or beside it
``BULK_LOCK``     one worker of what is done with many originals at once
``REVIEW_LOCK``   held while a review becomes a takedown, or a takedown a review again
``SHARE_LOCK``    held while takedowns and lists of other instances are taken over
``TURN_LOCK``     held by a run that waits for the first one, which a watcher then gives up

SQLite: a lock of the operating system (``flock``) on a file beside the database. PostgreSQL: an
advisory lock on a connection of its own, so that two machines cannot run on one database either.
MySQL and MariaDB: a lock of ``GET_LOCK``, on a connection of its own as well.

A lock of a server ends with its connection. Where that breaks (the server was restarted, or
somebody ended the connection), the run finds out when it next writes, or at its end; another one
may begin meanwhile, and what both write is in step again after the next run.

Who holds the run lock is recorded in ``<database>.lock.json``, or in the server's list of
connections.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import sqlalchemy as sa

from pipeline.errors import DatabaseError, LockedError

if TYPE_CHECKING:
    from filelock import FileLock

RUN_LOCK, PUBLISH_LOCK, TURN_LOCK, STEPS_LOCK = "run", "publish", "turn", "steps"
BULK_LOCK = "bulk"
REVIEW_LOCK = "review"
SHARE_LOCK = "share"

# Who holds the lock of runs. A watcher gives it up between two tasks, so a run that finds it held
# by one waits a little even without ``--wait``: its turn comes soon.
RUN, WATCH = "run", "watch"
WATCH_GRACE_S = 10.0

POLL_S = 0.1
PUBLISH_POLL_S = 0.01


class Locks(Protocol):
    """The locks of one kind of database."""

    def hold(
        self, engine: sa.Engine, name: str, wait: bool, holder: str
    ) -> contextlib.AbstractContextManager[None]:
        """See :meth:`pipeline.database.connection.Database.lock`."""

    def holder(self, engine: sa.Engine) -> str | None:
        """See :meth:`pipeline.database.connection.Database.holder`."""

    def is_wanted(self, engine: sa.Engine) -> bool:
        """See :meth:`pipeline.database.connection.Database.is_wanted`."""


class FileLocks:
    """Locks on files beside the file of a database."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._note = database.with_name(database.name + ".lock.json")

    @contextlib.contextmanager
    def hold(self, engine: sa.Engine, name: str, wait: bool, holder: str) -> Iterator[None]:
        """Hold the lock ``name`` for the length of the block."""
        # Imported here: what takes no lock does without it, and it costs 5 ms.
        from filelock import FileLock, Timeout

        is_run = name == RUN_LOCK
        path = self._path(name)
        lock = FileLock(path, timeout=-1 if wait else 0)
        poll_s = POLL_S if is_run else PUBLISH_POLL_S
        try:
            if is_run and holder == RUN:
                self._take_turn(lock, wait)
            else:
                lock.acquire(poll_interval=poll_s)
        except Timeout:
            raise _locked(self._written_holder()) from None
        except OSError as error:
            raise _unwritable(path, error) from None
        try:
            if is_run:
                self._write_note(holder)
            yield
        finally:
            if is_run:
                with contextlib.suppress(OSError):
                    self._note.unlink()
            lock.release()

    def _take_turn(self, lock: FileLock, wait: bool) -> None:
        """Acquire the lock of runs, and let a watcher know that somebody waits for it."""
        # Imported here: what takes no lock does without it, and it costs 5 ms.
        from filelock import FileLock, Timeout

        try:
            lock.acquire(0)
            return
        except Timeout:
            if not wait and not self._may_be_watcher():
                raise
        patience_s = -1 if wait else WATCH_GRACE_S
        with FileLock(self._path(TURN_LOCK)).acquire(patience_s, poll_interval=POLL_S):
            lock.acquire(patience_s, poll_interval=POLL_S)

    def is_wanted(self, engine: sa.Engine) -> bool:
        """Whether somebody waits for the lock of runs."""
        # Imported here: what takes no lock does without it, and it costs 5 ms.
        from filelock import FileLock, Timeout

        try:
            with FileLock(self._path(TURN_LOCK)).acquire(0):
                return False
        except Timeout:
            return True
        except OSError:
            return False

    def _path(self, name: str) -> Path:
        infix = "" if name == RUN_LOCK else f".{name}"
        return self._database.with_name(f"{self._database.name}{infix}.lock")

    def holder(self, engine: sa.Engine) -> str | None:
        """Who else holds the lock of runs now."""
        try:
            written = json.loads(self._note.read_text("utf-8"))
            if written["host"] == socket.gethostname():
                if written["pid"] == os.getpid():
                    return None
                os.kill(written["pid"], 0)  # the note of a killed process stays behind
        except PermissionError:
            pass
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return self._written_holder() or None

    def _write_note(self, holder: str) -> None:
        # Beside the lock file: opening that one to lock it empties it.
        try:
            self._note.write_text(json.dumps(_ourselves(holder)), "utf-8")
        except OSError as error:
            raise _unwritable(self._note, error) from None

    def _may_be_watcher(self) -> bool:
        try:
            return bool(json.loads(self._note.read_text("utf-8")).get("as") == WATCH)
        except (OSError, ValueError, AttributeError):
            # It is written a moment after the lock is taken, and removed a moment before it is
            # released: one or the other is going on.
            return True

    def _written_holder(self) -> str:
        try:
            holder = json.loads(self._note.read_text("utf-8"))
            return f"process {holder['pid']} on {holder['host']}, since {holder['since']}"
        except (OSError, ValueError, KeyError):
            return ""


class AdvisoryLocks:
    """Advisory locks of PostgreSQL."""

    # "LOCKSTEP", "LOCKPUBL" and the like in ASCII, each as one 64-bit number.
    KEYS = {  # noqa: RUF012 - a constant
        RUN_LOCK: int.from_bytes(b"LOCKSTEP", "big"),
        PUBLISH_LOCK: int.from_bytes(b"LOCKPUBL", "big"),
        TURN_LOCK: int.from_bytes(b"LOCKTURN", "big"),
        STEPS_LOCK: int.from_bytes(b"LOCKSTPS", "big"),
        REVIEW_LOCK: int.from_bytes(b"LOCKREVW", "big"),
        BULK_LOCK: int.from_bytes(b"LOCKBULK", "big"),
        SHARE_LOCK: int.from_bytes(b"LOCKSHAR", "big"),
    }
    NAMES = {RUN: "lockstep run", WATCH: "lockstep watch"}  # noqa: RUF012

    @contextlib.contextmanager
    def hold(self, engine: sa.Engine, name: str, wait: bool, holder: str) -> Iterator[None]:
        """Hold the lock ``name`` for the length of the block."""
        key = self.KEYS[name]
        with engine.connect() as con:
            if name == RUN_LOCK:
                con.execute(sa.text(f"SET application_name = '{self.NAMES[holder]}'"))
                con.commit()
                self._acquire_run_lock(con, wait, holder)
            elif wait:
                con.execute(sa.select(sa.func.pg_advisory_lock(key)))
            elif not con.execute(sa.select(sa.func.pg_try_advisory_lock(key))).scalar():
                raise _locked("")
            con.commit()
            try:
                yield
            finally:
                with contextlib.suppress(sa.exc.SQLAlchemyError):
                    con.execute(sa.select(sa.func.pg_advisory_unlock(key)))
                    con.commit()

    def holder(self, engine: sa.Engine) -> str | None:
        """Who else holds the lock of runs now."""
        with engine.connect() as con:
            return self._holder(con) or None

    def is_wanted(self, engine: sa.Engine) -> bool:
        """Whether somebody waits for the lock of runs."""
        key = self.KEYS[TURN_LOCK]
        with engine.begin() as con:
            return not con.execute(sa.select(sa.func.pg_try_advisory_xact_lock(key))).scalar()

    def _acquire_run_lock(self, con: sa.Connection, wait: bool, holder: str) -> None:
        give_up_at = None if wait else time.monotonic()
        key, turn, grace = self.KEYS[RUN_LOCK], self.KEYS[TURN_LOCK], holder == RUN
        has_turn = False
        try:
            while not con.execute(sa.select(sa.func.pg_try_advisory_lock(key))).scalar():
                if give_up_at is not None and grace and self._is_watcher(con):
                    give_up_at += WATCH_GRACE_S
                    grace = False  # it is given once
                if holder == RUN and not has_turn:
                    query = sa.select(sa.func.pg_try_advisory_lock(turn))
                    has_turn = bool(con.execute(query).scalar())
                con.commit()
                if give_up_at is not None and time.monotonic() >= give_up_at:
                    raise _locked(self._holder(con))
                time.sleep(POLL_S)
        finally:
            if has_turn:
                con.execute(sa.select(sa.func.pg_advisory_unlock(turn)))

    def _row(self, con: sa.Connection) -> sa.Row[Any] | None:
        key = self.KEYS[RUN_LOCK]
        return con.execute(
            sa.text(
                "SELECT a.pid, a.client_addr, a.backend_start, a.application_name FROM pg_locks l "
                "JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory' AND l.granted "
                "AND l.classid = :high AND l.objid = :low"
            ),
            {"high": key >> 32, "low": key & 0xFFFFFFFF},
        ).first()

    def _is_watcher(self, con: sa.Connection) -> bool:
        row = self._row(con)
        return row is not None and row.application_name == self.NAMES[WATCH]

    def _holder(self, con: sa.Connection) -> str:
        row = self._row(con)
        if row is None:
            return ""
        host, since = row.client_addr or "this host", f"{row.backend_start:%Y-%m-%d %H:%M:%S}"
        return f"connection {row.pid} from {host}, since {since}"


class NamedLocks:
    """Locks of MySQL and MariaDB, by names that all databases of a server share."""

    # A server waits as long as it is told to; without an end only on MySQL.
    PATIENCE_S = 60

    def __init__(self, database: str) -> None:
        # Names have at most 64 characters, and no case.
        self._of = hashlib.sha256(database.encode()).hexdigest()[:16]
        readable = "".join(c for c in database if c.isalnum() and c.isascii())[:20]
        self._prefix = f"lockstep.{readable}.{self._of}"

    def name(self, lock: str) -> str:
        """The name of a lock on the server, which has that of the database in it."""
        return f"{self._prefix}.{lock}"

    @contextlib.contextmanager
    def hold(self, engine: sa.Engine, name: str, wait: bool, holder: str) -> Iterator[None]:
        """Hold the lock ``name`` for the length of the block."""
        held = [name]
        with engine.connect() as con:
            try:
                if name == RUN_LOCK:
                    self._acquire_run_lock(con, wait, holder)
                    if holder == WATCH:
                        # What a run that finds the lock held asks for.
                        held.append(WATCH)
                        self._get(con, WATCH)
                else:
                    while not self._get(con, name, self.PATIENCE_S if wait else 0):
                        if not wait:
                            raise _locked("")
                yield
            finally:
                try:
                    for each in held:
                        con.execute(sa.select(sa.func.release_lock(self.name(each))))
                    con.commit()
                except sa.exc.SQLAlchemyError:
                    con.invalidate()  # it may hold the lock still, and must not be used again

    def holder(self, engine: sa.Engine) -> str | None:
        """Who else holds the lock of runs now."""
        with engine.connect() as con:
            return self._holder(con) or None

    def is_wanted(self, engine: sa.Engine) -> bool:
        """Whether somebody waits for the lock of runs."""
        with engine.connect() as con:
            return self._user(con, TURN_LOCK) is not None

    def _acquire_run_lock(self, con: sa.Connection, wait: bool, holder: str) -> None:
        give_up_at = None if wait else time.monotonic()
        grace = holder == RUN
        has_turn = False
        try:
            while not self._get(con, RUN_LOCK):
                if give_up_at is not None and grace and self._user(con, WATCH) is not None:
                    give_up_at += WATCH_GRACE_S
                    grace = False  # it is given once
                if holder == RUN and not has_turn:
                    has_turn = self._get(con, TURN_LOCK)
                if give_up_at is not None and time.monotonic() >= give_up_at:
                    raise _locked(self._holder(con))
                time.sleep(POLL_S)
        finally:
            if has_turn:
                con.execute(sa.select(sa.func.release_lock(self.name(TURN_LOCK))))

    def _get(self, con: sa.Connection, name: str, patience_s: int = 0) -> bool:
        got = con.execute(sa.select(sa.func.get_lock(self.name(name), patience_s))).scalar() == 1
        con.commit()
        return got

    def _user(self, con: sa.Connection, name: str) -> int | None:
        """The connection that holds a lock."""
        user = con.execute(sa.select(sa.func.is_used_lock(self.name(name)))).scalar()
        con.commit()
        return None if user is None else int(user)

    def _holder(self, con: sa.Connection) -> str:
        number = self._user(con, RUN_LOCK)
        if number is None:
            return ""
        # MySQL gives names in capitals where none are asked for.
        of = sa.text(
            "SELECT user AS user, host AS host FROM information_schema.processlist WHERE id = :id"
        )
        row = con.execute(of, {"id": number}).first()
        con.commit()
        # Other users' connections are only shown to those who may see them.
        who = f", {row.user} from {row.host.rpartition(':')[0] or row.host}" if row else ""
        return f"connection {number}{who}"


def _locked(holder: str) -> LockedError:
    who = f" ({holder})" if holder else ""
    return LockedError(f"another run is in progress{who}; wait for it, or use --wait")


def _unwritable(path: Path, error: OSError) -> DatabaseError:
    return DatabaseError(
        f"{path}: cannot be written ({error.strerror}); free some space on its disk, or "
        f"make its folder "
        "writable, and run again"
    )


def _ourselves(holder: str) -> dict[str, str | int]:
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": now, "as": holder}
