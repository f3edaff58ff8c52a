"""The CSV of products: all its problems at once, and its rows one by one.

Both read the file as a stream; a million rows take no more memory than a thousand, except eight
bytes a row to find duplicate numbers.
"""

from __future__ import annotations

import csv
import itertools
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.csvs.dialect import (
    MAX_CELL_CHARACTERS,
    NAME,
    NUMBER,
    URLS,
    BoundedRows,
    CsvDialect,
    CsvProblem,
    UnreadableCsv,
    detect_dialect,
    first_record,
    text_lines,
)
from pipeline.errors import CsvError
from pipeline.fetch.urls import split_cell, url_problem
from pipeline.text import shortened

# Nobody fixes more at a time; the rest is only counted.
MAX_PROBLEMS = 1_000
# It is part of a key in the tables, which databases limit to about 2,000 bytes.
MAX_NUMBER_CHARACTERS = 500

# How the message of each limit ends: the commands add the settings to it, customers read none.
SPLIT = "split the file"


@dataclass(frozen=True)
class CsvLimits:
    """Limits of one CSV (``PIPELINE_JOB_MAX_ROWS``, ``_MAX_IMAGES``, ``_MAX_BYTES``)."""

    max_rows: int = 1_000_000
    max_images: int = 5_000_000
    max_bytes: int = 1_000_000_000


@dataclass(frozen=True)
class CsvRow:
    """One product. ``line`` is where its row begins; ``cells`` are all of its cells, unchanged."""

    line: int
    number: str
    name: str
    urls: tuple[str, ...]
    cells: list[str]


@dataclass(frozen=True)
class CsvCheck:
    """What a CSV holds, and everything that is wrong with it.

    ``faults`` are the first thousand by line; ``fault_count`` counts all. ``dialect`` is None where
    the file cannot be read as a CSV at all. Nothing may start while there are problems.
    """

    rows: int
    images: int
    problems: list[CsvProblem]
    fault_count: int
    dialect: CsvDialect | None


@dataclass
class _Problems:
    """The first problems, and the count of all."""

    first: list[CsvProblem] = field(default_factory=list)
    count: int = 0

    def add(self, line: int, column: str, message: str) -> None:
        self.count += 1
        if len(self.first) < MAX_PROBLEMS:
            self.first.append(CsvProblem(line, column, message))


def check_csv(path: Path, limits: CsvLimits | None = None) -> CsvCheck:
    """Read the whole file and report every problem at once, by line.

    Raises:
        OSError: the file cannot be opened or read.
    """
    limits = limits or CsvLimits()
    size_bytes = path.stat().st_size
    if size_bytes > limits.max_bytes:
        message = (
            f"the file has {size_bytes:,} bytes, at most {limits.max_bytes:,} are allowed; {SPLIT}"
        )
        return CsvCheck(0, 0, [CsvProblem(1, "", message)], 1, None)
    try:
        dialect, header_problems = detect_dialect(path)
    except UnreadableCsv as error:
        return CsvCheck(0, 0, [error.problem], 1, None)
    problems = _Problems(header_problems[:], len(header_problems))
    rows = images = 0
    hashes = array("q")
    rows_over_line = images_over_line = 0
    urls_at = dialect.positions[2]
    width = len(dialect.header)
    try:
        for line, cells in _records(path, dialect, problems):
            rows += 1
            if rows == limits.max_rows + 1:
                rows_over_line = line
            if len(cells) != width:
                problems.add(line, "", _width_message(len(cells), width))
                continue
            number = _check_product(line, cells, dialect, problems)
            if number:
                hashes.append(hash(number))
            if urls_at >= 0:
                urls = split_cell(cells[urls_at])
                images += len(urls)
                if images > limits.max_images and not images_over_line:
                    images_over_line = line
                if not urls:
                    problems.add(line, URLS, "no URL; enter at least one http or https address")
                for url in urls:
                    wrong = url_problem(url)
                    if wrong is not None:
                        problems.add(line, URLS, wrong)
    except UnreadableCsv as error:
        # What follows cannot be parsed any more; everything before it was checked.
        problems.add(error.problem.line, error.problem.column, error.problem.message)
    if rows_over_line:
        problems.add(rows_over_line, "", _limit_message(rows, "rows", limits.max_rows))
    if images_over_line:
        message = _limit_message(images, "images", limits.max_images)
        problems.add(images_over_line, URLS, message)
    # A row that cannot be read still is a row: reporting that there are none would mislead.
    if not rows and problems.count == len(header_problems):
        problems.add(dialect.first_line, "", "no rows; add a product below the header")
    doubled, doubled_count = _doubled(path, dialect, hashes)
    found = sorted(problems.first + doubled, key=lambda problem: problem.line)
    return CsvCheck(rows, images, found[:MAX_PROBLEMS], problems.count + doubled_count, dialect)


