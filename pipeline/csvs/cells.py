"""The URLs of one cell: which they are, and where each stands in it.

Shop systems separate them by commas, semicolons, pipes, blanks or line breaks, or write a JSON
list.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple
from urllib.parse import quote

# One character, and what lies before and after it is stripped: a pattern of runs ("[,\s]+") scans
# each run again from each of its characters, and a cell of a million blanks takes hours.
_SEPARATOR = re.compile(r"[,;|\s](?=https?://)", re.IGNORECASE)
# Where the first URL has no scheme, others may have none either; elsewhere "//" is part of a path.
_SEPARATOR_BARE = re.compile(r"[,;|\s](?=(?:https?:)?//)", re.IGNORECASE)
_BLANKS_AND_SEPARATORS = (
    ",;| \t\n\r\v\f\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007"
    "\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
_JSON_TEXT = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"')
_HAS_HOST = re.compile(r"(?:https?:)?//", re.IGNORECASE)
_BETWEEN_PATHS = re.compile(r"[,;|\r\n]")
# Of a path, blanks and letters of other scripts have to be escaped; "%" was escaped already.
_KEPT_IN_PATHS = "/%:@!$&'()*+,;=?~-._"
_BEGINS = ("http://", "https://", "//")


class CellUrl(NamedTuple):
    """A URL to request, and the characters of its cell that it was read from."""

    url: str
    start: int
    end: int


def urls_of(cell: str, base: str = "") -> list[CellUrl]:
    """The URLs of a cell, in order.

    They are separated by commas, semicolons, pipes, spaces and line breaks, but only where another
    begins: a comma inside a URL belongs to it. Separators at both ends mean nothing. A URL without
    a scheme (``//cdn.example/1.jpg``) is requested by https. With a ``base``, a cell of paths alone
    (``/m/1.jpg,/m/2.jpg``) is split at each separator that is no blank, and read as what is below.
    """
    if not cell:
        return []
    found = _of_json(cell) if cell.lstrip()[:1] == "[" else None
    if found is None:
        is_paths = base and not _HAS_HOST.search(cell)
        found = _pieces(cell, _BETWEEN_PATHS if is_paths else None)
    if base:
        return [each._replace(url=_below(base, each.url)) for each in found]
    return found


def _pieces(cell: str, separator: re.Pattern[str] | None = None) -> list[CellUrl]:
    if separator is None:
        first = cell.lstrip(_BLANKS_AND_SEPARATORS)
        separator = _SEPARATOR_BARE if first.startswith("//") else _SEPARATOR
    found, begin = [], 0
    for piece in separator.split(cell):
        left = piece.lstrip(_BLANKS_AND_SEPARATORS)
        url = left.rstrip(_BLANKS_AND_SEPARATORS)
        if url:
            start = begin + len(piece) - len(left)
            found.append(CellUrl(_with_scheme(url), start, start + len(url)))
        # The separator is one character.
        begin += len(piece) + 1
    return found


def _of_json(cell: str) -> list[CellUrl] | None:
    """The URLs of a JSON list: its texts, or those below its objects that are URLs; None if it is
    none."""
    try:
        values = json.loads(cell)
    except (ValueError, RecursionError):
        return None
    is_plain = all(isinstance(value, str) for value in values)
    found = []
    for text in _JSON_TEXT.finditer(cell):
        url = json.loads(text.group()).strip()
        if url and (is_plain or url.lower().startswith(_BEGINS)):
            found.append(CellUrl(_with_scheme(url), text.start(1), text.end(1)))
    return found


def _below(base: str, url: str) -> str:
    if url.lower().startswith(_BEGINS):
        return url
    return f"{base.rstrip('/')}/{quote(url.lstrip('/'), safe=_KEPT_IN_PATHS)}"


def _with_scheme(url: str) -> str:
    return f"https:{url}" if url.startswith("//") else url
