"""The check of a CSV of products: all its problems at once.

The file is read as a stream; a million rows take no more memory than a thousand, except eight
bytes a row to find duplicate numbers.
"""

from __future__ import annotations

import itertools
from array import array
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.csvs.dialect import CsvDialect, detect_dialect
from pipeline.csvs.lines import SPLIT, CsvProblem, UnreadableCsv
from pipeline.csvs.mapping import Mapping, same_header
from pipeline.csvs.products import MAX_PROBLEMS, Counted, CsvProduct, Problems, read_products
from pipeline.fetch.urls import url_problem
from pipeline.text import shortened

# It is part of a key in the tables, which databases limit to about 2,000 bytes.
MAX_NUMBER_CHARACTERS = 500


@dataclass(frozen=True)
class CsvLimits:
    """Limits of one CSV (``PIPELINE_JOB_MAX_ROWS``, ``_MAX_IMAGES``, ``_MAX_BYTES``)."""

    max_rows: int = 1_000_000
    max_images: int = 5_000_000
    max_bytes: int = 1_000_000_000


@dataclass(frozen=True)
class CsvForm:
    """How the columns of a CSV are found, and whether each product has to have an image.

    ``given`` is the one mapping to read it by; otherwise the first of ``mappings`` that fits, or a
    known one. ``base`` is the address that images without a host are below.
    """

    mappings: tuple[Mapping, ...] = ()
    given: Mapping | None = None
    require_images: bool = False
    base: str = ""


@dataclass(frozen=True)
class CsvCheck:
    """What a CSV holds, and everything that is wrong with it.

    ``problems`` are the first thousand by line; ``fault_count`` counts all. ``dialect`` is None
    where the file cannot be read as a CSV at all. ``without_images`` counts the products that have
    no image; their rows are copied to the result. Nothing may start while there are problems.
    """

    rows: int
    images: int
    problems: list[CsvProblem]
    fault_count: int
    dialect: CsvDialect | None
    products: int = 0
    without_images: int = 0


def check_csv(path: Path, limits: CsvLimits | None = None, form: CsvForm | None = None) -> CsvCheck:
    """Read the whole file and report every problem at once, by line.

    Raises:
        OSError: the file cannot be opened or read.
    """
    limits, form = limits or CsvLimits(), form or CsvForm()
    size_bytes = path.stat().st_size
    if size_bytes > limits.max_bytes:
        message = (
            f"the file has {size_bytes:,} bytes, at most {limits.max_bytes:,} are allowed; {SPLIT}"
        )
        return CsvCheck(0, 0, [CsvProblem(1, "", message)], 1, None)
    try:
        dialect, problems = detect_dialect(path, form.mappings, form.given, limits.max_bytes)
    except UnreadableCsv as error:
        return CsvCheck(0, 0, [error.problem], 1, None)
    if dialect.mapping is None:
        # What its rows lack cannot be said either.
        return CsvCheck(0, 0, problems, len(problems), dialect)
    if form.base:
        dialect = replace(dialect, mapping=replace(dialect.mapping, base=form.base))
    return _Check(path, limits, form, dialect, problems).work()


