"""Processes of `datapipe` that need not load Python, pandas and SQLAlchemy each time anew.

One process has all of it loaded, and nothing running. It forks for every command, so what a test
gets is a process of its own in all respects but its start: with a number, signals, locks, workers
and an exit code. A test of the start itself takes the script (see ``a_project``).

    pytest ---- socket: folders, words, environment ----> preloaded ---- fork ----> `datapipe run`
           <--- a socket a command: its number, its end <-------------- waits for it ----'
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

MODULES = (
    "datapipe.cli",
    "pipeline.app",
    "pipeline.cli.serve",
    "pipeline.cli.watch",
    "pipeline.live.watcher",
    "pipeline.web.server",
    "pebble",
    "sqlalchemy.dialects.sqlite",
)


class Preloaded:
    """The process that has all loaded; ``inside`` is what its command line begins with."""

    def __init__(self, inside: list[str] | None = None) -> None:
        self._control, theirs = socket.socketpair()
        with theirs:
            number = theirs.fileno()
            words = [*(inside or []), sys.executable, __file__, str(number)]
            self._process = subprocess.Popen(
                words,
                # A process with threads cannot be forked safely, and numpy would start some.
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[number],
            )

    def close(self) -> None:
        """End it; commands that still run go on."""
        self._control.close()
        self._process.wait()

    def start(
        self, words: list[str], cwd: Path, env: dict[str, str], session: bool = False
    ) -> Command:
        """`datapipe` and its arguments, or `-c` and code; in its own session if so asked."""
        ours, theirs = socket.socketpair()
        stdout, stdout_end = os.pipe()
        stderr, stderr_end = os.pipe()
        try:
            with theirs:
                ends = [theirs.fileno(), stdout_end, stderr_end]
                socket.send_fds(self._control, [b"+"], ends)
        finally:
            os.close(stdout_end)
            os.close(stderr_end)
        request = {"words": words, "cwd": str(cwd), "env": env, "session": session}
        ours.sendall(json.dumps(request).encode() + b"\n")
        return Command(words, ours, open(stdout), open(stderr))


class Command:
    """A command that runs: what tests need of a ``subprocess.Popen``."""

    def __init__(
        self, args: list[str], status: socket.socket, stdout: IO[str], stderr: IO[str]
    ) -> None:
        self.args = args
        self.stdout = stdout
        self.stderr = stderr
        self.returncode: int | None = None
        self._status = status
        self._lines = status.makefile("r")
        self._lock = threading.Lock()
        self.pid = int(self._lines.readline())

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *error: object) -> None:
        self._close_pipes()
        self.wait()

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, or minus the signal that ended it; raises ``TimeoutExpired``."""
        if self.returncode is None:
            with contextlib.suppress(ValueError):  # another thread has seen the end and closed
                if not select.select([self._status], [], [], timeout)[0]:
                    assert timeout is not None
                    raise subprocess.TimeoutExpired(self.args, timeout)
            with self._lock:
                if self.returncode is None:
                    self.returncode = int(self._lines.readline())
                    self._lines.close()
                    self._status.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it writes until its end; raises ``TimeoutExpired``."""
        until = None if timeout is None else time.monotonic() + timeout
        written = {self.stdout: "", self.stderr: ""}

        def read(stream: IO[str]) -> None:
            with contextlib.suppress(ValueError):  # closed before
                written[stream] = stream.read()

        readers = [threading.Thread(target=read, args=(s,), daemon=True) for s in written]
        for reader in readers:
            reader.start()
        self.wait(timeout)
        for reader in readers:
            reader.join(None if until is None else max(0, until - time.monotonic()))
            if reader.is_alive():
                assert timeout is not None
                raise subprocess.TimeoutExpired(self.args, timeout)
        self._close_pipes()
        return written[self.stdout], written[self.stderr]

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _close_pipes(self) -> None:
        self.stdout.close()
        self.stderr.close()


_shared: Preloaded | None = None


def preloaded() -> Preloaded:
    """The one of this test process."""
    global _shared
    if _shared is None:
        _shared = Preloaded()
        atexit.register(_shared.close)
    return _shared


# --- in the process that has all loaded -----------------------------------------------------------


def serve(control: socket.socket) -> None:
    """Fork for each command; return in the process of a command, ready to run it."""
    for name in MODULES:
        importlib.import_module(name)
    os.chdir("/")
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, _reap)
    while True:
        message, ends, _, _ = socket.recv_fds(control, 1, 3)
        if not message:
            os._exit(0)  # pytest has ended
        if os.fork() == 0:
            control.close()
            return _begin(*ends)
        for end in ends:
            os.close(end)


def _reap(number: int, frame: object) -> None:
    """Forget those that have ended; that the system does so would hide what CPU they took."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _begin(status_end: int, stdout_end: int, stderr_end: int) -> None:
    """Fork the command's process and wait for it; return in that process alone."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    status = socket.socket(fileno=status_end)
    with status.makefile("r") as lines:
        request = json.loads(lines.readline())
    pid = os.fork()
    if pid:
        os.close(stdout_end)
        os.close(stderr_end)
        with contextlib.suppress(OSError):  # the test did not wait for it
            status.sendall(f"{pid}\n".encode())
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            status.sendall(f"{code}\n".encode())
        os._exit(0)
    status.close()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if request["session"]:
        os.setsid()
    os.dup2(stdout_end, 1)
    os.dup2(stderr_end, 2)
    os.close(stdout_end)
    os.close(stderr_end)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = request["words"]
    folders = os.environ.get("PYTHONPATH")
    sys.path[:1] = [os.path.dirname(sys.argv[0]), *(folders.split(os.pathsep) if folders else [])]


def main() -> Any:
    serve(socket.socket(fileno=int(sys.argv[1])))
    if sys.argv[0] == "-c":
        exec(sys.argv[1], {"__name__": "__main__"})
        return 0
    from datapipe.cli import main as datapipe

    return datapipe()


if __name__ == "__main__":
    sys.exit(main())
