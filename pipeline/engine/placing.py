"""The places below ``output/`` that finished files take, and leave; keys are below it."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence

from pipeline.engine.context import Run
from pipeline.engine.pending import RenditionKey
from pipeline.engine.recovery import note_publishing
from pipeline.errors import LinkInTheWay
from pipeline.names import set_apart
from pipeline.storage.base import Staged
from pipeline.storage.owners import owner
from pipeline.workers.tasks import Made

# Warnings of links that stand in the way of deletions, in one run.
WARNINGS_SHOWN = 20


class Places:
    """The output folder, as a run writes to it."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.store = run.settings.output_store
        # Keys of the batch at hand of which the next run finds a note, if this one is killed.
        self._announced: set[str] = set()

    def has(self, file: str, size_bytes: int | None) -> bool:
        """Whether a rendition is there, and as many bytes long as it was made."""
        return self.store.has(file, size_bytes)

    def stage_copy(self, file: str, key: str) -> str:
        """A copy of a rendition, staged for ``key``; the key of its temporary file.

        Raises:
            OSError: the rendition is gone, or the name cannot be.
        """
        return self.store.copy(file, key, owner()).temporary

    def announce(self, keys: Collection[str]) -> None:
        """Note the keys of a batch before the first of its files takes its place."""
        self._announced = set(keys)
        note_publishing(self._run, self._announced)

    def take(self, made: Made, whose: RenditionKey, owners: dict[str, RenditionKey]) -> str:
        """Rename a finished file to its key, or to another one where that is taken."""
        key, path = made.file, whose[1]
        if owners.get(key, whose) != whose:
            key = set_apart(key, path)
        try:
            self._publish(made, key)
        except (IsADirectoryError, NotADirectoryError):
            # `a.png` as WebP is `a.png.webp`, and so is somebody's folder.
            key = set_apart(key, path)
            self._publish(made, key)
        owners[key] = whose
        return key

    def _publish(self, made: Made, key: str) -> None:
        if key not in self._announced:
            self._announced.add(key)
            note_publishing(self._run, self._announced)
        self.store.publish(Staged(key, made.temporary))

    def discard(self, made: Sequence[Made]) -> None:
        """Delete what does not take its place, and the folders that were made for it alone."""
        for rendition in made:
            with contextlib.suppress(LinkInTheWay):  # it lies elsewhere now, or is gone
                self.store.remove(rendition.temporary)

    def clear(self, file: str | None) -> bool:
        """Delete the file of a key; false where a link stands in the way."""
        try:
            if file is not None:
                self.store.remove(file)
        except LinkInTheWay as error:
            warning = f"renditions that must go cannot be deleted: {error}"
            known = self._run.report.warnings
            if warning not in known and len(known) < WARNINGS_SHOWN:
                known.append(warning)
            return False
        return True
