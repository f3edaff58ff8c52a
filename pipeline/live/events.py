"""Events of the file system, as keys of what changed below the input folder.

watchfiles uses inotify, FSEvents, ReadDirectoryChangesW or, where there are none, polling.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from watchfiles import watch
from watchfiles.main import FileChange

from pipeline.errors import LockstepError
from pipeline.live.changes import Changes
from pipeline.names import key_of
from pipeline.storage.places import Place

# The loop checks this often whether it should stop; a change is known after at most two steps.
STEP_MS = 50
TICK_MS = 100
POLL_MS = 1_000

# How watchfiles reports that a name is not UTF-8. It yields no events from then on.
_UNDECODABLE = "Unable to decode path"
# If such names come one after the other, watching restarts only this often.
RENEW_S = 1.0


class EventsFailed(LockstepError):
    """The file system sends no events here; polling works without them."""


def changed_keys(folder: Path, stop: threading.Event, poll: bool) -> Iterator[set[str]]:
    """Keys that changed below ``folder``, again and again; an empty set after a tick without any.

    ``""`` is the folder itself: all of it is to be looked at, because events were lost where a name
    is not UTF-8. Ends when ``stop`` is set.

    Raises:
        EventsFailed: the system cannot watch so many folders, or none at all.
    """
    root = os.path.realpath(folder)
    missed = False
    while not stop.is_set():
        began = time.monotonic()
        try:
            for changed in _changes(root, stop, poll):
                keys = {_key(path, root) for _, path in changed if not _is_hidden(path, root)}
                # Looked at only now: what changes from here on has its event.
                yield keys | {""} if missed else keys
                missed = False
            return
        except (OSError, RuntimeError) as error:
            # watchfiles' own errors are RuntimeErrors; "OS file watch limit reached" is one.
            if _UNDECODABLE not in str(error):
                raise EventsFailed(f"{folder}: changes cannot be watched ({error})") from error
        missed = True
        while time.monotonic() - began < RENEW_S and not stop.wait(TICK_MS / 1000):
            yield set()


class Listening:
    """A thread that gathers what changes below a folder, for the length of a ``with`` block."""

    def __init__(
        self, folder: Path, poll: bool, changes: Changes, stirred: threading.Event
    ) -> None:
        """``stirred`` is set when there is something new in ``changes``, or in :attr:`error`."""
        self.error: EventsFailed | None = None
        self._what = folder, poll
        self._changes, self._stirred = changes, stirred
        self._begun, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._listen, name="events", daemon=True)

    def __enter__(self) -> Listening:
        self._thread.start()
        self._begun.wait()  # what changes from here on is seen
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _listen(self) -> None:
        folder, poll = self._what
        try:
            for keys in changed_keys(folder, self._over, poll):
                self._begun.set()
                if keys:
                    # The last step yielded nothing new, so the last event is at least that old.
                    self._changes.add(keys, time.monotonic() - STEP_MS / 1000)
                    self._stirred.set()
        except EventsFailed as error:
            self.error = error
        finally:
            self._begun.set()
            self._stirred.set()


class _NotListening:
    """For a bucket, which says nothing by itself: it is listed from time to time."""

    error: EventsFailed | None = None


def listening_at(
    place: Place, poll: bool, changes: Changes, stirred: threading.Event
) -> contextlib.AbstractContextManager[Listening | _NotListening]:
    """What gathers the changes at a place, for the length of a ``with`` block."""
    if place.folder is None:
        return contextlib.nullcontext(_NotListening())
    return Listening(place.folder, poll, changes, stirred)


def _changes(root: str, stop: threading.Event, poll: bool) -> Iterator[set[FileChange]]:
    return watch(
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


def _key(path: str, root: str) -> str:
    return key_of(path[len(root) + 1 :].replace(os.sep, "/"))


def _is_hidden(path: str, root: str) -> bool:
    # What copy programs write beside their target before they rename it.
    return f"{os.sep}." in path[len(root) :]
