"""CSVs that were made to stop, fill or fool whoever reads them."""

from __future__ import annotations

import codecs
import csv
import io
import random
import time
import tracemalloc
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest

from pipeline.csvs import lines, products
from pipeline.csvs.cells import urls_of
from pipeline.csvs.dialect import CsvDialect
from pipeline.csvs.mapping import Columns
from pipeline.csvs.products import iter_products
from pipeline.csvs.reading import CsvCheck, CsvLimits, check_csv
from pipeline.fetch.urls import url_problem

HEADER = "S. No.,Product Name,Input Image Urls\n"
Check = Callable[[str | bytes], CsvCheck]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    def run(content: str | bytes) -> CsvCheck:
        file = tmp_path / "feed.csv"
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return check_csv(file)

    return run


def messages(checked: CsvCheck) -> list[tuple[int, str, str]]:
    return [(problem.line, problem.column, problem.message) for problem in checked.problems]


@pytest.mark.parametrize("run", [",", " ", "\n", ", ", "\u3000", ",\t"])
def test_a_cell_of_a_million_separators_is_split_at_once(run: str) -> None:
    cell = "http://a.example/" + run * (900_000 // len(run)) + "x," + run * 1000
    started = time.process_time()
    ((url, *_),) = urls_of(cell)
    # A second attempt at each of the separators would be hours of the processor, not a second.
    assert time.process_time() - started < 10
    assert url.endswith("x")
    assert url_problem(url) is not None


def test_separators_of_every_kind_are_stripped_and_split_alike() -> None:
    for blank in map(chr, range(0x110000)):
        if blank.isspace():
            cell = f"{blank}http://a/1{blank},{blank}http://a/2{blank}{blank}"
            urls = [found.url for found in urls_of(cell)]
            assert urls == ["http://a/1", "http://a/2"], hex(ord(blank))


def test_a_row_of_endless_cells_is_one_fault(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_ROW_CHARACTERS", 40_000)
    # Each line closes one quoted cell and opens the next: one row, as long as the file.
    checked = check(HEADER + '1,a,http://a.example/\n"x' + '\n","y' * 20_000)
    ((line, _, message),) = messages(checked)
    assert (line, checked.rows) == (3, 1)
    assert message.startswith("a row of more than 40,000 characters begins here")


def test_a_header_of_endless_cells_is_one_fault(
    check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "MAX_ROW_CHARACTERS", 40_000)
    checked = check('"x' + '\n","y' * 20_000)
    ((line, _, message),) = messages(checked)
    assert (line, checked.dialect) == (1, None)
    assert message.startswith("a row of more than 40,000 characters begins here")


def test_many_short_rows_are_no_long_one(check: Check) -> None:
    rows = "".join(f'{n},"a\nb","http://a.example/{"x" * 3000}"\n' for n in range(2000))
    checked = check(HEADER + rows)
    assert (checked.rows, checked.problems) == (2000, [])


BLANK = {
    "LF": "\n",
    "CR LF": "\r\n",
    "CR": "\r",
    "spaces": " \t\n",
    "separators": ",,\n",
}


@pytest.mark.parametrize(
    ("place", "name"),
    # Inside quotes, spaces and separators are text.
    [*product(("before", "between"), BLANK), *product(("inside",), ("LF", "CR LF", "CR"))],
)
def test_blank_lines_are_no_work_and_are_counted(
    check: Check, monkeypatch: pytest.MonkeyPatch, place: str, name: str
) -> None:
    count = 400_000
    run = BLANK[name] * count
    faulty = "1,,http://a.example/\n"
    content, line = {
        "before": (run + HEADER + faulty, count + 2),
        "between": (HEADER + run + faulty, count + 2),
        "inside": (f'{HEADER}0,"{run}b",http://a.example/\n{faulty}', count + 3),
    }[place]
    taken = 0
    take = lines.BoundedRows.__next__

    def counted(rows: lines.BoundedRows) -> str:
        nonlocal taken
        taken += 1
        return take(rows)

    monkeypatch.setattr(lines.BoundedRows, "__next__", counted)
    checked = check(content)
    assert [(problem.line, problem.column) for problem in checked.problems] == [
        (line, "Product Name")
    ]
    # Read in pieces of 8,192 characters, by three attempts at the header and once for the rows.
    assert taken < 4 * (len(run) // 8192 + 10)


def test_rows_and_their_lines_are_those_of_a_plain_reader(tmp_path: Path) -> None:
    chance = random.Random(9)
    file = tmp_path / "feed.csv"
    for _ in range(100):
        text = HEADER
        for _ in range(chance.randrange(20)):
            end = chance.choice(["\n", "\r", "\r\n"])
            text += chance.choice(["", " ", ",", " ,\t", "\t"]) * chance.choice([1, 1, 9000])
            text += end * chance.choice([0, 1, 3, 9000])
            cell = "".join(chance.choices(["a", '""', ",", " ", "\n", "\r", "\r\n" * 5000], k=6))
            text += f'b,"{cell}",c{end}'
        file.write_bytes(text.encode())
        expected, begins = [], 1
        plain = csv.reader(io.StringIO(text, newline=""))
        for record in plain:
            if any(cell.strip() for cell in record):
                expected.append((begins, record))
            begins = plain.line_num + 1
        told = CsvDialect("utf-8", ",", "\n", ("",) * 3, Columns(), None)
        assert list(products._records(file, told, products.Problems())) == expected[1:]


@pytest.mark.parametrize("first", ["sep=\n", "sep=\r\n", 'sep="\n', "sep=a\n", "sep= \n", "sep=\r"])
def test_a_separator_line_that_names_no_separator_is_no_such_line(check: Check, first: str) -> None:
    checked = check(first + HEADER + "1,a,http://a.example/\n")
    assert checked.problems == []
    assert checked.dialect is not None
    assert (checked.dialect.delimiter, checked.dialect.first_line) == (",", 2)


def test_a_tab_may_be_named_as_the_separator(check: Check) -> None:
    text = "sep=\t\n" + HEADER.replace(",", "\t") + "1\ta\thttp://a.example/\n"
    assert (check(text).rows, check(text).problems) == (1, [])


def test_headers_that_differ_in_case_and_space_alone_are_doubled(check: Check) -> None:
    content = (
        "S. No.,PRODUCT NAME,Input Image Urls,product  "
        "name,\u00a0Productname\n1,a,http://a.example/,,\n"
    )
    ((line, column, message),) = messages(check(content))
    assert (line, column) == (1, "Product Name")
    assert message == "3 columns are called 'Product Name'; keep one of them"


def test_line_ends_may_be_mixed_and_lines_are_still_counted_right(check: Check) -> None:
    content = (
        "S. No.,Product Name,Input Image Urls\r\n"
        "1,a,http://a.example/\n"
        "2,b,http://a.example/\r"
        '3,"c\r\nd\re\nf",http://a.example/\r\n'
        "4,,http://a.example/\r"
    )
    checked = check(content.encode())
    assert checked.rows == 4
    assert [(problem.line, problem.column) for problem in checked.problems] == [(8, "Product Name")]


@pytest.mark.parametrize(
    "content",
    [
        (HEADER + "1,a\0,http://a.example/\n").encode(),
        codecs.BOM_UTF8 + (HEADER + "1,a\0,http://a.example/\n").encode(),
        (HEADER + "1,a\0,http://a.example/\n").encode("utf-16"),
        (HEADER + "1,a\0,http://a.example/\n").encode("utf-16-le"),
        (HEADER + "1,a\0,http://a.example/\n").encode("utf-32"),
    ],
)
def test_a_nul_is_told_in_every_encoding(check: Check, content: bytes) -> None:
    assert any("a binary file" in message for _, _, message in messages(check(content)))


def test_half_a_surrogate_pair_is_told(check: Check) -> None:
    content = codecs.BOM_UTF16_LE + (HEADER + "1,a").encode("utf-16-le") + b"\x3d\xd8,\0x\0\n\0"
    assert "text that is not utf-16" in check(content).problems[-1].message


@pytest.mark.parametrize(
    "row", ['1,"a"b,http://a.example/', '1,"a,http://a.example/', '"', '1,a,"']
)
def test_lone_quotes_are_told_with_their_line(check: Check, row: str) -> None:
    checked = check(HEADER + row + "\n")
    assert [problem.line for problem in checked.problems] == [2]
    assert "quote" in checked.problems[0].message


def test_a_quote_inside_a_plain_cell_is_a_letter(check: Check, tmp_path: Path) -> None:
    checked = check(HEADER + '1,12" disc,http://a.example/\n')
    assert checked.problems == []
    assert checked.dialect is not None
    (row,) = iter_products(tmp_path / "feed.csv", checked.dialect)
    assert row.name == '12" disc'


def test_numbers_that_are_all_doubled_are_counted_in_bounded_memory(tmp_path: Path) -> None:
    file = tmp_path / "feed.csv"
    count = 10_000
    with file.open("w") as out:
        out.write(HEADER)
        out.writelines(f"{n % (count // 2)},p,http://a.example/\n" for n in range(count))
    tracemalloc.start()
    checked = check_csv(file, CsvLimits())
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (checked.fault_count, len(checked.problems)) == (count // 2, 1000)
    assert peak_bytes < count * 400
