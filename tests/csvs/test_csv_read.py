"""Reading and checking the CSV of products."""

from __future__ import annotations

import codecs
import random
import tracemalloc
from pathlib import Path

import pytest

from pipeline.csvs.cells import urls_of
from pipeline.csvs.dialect import CsvDialect, detect_encoding
from pipeline.csvs.lines import CsvProblem
from pipeline.csvs.mapping import KNOWN, Columns
from pipeline.csvs.products import CsvProduct, CsvRow, ImageCell, iter_products
from pipeline.csvs.reading import CsvCheck, CsvForm, CsvLimits, check_csv
from pipeline.errors import CsvError
from pipeline.fetch.urls import checked_url, url_problem

HEADER = "S. No.,Product Name,Input Image Urls\n"
GOOD = (
    HEADER + '1,SKU1,"https://a.example/1.jpg,https://a.example/2.jpg"\n2,SKU2,http://b.example/\n'
)


@pytest.fixture
def check(tmp_path: Path):  # type: ignore[no-untyped-def]
    def run(content: str | bytes, limits: CsvLimits | None = None) -> CsvCheck:
        file = tmp_path / "feed.csv"
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return check_csv(file, limits, CsvForm(require_images=True))

    return run


def products(path: Path) -> list[CsvProduct]:
    checked = check_csv(path)
    assert checked.problems == []
    assert checked.dialect is not None
    return list(iter_products(path, checked.dialect))


def test_a_good_csv_has_rows_and_no_faults(tmp_path: Path) -> None:
    file = tmp_path / "feed.csv"
    file.write_text(GOOD)
    checked = check_csv(file)
    assert (checked.rows, checked.images, checked.problems, checked.fault_count) == (2, 3, [], 0)
    assert checked.dialect == CsvDialect(
        "utf-8",
        ",",
        "\n",
        ("S. No.", "Product Name", "Input Image Urls"),
        Columns((0,), (1,), (2,)),
        KNOWN[0].mapping,
    )
    assert products(file) == [
        CsvProduct(2, "1", "SKU1",
            (ImageCell("https://a.example/1.jpg", 0, 2, 0, 23),
             ImageCell("https://a.example/2.jpg", 0, 2, 24, 47)),
            [CsvRow(2, ["1", "SKU1", "https://a.example/1.jpg,https://a.example/2.jpg"])]),
        CsvProduct(3, "2", "SKU2", (ImageCell("http://b.example/", 0, 2, 0, 17),),
            [CsvRow(3, ["2", "SKU2", "http://b.example/"])]),
    ]  # fmt: skip


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize(
    ("encoding", "mark"),
    [("utf-8", b""), ("utf-8", codecs.BOM_UTF8), ("utf-16-le", codecs.BOM_UTF16_LE),
     ("utf-16-be", codecs.BOM_UTF16_BE), ("utf-16-le", b""), ("utf-16-be", b""), ("cp1252", b"")],
)  # fmt: skip
def test_every_encoding_separator_and_line_end_is_read(
    tmp_path: Path, encoding: str, mark: bytes, delimiter: str, newline: str
) -> None:
    lines = [
        "S. No.;Product Name;Input Image Urls;Größe",
        '1;"Müller; blue, ""XL""";"https://a.example/1.jpg,\nhttps://a.example/2.jpg";5 €',
        "",
        "2;Été;https://a.example/3.jpg;",
    ]
    text = "\n".join(lines) + "\n"
    text = text.replace("; ", "\1").replace(";", delimiter).replace("\1", "; ")
    file = tmp_path / "feed.csv"
    file.write_bytes(mark + text.replace("\n", newline).encode(encoding))
    first, second = products(file)
    assert (first.line, first.number, first.name) == (2, "1", 'Müller; blue, "XL"')
    assert first.urls == ("https://a.example/1.jpg", "https://a.example/2.jpg")
    assert first.rows[0].cells[3] == "5 €"
    assert (second.line, second.number, second.name) == (5, "2", "Été")


def test_headers_match_without_regard_to_case_and_space(tmp_path: Path) -> None:
    file = tmp_path / "feed.csv"
    file.write_text("Extra, INPUT  image urls ,s.no.,PRODUCTNAME\nx,http://a.example/,1,n\n")
    (row,) = products(file)
    assert (row.number, row.name, row.urls) == ("1", "n", ("http://a.example/",))
    assert row.rows[0].cells == ["x", "http://a.example/", "1", "n"]


def test_the_separator_line_of_excel_is_understood(tmp_path: Path) -> None:
    file = tmp_path / "feed.csv"
    file.write_text("sep=|\r\nS. No.|Product Name|Input Image Urls\r\n1|a,b|http://a.example/\r\n")
    (row,) = products(file)
    assert (row.line, row.name) == (3, "a,b")


