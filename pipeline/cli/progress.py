"""Progress on stderr: a bar with rate and time left on a terminal, plain lines otherwise."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from pipeline.cli.terminal import say
from pipeline.engine.progress import Progress
from pipeline.text import printable

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

LINE_EVERY_S = 10.0


class Lines:
    """A line on stderr every ten seconds: for cron, containers and log files."""

    def start(self, what: str, total: int) -> None:
        self._what, self._total, self._done = what, total, 0
        self._began = self._last = time.monotonic()

    def advance(self, count: int) -> None:
        self._done += count
        now = time.monotonic()
        if now - self._last >= LINE_EVERY_S:
            self._last = now
            rate = self._done / (now - self._began)
            left_s = (self._total - self._done) / rate if rate else 0
            say(
                f"{self._done:,} of {self._total:,} {self._what}, {rate:,.0f}/s, "
                f"{left_s:,.0f} s left",
                err=True,
            )

    def stop(self) -> None:
        pass


class Bar:
    """rich's progress bar on stderr."""

    def __init__(self) -> None:
        self._rich: RichProgress | None = None
        self._task: TaskID | None = None

    def start(self, what: str, total: int) -> None:
        # Imported here: only a terminal shows a bar, and rich costs 16 ms.
        from rich import console, progress

        self.stop()
        self._rich = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TaskProgressColumn(show_speed=True),
            progress.TimeRemainingColumn(),
            console=console.Console(stderr=True),
            transient=True,
        )
        self._rich.start()
        self._task = self._rich.add_task(printable(what), total=total)

    def advance(self, count: int) -> None:
        if self._rich is not None and self._task is not None:
            self._rich.update(self._task, advance=count)

    def stop(self) -> None:
        if self._rich is not None:
            self._rich.stop()
            self._rich = None


def for_stderr() -> Progress:
    """A bar where a person watches, lines elsewhere."""
    return Bar() if sys.stderr.isatty() else Lines()
