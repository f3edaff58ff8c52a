"""Text for people: times, lists, and what a terminal can show."""

from __future__ import annotations

import datetime
import getpass


def iso(timestamp_s: float) -> str:
    """A Unix time as people and programs read it."""
    moment = datetime.datetime.fromtimestamp(timestamp_s).astimezone()
    return moment.isoformat(timespec="seconds")


def printable(text: str) -> str:
    """``text`` on one line of a terminal: line breaks and controls shown, not obeyed."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def login_name() -> str:
    """Who runs this process, as the operating system knows them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "local"


def counted(number: int, word: str, words: str = "") -> str:
    """A number with what it counts: ``1 original``, ``2,310 originals``.

    ``words`` is the plural where an "s" does not make it.
    """
    return f"{number:,} {word if number == 1 else words or word + 's'}"


def counts_in_words(counts: list[tuple[int, str]], rest: tuple[int, str] | None = None) -> str:
    parts = [f"{count:,} {word}" for count, word in counts if count]
    if rest is not None:
        parts.append(f"{rest[0]:,} {rest[1]}")
    return ", ".join(parts)


def shortened(text: str, characters: int = 120) -> str:
    """``text`` on one line and cut, for a message."""
    line = "".join(c if c.isprintable() else " " for c in text)
    return line if len(line) <= characters else line[: characters - 1] + "…"
