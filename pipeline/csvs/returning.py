"""The result of a job in the form of its file, so that the shop system imports it again.

Either the new addresses stand where the old ones did (``replace``), and everything else is as it
was; or, in a workbook, columns are added to the sheet (for a CSV see :mod:`~.writing`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from pipeline.csvs.dialect import CsvDialect
from pipeline.csvs.products import CsvProduct, ImageCell, Problems
from pipeline.csvs.splicing import write_spliced
from pipeline.csvs.workbook import Sheet, Workbook
from pipeline.csvs.workbook_writing import write_workbook
from pipeline.csvs.writing import ProductAnswer, added_cells, added_columns, replaced_file
from pipeline.storage.base import Store

Lookup = Callable[[CsvProduct], ProductAnswer]


def write_added(
    store: Store,
    key: str,
    workbook: Path,
    dialect: CsvDialect,
    products: Iterable[CsvProduct],
    lookup: Lookup,
    recipes: Sequence[str],
    features: Sequence[str] = (),
) -> None:
    """Write the workbook with the columns of the result to the right of its own.

    Raises:
        CsvError: the workbook is not what it was when it was checked.
        OutputError: it cannot be written; the object of this ``key`` is as it was.
    """
    first = len(dialect.header) + 1

    def edits() -> Iterator[tuple[int, dict[int, tuple[str, str]]]]:
        yield dialect.first_line, _new(first, added_columns(recipes, features))
        for product in products:
            answer = lookup(product)
            for row, here in zip(product.rows, product.images_of_rows(), strict=True):
                yield row.line, _new(first, added_cells(answer, here, recipes, features))

    with replaced_file(store, key) as file, Workbook(workbook) as book:
        write_workbook(book, _sheet(dialect), edits(), file, adds=True)


def write_replaced(
    store: Store,
    key: str,
    source: Path,
    dialect: CsvDialect,
    products: Iterable[CsvProduct],
    lookup: Lookup,
    recipes: Sequence[str],
) -> Problems:
    """Write the file with the new addresses in the place of the URLs.

    An image has the address of the last of ``recipes`` that it has one of.

    The URL of an image that failed stays, for a shop system would take an empty cell for "no
    image"; that of one that was withdrawn is removed. Returns what failed, by line.

    Raises:
        CsvError: the file is not what it was when it was checked.
        OutputError: it cannot be written; the object of this ``key`` is as it was.
    """
    failed = Problems()

    def edits() -> Iterator[tuple[int, dict[int, tuple[str, str]]]]:
        for product in products:
            answer = lookup(product)
            _note(failed, product, answer, dialect)
            addresses = [
                "" if withdrawn else next(filter(None, of_image), None)
                for withdrawn, *of_image in zip(
                    answer.is_hidden, *(answer.outputs[r] for r in reversed(recipes)), strict=True
                )
            ]
            cells = _cells(product, addresses)
            for row, of_row in zip(product.rows, cells, strict=True):
                if of_row:
                    yield row.line, of_row

    with replaced_file(store, key) as file:
        if dialect.sheet is None:
            texts = (
                (line, {column: new for column, (old, new) in cells.items() if old != new})
                for line, cells in edits()
            )
            write_spliced(source, dialect, texts, file)
        else:
            shifted = (
                (line, {column + 1: both for column, both in cells.items()})
                for line, cells in edits()
            )
            with Workbook(source) as book:
                write_workbook(book, dialect.sheet, shifted, file, adds=False)
    return failed


def _cells(
    product: CsvProduct, addresses: Sequence[str | None]
) -> list[dict[int, tuple[str, str]]]:
    """The old and the new text of each cell with images, by column, for each row."""
    found: list[dict[int, list[int]]] = [{} for _ in product.rows]
    for at, image in enumerate(product.images):
        found[image.row].setdefault(image.column, []).append(at)
    return [
        {
            column: (
                row.cells[column],
                new_cell(
                    row.cells[column],
                    [product.images[at] for at in places],
                    [addresses[at] for at in places],
                ),
            )
            for column, places in of_row.items()
        }
        for row, of_row in zip(product.rows, found, strict=True)
    ]


def new_cell(cell: str, images: Sequence[ImageCell], addresses: Sequence[str | None]) -> str:
    """The cell with ``addresses`` in the place of its URLs, and its own separators.

    None leaves a URL as it is, ``""`` removes it with the separator before it.
    """
    is_json = cell.lstrip().startswith("[")
    text = cell[: images[0].start]
    has_any = False
    done = images[0].start
    for image, address in zip(images, addresses, strict=True):
        separator, url = cell[done : image.start], cell[image.start : image.end]
        done = image.end
        new = url if address is None else address
        # The objects of a list may have more in them than a URL: there it becomes empty.
        if new or is_json:
            text += (separator if has_any or is_json else "") + new
            has_any = True
    return text + cell[done:]


def _note(
    failed: Problems, product: CsvProduct, answer: ProductAnswer, dialect: CsvDialect
) -> None:
    for image, error, code in zip(product.images, answer.errors, answer.codes, strict=True):
        if error is not None:
            line, column = product.rows[image.row].line, dialect.header[image.column]
            failed.add(line, column, error, code or "")


def _new(first: int, texts: Sequence[str]) -> dict[int, tuple[str, str]]:
    return {first + at: ("", text) for at, text in enumerate(texts)}


def _sheet(dialect: CsvDialect) -> Sheet:
    assert dialect.sheet is not None, "the dialect of a CSV"
    return dialect.sheet
