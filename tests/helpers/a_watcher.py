"""`datapipe watch` running on a project, and waiting for what it does."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from a_project import Project
from killing import alive_in_group, temporary_files

DEADLINE_S = 60


def wait_until(condition: Callable[[], object], told: Callable[[], object] = str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, told()
        time.sleep(0.01)


class Watching:
    """`datapipe watch` running on a project, as a process in a group of its own."""

    def __init__(self, project: Project, *args: str) -> None:
        self.project = project
        self.process = project.start("watch", "--json", *args, session=True)
        self.runs: list[dict[str, Any]] = []
        self.said: list[str] = []
        self._readers = [
            threading.Thread(target=self._read_runs),
            threading.Thread(target=self._read_said),
        ]
        for reader in self._readers:
            reader.start()

    def _read_runs(self) -> None:
        with self.process.stdout as lines:
            for line in lines:
                self.runs.append(json.loads(line))

    def _read_said(self) -> None:
        with self.process.stderr as lines:
            for line in lines:
                self.said.append(line)

    def wait_for_start(self) -> None:
        wait_until(lambda: self.runs, lambda: self.said)

    def wait_for(self, *names: str) -> None:
        """Until `output/half/` holds just these files."""
        wanted = sorted(f"half/{name}" for name in names)

        def halves() -> list[str]:
            return sorted(n for n in self.project.outputs() if n.startswith("half/"))

        wait_until(
            lambda: self._outputs_of(halves) == wanted,
            lambda: (halves(), wanted, self.said, self.runs),
        )

    @staticmethod
    def _outputs_of(look: Callable[[], list[str]]) -> list[str] | None:
        try:
            return look()
        except FileNotFoundError:
            return None  # a file went while we looked

    def wait_for_words(self, words: str) -> None:
        wait_until(lambda: any(words in line for line in self.said), lambda: self.said)

    def wait_for_row(self, sql: str) -> None:
        wait_until(lambda: self.project.query(sql), lambda: (sql, self.said))

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it; its exit code. Nothing of it is left."""
        self.process.send_signal(number)
        try:
            code = self.process.wait(DEADLINE_S)
            wait_until(lambda: not alive_in_group(self.process.pid))
        finally:
            self.kill()
        assert temporary_files(self.project) == []
        return code

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for reader in self._readers:
            reader.join()
