"""Run a command as a whole process: wall time, CPU time, and the memory of its process tree.

Memory is sampled from /proc, so it is known on Linux alone; elsewhere it is reported as 0.
Two sums are kept, because workers that share pages would be counted twice by the first:
`peak_rss_bytes` (resident pages of every process, added up: never too low) and
`peak_pss_bytes` (shared pages divided among those that share them: what the tree really takes).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# Sampling takes the processor from what is measured: often while a process is young, when a short
# one would be missed, then seldom. The kernel walks the page tables for PSS, so that is rarer.
YOUNG_S, YOUNG_INTERVAL_S, INTERVAL_S = 1.0, 0.02, 0.1
PSS_EVERY_SAMPLES = 5
LEFT_BEHIND_TIMEOUT_S = 10.0
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_KIB = 1024
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Measured:
    """What one whole process cost. `exit_code` is negative for a signal, as in subprocess."""

    wall_s: float
    cpu_s: float
    peak_rss_bytes: int
    peak_pss_bytes: int
    exit_code: int
    timed_out: bool
    stdout: str
    stderr: str
    peak_main_rss_bytes: int = 0  # of the process itself, without its children

    @property
    def ok(self) -> bool:
        return self.exit_code == 0 and not self.timed_out

    @property
    def complaint(self) -> str:
        """The exit code and the last words of a process that failed."""
        last = self.stderr.strip().splitlines()[-3:]
        return " | ".join([f"exit code {self.exit_code}", *(line.strip() for line in last)])


def measure(
    command: Sequence[str | os.PathLike[str]],
    *,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 3600.0,
    beside: Collection[int] = (),
) -> Measured:
    """Run `command` to its end and return its cost.

    `beside` are children of this process that go on meanwhile, such as a server.

    `env` is added to this process's own environment. A command that runs longer than `timeout_s`
    is killed together with its children and comes back with `timed_out`.
    """
    adopting = _adopt_orphans()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.perf_counter()
        process = subprocess.Popen(
            [os.fspath(part) for part in command],
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,  # so that a timeout can end the whole group
        )
        sampler = _TreeSampler(process.pid)
        sampler.start()
        killed = threading.Event()
        timer = threading.Timer(timeout_s, _kill_group, (process.pid, killed))
        timer.daemon = True
        timer.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - started
        timer.cancel()
        sampler.stop()
        left_behind_s = _reap_left_behind(beside) if adopting else 0.0
        process.returncode = os.waitstatus_to_exitcode(status)
        return Measured(
            wall_s=wall_s,
            cpu_s=usage.ru_utime + usage.ru_stime + left_behind_s,
            peak_rss_bytes=sampler.peak_rss_bytes,
            peak_pss_bytes=sampler.peak_pss_bytes,
            exit_code=process.returncode,
            timed_out=killed.is_set(),
            stdout=_text(out),
            stderr=_text(err),
            peak_main_rss_bytes=sampler.peak_main_rss_bytes,
        )


def median_of(runs: Sequence[Measured]) -> Measured:
    """The run with the median wall time, carrying the highest memory of all runs."""
    middle = statistics.median_low([run.wall_s for run in runs])
    chosen = next(run for run in runs if run.wall_s == middle)
    return Measured(
        wall_s=statistics.median([run.wall_s for run in runs]),
        cpu_s=statistics.median([run.cpu_s for run in runs]),
        peak_rss_bytes=max(run.peak_rss_bytes for run in runs),
        peak_pss_bytes=max(run.peak_pss_bytes for run in runs),
        exit_code=chosen.exit_code,
        timed_out=any(run.timed_out for run in runs),
        stdout=chosen.stdout,
        stderr=chosen.stderr,
        peak_main_rss_bytes=max(run.peak_main_rss_bytes for run in runs),
    )


def _adopt_orphans() -> bool:
    """Become the parent of what measured processes leave behind; False where that can't be.

    A fork server and its workers outlive their main process by a moment, unwaited for, and the
    CPU time of all the rendering would be lost with them.
    """
    try:
        return ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    except (AttributeError, OSError, TypeError):
        return False


def _reap_left_behind(beside: Collection[int]) -> float:
    """Wait for adopted processes to end; returns their CPU time in s."""
    cpu_s = 0.0
    deadline = time.monotonic() + LEFT_BEHIND_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            pid, _, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return cpu_s
        if pid == 0 and beside and set(_children(os.getpid())) <= set(beside):
            return cpu_s
        if pid == 0:
            time.sleep(0.01)
        else:
            cpu_s += usage.ru_utime + usage.ru_stime
    print("a measured process left one behind that does not end", file=sys.stderr)
    return cpu_s


def _kill_group(pid: int, killed: threading.Event) -> None:
    killed.set()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _text(file: object) -> str:
    file.seek(0)  # type: ignore[attr-defined]
    return file.read().decode("utf-8", "replace")  # type: ignore[attr-defined]


class _TreeSampler(threading.Thread):
    """Samples the memory of a process and its descendants until told to stop."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._done = threading.Event()
        self.peak_rss_bytes = 0
        self.peak_pss_bytes = 0
        self.peak_main_rss_bytes = 0

    def run(self) -> None:
        if not Path("/proc/self/status").exists():
            return
        sample, started = 0, time.monotonic()
        while not self._done.is_set():
            pids = _tree(self._pid)
            resident = [_rss_bytes(pid) for pid in pids]  # the process itself comes first
            self.peak_rss_bytes = max(self.peak_rss_bytes, sum(resident))
            self.peak_main_rss_bytes = max(self.peak_main_rss_bytes, resident[0])
            if sample % PSS_EVERY_SAMPLES == 0:
                self.peak_pss_bytes = max(self.peak_pss_bytes, sum(map(_pss_bytes, pids)))
            sample += 1
            young = time.monotonic() - started < YOUNG_S
            self._done.wait(YOUNG_INTERVAL_S if young else INTERVAL_S)

    def stop(self) -> None:
        self._done.set()
        self.join()


def _tree(root: int) -> list[int]:
    found = [root]
    for pid in found:  # grows while it is walked: children are appended behind their parent
        found.extend(_children(pid))
    return found


def _children(pid: int) -> list[int]:
    children: list[int] = []
    try:
        for thread in os.scandir(f"/proc/{pid}/task"):
            with open(f"{thread.path}/children", encoding="ascii") as file:
                children.extend(int(child) for child in file.read().split())
    except OSError:
        pass  # it ended between two looks
    return children


def _rss_bytes(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0  # it ended between two looks


def _pss_bytes(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * _KIB
    except OSError:
        pass  # it ended between two looks, or the kernel does not tell
    return 0
