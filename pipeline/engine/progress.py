"""What steps report while they work; ``cli/progress.py`` shows it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """What steps report while they work."""

    def start(self, what: str, total: int) -> None:
        """``total`` pieces of ``what`` (such as "renditions") are to be done."""

    def advance(self, count: int) -> None:
        """``count`` more of them are done."""

    def stop(self) -> None:
        """No more will come; harmless if nothing was started."""


class Silent:
    """Reports nothing: for programs and tests."""

    def start(self, what: str, total: int) -> None:
        pass

    def advance(self, count: int) -> None:
        pass

    def stop(self) -> None:
        pass
