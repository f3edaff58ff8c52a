"""The result CSV, the problems, and the rows that failed."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from pipeline.csvs.dialect import CsvDialect
from pipeline.csvs.lines import CsvProblem
from pipeline.csvs.products import CsvProduct, iter_products
from pipeline.csvs.reading import check_csv
from pipeline.csvs.writing import (
    ProductAnswer,
    harmless,
    output_address,
    output_columns,
    value_cell,
    write_answer,
    write_failed_rows,
    write_problems,
)
from pipeline.errors import OutputError
from pipeline.storage.folder_store import FolderStore

SOURCE = (
    "Id;S. No.;Product Name;Input Image Urls;Note\r\n"
    'a;1;"Chair; red";"http://a.example/1.jpg,http://a.example/2.jpg";=1+1\r\n'
    'b;2;"Two\nlines";http://a.example/3.jpg;-5\r\n'
)


@pytest.fixture
def source(tmp_path: Path) -> tuple[Path, CsvDialect]:
    file = tmp_path / "feed.csv"
    file.write_bytes(SOURCE.encode("cp1252"))
    dialect = check_csv(file).dialect
    assert dialect is not None
    return file, dialect


def half(row: CsvProduct) -> ProductAnswer:
    done = [f"half/{row.number}_{i}.jpg" for i in range(len(row.urls))]
    if row.number == "1":
        errors, codes = ["image 1: 404 Not Found", "another"], ["not_found", "other"]
        return ProductAnswer({"half": [None, done[1]]}, errors, codes=codes)
    return ProductAnswer({"half": done})


def nothing(row: CsvProduct) -> ProductAnswer:
    return ProductAnswer()


def test_the_answer_has_the_inputs_rows_and_columns_and_two_more(
    tmp_path: Path, source: tuple[Path, CsvDialect]
) -> None:
    file, dialect = source
    target = tmp_path / "answer.csv"
    assert (
        write_answer(
            FolderStore(tmp_path),
            target.name,
            dialect,
            iter_products(file, dialect),
            ["half"],
            half,
        )
        == 2
    )
    assert target.read_bytes().decode() == (
        "Id;S. No.;Product Name;Input Image Urls;Note;Output Image Urls;Errors;Error Codes\r\n"
        'a;1;"Chair; red";http://a.example/1.jpg,http://a.example/2.jpg;\'=1+1;,half/1_1.jpg;'
        '"image 1: 404 Not Found; another";"not_found; other"\r\n'
        'b;2;"Two\nlines";http://a.example/3.jpg;-5;half/2_0.jpg;;\r\n'
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answer.csv", "feed.csv"]


def test_each_further_recipe_has_a_column_of_its_own(
    tmp_path: Path, source: tuple[Path, CsvDialect]
) -> None:
    file, dialect = source
    target = tmp_path / "answer.csv"
    write_answer(
        FolderStore(tmp_path),
        target.name,
        dialect,
        iter_products(file, dialect),
        ["half", "thumb"],
        half,
    )
    with target.open(encoding=dialect.answer_encoding, newline="") as answer:
        header, first, _ = csv.reader(answer, delimiter=";")
    assert header[5:] == ["Output Image Urls", "Output Image Urls (thumb)", "Errors", "Error Codes"]
    assert first[5:7] == [",half/1_1.jpg", ""]
    assert output_columns([]) == []


def test_spreadsheets_get_the_mark_that_they_need(tmp_path: Path) -> None:
    file, target = tmp_path / "feed.csv", tmp_path / "answer.csv"
    text = "S. No.,Product Name,Input Image Urls\n1,Größe,http://a.example/\n"
    for encoding, marked in [("utf-8", False), ("cp1252", True), ("utf-16", True)]:
        file.write_bytes(text.encode(encoding))
        dialect = check_csv(file).dialect
        assert dialect is not None
        write_answer(
            FolderStore(tmp_path),
            target.name,
            dialect,
            iter_products(file, dialect),
            ["half"],
            nothing,
        )
        assert target.read_bytes().startswith(b"\xef\xbb\xbf") == marked
        assert "Größe" in target.read_text("utf-8-sig")


@pytest.mark.parametrize(
    "cell",
    ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "-", "=", "-2+3+cmd|' /C calc'!A0",
     "+5 cm", "＝1", "-5=1"],
)  # fmt: skip
def test_a_cell_that_a_spreadsheet_would_run_is_disarmed(cell: str) -> None:
    assert harmless(cell) == "'" + cell


@pytest.mark.parametrize("cell", ["", "a", "1", "-5", "+1,234.50", "-1e5", " =1", "'=1", "a=1"])
def test_other_cells_pass_through(cell: str) -> None:
    assert harmless(cell) == cell


def test_headers_are_disarmed_as_well(tmp_path: Path) -> None:
    file, target = tmp_path / "feed.csv", tmp_path / "answer.csv"
    file.write_text("S. No.,Product Name,Input Image Urls,=x()\n1,a,http://a.example/,\n")
    dialect = check_csv(file).dialect
    assert dialect is not None
    write_answer(
        FolderStore(tmp_path), target.name, dialect, iter_products(file, dialect), ["half"], nothing
    )
    assert ",'=x()," in target.read_text()


def test_an_address_is_public_where_the_prefix_is_known() -> None:
    assert output_address("half/1~a_0.jpg") == "half/1~a_0.jpg"
    assert output_address("half/ü 1.jpg", "https://cdn.example/") == (
        "https://cdn.example/half/%C3%BC%201.jpg"
    )


def test_an_error_while_writing_leaves_the_old_answer_and_nothing_else(
    tmp_path: Path, source: tuple[Path, CsvDialect]
) -> None:
    file, dialect = source
    target = tmp_path / "answer.csv"
    target.write_text("old")

    def broken(row: CsvProduct) -> ProductAnswer:
        raise LookupError(row.number)

    with pytest.raises(LookupError):
        write_answer(
            FolderStore(tmp_path),
            target.name,
            dialect,
            iter_products(file, dialect),
            ["half"],
            broken,
        )
    assert target.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answer.csv", "feed.csv"]
    with pytest.raises(OutputError, match="cannot be written"):
        write_answer(FolderStore(file), "x.csv", dialect, [], ["half"], broken)


def test_the_faults_of_a_csv_are_a_csv(tmp_path: Path) -> None:
    target = tmp_path / "feed.errors.csv"
    write_problems(
        FolderStore(tmp_path),
        target.name,
        [CsvProblem(3, "S. No.", "no number"), CsvProblem(4, "", "=x, wrong", "not_found")],
        12,
    )
    assert target.read_text("utf-8-sig").splitlines() == [
        "Line,Column,Message,Code",
        "3,S. No.,no number,",
        '4,,"\'=x, wrong",not_found',
        ",,and 10 more; fix these first,",
    ]


def test_failed_rows_can_be_mended_and_submitted_again(
    tmp_path: Path, source: tuple[Path, CsvDialect]
) -> None:
    file, dialect = source
    out = io.StringIO(newline="")
    failed = (p.rows[0] for p in iter_products(file, dialect) if p.number == "2")
    assert write_failed_rows(out, dialect, failed) == 1
    again = tmp_path / "again.csv"
    again.write_text(out.getvalue(), "utf-8", newline="")
    checked = check_csv(again)
    assert (checked.rows, checked.problems) == (1, [])
    assert checked.dialect is not None
    assert checked.dialect.header == dialect.header
    (row,) = iter_products(again, checked.dialect)
    assert (row.number, row.name, row.rows[0].cells) == (
        "2", "Two\nlines", ["b", "2", "Two\nlines", "http://a.example/3.jpg", "-5"]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("values", "cell"),
    [
        ([], ""),
        ([None], ""),
        ([None, None], ""),
        ([{"hash": "abc"}], "abc"),
        ([{"score": 0.5}], "0.5"),
        ([{"flag": True}], "true"),
        ([{"none": None}], ""),
        ([{"colors": ["#fff", "#000"]}], '["#fff", "#000"]'),
        ([{"w": 1, "h": 2}], '{"w": 1, "h": 2}'),
        ([{}], "{}"),
        ([{"hash": "abc"}, None, {"hash": "ü"}], '["abc", null, "ü"]'),
    ],
)
def test_what_a_feature_says_is_one_value_or_json(
    values: list[dict[str, object] | None], cell: str
) -> None:
    assert value_cell(values) == cell
