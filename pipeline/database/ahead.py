"""Querying the database in a thread, while the main thread does something else."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

import sqlalchemy as sa

from pipeline.database.connection import Database

T = TypeVar("T")


class Ahead(Generic[T]):
    """One query in progress. Close it before the engine is disposed of."""

    def __init__(self, database: Database, ask: Callable[[sa.Connection], T]) -> None:
        self._engine, self._dialect = database.con, database.dialect
        self._ask = ask
        self._driver: Any = None
        self._closed = False
        self._answer: Future[T] = Future()
        threading.Thread(target=self._work, daemon=True).start()

    def result(self) -> T:
        """The result, or the error that the query ended in."""
        return self._answer.result()

    def close(self) -> None:
        """End the query, finished or not, and wait until its connection is idle.

        Otherwise a connection would be closed under a running query, which crashes the process.
        """
        self._closed = True
        if not self._answer.done() and self._driver is not None:
            with contextlib.suppress(Exception):
                self._dialect.stop(self._engine, self._driver)
        self._answer.exception()

    def _work(self) -> None:
        try:
            with self._engine.connect() as con:
                # First: SQLAlchemy does not know it any more once it is detached.
                self._driver = con.connection.driver_connection
                # Closed in this thread, not by the pool in some other thread.
                con.detach()
                if self._closed:
                    raise InterruptedError("closed before it was sent")
                answer = self._ask(con)
        except BaseException as error:
            self._answer.set_exception(error)
        else:
            self._answer.set_result(answer)