def test_lines_are_those_of_the_file_also_behind_quoted_breaks(check) -> None:  # type: ignore[no-untyped-def]
    content = (
        "\n" + HEADER + '1,"a\n\nb",http://a.example/\n'  # lines 3 to 5
        "\n   ,,\n"  # blank lines 6 and 7
        "2,,http://a.example/\n"  # line 8
        '"3\r\n",c,"http://a.example/\r\n,\r\n"\n'  # lines 9 to 12
        "4,d,\n"  # line 13
    )
    checked = check(content)
    assert [(problem.line, problem.column) for problem in checked.problems] == [
        (8, "Product Name"),
        (13, "Input Image Urls"),
    ]
    assert checked.dialect.first_line == 2


def test_all_faults_are_told_at_once_with_line_column_and_remedy(check) -> None:  # type: ignore[no-untyped-def]
    content = HEADER + (
        "1,a,https://a.example/1.jpg\n"
        ",b,https://a.example/2.jpg\n"
        "3,,https://a.example/3.jpg\n"
        "4,d,\n"
        "1,e,https://a.example/5.jpg\n"
        "6,f\n"
        "7,g,https://a.example/,7.jpg,\n"
        "8,h,ftp://a.example/8.jpg\n"
        '9,i,"https://a.example/9.jpg, ftp://a.example/9.jpg"\n'
        '10,j,"http:// , http://[::1/"\n'
        "\n"
        '11,k,"x"y,http://a.example/\n'
        "12,l,a.jpg\n"
    )
    assert check(content).problems == [
        CsvProblem(3, "S. No.", "no number; give each product a unique one"),
        CsvProblem(4, "Product Name", "no name; enter the name of the product"),
        CsvProblem(5, "Input Image Urls", "no URL; enter at least one http or https address"),
        CsvProblem(6, "S. No.", "'1' is already the number of line 2; give each product a "
            "unique one"),
        CsvProblem(7, "", "2 cells where the header has 3; empty cells need their separators, too"),
        CsvProblem(8, "", "5 cells where the header has 3; a separator inside a cell needs quotes "
                     "around the cell"),
        CsvProblem(9, "Input Image Urls", "ftp://a.example/8.jpg is not an http or https address; "
                                     "begin it with https://"),
        CsvProblem(10, "Input Image Urls", "https://a.example/9.jpg, ftp://a.example/9.jpg "
            "contains a "
                                      "ftp:// address; only http:// and https:// are fetched"),
        CsvProblem(11, "Input Image Urls", "http:// cannot be read as an address (no host in the "
                                      "URL); correct it"),
        CsvProblem(11, "Input Image Urls", "http://[::1/ cannot be read as an address (not a valid "
                                      "URL: Invalid port: ':1'); correct it"),
        CsvProblem(13, "", "the quotes of this row cannot be read (',' expected after '\"'); "
                      'inside a quoted cell write "" for a single "'),
        CsvProblem(14, "Input Image Urls", "a.jpg is not an http or https address; begin it "
            "with https://"),
    ]  # fmt: skip


def test_a_missing_and_a_doubled_column_are_told_with_the_faults_of_the_rows(check) -> None:  # type: ignore[no-untyped-def]
    checked = check("S. No.,s. no.,Input Image Urls\n1,2,\n")
    assert [(f.line, f.column) for f in checked.problems] == [
        (1, "S. No."),
        (1, "Product Name"),
        (2, "Input Image Urls"),
    ]
    assert checked.problems[0].message == "2 columns are called 'S. No.'; keep one of them"
    assert checked.problems[1].message.startswith("there is no column 'Product Name'; add it")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\n\n \n", "the file is empty"),
        (HEADER.encode(), "no rows; add a product below the header"),
        (b"PK\x03\x04" + bytes(100), "this Excel or ZIP file is damaged"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "this is a PNG image"),
        (HEADER.encode() + b"1,a\0b,http://a.example/\n", "this is a binary file"),
        (bytes(range(256)) * 10, "this is a binary file"),
        (HEADER.encode() + b"1,\x81,http://a.example/\n", "neither UTF-8 nor Windows-1252"),
        (codecs.BOM_UTF8 + HEADER.encode() + b"1,\xff,http://a.example/\n", "text that is not utf"),
        (codecs.BOM_UTF16_LE + GOOD.encode("utf-16-le") + b"x", "text that is not utf-16"),
        (HEADER.encode() + b'1,"a,http://a.example/\n2,b,http://a.example/\n', "is not closed by"),
        (b"x" * 5_000_000, "a line of more than 4,000,000 characters"),
        (HEADER.encode() + b"1,n," + b"x" * 1_000_001, "is not closed by 1,000,000 characters"),
    ],
)
def test_what_cannot_be_read_is_one_clear_fault(check, content: bytes, message: str) -> None:  # type: ignore[no-untyped-def]
    checked = check(content)
    assert any(message in problem.message for problem in checked.problems), checked.problems
    assert checked.fault_count == len(checked.problems) <= 2


