"""Why a task failed that the pixels of its original are not to blame for, or not alone."""

from __future__ import annotations

import contextlib
import signal

from pipeline.reasons import Code, Reason

# Exit codes of a worker that somebody else ended: the system's out-of-memory killer, a restart. A
# decoder raises none of these signals. 255 is what multiprocessing says where the fork server was
# killed, which alone knows how its children end.
KILLED_FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM, 255)


def lost_reason(exit_code: int, memory_mb: int) -> Reason:
    """Why a worker ended with this exit code in the middle of a task."""
    if exit_code in KILLED_FROM_OUTSIDE:
        return Reason(Code.WORKER_KILLED, "its worker was killed (out of memory, or a restart?)")
    if exit_code == -signal.SIGABRT:
        why = f"its worker was killed: out of memory, or over {memory_mb:,} MB"
        return Reason(Code.OUT_OF_MEMORY, why)
    text = f"its worker ended (exit code {exit_code})"
    if exit_code < 0:
        with contextlib.suppress(ValueError):
            text = f"its worker crashed ({signal.Signals(-exit_code).name} in a decoder)"
    return Reason(Code.WORKER_CRASHED, text)


def node_lost(why: str) -> Reason:
    """The second node that was given a task has been lost as well."""
    return Reason(Code.NODE_LOST, f"two nodes were lost while they had it; the second {why}")


def timed_out_after(seconds: float) -> Reason:
    """A task took longer than it may, in seconds."""
    return Reason(Code.TIMED_OUT, f"took longer than {seconds:g} s")


def too_much_memory(memory_mb: int) -> Reason:
    """A task needed more than a worker may have."""
    text = f"needs more memory than the {memory_mb:,} MB of a worker"
    return Reason(Code.OUT_OF_MEMORY, text)


def renderer_failed(error: Exception) -> Reason:
    """What a decoder raised that nobody expected."""
    return Reason(Code.RENDERER_FAILED, f"the renderer failed: {type(error).__name__}: {error}")


def not_written(error: OSError) -> Reason:
    """A rendition was made, and cannot be stored."""
    return Reason(Code.NOT_WRITTEN, f"the rendition cannot be written ({error.strerror})")
