"""A Ray cluster of the tests' own: its nodes are processes of this machine."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

RAY = Path(sys.executable).with_name("ray")
# Every process of a node inherits it; it says whose it is.
MARK = "LOCKSTEP_TEST_NODE"
# The nodes hold nothing but tasks and outcomes.
OBJECT_STORE_BYTES = 100_000_000
UP_S = 60.0
PR_SET_PDEATHSIG = 1  # linux/prctl.h


class RayNode:
    """A node with one processor, or none: its raylet and all that this has started."""

    def __init__(self, mark: str, command: list[str], log: Path, env: dict[str, str]) -> None:
        self._mark = f"{MARK}={mark}".encode()
        self._log = log
        # Whether a test may use it after another.
        self.is_usable = True
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **env, MARK: mark},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )

    def processes(self, of: str = "") -> list[int]:
        """The processes of this node whose command line contains ``of``."""
        # Processes of Ray that give themselves a title write it over their environment.
        return [pid for pid in tree(self._process.pid, self._mark) if of in _command(pid)]

    def send(self, number: int) -> None:
        """Send a signal to every process of this node."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """End it as a loss of power does."""
        self.is_usable = False
        give_up_at = time.monotonic() + 30
        known: set[int] = set()
        while (now := self.processes()) and time.monotonic() < give_up_at:
            known |= set(now)
            for pid in known:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        self._process.wait(10)

    @property
    def is_up(self) -> bool:
        return "Ray runtime started" in self.said()

    def said(self) -> str:
        return self._log.read_text("utf-8", "replace")


class RayCluster:
    """A head without processors, and as many nodes as a test adds."""

    def __init__(self) -> None:
        # Its sockets have names of at most 107 bytes, so the folder has a short one.
        self._folder = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))
        self._name = uuid.uuid4().hex
        self.all: list[RayNode] = []
        self._gcs, self._client = _free_port(), _free_port()
        self.address = f"127.0.0.1:{self._gcs}"
        self.url = f"ray://127.0.0.1:{self._client}"
        self.head = self._start(
            *("--head", "--port", str(self._gcs), "--ray-client-server-port", str(self._client)),
            *("--include-dashboard", "false", "--temp-dir", str(self._folder), "--num-cpus", "0"),
        )
        self._wait(lambda: all(map(_listens, (self._gcs, self._client))))

    def add_node(
        self, env: dict[str, str] | None = None, inside: Callable[..., list[str]] | None = None
    ) -> RayNode:
        """Start another node, which has joined when this returns."""
        node = self.begin_node(env, inside)
        self._wait(lambda: node.is_up)
        return node

    def begin_node(
        self, env: dict[str, str] | None = None, inside: Callable[..., list[str]] | None = None
    ) -> RayNode:
        """Start another node, which joins a few seconds later."""
        return self._start("--address", self.address, "--num-cpus", "1", env=env, inside=inside)

    def actors(self) -> list[int]:
        """The processes of Lockstep's actors on all nodes."""
        return [pid for node in self.all for pid in node.processes("ray::Node")]

    def nodes(self, count: int) -> list[RayNode]:
        """So many nodes that work; those of tests before are used again."""
        working = [node for node in self.all[1:] if node.is_usable]
        for node in set(self.all[1:]) - set(working[:count]):
            self.remove(node)
        while len(self.all) <= count:
            self.add_node()
        return self.all[1:]

    def remove(self, node: RayNode) -> None:
        node.kill()
        self.all.remove(node)

    def close(self) -> None:
        for node in reversed(self.all):
            node.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(
        self,
        *options: str,
        env: dict[str, str] | None = None,
        inside: Callable[..., list[str]] | None = None,
    ) -> RayNode:
        number = len(self.all)
        memory = ("--object-store-memory", str(OBJECT_STORE_BYTES))
        command = [str(RAY), "start", *options, *memory, "--disable-usage-stats", "--block"]
        command = command if inside is None else inside(*command)
        log = self._folder / f"{number}-{uuid.uuid4().hex[:6]}.log"
        node = RayNode(f"{self._name}-{uuid.uuid4().hex[:6]}", command, log, env or {})
        self.all.append(node)
        return node

    def _wait(self, is_up: Callable[[], bool]) -> None:
        give_up_at = time.monotonic() + UP_S
        while not is_up():
            if time.monotonic() > give_up_at:
                said = self.all[-1].said()
                self.close()
                raise AssertionError(f"Ray is not up after {UP_S:g} s: {said}")
            time.sleep(0.1)


def _end_with_parent() -> None:
    """However the tests end, `ray start --block` gets SIGTERM, and ends what it has started."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def tree(root: int, mark: bytes = b"none") -> set[int]:
    """A process with all below it, and with those that have ``mark`` in their environment."""
    parents: dict[int, int] = {}
    found = {root}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            stat = (folder / "stat").read_text("ascii", "replace").rpartition(")")[2].split()
            if stat[0] in "ZX":
                continue
            parents[int(folder.name)] = int(stat[1])
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                found.add(int(folder.name))
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found & set(parents)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[RayCluster]:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed: `make test-ray` installs it")
    cluster = RayCluster()
    try:
        yield cluster
    finally:
        cluster.close()