class _Check:
    """The check of one CSV whose dialect is known."""

    def __init__(
        self,
        path: Path,
        limits: CsvLimits,
        form: CsvForm,
        dialect: CsvDialect,
        header_problems: list[CsvProblem],
    ) -> None:
        self.path, self.limits, self.form, self.dialect = path, limits, form, dialect
        self.header_count = len(header_problems)
        self.problems = Problems(header_problems[:], len(header_problems))
        mapping = dialect.mapping
        self.number, self.name, self.images = (
            (mapping.number[0], mapping.name[0], mapping.images[0]) if mapping else ("", "", "")
        )

    def work(self) -> CsvCheck:
        """Every problem of the file, and what it holds."""
        dialect, limits, problems = self.dialect, self.limits, self.problems
        products = images = without = 0
        images_over_line = 0
        hashes = array("q")
        counted = Counted(limits.max_rows)
        try:
            for product in read_products(self.path, dialect, problems, counted):
                products += 1
                images += len(product.images)
                without += not product.images
                if images > limits.max_images and not images_over_line:
                    images_over_line = product.line
                if self._check(product):
                    hashes.append(hash(product.number))
        except UnreadableCsv as error:
            # What follows cannot be parsed any more; everything before it was checked.
            problems.add(error.problem.line, error.problem.column, error.problem.message)
        if counted.over_line:
            message = _limit_message(counted.rows, "rows", limits.max_rows)
            problems.add(counted.over_line, "", message)
        if images_over_line:
            message = _limit_message(images, "images", limits.max_images)
            problems.add(images_over_line, self.images, message)
        # A row that cannot be read still is a row: reporting that there are none would mislead.
        if not counted.rows and problems.count == self.header_count:
            problems.add(dialect.first_line, "", "no rows; add a product below the header")
        elif dialect.mapping and not images and not problems.count:
            message = "no row has an image URL; look whether this is the right column"
            problems.add(dialect.first_line, self.images, message)
        doubled, doubled_count = _doubled(self.path, dialect, self.number, hashes)
        found = sorted(problems.first + doubled, key=lambda problem: problem.line)
        count = problems.count + doubled_count
        return CsvCheck(
            counted.rows, images, found[:MAX_PROBLEMS], count, dialect, products, without
        )

    def _check(self, product: CsvProduct) -> bool:
        """Check one product; whether its number must differ from those of all others."""
        columns, problems = self.dialect.columns, self.problems
        number, line = product.number, product.line
        if not product.images:
            if self.form.require_images and columns.images:
                message = "no URL; enter at least one http or https address"
                problems.add(line, self.images, message)
            # Its rows are only copied, whatever their number is.
            return False
        if columns.number and not number:
            problems.add(line, self.number, "no number; give each product a unique one")
        if len(number) > MAX_NUMBER_CHARACTERS:
            problems.add(line, self.number, _length_message(len(number)))
        if columns.name and not product.name:
            problems.add(line, self.name, "no name; enter the name of the product")
        for image in product.images:
            wrong = url_problem(image.url)
            if wrong is not None and image.url.startswith("/"):
                wrong = f"{shortened(image.url)} is a path without a host; {_BASE}"
            if wrong is not None:
                header = self.dialect.header[image.column]
                column = self.images if same_header(header) == same_header(self.images) else header
                problems.add(product.rows[image.row].line, column, wrong)
        return bool(number)


def _doubled(
    path: Path, dialect: CsvDialect, column: str, hashes: array[int]
) -> tuple[list[CsvProblem], int]:
    """Products whose number an earlier one already has.

    The 64-bit hashes of all numbers find the candidates; only where there are some is the file read
    again, and their texts compared. A file without duplicates is not read again.
    """
    suspects = _repeated(hashes)
    if not suspects:
        return [], 0
    doubled = Problems()
    first_lines: dict[str, int] = {}
    grouped = dialect.mapping is not None and dialect.mapping.grouped
    remedy = "put its rows below each other" if grouped else "give each product a unique one"
    try:
        for product in read_products(path, dialect, Problems(), Counted()):
            number = product.number if product.images else ""
            if number and hash(number) in suspects:
                first = first_lines.setdefault(number, product.line)
                if first != product.line:
                    message = (
                        f"{shortened(number, 60)!r} is already the number of line {first}; {remedy}"
                    )
                    doubled.add(product.line, column, message)
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


_BASE = (
    "name the address that it is below, such as --base https://shop.example/media/catalog/product"
)


def _length_message(characters: int) -> str:
    return (
        f"{characters:,} characters, at most {MAX_NUMBER_CHARACTERS:,} are allowed; "
        "use a shorter one"
    )


def _limit_message(count: int, what: str, limit: int) -> str:
    return f"{count:,} {what}, at most {limit:,} are allowed; {SPLIT}"
