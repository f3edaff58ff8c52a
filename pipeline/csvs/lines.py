"""The lines and rows of a CSV, bounded: what cannot be read is a problem with its line.

Nothing here knows what the columns mean.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from pipeline.errors import CsvError

PIECE_CHARACTERS = 8 * 1024
# How the message of each limit ends: the commands add the settings to it, customers read none.
SPLIT = "split the file"
# One line of text, one row (whose quoted cells may have many lines), and one cell. Without bounds,
# an unclosed quote reads the whole file as a cell, or as a row of a hundred million cells.
MAX_LINE_CHARACTERS = 4_000_000
MAX_ROW_CHARACTERS = 4_000_000
MAX_CELL_CHARACTERS = 1_000_000

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)")
_LINE_ENDS = re.compile(r"[\r\n]+")


@dataclass(frozen=True)
class CsvProblem:
    """One problem. ``line`` is the line in the file, from 1; ``column`` may be empty. ``code`` is
    that of a failed image, and empty where the file is at fault."""

    line: int
    column: str
    message: str
    code: str = ""


class UnreadableCsv(CsvError):
    """The file cannot be read as a CSV at all; ``fault`` says where and why."""

    def __init__(self, problem: CsvProblem) -> None:
        super().__init__(f"line {problem.line}: {problem.message}")
        self.problem = problem


def not_text(line: int, what: str) -> CsvProblem:
    return CsvProblem(line, "", f"{what}; save the table as CSV UTF-8")


def first_record(rows: BoundedRows, reader: Iterator[list[str]]) -> tuple[list[str], int]:
    """The first record that is not blank, and its line; an empty record at the end of the file."""
    while True:
        rows.begin()
        try:
            record = next(reader, None)
        except csv.Error as error:
            raise UnreadableCsv(
                CsvProblem(rows.line, "", f"the header line cannot be read ({error})")
            ) from error
        if record is None:
            return [], 1
        if any(cell.strip() for cell in record):
            return record, rows.line


@contextmanager
def text_lines(path: Path, encoding: str, skip: int = 0) -> Iterator[Lines]:
    """The lines of the file, without the first ``skip``, which count as taken."""
    csv.field_size_limit(max(MAX_CELL_CHARACTERS, csv.field_size_limit()))
    with path.open(encoding=encoding, newline="") as file:
        lines = Lines(file, encoding)
        for _ in range(skip):
            next(lines, "")
        yield lines


class Lines:
    """The lines of a file with their ends (LF, CRLF or CR); ``taken`` counts them.

    They are cut from pieces of text, so that a run of blank lines is one step: a file of four
    megabytes may have four million of them.

    Raises:
        UnreadableCsv: while iterating: a line of more than 4,000,000 characters, or text that is
            not in the encoding.
    """

    def __init__(self, file: TextIO, encoding: str) -> None:
        self.taken = 0
        self._file = file
        self._encoding = encoding
        self._text = ""
        self._at = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        found = _LINE.match(self._text, self._at)
        while found is None and len(self._text) - self._at < MAX_LINE_CHARACTERS and self._more():
            found = _LINE.match(self._text, self._at)
        end = len(self._text) if found is None else found.end()
        line = self._text[self._at : end]
        if not line:
            raise StopIteration
        if len(line) >= MAX_LINE_CHARACTERS:
            message = f"a line of more than {MAX_LINE_CHARACTERS:,} characters; is this a CSV?"
            raise UnreadableCsv(CsvProblem(self.taken + 1, "", message))
        if "\0" in line:
            raise UnreadableCsv(not_text(self.taken + 1, "a NUL character: this is a binary file"))
        self._at = end
        self.taken += 1
        return line

    def run(self, wanted: re.Pattern[str]) -> str:
        """The lines that match ``wanted`` from here on, taken at once: as many as were read."""
        if self._at == len(self._text):
            self._more()
        found = wanted.match(self._text, self._at)
        if found is None:
            return ""
        run = found.group()
        self._at = found.end()
        self.taken += run.count("\n") + run.count("\r") - run.count("\r\n")
        return run

    def _more(self) -> bool:
        rest = self._text[self._at :]
        try:
            # As much as is there already: a long line is not searched once for each piece of it.
            piece = self._file.read(max(PIECE_CHARACTERS, len(rest)))
            if piece.endswith("\r"):
                piece += self._file.read(1)  # a CR LF is one line end
        except UnicodeError as error:
            message = f"text that is not {self._encoding}; save the file as CSV UTF-8"
            raise UnreadableCsv(CsvProblem(self.taken + 1, "", message)) from error
        self._text, self._at = rest + piece, 0
        return bool(piece)


class BoundedRows:
    """Lines for ``csv.reader``, no more of them for one row than it may have characters.

    Call :meth:`begin` before each row. Blank lines between rows are passed over; ``line`` is the
    one on which the row begins. Iterating raises UnreadableCsv where a row is too long.
    """

    def __init__(self, lines: Lines, delimiter: str) -> None:
        self.line = lines.taken + 1
        self._lines = lines
        # The parser would make a record of each, with nothing in its cells.
        self._blanks = f" \t\r\n{delimiter}"
        self._blank = re.compile(rf"[{re.escape(self._blanks)}]*[\r\n]")
        self.begin()

    def begin(self) -> None:
        """The next line that is not blank begins a row."""
        self._is_inside = False
        self._left_characters = MAX_ROW_CHARACTERS

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._is_inside:
            # Inside quotes, where the parser takes many line ends as it takes one.
            text = self._lines.run(_LINE_ENDS) or next(self._lines)
        else:
            while not (text := next(self._lines)).strip(self._blanks):
                self._lines.run(self._blank)
            self.line = self._lines.taken
            self._is_inside = True
        self._left_characters -= len(text)
        if self._left_characters < 0:
            message = (
                f"a row of more than {MAX_ROW_CHARACTERS:,} characters begins here; look for a "
                "missing quote. What follows was not checked"
            )
            raise UnreadableCsv(CsvProblem(self.line, "", message))
        return text
