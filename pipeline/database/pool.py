"""Pools of connections, for processes of many threads that live long.

datapipe-core takes SQLAlchemy's ``SingletonThreadPool``: a connection for each thread, and from the
sixth thread on it closes any other one, also one that a thread is just writing through. Here a
connection is closed when its thread has ended, and never before.
"""

from __future__ import annotations

import threading
import time
import weakref
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import ConnectionPoolEntry, SingletonThreadPool


class PoolByThread(SingletonThreadPool):
    """``SingletonThreadPool`` that knows which thread owns each connection."""

    def _create_connection(self) -> ConnectionPoolEntry:
        entry = super()._create_connection()
        vars(entry)["thread"] = weakref.ref(threading.current_thread())
        # Upstream calls this above a number of connections; here, whenever a thread opens one.
        self._cleanup()
        return entry

    def _cleanup(self) -> None:
        for entry in list(self._all_conns):
            thread = vars(entry)["thread"]()
            if thread is None or not thread.is_alive():
                self._all_conns.discard(entry)
                entry.close()


def keep_by_thread(engine: sa.Engine) -> None:
    """Make ``engine`` close the connections of ended threads only."""
    pool = engine.pool
    engine.pool = PoolByThread(
        pool._creator,
        _dispatch=pool.dispatch,
        dialect=pool._dialect,
    )


# A run finds at its start, and not in the midst of its work, that its server was started again, or
# that something on the way has closed what was idle.
IDLE_S = 1.0


def check_idle(engine: sa.Engine) -> None:
    """Make ``engine`` check those connections alone that were idle: each check is a round trip,
    and datapipe-core has every connection checked before every transaction."""
    engine.pool._pre_ping = False

    def note(driver: object, entry: ConnectionPoolEntry) -> None:
        entry.info["idle_since"] = time.monotonic()

    def check(driver: Any, entry: ConnectionPoolEntry, proxy: object) -> None:
        idle_s = time.monotonic() - entry.info.get("idle_since", time.monotonic())
        if idle_s > IDLE_S and not engine.dialect._do_ping_w_event(driver):
            raise sa.exc.InvalidatePoolError  # the pool opens another one

    sa.event.listen(engine, "checkin", note)
    sa.event.listen(engine, "checkout", check)
