"""What the main process accepts from a worker: results, made of classes that are listed here.

Messages between processes are pickles, and a pickle may name any function to be called where it is
read. A worker whose decoder was taken over would leave its sandbox that way.
"""

from __future__ import annotations

import enum
import io
import logging
import multiprocessing.connection
import os
import pickle
from multiprocessing import reduction
from typing import Any

from pebble.common.types import RemoteException, Result, ResultStatus
from pebble.pool.process import Acknowledgement, TaskResult

from pipeline.errors import OutputError
from pipeline.reasons import Code, Reason
from pipeline.workers.tasks import Made, Outcome

log = logging.getLogger("lockstep.workers")

_ACCEPTED = {
    (known.__module__, known.__qualname__): known
    for known in (
        *(Acknowledgement, TaskResult, Result, ResultStatus, RemoteException.rebuild_exception),
        *(Outcome, Made, Reason, Code, OutputError, MemoryError),
    )
}


def _member(kind: Any, name: str) -> enum.Enum:
    """Stand in for ``getattr``, as which some Pythons (3.11.2 of Debian 12) send an enum's
    member."""
    if kind not in (ResultStatus, Code) or name not in kind.__members__:
        raise pickle.UnpicklingError("getattr of anything but an enum is not part of a result")
    found: enum.Enum = kind[name]
    return found


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("builtins", "getattr"):
            return _member
        try:
            return _ACCEPTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is not part of a result") from None


class Results(multiprocessing.connection.Connection):
    """The end of a pipe at which results arrive. Another process gets it as a plain connection."""

    def recv(self) -> Any:
        """The next message; ``None``, which the pool ignores, for one that is no result.

        The task that it was for then ends by its time limit.

        Raises:
            EOFError, OSError: the pipe is closed.
        """
        message = self.recv_bytes()
        try:
            return _Reader(io.BytesIO(message)).load()
        except Exception as error:
            log.warning("a worker sent something that is not a result; ignored: %s", error)
            return None


# Only the class itself is registered for sending to other processes, not what is derived from it.
reduction.register(Results, multiprocessing.connection.reduce_connection)  # type: ignore[attr-defined]


def pipe() -> tuple[Results, multiprocessing.connection.Connection]:
    """A pipe from workers to the main process, or the other way."""
    reading, writing = os.pipe()
    return (
        Results(reading, writable=False),
        multiprocessing.connection.Connection(writing, readable=False),
    )
