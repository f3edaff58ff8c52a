"""The places below ``output/`` that finished files take, and leave; keys are below it."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping, Sequence

from pipeline.engine.context import Run
from pipeline.engine.pending import RenditionKey
from pipeline.engine.recovery import note_publishing
from pipeline.errors import LinkInTheWay
from pipeline.names import set_apart
from pipeline.storage.at_once import at_once
from pipeline.storage.base import Staged
from pipeline.storage.owners import owner
from pipeline.workers.tasks import Made

# Warnings of links that stand in the way of deletions, in one run.
WARNINGS_SHOWN = 20
CLEARED_AT_ONCE = 250


class Places:
    """The output folder, as a run writes to it."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.store = run.settings.output_store
        self._is_bucket = run.settings.output_place.is_bucket
        # Files to be passed to :meth:`clear_all`; of those before an error nothing is recorded.
        self.cleared_at_once = CLEARED_AT_ONCE if self._is_bucket else 1
        # What was published ahead, by its temporary key: the key it has, and what was wrong.
        self._ahead: dict[str, tuple[str, Exception | None]] = {}
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

    def take_ahead(
        self, coming: Iterable[tuple[Made, RenditionKey]], owners: Mapping[str, RenditionKey]
    ) -> None:
        """In a bucket, let all renditions of a batch take their places side by side.

        :meth:`take` then says of each how it went. Nothing happens for a folder.
        """
        if not self._is_bucket:
            return
        taken, moves = dict(owners), []
        for made, whose in coming:
            key = made.file
            if taken.get(key, whose) != whose:
                key = set_apart(key, whose[1])
            taken[key] = whose
            moves.append(Staged(key, made.temporary))
        keys = {move.key for move in moves}
        if not keys <= self._announced:
            self.announce(self._announced | keys)
        for move, done in zip(moves, at_once(self.store.publish, moves), strict=True):
            self._ahead[move.temporary] = move.key, done if isinstance(done, Exception) else None

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
        done, error = self._ahead.pop(made.temporary, ("", None))
        if error is not None:
            raise error
        if done == key:
            return
        if key not in self._announced:
            self._announced.add(key)
            note_publishing(self._run, self._announced)
        self.store.publish(Staged(key, made.temporary))

    def discard(self, made: Sequence[Made]) -> None:
        """Delete what does not take its place, and the folders that were made for it alone."""
        for rendition in made:
            with contextlib.suppress(LinkInTheWay):  # it lies elsewhere now, or is gone
                self.store.remove(rendition.temporary)

    def clear_all(self, files: Sequence[str | None]) -> list[bool]:
        """:meth:`clear` for each; in a bucket side by side.

        Raises:
            OutputError: one cannot be deleted; for those before it, nothing is said.
        """
        if not self._is_bucket:
            return [self.clear(file) for file in files]
        done = at_once(self.clear, files)
        for each in done:
            if isinstance(each, Exception):
                raise each
        return [each is True for each in done]

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
