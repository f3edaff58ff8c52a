"""Checks of the values in ``recipes.toml``: what is allowed, in words, and the check itself."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

ANCHORS = (
    "center",
    "top",
    "top-right",
    "right",
    "bottom-right",
    "bottom",
    "bottom-left",
    "left",
    "top-left",
)
COLOURS = {
    "aqua": "#00ffff",
    "black": "#000000",
    "blue": "#0000ff",
    "fuchsia": "#ff00ff",
    "gray": "#808080",
    "green": "#008000",
    "grey": "#808080",
    "lime": "#00ff00",
    "maroon": "#800000",
    "navy": "#000080",
    "olive": "#808000",
    "orange": "#ffa500",
    "purple": "#800080",
    "red": "#ff0000",
    "silver": "#c0c0c0",
    "teal": "#008080",
    "white": "#ffffff",
    "yellow": "#ffff00",
}

A_COLOUR = f"a colour such as '#ffffff' or '#fff', or one of {', '.join(COLOURS)}"
_HEX_COLOUR = re.compile(r"#(?:[0-9a-f]{3}|[0-9a-f]{6})")

# By key: what is allowed, in words, and the check that turns a TOML value into our own.
Checks: TypeAlias = Mapping[str, tuple[str, Callable[[Any], Any]]]


def unknown_key(key: str, known: Iterable[str], what: str = "a key of a recipe") -> str:
    """The problem of a key that is not ``known``."""
    near = difflib.get_close_matches(key.lower(), known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"is not {what}; {hint}Allowed: {', '.join(known) or 'none'}"


def toml(value: object) -> str:
    """Write a value as TOML would, shortened so that a message stays readable."""
    if isinstance(value, bool):
        return str(value).lower()
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


class NotAllowedError(Exception):
    """A value is of the wrong type or out of range; the caller says what is allowed."""


def whole(lowest: int, highest: int) -> Callable[[object], int]:
    def check(given: object) -> int:
        # `true` is an int in Python, and would pass for 1.
        if isinstance(given, bool) or not isinstance(given, int) or not lowest <= given <= highest:
            raise NotAllowedError
        return given

    return check


def number(highest: float, *, or_zero: bool = False) -> Callable[[object], float]:
    """Above 0, or at least 0, and at most ``highest``."""

    def check(given: object) -> float:
        if isinstance(given, bool) or not isinstance(given, int | float):
            raise NotAllowedError
        if not (0 < given <= highest or (or_zero and given == 0)):  # not a number is neither
            raise NotAllowedError
        return float(given)

    return check


def one_of(choices: tuple[str, ...]) -> Callable[[object], str]:
    def check(given: object) -> str:
        if not isinstance(given, str) or given not in choices:
            raise NotAllowedError
        return given

    return check


def words(longest: int) -> Callable[[object], str]:
    """Text of at most ``longest`` characters."""

    def check(given: object) -> str:
        if not isinstance(given, str) or not 0 < len(given) <= longest:
            raise NotAllowedError
        return given

    return check


def flag(given: object) -> bool:
    if not isinstance(given, bool):
        raise NotAllowedError
    return given


def colour(given: object) -> str:
    """Write a colour as #rrggbb, so that two spellings of one colour are one recipe."""
    if not isinstance(given, str):
        raise NotAllowedError
    text = COLOURS.get(given.lower(), given.lower())
    if not _HEX_COLOUR.fullmatch(text):
        raise NotAllowedError
    return text if len(text) == 7 else "#" + "".join(digit * 2 for digit in text[1:])