def test_each_limit_is_a_fault_that_names_no_setting(check) -> None:  # type: ignore[no-untyped-def]
    assert check(GOOD, CsvLimits(max_rows=1)).problems == [
        CsvProblem(3, "", "2 rows, at most 1 are allowed; split the file")
    ]
    assert check(GOOD, CsvLimits(max_images=2)).problems == [
        CsvProblem(3, "Input Image Urls", "3 images, at most 2 are allowed; split the file")
    ]
    (problem,) = check(GOOD, CsvLimits(max_bytes=10)).problems
    assert problem.message.endswith("at most 10 are allowed; split the file")
    assert check(GOOD, CsvLimits(2, 3, len(GOOD))).problems == []


def test_the_first_thousand_faults_are_listed_and_all_are_counted(check) -> None:  # type: ignore[no-untyped-def]
    checked = check(HEADER + "7,,http://a.example/\n" * 3000)
    assert len(checked.problems) == 1000
    assert checked.fault_count == 3000 + 2999
    lines = [problem.line for problem in checked.problems]
    assert lines == sorted(lines)
    assert lines[-1] == 502  # two problems a line, but for the first


def test_equal_hashes_of_different_numbers_are_no_doubles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.csvs.reading.hash", lambda text: len(text), raising=False)
    file = tmp_path / "feed.csv"
    file.write_text(HEADER + "".join(f"{n},x,http://a.example/\n" for n in (1, 2, 3, 2, 1)))
    assert [problem.line for problem in check_csv(file).problems] == [5, 6]


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    file = tmp_path / "feed.csv"

    def peak_bytes(count: int) -> int:
        with file.open("w") as out:
            out.write(HEADER)
            out.writelines(f"{n},P{n},https://a.example/{n}.jpg\n" for n in range(count))
        tracemalloc.start()
        checked = check_csv(file)
        assert checked.rows == count
        assert checked.dialect is not None
        assert sum(1 for _ in iter_products(file, checked.dialect)) == count
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    small, large = peak_bytes(1_000), peak_bytes(16_000)
    assert large - small < 15_000 * 60  # a tenth of what the rows themselves would take


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_its_mark_is_told_from_all_of_the_first_lines(
    tmp_path: Path, encoding: str
) -> None:
    file = tmp_path / "feed.csv"
    file.write_bytes(("Прайс-лист магазина «Чашка» на сегодня\r\n" + GOOD).encode(encoding))
    assert [product.number for product in products(file)] == ["1", "2"]


def test_a_file_that_changed_since_its_check_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "feed.csv"
    file.write_text(GOOD)
    dialect = check_csv(file).dialect
    assert dialect is not None
    file.write_text(HEADER + "1,a\n")
    with pytest.raises(CsvError, match="line 2: 2 cells"):
        list(iter_products(file, dialect))
    file.write_text(HEADER + '1,"a')
    with pytest.raises(CsvError, match="is not closed"):
        list(iter_products(file, dialect))


@pytest.mark.parametrize(
    ("cell", "urls"),
    [
        ("http://a/1", ["http://a/1"]),
        ("http://a/1,http://a/2", ["http://a/1", "http://a/2"]),
        (" http://a/1 ,\r\n  HTTPS://a/2 ,", ["http://a/1", "HTTPS://a/2"]),
        ("http://a/1\nhttp://a/2", ["http://a/1", "http://a/2"]),
        (",, ,http://a/1,,,http://a/2,,\n", ["http://a/1", "http://a/2"]),
        ("https://a/w_100,h_50/1.jpg,https://a/2", ["https://a/w_100,h_50/1.jpg", "https://a/2"]),
        ("https://a/?u=http://b/1.jpg", ["https://a/?u=http://b/1.jpg"]),
        ("a.jpg, http://a/1", ["a.jpg", "http://a/1"]),
        ("http://a/1, b.jpg", ["http://a/1, b.jpg"]),
        ("", []),
        (" ,\n, ", []),
    ],
)
def test_a_cell_is_split_only_before_http_or_https(cell: str, urls: list[str]) -> None:
    assert [found.url for found in urls_of(cell)] == urls


def test_the_short_way_to_accept_a_url_agrees_with_the_parser() -> None:
    chance = random.Random(4)
    alphabet = "ab0.-_:/?#[]@!%,;= é\\~1x7f"
    any_port = frozenset(range(65_536))
    accepted = 0
    for _ in range(20_000):
        tail = "".join(chance.choice(alphabet) for _ in range(chance.randrange(14)))
        url = chance.choice(["http://", "https://", "http://a.bc", "https://a.bc/"]) + tail
        if url_problem(url) is None:
            accepted += 1
            checked_url(url, any_port)
    assert accepted > 2_000


def test_a_short_file_keeps_its_encoding(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    for content, encoding in [(b"a", "utf-8"), (b"\xe9", "cp1252"), (b"\xc3\xa9", "utf-8"),
                              (b"abc\xc3", "cp1252")]:  # fmt: skip
        file.write_bytes(content)
        assert detect_encoding(file) == encoding
