"""The connection to a Ray cluster: the one place that knows Ray.

A process has one connection, which all its workers share; each has actors of its own.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple

from pipeline.errors import WorkersError
from pipeline.workers.node import Node, Terms

SCHEME = "ray://"
AUTO = f"{SCHEME}auto"
# Ray's own server for clients now and then fails to start the process for a new one.
TRIES = 3
# Calls of one actor that run side by side: an exchange waits while tasks are given to it.
CONCURRENT_CALLS = 4

_guard = threading.Lock()
_connected_to: str | None = None
_users = 0


class NodeInfo(NamedTuple):
    """A node that is alive, and how many processors Ray says it has."""

    id: str
    name: str
    processors: int


def check_installed() -> None:
    """See that Ray can be loaded, without loading it.

    Raises:
        WorkersError: it is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise WorkersError(
            "PIPELINE_WORKERS names a Ray cluster, and Ray is not installed; "
            "run `pip install 'lockstep[ray]'`, or set a number of processes"
        )


class Cluster:
    """A user of the connection of this process.

    Raises:
        WorkersError: the cluster cannot be reached, or has another Ray or Python.
    """

    def __init__(self, address: str) -> None:
        global _users
        with _guard:
            _connect(address)
            _users += 1

    def nodes(self) -> list[NodeInfo]:
        """The nodes that are there now; those without processors do no work."""
        found = []
        for node in _ray().nodes():
            processors = int(node["Resources"].get("CPU", 0))
            if node["Alive"] and processors >= 1:
                host, number = node["NodeName"], node["NodeID"]
                found.append(NodeInfo(number, f"{host} ({number[:8]})", processors))
        return found

    def start(self, node: NodeInfo, terms: Terms) -> Any:
        """An actor on this very node. Its calls fail where it cannot be started."""
        ray = _ray()
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node.id, soft=False)
        actor = ray.remote(Node).options(
            num_cpus=0,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=CONCURRENT_CALLS,
            scheduling_strategy=here,
        )
        return actor.remote(terms)

    def call(
        self, actor: Any, method: str, *arguments: Any, done: Callable[[Future[Any]], None]
    ) -> None:
        """Call a method of an actor; ``done`` gets its result or error, in another thread."""
        getattr(actor, method).remote(*arguments).future().add_done_callback(done)

    def kill(self, actor: Any) -> None:
        """End an actor; nothing happens where it has ended, or where Ray does not answer."""
        with contextlib.suppress(Exception):
            _ray().kill(actor)

    def close(self) -> None:
        """End this use; the last one disconnects, which ends every actor that is left."""
        global _users
        with _guard:
            _users -= 1
            if _users == 0:
                _disconnect()


def _ray() -> Any:
    # Imported here: only those who have a cluster have Ray, and it costs 450 ms.
    import ray
    import ray.util.scheduling_strategies

    return ray


def _connect(address: str) -> None:
    """Connect this process, unless it is.

    Raises:
        WorkersError
    """
    global _connected_to
    if _connected_to == address:
        return
    check_installed()
    ray = _ray()
    # It would print a line for each connection, and one for each thread but the main one.
    logging.getLogger("ray").setLevel(logging.ERROR)
    # Nor does `log_to_driver` keep its thread from printing to stdout what happens to nodes, in the
    # midst of the answer of `--json`. We say ourselves what a person should know of it.
    ray._private.worker.print_to_stdstream = lambda *printed, **how: None
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    for tries_left in reversed(range(TRIES)):
        try:
            ray.init("auto" if address == AUTO else address, **options)
            break
        # Whatever goes wrong there, from a name that is not known to another release of Ray.
        except Exception as error:
            with contextlib.suppress(Exception):
                ray.shutdown()
            if not (tries_left and isinstance(error, ConnectionAbortedError)):
                raise WorkersError(_unreachable(address, error)) from error
            time.sleep(1.0)
    _connected_to = address


def _disconnect() -> None:
    global _connected_to
    _connected_to = None
    with contextlib.suppress(Exception):
        _ray().shutdown()


def _unreachable(address: str, error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    also = (
        " (RAY_ADDRESS says where)" if address == AUTO and not os.environ.get("RAY_ADDRESS") else ""
    )
    return (
        f"the Ray cluster at PIPELINE_WORKERS={address} cannot be reached: {lines[0][:300]}; see "
        f"that it is up{also}, with the same release of Ray and Python as here"
    )


def problem_of(error: BaseException) -> str:
    """In one line, what ended a call of an actor."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if "Error: " in line and "ray::" not in line]
    if any("No module named 'pipeline" in line for line in named):
        return "Lockstep is not installed there; install the same release as here"
    return (named or lines or [type(error).__name__])[-1][:300]
