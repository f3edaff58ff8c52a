"""The products of a CSV, one by one, each with its rows and where in them its images stand.

The file is read as a stream: no more than the rows of one product are in memory.
"""

from __future__ import annotations

import csv
import itertools
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pipeline.csvs.cells import urls_of
from pipeline.csvs.dialect import CsvDialect
from pipeline.csvs.lines import (
    MAX_CELL_CHARACTERS,
    BoundedRows,
    CsvProblem,
    UnreadableCsv,
    first_record,
    text_lines,
)
from pipeline.csvs.workbook import Workbook
from pipeline.errors import CsvError

# Nobody fixes more at a time; the rest is only counted.
MAX_PROBLEMS = 1_000
# The rows of one product are kept together.
MAX_PRODUCT_ROWS = 5_000
MAX_PRODUCT_CHARACTERS = 16_000_000


class CsvRow(NamedTuple):
    """One row. ``line`` is where it begins; ``cells`` are all of its cells, unchanged."""

    line: int
    cells: list[str]


class ImageCell(NamedTuple):
    """A URL to request, and where it stands: in ``rows[row].cells[column][start:end]``."""

    url: str
    row: int
    column: int
    start: int
    end: int


class CsvProduct(NamedTuple):
    """One product, of one row or of several; ``images`` are in the order of rows and columns.

    Number and name are ``""`` where no row has them.
    """

    line: int
    number: str
    name: str
    images: tuple[ImageCell, ...]
    rows: list[CsvRow]

    @property
    def urls(self) -> tuple[str, ...]:
        """The URLs to request, in order."""
        return tuple(image.url for image in self.images)

    def images_of_rows(self) -> list[list[int]]:
        """For each row, which of ``images`` it names."""
        found: list[list[int]] = [[] for _ in self.rows]
        for at, image in enumerate(self.images):
            found[image.row].append(at)
        return found


@dataclass
class Problems:
    """The first problems, and the count of all."""

    first: list[CsvProblem] = field(default_factory=list)
    count: int = 0

    def add(self, line: int, column: str, message: str, code: str = "") -> None:
        self.count += 1
        if len(self.first) < MAX_PROBLEMS:
            self.first.append(CsvProblem(line, column, message, code))


def iter_products(path: Path, dialect: CsvDialect) -> Iterator[CsvProduct]:
    """The products of a CSV that was checked, in order, those without images as well.

    Raises:
        CsvError: the file has changed since it was checked.
        OSError: it cannot be read.
    """
    columns, problems = dialect.columns, Problems()
    if not (columns.number and columns.name and columns.images):
        raise CsvError("its header lacks a column that it had when it was checked")
    for product in read_products(path, dialect, problems, Counted()):
        if problems.first:
            break
        yield product
    if problems.first:
        raise UnreadableCsv(problems.first[0])


def first_rows(path: Path, dialect: CsvDialect, count: int) -> list[list[str]]:
    """The cells of the first rows below the header, as wide as it is.

    Raises:
        CsvError: they cannot be read.
        OSError: likewise.
    """
    width, rows = len(dialect.header), itertools.islice(_records(path, dialect, Problems()), count)
    return [[*cells[:width], *[""] * (width - len(cells))] for _, cells in rows]


def chunks_of_rows(products: Iterable[CsvProduct], rows: int) -> Iterator[list[CsvProduct]]:
    """Lists of products, of at least so many rows each, but for the last one."""
    some: list[CsvProduct] = []
    count = 0
    for product in products:
        some.append(product)
        count += len(product.rows)
        if count >= rows:
            yield some
            some, count = [], 0
    if some:
        yield some


@dataclass
class Counted:
    """The rows of a file, and the line of the first one above ``limit``."""

    limit: int = sys.maxsize
    rows: int = 0
    over_line: int = 0

    def add(self, line: int) -> None:
        self.rows += 1
        if self.rows == self.limit + 1:
            self.over_line = line


def read_products(
    path: Path, dialect: CsvDialect, problems: Problems, counted: Counted
) -> Iterator[CsvProduct]:
    """The products of a file; a row that cannot be one, or part of one, is a problem."""
    width, columns = len(dialect.header), dialect.columns
    grouped = dialect.mapping is not None and dialect.mapping.grouped
    rows: list[CsvRow] = []
    number, characters, is_over = "", 0, False
    for line, cells in _records(path, dialect, problems):
        counted.add(line)
        if len(cells) != width:
            problems.add(line, "", _width_message(len(cells), width, dialect))
            continue
        row = CsvRow(line, cells)
        own = _first(cells, columns.number)
        if not grouped:
            yield _product(own, [row], dialect)
            continue
        if rows and own in ("", number):
            if not is_over:
                rows.append(row)
                characters += sum(map(len, cells))
                is_over = len(rows) > MAX_PRODUCT_ROWS or characters > MAX_PRODUCT_CHARACTERS
                if is_over:
                    # Rows that follow are not kept: a file of one product would fill the memory.
                    problems.add(rows[0].line, dialect.header[columns.number[0]], _TOO_LONG)
            continue
        if rows and not is_over:
            yield _product(number, rows, dialect)
        rows, number, characters, is_over = [row], own, sum(map(len, cells)), False
    if rows and not is_over:
        yield _product(number, rows, dialect)


def _product(number: str, rows: list[CsvRow], dialect: CsvDialect) -> CsvProduct:
    columns = dialect.columns
    base = dialect.mapping.base if dialect.mapping else ""
    images = tuple(
        [
            ImageCell(url, at, column, start, end)
            for at, row in enumerate(rows)
            for column in columns.images
            for url, start, end in urls_of(row.cells[column], base)
        ]
    )
    name = _first(rows[0].cells, columns.name)
    for row in rows[1:]:
        name = name or _first(row.cells, columns.name)
    return CsvProduct(rows[0].line, number, name, images, rows)


def _first(cells: list[str], columns: tuple[int, ...]) -> str:
    """The first of these cells that is not empty."""
    for column in columns:
        if text := cells[column].strip():
            return text
    return ""


def _records(
    path: Path, dialect: CsvDialect, problems: Problems
) -> Iterator[tuple[int, list[str]]]:
    """Each record below the header that is not blank, with the line on which it begins."""
    if dialect.sheet is not None:
        with Workbook(path) as workbook:
            for number, cells in workbook.rows(dialect.sheet):
                if number > dialect.first_line and any(map(str.strip, cells)):
                    yield number, cells + [""] * (len(dialect.header) - len(cells))
        return
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


_TOO_LONG = (
    f"this product has more than {MAX_PRODUCT_ROWS:,} rows or {MAX_PRODUCT_CHARACTERS:,} "
    "characters; look whether the right column is its number"
)


def _width_message(cells: int, width: int, dialect: CsvDialect) -> str:
    hint = (
        "give each column a header, or clear what is beside the table"
        if dialect.sheet is not None
        else "a separator inside a cell needs quotes around the cell"
        if cells > width
        else ("empty cells need their separators, too")
    )
    return f"{cells} cells where the header has {width}; {hint}"


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
