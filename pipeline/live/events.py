"""Events of the file system, as keys of what changed below the input folder.

watchfiles stands for inotify, FSEvents, ReadDirectoryChangesW and, where there are none, polling.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import LockstepError
from pipeline.names import key_of

# The loop looks this often whether it is to stop; a change is known after at most two steps.
STEP_MS = 50
TICK_MS = 100
POLL_MS = 1_000

_UNREADABLE = "\ufffd"


class EventsFailed(LockstepError):
    """The file system gives no events here; polling does without."""


def events(folder: Path, stop: threading.Event, poll: bool) -> Iterator[set[str]]:
    """Keys that changed below ``folder``, again and again; an empty set after a tick without any.

    ``""`` is the folder itself. Ends when ``stop`` is set.

    Raises:
        EventsFailed: the system cannot watch so many folders, or none at all.
    """
    from watchfiles import watch

    root = os.path.realpath(folder)
    ticks = watch(
        root,
        watch_filter=None,
        debounce=TICK_MS,
        step=STEP_MS,
        stop_event=stop,
        rust_timeout=TICK_MS,
        yield_on_timeout=True,
        raise_interrupt=False,
        force_polling=poll,
        poll_delay_ms=POLL_MS,
        ignore_permission_denied=True,
    )
    try:
        for changed in ticks:
            yield {_key(path, root) for _, path in changed if not _is_hidden(path, root)}
    except (OSError, RuntimeError) as error:
        # watchfiles' own errors are RuntimeErrors; "OS file watch limit reached" is one.
        raise EventsFailed(f"{folder}: changes cannot be watched ({error})") from error


def _key(path: str, root: str) -> str:
    below = path[len(root) + 1 :]
    if _UNREADABLE in below:
        # A name that is no UTF-8 does not come through whole: its folder is looked at instead.
        below = below[: below.index(_UNREADABLE)].rpartition("/")[0]
    return key_of(below.replace(os.sep, "/"))


def _is_hidden(path: str, root: str) -> bool:
    # What copy programs write beside their target before they rename it.
    return f"{os.sep}." in path[len(root) :]
