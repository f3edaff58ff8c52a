"""A real `datapipe serve` on a free port, over a real project, and a client to ask it."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
from a_project import Project

NASTY = "<img src=x onerror=alert(1)>.png"

DEADLINE_S = 60
HTML = {"accept": "text/html"}


class Server:
    """The process, its address and its log."""

    def __init__(self, project: Project, *args: str) -> None:
        self.project = project
        self.log: list[str] = []
        self.process = project.start("serve", "--port", "0", *args)
        self._known = threading.Event()
        self.url = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self._known.wait(DEADLINE_S), "".join(self.log)
        assert self.url, "".join(self.log)
        self.client = httpx.Client(base_url=self.url, timeout=30)

    def _read(self) -> None:
        with self.process.stderr as lines:
            for line in lines:
                self.log.append(line)
                found = re.match(r"Lockstep is at (http://\S+)", line)
                if found:
                    self.url = found.group(1)
                    self._known.set()
        self._known.set()

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.client.get(path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.client.post(path, **options)

    def until(self, ready: Callable[[], Any], timeout_s: float = DEADLINE_S) -> Any:
        """What ``ready`` gives as soon as that is true."""
        deadline = time.monotonic() + timeout_s
        while not (found := ready()):
            assert time.monotonic() < deadline, "".join(self.log)[-4000:]
            assert self.process.poll() is None, "".join(self.log)[-4000:]
            time.sleep(0.05)
        return found

    def until_rested(self, runs: int = 1) -> dict[str, Any]:
        """The status once the worker has nothing to do and has done ``runs`` runs."""

        def rested() -> dict[str, Any] | None:
            status = self.get("/status").json()
            resting = status["now"]["state"] == "resting" and status["counts"] is not None
            return status if resting and len(status["runs"]) >= runs else None

        found: dict[str, Any] = self.until(rested)
        return found

    def until_counted(self, **counts: int) -> dict[str, Any]:
        """The status once it has these counts: they are taken beside, so they may lag behind."""

        def counted() -> dict[str, Any] | None:
            status = self.until_rested(runs=0)
            known = status["counts"]
            return status if all(known[name] == n for name, n in counts.items()) else None

        found: dict[str, Any] = self.until(counted)
        return found

    def stop(self) -> int:
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            self._reader.join(DEADLINE_S)
            self.process.stdout.close()


@contextlib.contextmanager
def serving(project: Project, *args: str) -> Iterator[Server]:
    server = Server(project, *args)
    try:
        yield server
    finally:
        server.stop()
