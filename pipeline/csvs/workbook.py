"""Excel workbooks (.xlsx): the rows of their sheets as text, read as a stream.

openpyxl says what a cell means; what it is given comes from strangers, and is bounded.
"""

from __future__ import annotations

import contextlib
import datetime
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.csvs.lines import MAX_CELL_CHARACTERS, MAX_ROW_CHARACTERS
from pipeline.csvs.workbook_parts import MAX_COLUMNS, Parts, explained, problem

# What Excel itself allows.
MAX_ROWS = 1_048_576

# How Excel writes a CR, which XML would lose, and an underscore that looks like this. Of other
# characters it is left: databases store no NUL and no half of a pair.
_ESCAPED = re.compile(r"_x(0009|000[Aa]|000[Dd]|005[Ff])_")


@dataclass(frozen=True)
class Sheet:
    """A visible sheet: its name, and the part of the archive in which its cells are."""

    name: str
    part: str


class Workbook:
    """An open workbook; ``sheets`` are the visible ones, in their order.

    Raises:
        UnreadableCsv: it is no workbook, or damaged, or unpacks to more than ``max_bytes``.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path, max_bytes: int = sys.maxsize) -> None:
        # Imported here: only where there is a workbook, for openpyxl costs 200 ms.
        from pipeline.csvs.workbook_reader import Texts, WorkbookReader

        with contextlib.ExitStack() as opened, explained():
            texts = opened.enter_context(contextlib.closing(Texts()))
            self.parts = opened.enter_context(Parts(path, max_bytes))
            self._reader = WorkbookReader(path, self.parts, texts)
            self.sheets = [Sheet(*found) for found in self._reader.visible]
            self._opened = opened.pop_all()

    def __enter__(self) -> Workbook:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def rows(self, sheet: Sheet) -> Iterator[tuple[int, list[str]]]:
        """Each row that is not blank: its number, from 1, and its cells up to the last filled one.

        A formula is its last value. Numbers without a fraction have no decimal point, dates are
        ISO 8601, truth values ``TRUE`` and ``FALSE``.

        Raises:
            UnreadableCsv: while iterating: the sheet is damaged, or a row is too long.
        """
        rows = self._reader.cells(sheet.part)
        count = 0
        while True:
            with explained():
                row = next(rows, None)
            if row is None:
                return
            count += 1
            number, cells = row
            if max(count, number) > MAX_ROWS:
                raise problem(f"a sheet of more than {MAX_ROWS:,} rows; is this a workbook?")
            texts = _texts_of(number, cells)
            if texts:
                yield number, texts


def _texts_of(number: int, cells: list[dict[str, Any]]) -> list[str]:
    """The cells of a row as text, without the empty ones at its end."""
    texts: list[str] = []
    characters = 0
    for cell in cells:
        text = _as_text(cell["value"])
        if not text:
            continue
        column = cell["column"]
        if column > MAX_COLUMNS or len(text) > MAX_CELL_CHARACTERS:
            raise problem("a cell that no spreadsheet can hold", number)
        characters += len(text)
        if characters > MAX_ROW_CHARACTERS:
            raise problem(f"a row of more than {MAX_ROW_CHARACTERS:,} characters", number)
        texts.extend([""] * (column - len(texts)))
        texts[column - 1] = text
    return texts


def _as_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:.15g}"
    if isinstance(value, datetime.datetime):
        is_day = value.time() == datetime.time()
        return value.date().isoformat() if is_day else value.isoformat(" ", "seconds")
    text = str(value)
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text) if "_x" in text else text
