"""Progress on stderr: a bar with rate and time left on a terminal, plain lines on request.

Lanes work in threads of their own: each has its own line, and one display writes them all.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING

import click

from pipeline.cli.terminal import say
from pipeline.engine.progress import Progress, Silent
from pipeline.states import Lane
from pipeline.text import printable

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

LINE_EVERY_S = 10.0


class Lines:
    """A line on stderr every ten seconds: for containers and log files."""

    def __init__(self, lane: Lane = Lane.ORIGINALS) -> None:
        self._lane = lane

    def start(self, what: str, total: int) -> None:
        self._what, self._total, self._done = what, total, 0
        self._began = self._last = time.monotonic()

    def advance(self, count: int, total: int | None = None) -> None:
        self._done += count
        self._total = self._total if total is None else total
        now = time.monotonic()
        if now - self._last >= LINE_EVERY_S:
            self._last = now
            rate = self._done / (now - self._began)
            left_s = (self._total - self._done) / rate if rate else 0
            say(
                f"{self._lane.value}: {self._done:,} of {self._total:,} {self._what}, "
                f"{rate:,.0f}/s, {left_s:,.0f} s left",
                err=True,
            )

    def stop(self) -> None:
        pass

    def lane(self, lane: Lane) -> Lines:
        return Lines(lane)


class Display:
    """rich's progress on stderr, with a bar for each lane that does something.

    Two displays at a time would write over each other.
    """

    def __init__(self) -> None:
        self._rich: RichProgress | None = None
        self._guard = threading.Lock()

    def add(self, what: str, total: int) -> TaskID:
        """Show one more bar."""
        # Imported here: only a terminal shows a bar, and rich costs 16 ms.
        from rich import console, progress

        with self._guard:
            if self._rich is None:
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
            return self._rich.add_task(printable(what), total=total)

    def advance(self, bar: TaskID, count: int, total: int | None) -> None:
        """Move a bar on."""
        with self._guard:
            if self._rich is not None:
                self._rich.update(bar, advance=count, total=total)

    def remove(self, bar: TaskID) -> None:
        """Take a bar away, and the display with the last one."""
        with self._guard:
            if self._rich is None:
                return
            self._rich.remove_task(bar)
            if not self._rich.tasks:
                self._rich.stop()
                self._rich = None


class Bar:
    """The bar of one lane."""

    def __init__(self, display: Display, lane: Lane = Lane.ORIGINALS) -> None:
        self._display, self._lane = display, lane
        self._bar: TaskID | None = None

    def start(self, what: str, total: int) -> None:
        self.stop()
        self._bar = self._display.add(f"{self._lane.value}: {what}", total)

    def advance(self, count: int, total: int | None = None) -> None:
        if self._bar is not None:
            self._display.advance(self._bar, count, total)

    def stop(self) -> None:
        if self._bar is not None:
            self._display.remove(self._bar)
            self._bar = None

    def lane(self, lane: Lane) -> Bar:
        return Bar(self._display, lane)


progress_option = click.option(
    "--progress",
    is_flag=True,
    help="Print progress even if stderr is no terminal: a line every ten seconds.",
)


def for_stderr(is_wanted: bool = False) -> Progress:
    """Bars where a person watches; elsewhere nothing, or lines where they are wanted."""
    if sys.stderr.isatty():
        return Bar(Display())
    return Lines() if is_wanted else Silent()
