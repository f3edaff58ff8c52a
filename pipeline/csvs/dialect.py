"""How one CSV is written: its encoding, separator, line ends and columns, found from the file.

Users are not asked for any of this: spreadsheets write what their locale and version dictate.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from pipeline.errors import CsvError

NUMBER, NAME, URLS = "S. No.", "Product Name", "Input Image Urls"
COLUMNS = (NUMBER, NAME, URLS)

SAMPLE_BYTES = 64 * 1024
CHUNK_BYTES = 1024 * 1024
PIECE_CHARACTERS = 8 * 1024
# One line of text, one row (whose quoted cells may have many lines), and one cell. Without bounds,
# an unclosed quote reads the whole file as a cell, or as a row of a hundred million cells.
MAX_LINE_CHARACTERS = 4_000_000
MAX_ROW_CHARACTERS = 4_000_000
MAX_CELL_CHARACTERS = 1_000_000

DELIMITERS = (",", ";", "\t")

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark its own begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_BINARY = (
    (b"PK\x03\x04", "an Excel or ZIP file"),
    (b"\xd0\xcf\x11\xe0", "an Excel file"),
    (b"%PDF", "a PDF"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x89PNG", "a PNG image"),
    (b"GIF8", "a GIF image"),
    (b"\x1f\x8b", "a gzip file"),
    (b"SQLite format 3", "a database"),
)
_CONTROL = bytes([*range(9), *range(14, 32)])
# The five bytes that Windows-1252 leaves undefined.
_UNDEFINED = b"\x81\x8d\x8f\x90\x9d"
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)")
_LINE_ENDS = re.compile(r"[\r\n]+")
# A letter, a quote or a line end cannot be a separator: such a line is an ordinary one.
_SEP_LINE = re.compile(r"sep=([^\w\s\"]|\t)\s*", re.IGNORECASE)


@dataclass(frozen=True)
class CsvProblem:
    """One problem. ``line`` is the line in the file, from 1; ``column`` may be empty."""

    line: int
    column: str
    message: str


@dataclass(frozen=True)
class CsvDialect:
    """How to read a CSV again, and how to write its result in the same form.

    ``first_line`` is the line of the header; ``skipped_lines`` come before the parser begins
    (Excel's ``sep=;``). ``positions`` are those of S. No., product name and URLs in a row.
    """

    encoding: str
    delimiter: str
    newline: str
    header: tuple[str, ...]
    positions: tuple[int, int, int]
    first_line: int = 1
    skipped_lines: int = 0

    @property
    def answer_encoding(self) -> str:
        """UTF-8; with a byte order mark, which spreadsheets need, unless the input was plain
        UTF-8."""
        return "utf-8" if self.encoding == "utf-8" else "utf-8-sig"


class UnreadableCsv(CsvError):
    """The file cannot be read as a CSV at all; ``fault`` says where and why."""

    def __init__(self, problem: CsvProblem) -> None:
        super().__init__(f"line {problem.line}: {problem.message}")
        self.problem = problem


def same_header(cell: str) -> str:
    """A header cell, normalized for case and spaces."""
    return re.sub(r"\s+", "", cell).casefold()


def detect_encoding(path: Path) -> str:
    """The encoding of the file: by its mark, else UTF-8 if it is valid, else Windows-1252.

    Reads the file once where it has no mark.

    Raises:
        UnreadableCsv: it is not text.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(SAMPLE_BYTES)
        for magic, what in _BINARY:
            if head.startswith(magic):
                raise UnreadableCsv(_binary(1, f"this is {what}, not a CSV"))
        for mark, encoding in _BOMS:
            if head.startswith(mark):
                return encoding
        unmarked = _utf16_without_mark(head)
        if unmarked:
            return unmarked
        file.seek(0)
        decoder = codecs.getincrementaldecoder("utf-8")()
        is_utf8 = True
        undefined_at = 0
        line = 1
        while chunk := file.read(CHUNK_BYTES):
            control_at = _first_of(_CONTROL, chunk)
            if control_at is not None:
                line += _line_ends(chunk[:control_at])
                raise UnreadableCsv(_binary(line, "a control character: this is a binary file"))
            if is_utf8:
                try:
                    decoder.decode(chunk)
                except UnicodeDecodeError:
                    is_utf8 = False
            if not is_utf8 and not undefined_at:
                torn_at = _first_of(_UNDEFINED, chunk)
                undefined_at = 0 if torn_at is None else line + _line_ends(chunk[:torn_at])
            line += _line_ends(chunk)
        try:
            decoder.decode(b"", final=is_utf8)
        except UnicodeDecodeError:
            is_utf8 = False
    if is_utf8:
        return "utf-8"
    if undefined_at:
        raise UnreadableCsv(
            CsvProblem(
                undefined_at,
                "",
                "text that is neither UTF-8 nor Windows-1252; save the file as CSV UTF-8",
            )
        )
    return "cp1252"


def detect_dialect(path: Path) -> tuple[CsvDialect, list[CsvProblem]]:
    """The dialect of the file, with the problems of its header line.

    Where a column is missing, its position is -1.

    Raises:
        UnreadableCsv: it is not text, or has no header at all.
        OSError: the file cannot be read.
    """
    encoding = detect_encoding(path)
    skipped = 0
    wanted: tuple[str, ...] = DELIMITERS
    with text_lines(path, encoding) as lines:
        first = next(lines, "")
        sep = _SEP_LINE.fullmatch(first)
        if sep:
            skipped, wanted = 1, (sep.group(1),)
        newline = "\r\n" if first.endswith(("\r\n", "\r")) else "\n"
    found: list[tuple[int, int, str, list[str], int]] = []
    for order, delimiter in enumerate(wanted):
        with text_lines(path, encoding, skipped) as lines:
            rows = BoundedRows(lines, delimiter)
            header, line = first_record(rows, csv.reader(rows, delimiter=delimiter))
        known = len({same_header(cell) for cell in header} & {same_header(c) for c in COLUMNS})
        found.append((-known, order, delimiter, header, line))
    known, _, delimiter, header, line = min(found)
    if not any(cell.strip() for cell in header):
        raise UnreadableCsv(
            CsvProblem(1, "", f"the file is empty; its first line must contain {_list(COLUMNS)}")
        )
    positions, problems = _columns(header, line)
    dialect = CsvDialect(encoding, delimiter, newline, tuple(header), positions, line, skipped)
    return dialect, problems


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
            raise UnreadableCsv(_binary(self.taken + 1, "a NUL character: this is a binary file"))
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


def _columns(header: list[str], line: int) -> tuple[tuple[int, int, int], list[CsvProblem]]:
    problems = []
    positions = []
    names = [same_header(cell) for cell in header]
    for column in COLUMNS:
        count = names.count(same_header(column))
        positions.append(names.index(same_header(column)) if count else -1)
        if not count:
            message = f"there is no column {column!r}; add it (the header has {_list(header)})"
            problems.append(CsvProblem(line, column, message))
        elif count > 1:
            problems.append(
                CsvProblem(line, column, f"{count} columns are called {column!r}; keep one of them")
            )
    return (positions[0], positions[1], positions[2]), problems


def _list(names: tuple[str, ...] | list[str]) -> str:
    shown = ", ".join(repr(name[:40]) for name in names[:12])
    return shown + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def _binary(line: int, what: str) -> CsvProblem:
    return CsvProblem(line, "", f"{what}; save the table as CSV UTF-8")


def _line_ends(data: bytes) -> int:
    # A CR LF split by the end of a chunk counts twice: one line number in a million is off by one.
    return data.count(b"\n") + data.count(b"\r") - data.count(b"\r\n")


def _first_of(wanted: bytes, data: bytes) -> int | None:
    """Where the first of the ``wanted`` bytes is; ten times as fast as a regular expression."""
    if len(data.translate(None, wanted)) == len(data):
        return None
    return min(at for byte in wanted if (at := data.find(byte)) >= 0)


def _utf16_without_mark(head: bytes) -> str | None:
    """UTF-16 whose mark was lost: the header's ASCII letters have a NUL byte each."""
    sample = head[:64]
    if len(sample) < 8:
        return None
    for encoding, nul, text in (("utf-16-le", 1, 0), ("utf-16-be", 0, 1)):
        if not any(sample[nul::2]) and all(sample[text::2]):
            return encoding
    return None
