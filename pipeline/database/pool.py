"""SQLite connections by thread, for processes of many threads that live long.

datapipe-core takes SQLAlchemy's ``SingletonThreadPool``: a connection for each thread, and from the
sixth thread on it closes any other one, also one that a thread is just writing through. Here a
connection is closed when its thread has ended, and never before.
"""

from __future__ import annotations

import threading
import weakref

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
