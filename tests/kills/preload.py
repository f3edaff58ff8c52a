"""The library of ``interpose.c``: compiled where a compiler is, and armed for one command."""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

ANY, MAIN, WORKERS = range(3)
KILL_ALL, KILL_ONE, STOP_ALL = range(3)
# `struct plan`: left, whose, act, torn, main_pid; then call.
_HEAD, _SIZE = struct.Struct("=qiiii"), 256


def compiled(folder: Path) -> Path | None:
    """The library, made in ``folder``; ``None`` where there is no C compiler or no Linux."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or not sys.platform.startswith("linux"):
        return None
    library, source = folder / "interpose.so", Path(__file__).with_name("interpose.c")
    command = [compiler, "-shared", "-fPIC", "-O2", "-o", library, source]
    return library if subprocess.run(command, check=False).returncode == 0 else None


def environment(library: Path | None) -> dict[str, str]:
    """The environment of a process whose commands can be killed at a call."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("PIPELINE_", "LD_PRELOAD"))}
    # A module that is compiled for the first time would write, and count.
    own["PYTHONDONTWRITEBYTECODE"] = "1"
    return own if library is None else own | {"LD_PRELOAD": str(library)}


def is_loaded() -> bool:
    """Whether this process was started with the library."""
    return "interpose.so" in os.environ.get("LD_PRELOAD", "")


class Plan:
    """What is to happen at which call of the next command; shared with its processes."""

    def __init__(self, file: Path) -> None:
        self.file = file
        file.write_bytes(bytes(_SIZE))
        with open(file, "r+b") as opened:
            self._map = mmap.mmap(opened.fileno(), _SIZE)

    def arm(self, left: int, act: int = KILL_ALL, whose: int = ANY, torn: bool = False) -> None:
        """Act at the ``left``-th writing call from now on; never at 0."""
        main_pid = _HEAD.unpack(self._map[: _HEAD.size])[-1]
        self._map[:] = _HEAD.pack(left, whose, act, torn, main_pid).ljust(_SIZE, b"\0")

    def enter(self) -> None:
        """In the child that is the command's main process: count from here on."""
        head = _HEAD.unpack(self._map[: _HEAD.size])
        self._map[: _HEAD.size] = _HEAD.pack(*head[:-1], os.getpid())
        os.environ["KILLS_PLAN"] = str(self.file)  # for the workers, which are started again
        if ctypes.CDLL(None).kills_open(os.fsencode(self.file)):
            raise OSError(f"{self.file}: the library cannot map it")

    @property
    def is_stopping(self) -> bool:
        """Whether the processes were told to stop, and nothing was armed since."""
        return bool(self.call) and _HEAD.unpack(self._map[: _HEAD.size])[2] == STOP_ALL

    @property
    def call(self) -> str:
        """The call at which it happened; empty if it did not."""
        return self._map[_HEAD.size :].rstrip(b"\0").decode("utf-8", "replace")
