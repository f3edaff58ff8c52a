"""How one CSV is written: its encoding, separator, line ends and columns, found from the file.

Users are not asked for any of this: spreadsheets write what their locale and version dictate.
"""

from __future__ import annotations

import codecs
import csv
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from pipeline.csvs.lines import (
    BoundedRows,
    CsvProblem,
    Lines,
    UnreadableCsv,
    first_record,
    not_text,
    text_lines,
)
from pipeline.csvs.mapping import (
    Columns,
    Mapping,
    columns_of,
    header_problems,
    matched,
)
from pipeline.csvs.workbook import Sheet, Workbook
from pipeline.csvs.workbook_parts import is_archive

SAMPLE_BYTES = 64 * 1024
CHUNK_BYTES = 1024 * 1024
DELIMITERS = (",", ";", "\t", "|")
# Lines of titles may stand above the header; it is among the first rows that are not blank.
HEADER_ROWS = 20
HEADER_LINES = 200
SAMPLE_CHARACTERS = 256 * 1024
# A workbook may have any number of sheets, and each of them costs its own look.
SHEETS = 50

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark its own begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_BINARY = (
    (b"PK\x03\x04", "an Excel or ZIP file"),
    (b"\xd0\xcf\x11\xe0", "an old Excel file (.xls), or a workbook with a password"),
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
# A letter, a quote or a line end cannot be a separator: such a line is an ordinary one.
_SEP_LINE = re.compile(r"sep=([^\w\s\"]|\t)\s*", re.IGNORECASE)


@dataclass(frozen=True)
class CsvDialect:
    """How to read a CSV again, and how to write its result in the same form.

    ``first_line`` is the line of the header; ``skipped_lines`` come before the parser begins
    (Excel's ``sep=;``, lines of titles). ``columns`` says where number, name and images are in a
    row, and ``mapping`` how they were found; None where the headers are not known. In a workbook,
    of which ``sheet`` is read, lines are rows.
    """

    encoding: str
    delimiter: str
    newline: str
    header: tuple[str, ...] = ()
    columns: Columns = field(default_factory=Columns)
    mapping: Mapping | None = None
    first_line: int = 1
    skipped_lines: int = 0
    sheet: Sheet | None = None

    @property
    def answer_encoding(self) -> str:
        """UTF-8; with a byte order mark, which spreadsheets need, unless the input was plain
        UTF-8."""
        return "utf-8" if self.encoding == "utf-8" else "utf-8-sig"


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
                raise UnreadableCsv(not_text(1, f"this is {what}, not a CSV"))
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
                raise UnreadableCsv(not_text(line, "a control character: this is a binary file"))
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


class _Header(NamedTuple):
    """A row that may be the header, and its line; ``above`` it there are rows of titles.

    ``width`` is how many cells most rows have, ``share`` how many rows have so many.
    """

    cells: list[str]
    line: int
    mapping: Mapping | None = None
    width: int = 0
    share: float = 0.0
    above: bool = False


def detect_dialect(
    path: Path,
    mappings: Sequence[Mapping] = (),
    given: Mapping | None = None,
    max_bytes: int = sys.maxsize,
) -> tuple[CsvDialect, list[CsvProblem]]:
    """The dialect of the file, with the problems of its header line.

    The header is the first row whose columns are known: by ``given`` alone where there is one, else
    by ``mappings`` and by the known sets. Where none is known, it is the first row as wide as most.

    Raises:
        UnreadableCsv: it is not text, has no header at all, or is a workbook that unpacks to more
            than ``max_bytes``.
        OSError: the file cannot be read.
    """
    if is_archive(path):
        return _of_workbook(path, mappings, given, max_bytes)
    encoding = detect_encoding(path)
    skipped = 0
    wanted: tuple[str, ...] = DELIMITERS
    with text_lines(path, encoding) as lines:
        first = next(lines, "")
        sep = _SEP_LINE.fullmatch(first)
        if sep:
            skipped, wanted = 1, (sep.group(1),)
        newline = "\r\n" if first.endswith(("\r\n", "\r")) else "\n"
    best: tuple[str, _Header] | None = None
    for delimiter in wanted:
        with text_lines(path, encoding, skipped) as lines:
            found = _header(_first_records(lines, delimiter), mappings, given)
        if found.mapping is not None:
            best = delimiter, found
            break
        # Most cells in most rows: a separator that is one has as many in every row.
        if best is None or (found.width > 1, found.share, found.width) > (
            best[1].width > 1,
            best[1].share,
            best[1].width,
        ):
            best = delimiter, found
    if best is None or not any(cell.strip() for cell in best[1].cells):
        raise UnreadableCsv(
            CsvProblem(
                1,
                "",
                "the file is empty; its first line must be a header with columns for "
                "number, name and images",
            )
        )
    delimiter, header = best
    skipped = header.line - 1 if header.above else skipped
    return _with_columns(
        CsvDialect(encoding, delimiter, newline, skipped_lines=skipped), header, given
    )


def _with_columns(
    dialect: CsvDialect, header: _Header, given: Mapping | None
) -> tuple[CsvDialect, list[CsvProblem]]:
    mapping, problems = header_problems(header.cells, header.mapping or given)
    dialect = replace(
        dialect,
        header=tuple(header.cells),
        columns=Columns() if mapping is None else columns_of(header.cells, mapping),
        mapping=mapping,
        first_line=header.line,
    )
    return dialect, [CsvProblem(header.line, *problem) for problem in problems]


def _of_workbook(
    path: Path, mappings: Sequence[Mapping], given: Mapping | None, max_bytes: int
) -> tuple[CsvDialect, list[CsvProblem]]:
    """The first visible sheet whose columns are known; where there is none, the first with rows."""
    best: tuple[Sheet, _Header] | None = None
    with Workbook(path, max_bytes) as workbook:
        for sheet in workbook.sheets[:SHEETS]:
            rows = ((cells, number) for number, cells in workbook.rows(sheet))
            found = _header(rows, mappings, given)
            if found.mapping is not None or (best is None and found.cells):
                best = sheet, found
            if found.mapping is not None:
                break
    if best is None:
        message = "no visible sheet of this workbook has rows; show the sheet with the products"
        raise UnreadableCsv(CsvProblem(1, "", message))
    # What is written as a CSV, such as the rows that failed, has the form that Excel opens.
    return _with_columns(CsvDialect("utf-8-sig", ",", "\r\n", sheet=best[0]), best[1], given)


def _first_records(lines: Lines, delimiter: str) -> Iterator[tuple[list[str], int]]:
    """The records of a file with that separator, up to the first that cannot be read."""
    rows = BoundedRows(lines, delimiter)
    reader = csv.reader(rows, delimiter=delimiter)
    is_first = True
    while True:
        try:
            cells, line = first_record(rows, reader)
        except UnreadableCsv:
            if is_first:
                raise
            return
        if not cells:
            return
        is_first = False
        yield cells, line


def _header(
    records: Iterator[tuple[list[str], int]], mappings: Sequence[Mapping], given: Mapping | None
) -> _Header:
    """The header among the first records, as far as it can be found."""
    read: list[tuple[list[str], int]] = []
    characters = 0
    for cells, line in records:
        if read and line > HEADER_LINES:
            break
        if given is not None:
            mapping = None if given.missing(cells) else given
        else:
            mapping = matched(cells, mappings)
        if mapping is not None:
            return _Header(cells, line, mapping, len(cells), 1.0, bool(read))
        read.append((cells, line))
        characters += sum(map(len, cells))
        if len(read) == HEADER_ROWS or characters >= SAMPLE_CHARACTERS:
            break
    if not read:
        return _Header([], 1)
    widths = Counter(len(cells) for cells, _ in read)
    width, count = max(widths.items(), key=lambda item: (item[0] > 1, item[1], item[0]))
    # Titles fill one cell of their row, whether or not the others are there.
    wide = [row for row in read if len(row[0]) == width]
    filled = [row for row in wide if sum(bool(cell.strip()) for cell in row[0]) * 2 > width]
    cells, line = (filled or wide)[0]
    return _Header(cells, line, None, width, count / len(read), line > read[0][1])


def _line_ends(data: bytes) -> int:
    # A CR LF split by the end of a chunk counts twice: one line number in a million is off by one.
    return data.count(b"\n") + data.count(b"\r") - data.count(b"\r\n")


def _first_of(wanted: bytes, data: bytes) -> int | None:
    """Where the first of the ``wanted`` bytes is; ten times as fast as a regular expression."""
    if len(data.translate(None, wanted)) == len(data):
        return None
    return min(at for byte in wanted if (at := data.find(byte)) >= 0)


def _utf16_without_mark(head: bytes) -> str | None:
    """UTF-16 whose mark was lost: most of its first lines are ASCII, with a NUL byte each."""
    sample = head[: 4 * 1024]
    if len(sample) < 8:
        return None
    for encoding, nul, text in (("utf-16-le", 1, 0), ("utf-16-be", 0, 1)):
        if sample[nul::2].count(0) * 4 > len(sample) and not sample[text::2].count(0):
            return encoding
    return None
