"""Writing CSVs: the result of a job, the problems of a CSV, the rows that failed.

All are streamed into a store, and published when they are complete. A cell that a spreadsheet would
run as a formula is written with an apostrophe before it (OWASP, "CSV Injection").
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TextIO, TypeVar
from urllib.parse import quote

from pipeline.csvs.dialect import CsvDialect
from pipeline.csvs.lines import CsvProblem
from pipeline.csvs.products import CsvProduct, CsvRow
from pipeline.errors import OutputError
from pipeline.storage.base import Store, replaced

_T = TypeVar("_T")

OUTPUT_URLS = "Output Image Urls"
FEATURE = "Feature"
ERRORS = "Errors"
ERROR_CODES = "Error Codes"
# What follows the outputs.
ADDED = (ERRORS, ERROR_CODES)

# East Asian spreadsheets accept the full-width forms as well.
_RUNS = re.compile(r"[=+\-@\t\r\n＝＋－＠]")
# A signed number, such as -5 or +1,234.50, runs nothing; an apostrophe would turn it into text.
_SIGNED_NUMBER = re.compile(r"[+-][0-9][0-9.,]*(?:[eE][+-]?[0-9]+)?")


@dataclass(frozen=True)
class ProductAnswer:
    """The result of one product; each list has an element for each of its images, in order.

    ``outputs`` holds, for each recipe, their addresses; None for an image that failed. ``errors``
    are messages for people, and ``codes`` their codes; None for an image that is there. ``values``
    holds what each feature said. ``is_hidden`` says which images must not be shown.
    """

    outputs: Mapping[str, Sequence[str | None]] = field(default_factory=dict)
    errors: Sequence[str | None] = ()
    values: Mapping[str, Sequence[Mapping[str, Any] | None]] = field(default_factory=dict)
    codes: Sequence[str | None] = ()
    is_hidden: Sequence[bool] = ()


def harmless(cell: str) -> str:
    """The cell, escaped so that no spreadsheet runs it; most cells are returned unchanged."""
    if not cell or not _RUNS.match(cell) or _SIGNED_NUMBER.fullmatch(cell):
        return cell
    return "'" + cell


def output_address(path: str, public_url: str = "") -> str:
    """The address of an output file: ``PIPELINE_PUBLIC_URL`` and its path, or the path alone."""
    return f"{public_url.rstrip('/')}/{quote(path)}" if public_url else path


def output_columns(recipes: Sequence[str]) -> list[str]:
    """One column per recipe; the first has no name in brackets."""
    return [OUTPUT_URLS, *(f"{OUTPUT_URLS} ({recipe})" for recipe in recipes[1:])][: len(recipes)]


def added_columns(recipes: Sequence[str], features: Sequence[str]) -> list[str]:
    """The headers that a result has after those of its input."""
    names = [f"{FEATURE} ({name})" for name in features]
    return [*output_columns(recipes), *names, *ADDED]


def added_cells(
    answer: ProductAnswer, here: Sequence[int], recipes: Sequence[str], features: Sequence[str]
) -> list[str]:
    """The cells below them of a row that names the images ``here``."""
    outputs = [
        ",".join(found or "" for found in _of(answer.outputs.get(recipe, ()), here))
        for recipe in recipes
    ]
    values = [value_cell(_of(answer.values.get(name, ()), here)) for name in features]
    errors = ["; ".join(filter(None, _of(said, here))) for said in (answer.errors, answer.codes)]
    return [*outputs, *values, *errors]


def value_cell(values: Sequence[Mapping[str, Any] | None]) -> str:
    """What a feature said of the images of a row: of one, its value; of several, a JSON list.

    A value is text or JSON: where a feature says a single thing, that alone.
    """
    plain = [next(iter(v.values())) if v is not None and len(v) == 1 else v for v in values]
    if all(value is None for value in plain):
        return ""
    said = plain[0] if len(plain) == 1 else plain
    return said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)


def write_answer(
    store: Store,
    key: str,
    dialect: CsvDialect,
    products: Iterable[CsvProduct],
    recipes: Sequence[str],
    lookup: Callable[[CsvProduct], ProductAnswer],
    features: Sequence[str] = (),
) -> int:
    """Write the result: the input's rows and columns, the outputs of each recipe, the values of
    each feature, the errors and their codes. A row has those of the images that it names.

    Separator and line ends are the input's, the encoding is UTF-8. Returns the number of rows.

    Raises:
        OutputError: it cannot be written; the object of this ``key`` is as it was.
    """
    count = 0
    with _replaced_text(store, key, dialect.answer_encoding) as file:
        writer = _writer(file, dialect)
        _write(writer, [*dialect.header, *added_columns(recipes, features)])
        for product in products:
            answer = lookup(product)
            for row, here in zip(product.rows, product.images_of_rows(), strict=True):
                _write(writer, [*row.cells, *added_cells(answer, here, recipes, features)])
                count += 1
    return count


def _of(values: Sequence[_T], places: Sequence[int]) -> list[_T]:
    return [values[place] for place in places if place < len(values)]


def write_problems(
    store: Store, key: str, problems: Iterable[CsvProblem], fault_count: int
) -> None:
    """Write the problems of a CSV as ``Line``, ``Column``, ``Message``, ``Code``.

    Where there are more problems than ``problems``, a last line says how many.

    Raises:
        OutputError: it cannot be written; the object of this ``key`` is as it was.
    """
    with _replaced_text(store, key, "utf-8-sig") as file:
        writer = csv.writer(file, lineterminator="\r\n")
        _write(writer, ["Line", "Column", "Message", "Code"])
        shown = 0
        for problem in problems:
            shown += 1
            _write(writer, [str(problem.line), problem.column, problem.message, problem.code])
        if fault_count > shown:
            _write(writer, ["", "", f"and {fault_count - shown:,} more; fix these first", ""])


def write_failed_rows(file: TextIO, dialect: CsvDialect, rows: Iterable[CsvRow]) -> int:
    """Write ``rows`` to an open text file in the form of the input; returns how many.

    Open the file with ``newline=""``. Nothing is added: once fixed, it can be submitted.
    """
    writer = _writer(file, dialect)
    _write(writer, list(dialect.header))
    count = 0
    for row in rows:
        _write(writer, row.cells)
        count += 1
    return count


@contextlib.contextmanager
def _replaced_text(store: Store, key: str, encoding: str) -> Iterator[TextIO]:
    with replaced_file(store, key) as file:
        text = io.TextIOWrapper(file, encoding, "replace", newline="")
        yield text
        text.detach()


@contextlib.contextmanager
def replaced_file(store: Store, key: str) -> Iterator[BinaryIO]:
    """A file that takes the place of ``key`` at the end.

    Raises:
        OutputError: it cannot be written; the object of this ``key`` is as it was.
    """
    try:
        with replaced(store, key) as file:
            yield file
    except OSError as error:
        raise OutputError(
            f"{key}: cannot be written ({error.strerror or error}); "
            "free space or change the permissions, and run again"
        ) from error


def _writer(file: TextIO, dialect: CsvDialect) -> Any:  # csv.writer's type has no public name
    return csv.writer(file, delimiter=dialect.delimiter, lineterminator=dialect.newline)


def _write(writer: Any, cells: list[str]) -> None:
    safe = [harmless(cell) for cell in cells]
    # The writer quotes a line of one empty cell, so that it is not taken for a blank line.
    writer.writerow(safe)
