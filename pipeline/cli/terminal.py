"""The one place where text is written to a terminal or a log.

File names, cells of CSVs and responses of servers are untrusted input. An escape sequence
in them would recolour, overwrite or retitle a terminal, a line break would forge a line of the log,
and a right-to-left override would make one name look like another. So every line is made printable
here, in one place, whatever composed it.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import traceback
from collections.abc import Iterable
from types import TracebackType
from typing import Any

import click

from pipeline.text import printable

LINE_FORMAT = "%(levelname)s:%(name)s:%(message)s"


def say(*lines: str, err: bool = False) -> None:
    """Print each of ``lines`` as exactly one line on stdout, or stderr."""
    for line in lines:
        click.echo(printable(line), err=err)


def say_warnings(warnings: Iterable[str]) -> None:
    """Say them on stderr, a line each."""
    for warning in warnings:
        say(f"warning: {warning}", err=True)


def say_json(answer: Any, indent: int | None = None, end: str = "") -> None:
    """Print JSON on stdout: for a program exactly the values, for a terminal no control in them."""
    for line in (json.dumps(answer, indent=indent, ensure_ascii=False) + end).split("\n"):
        # Within strings, what is not printable becomes \uXXXX, which is the same value.
        click.echo(line if line.isprintable() else "".join(map(_escaped, line)))


class OneLine(logging.Formatter):
    """A record in one line; a traceback below it is indented, so that it cannot forge a record."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line itself."""
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        """The traceback of the record's error."""
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:
        """The stack that a record came with."""
        return _indented(super().formatStack(stack_info))


def log_to_stderr(level: int, line: str = LINE_FORMAT, force: bool = False) -> None:
    """Write the log to stderr, unless it is written somewhere already; ``force`` replaces that."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine(line))
    logging.basicConfig(level=level, handlers=[handler], force=force)


def show_crashes() -> None:
    """Have the traceback of an unexpected error printed like everything else.

    Nothing happens where somebody else has arranged for tracebacks already.
    """
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _show_crash
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _show_crash_of_thread


def _show_crash(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    text = "".join(traceback.format_exception(kind, error, trace))
    click.echo(_indented(text.rstrip("\n")), err=True)


def _show_crash_of_thread(crash: threading.ExceptHookArgs) -> None:
    if crash.exc_type is not SystemExit and crash.exc_value is not None:
        _show_crash(crash.exc_type, crash.exc_value, crash.exc_traceback)


def _escaped(character: str) -> str:
    return character if character.isprintable() else json.dumps(character)[1:-1]


def _indented(text: str) -> str:
    return "\n".join(f"  {printable(line)}" for line in text.split("\n"))
