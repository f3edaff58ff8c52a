"""Previews of originals for those who decide about them: what is held has no rendition.

An original may be hostile, or in a format that no browser shows. So a worker in the sandbox makes a
JPEG of it, one at a time and in a thread of its own: no page waits for a picture that takes long.
The last ones stay in memory; nothing stays on the disk.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from anyio import CapacityLimiter, to_thread

from pipeline.engine.context import make_workers
from pipeline.settings.values import Settings
from pipeline.storage.folder import make_private
from pipeline.storage.folder_store import FolderStore
from pipeline.storage.owners import is_alive
from pipeline.transforms.recipes import Recipe
from pipeline.workers.base import AnyWorkers
from pipeline.workers.tasks import RenditionWanted, Task, Urgency

# Large enough to judge on a desk, and soon there on a phone.
PREVIEW = Recipe("preview", fit=(1280, 1280), format="jpeg", quality=80)
FOLDER = "previews"
# A page of the grid, and those around; some 20 MB.
KEPT = 96
# The worker ends when nobody has looked for so long.
IDLE_S = 120.0
MAX_BYTES = 10_000_000


class Place(NamedTuple):
    """Where an original may lie: the file ``key`` of ``folder``; with a limit of its own."""

    folder: str
    key: str
    max_pixels: int | None = None


class Previews:
    """Makes previews, and keeps the last ones by the SHA-256 of the original."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store = FolderStore(settings.state_dir / FOLDER)
        self._limiter = CapacityLimiter(1)
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()
        self._workers: AnyWorkers | None = None
        self._idle: threading.Timer | None = None

    async def of(self, sha256: str, places: Sequence[Place]) -> bytes | None:
        """A JPEG of the content; ``None`` where no place has it any more, or it is no picture.

        Raises:
            WorkersError: the worker cannot be started.
            SettingsError: a sandbox is required, and there can be none.
        """
        known = self._kept.get(sha256)
        if known is not None:
            self._kept.move_to_end(sha256)
            return known
        return await to_thread.run_sync(self._make, sha256, places, limiter=self._limiter)

    def close(self) -> None:
        """End the worker; the next preview starts one again."""
        with self._lock:
            if self._idle is not None:
                self._idle.cancel()
            if self._workers is not None:
                self._workers.close()
                self._workers = None

    def _make(self, sha256: str, places: Sequence[Place]) -> bytes | None:
        with self._lock:
            for place in places:
                found = self._kept.get(sha256) or self._rendered(sha256, place)
                if found is not None:
                    self._kept[sha256] = found
                    if len(self._kept) > KEPT:
                        self._kept.popitem(last=False)
                    return found
        return None

    def _rendered(self, sha256: str, place: Place) -> bytes | None:
        workers = self._started()
        wanted = (RenditionWanted(PREVIEW, None, None, None),)
        task = Task(
            "picture.jpg",
            wanted,
            place.folder,
            place.key,
            self._store.root,
            max_pixels=place.max_pixels,
        )
        workers.submit(task, Urgency.FRESH)
        outcome = None
        while outcome is None:
            outcome = workers.next_outcome(urgency=Urgency.FRESH)
        data = None
        for made in outcome.made:
            # What another file has become since is not what is to be decided about.
            if outcome.sha256 == sha256:
                data, _ = self._store.read(made.temporary, MAX_BYTES)
            self._store.remove(made.temporary)
        return data

    def _started(self) -> AnyWorkers:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = threading.Timer(IDLE_S, self.close)
        self._idle.daemon = True
        self._idle.start()
        if self._workers is None:
            folder = self._settings.state_dir / FOLDER
            make_private(self._settings.state_dir)
            make_private(folder)
            # Of a service that was killed while it made one.
            self._store.sweep_folder(PREVIEW.name, is_alive)
            quarantine = (self._settings.quarantine_place,)
            self._workers = make_workers(self._settings, into=folder, also_read=quarantine)
        return self._workers