def _check_product(line: int, cells: list[str], dialect: CsvDialect, problems: _Problems) -> str:
    """Check number and name of one row; its number, ``""`` where there is none."""
    number_at, name_at, _ = dialect.positions
    number = ""
    if number_at >= 0:
        number = cells[number_at].strip()
        if not number:
            problems.add(line, NUMBER, "no number; give each product a unique one")
        if len(number) > MAX_NUMBER_CHARACTERS:
            problems.add(line, NUMBER, _length_message(len(number)))
    if name_at >= 0 and not cells[name_at].strip():
        problems.add(line, NAME, "no name; enter the name of the product")
    return number


def iter_rows(path: Path, dialect: CsvDialect) -> Iterator[CsvRow]:
    """The rows of a CSV that was checked, in order, without blank lines.

    Raises:
        CsvError: the file has changed since it was checked.
        OSError: it cannot be read.
    """
    number_at, name_at, urls_at = dialect.positions
    problems = _Problems()
    for line, cells in _records(path, dialect, problems):
        if len(cells) != len(dialect.header) or min(dialect.positions) < 0:
            raise CsvError(f"line {line}: {_width_message(len(cells), len(dialect.header))}")
        yield CsvRow(
            line,
            cells[number_at].strip(),
            cells[name_at].strip(),
            tuple(split_cell(cells[urls_at])),
            cells,
        )
    if problems.first:
        raise UnreadableCsv(problems.first[0])


def _records(
    path: Path, dialect: CsvDialect, problems: _Problems
) -> Iterator[tuple[int, list[str]]]:
    """Each record below the header that is not blank, with the line on which it begins."""
    with text_lines(path, dialect.encoding, dialect.skipped_lines) as lines:
        rows = BoundedRows(lines, dialect.delimiter)
        reader = csv.reader(rows, delimiter=dialect.delimiter, strict=True)
        first_record(rows, reader)
        while True:
            rows.begin()
            try:
                record = next(reader, None)
            except csv.Error as error:
                ended = "unexpected end" in str(error)
                if ended or "field larger" in str(error):
                    problems.add(rows.line, "", _open_quote_message(ended))
                    return
                problems.add(rows.line, "", _quote_message(str(error)))
                continue
            if record is None:
                return
            if record and any(map(str.strip, record)):
                yield rows.line, record


def _doubled(path: Path, dialect: CsvDialect, hashes: array[int]) -> tuple[list[CsvProblem], int]:
    """Rows whose number an earlier row already has.

    The 64-bit hashes of all numbers find the candidates; only where there are some is the file read
    again, and their texts compared. A file without duplicates is not read again.
    """
    suspects = _repeated(hashes)
    if not suspects:
        return [], 0
    doubled = _Problems()
    first_lines: dict[str, int] = {}
    number_at = dialect.positions[0]
    try:
        for line, cells in _records(path, dialect, _Problems()):
            number = cells[number_at].strip() if len(cells) == len(dialect.header) else ""
            if number and hash(number) in suspects:
                first = first_lines.setdefault(number, line)
                if first != line:
                    message = (
                        f"{shortened(number, 60)!r} is already the number of line {first}; "
                        "give each product a unique one"
                    )
                    doubled.add(line, NUMBER, message)
    except UnreadableCsv:
        pass  # reported by the first pass
    return doubled.first, doubled.count


def _repeated(hashes: array[int]) -> set[int]:
    # Sorted in four parts, so that the list that sorting needs stays small.
    repeated: set[int] = set()
    for bucket in range(4):
        ordered = sorted(value for value in hashes if value & 3 == bucket)
        repeated.update(a for a, b in itertools.pairwise(ordered) if a == b)
    return repeated


def _length_message(characters: int) -> str:
    return (
        f"{characters:,} characters, at most {MAX_NUMBER_CHARACTERS:,} are allowed; "
        "use a shorter one"
    )


def _width_message(cells: int, width: int) -> str:
    hint = (
        "a separator inside a cell needs quotes around the cell"
        if cells > width
        else ("empty cells need their separators, too")
    )
    return f"{cells} cells where the header has {width}; {hint}"


def _limit_message(count: int, what: str, limit: int) -> str:
    return f"{count:,} {what}, at most {limit:,} are allowed; {SPLIT}"


def _open_quote_message(ended: bool) -> str:
    where = "the end of the file" if ended else f"{MAX_CELL_CHARACTERS:,} characters further"
    return (
        f'a quoted cell that begins in this row is not closed by {where}; add the missing ". '
        "What follows was not checked"
    )


def _quote_message(error: str) -> str:
    return (
        f'the quotes of this row cannot be read ({error}); inside a quoted cell write "" for a '
        'single "'
    )
