"""What lanes report while they work; ``cli/progress.py`` and ``live/lanes.py`` show it."""

from __future__ import annotations

from typing import Protocol

from pipeline.states import Lane


class Progress(Protocol):
    """What one lane reports; each lane from one thread at a time."""

    def start(self, what: str, total: int) -> None:
        """``total`` pieces of ``what`` (such as "renditions") are to be done."""

    def advance(self, count: int, total: int | None = None) -> None:
        """``count`` more of them are done; ``total`` is given if that is another one by now."""

    def stop(self) -> None:
        """No more will come; harmless if nothing was started."""

    def lane(self, lane: Lane) -> Progress:
        """The progress of another lane, which is shown beside this one."""


class Silent:
    """Reports nothing: for programs and tests."""

    def start(self, what: str, total: int) -> None:
        pass

    def advance(self, count: int, total: int | None = None) -> None:
        pass

    def stop(self) -> None:
        pass

    def lane(self, lane: Lane) -> Progress:
        return self


class Growing:
    """The progress of work that more is added to while it goes on."""

    def __init__(self, progress: Progress, what: str) -> None:
        self._progress, self._what = progress, what
        # What was done when the bar was last empty; what was shown last.
        self._before, self._last = 0, (0, 0)
        self._is_shown = False

    def show(self, done: int, total: int) -> None:
        """So many of ``total`` are done; both count from the first call ever."""
        if not self._is_shown and total > done:
            self._progress.start(self._what, total - self._before)
            self._is_shown = True
        if self._is_shown and (done, total) != self._last:
            self._progress.advance(done - self._last[0], max(done, total) - self._before)
        self._last = done, total
        if not self._is_shown:
            self._before = done

    def stop(self) -> None:
        """Nothing is left, for now."""
        if self._is_shown:
            self._progress.stop()
            self._is_shown = False
        # What comes next must not begin with a bar that is half full.
        self._before = self._last[0]
