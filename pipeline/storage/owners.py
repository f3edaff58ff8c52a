"""Owners of temporary files: which process created one, unambiguously.

An owner is ``<host>.<boot>.<process id>.<start>``. The number of a process is given again to a
later one, in a container even after each restart; the boot and the time of the start tell them
apart. A node of a cluster that writes for a run adds ``.<node>``: it lives as long as its run, and
two nodes may have processes of the same number.
"""

from __future__ import annotations

import functools
import hashlib
import os
import socket
from pathlib import Path

UNKNOWN_START = "0"

_acts_for: str | None = None


def owner() -> str:
    """The owner of what this process writes."""
    return _acts_for or _owner(os.getpid())


def act_for(owner: str) -> None:
    """Write as ``owner`` from now on: a worker writes for its run, which publishes the files."""
    global _acts_for
    _acts_for = owner


def on_node(owner: str, node: str) -> str:
    """The owner of what a node writes for the run of ``owner``."""
    return f"{owner}.{node}"


def is_of(owner: str, run: str) -> bool:
    """Whether ``owner`` is the run itself, or a node that writes for it."""
    return owner == run or owner.startswith(f"{run}.")


def is_alive(owner: str) -> bool:
    """Whether the process that is called ``owner``, or writes for it, may still be writing.

    One on another host cannot be checked from here, so it may. Names from earlier releases are
    dead.
    """
    parts = owner.split(".")
    if len(parts) not in (4, 5) or not parts[2].isdigit():
        return False
    host, boot, pid, start = parts[:4]
    if host != _host():
        return True
    return boot == _short(boot_id() or "") and _start(int(pid)) in (start, UNKNOWN_START)


def boot_id() -> str | None:
    """Identifies the current boot of this machine; ``None`` if it is not known."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return None


@functools.lru_cache(maxsize=1)
def _owner(pid: int) -> str:
    return f"{_host()}.{_short(boot_id() or '')}.{pid}.{_start(pid) or UNKNOWN_START}"


def _start(pid: int) -> str | None:
    """When a process began, in ticks of the system's clock; ``None``: there is no such process."""
    try:
        # The name of the program, in parentheses, may hold spaces and parentheses: proc(5).
        fields = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    except OSError:
        return _unseen_start(pid)
    is_dead = fields[0] in "ZX"
    return None if is_dead else fields[19]


def _unseen_start(pid: int) -> str | None:
    """The same where there is no ``/proc``, or it does not show the processes of others."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return UNKNOWN_START
    except (OSError, OverflowError):
        return None
    return UNKNOWN_START


def _host() -> str:
    return _short(socket.gethostname())


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:6]
