"""Paths of a result become whole URLs while it is sent, and nothing else in it changes."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import openpyxl
import pytest

from pipeline.web.addresses import PIECE_CHARACTERS, with_whole_urls, write_with_whole_urls

HERE = "https://img.example/files"
REFERENCE = "202502230413203"
ONE = f"jobs/half/{REFERENCE}/{REFERENCE}_1_B\u00fcste~1f_1.jpg"
WHOLE = f"{HERE}/jobs/half/{REFERENCE}/{REFERENCE}_1_B%C3%BCste~1f_1.jpg"


def sent(text: str) -> str:
    return "".join(with_whole_urls(io.StringIO(text, newline=""), REFERENCE, HERE))


@pytest.mark.parametrize(
    "cell",
    ["{}", '"{}"', '"{},,{}"', "x;{};y", "1\t{}", '"[""{}"", ""{}""]"', '"a\r\n{}"', "{}|{}"],
)
def test_a_path_becomes_a_url_wherever_it_stands_in_a_cell(cell: str) -> None:
    assert sent(f"S. No.\r\n{cell.format(ONE, ONE)}\r\n") == (
        f"S. No.\r\n{cell.format(WHOLE, WHOLE)}\r\n"
    )


@pytest.mark.parametrize(
    "cell",
    [
        f"https://other.example/{ONE}",
        "jobs/half/202502230413204/a.jpg",
        f"jobs/{REFERENCE}/a.jpg",
        "jobs/half",
        "myjobs/half/" + REFERENCE + "/a.jpg",
        "\udce9t\udce9",
    ],
)
def test_what_is_no_path_of_this_job_stays_as_it_is(cell: str) -> None:
    assert sent(f"{cell},x\r") == f"{cell},x\r"


def test_a_long_result_is_sent_in_pieces() -> None:
    text = f"{ONE},x\n" * (3 * PIECE_CHARACTERS // len(ONE))
    pieces = list(with_whole_urls(io.StringIO(text, newline=""), REFERENCE, HERE))
    assert len(pieces) >= 3
    assert "".join(pieces) == text.replace(ONE, WHOLE)


def test_the_paths_in_a_workbook_become_urls_and_all_else_stays(tmp_path: Path) -> None:
    rows = [["S. No.", ONE], [f"{ONE},,{ONE}", f'["{ONE}"]'], [f"https://other/{ONE}", "<jobs & >"]]
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(tmp_path / "old.xlsx")
    # As results are written: letters that are no ASCII as numbers, and so long that it is cut.
    with zipfile.ZipFile(tmp_path / "old.xlsx") as old:
        parts = {name: old.read(name) for name in old.namelist()}
    sheet = "xl/worksheets/sheet1.xml"
    texts = parts[sheet].replace("\u00fc".encode(), b"&#252;")
    padding = b"<!--" + b"x" * (1 << 16) + b"-->"
    parts[sheet] = texts.replace(b"<row", padding + b"<row")
    with zipfile.ZipFile(tmp_path / "new.xlsx", "w") as new:
        for name, data in parts.items():
            new.writestr(name, data)
    target = io.BytesIO()
    write_with_whole_urls(tmp_path / "new.xlsx", REFERENCE, HERE, target)
    found = [list(row) for row in openpyxl.load_workbook(target).active.values]
    want = [[cell.replace(ONE, WHOLE) for cell in row] for row in rows]
    want[2][0] = rows[2][0]
    assert found == want
