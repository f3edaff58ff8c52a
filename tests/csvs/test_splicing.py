"""A CSV with other texts in some of its cells, and byte for byte the same elsewhere."""

from __future__ import annotations

import codecs
import io
import random
from pathlib import Path

import pytest

from pipeline.csvs.dialect import detect_dialect
from pipeline.csvs.products import Problems, _records
from pipeline.csvs.splicing import write_spliced
from pipeline.errors import CsvError

HEADER = "S. No.,Product Name,Input Image Urls"


def spliced(file: Path, edits: list[tuple[int, dict[int, str]]]) -> bytes:
    result = io.BytesIO()
    write_spliced(file, detect_dialect(file)[0], iter(edits), result)
    return result.getvalue()


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (b"", "cp1252"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (b"", "utf-16-le"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_only_the_cell_changes_in_every_encoding(
    tmp_path: Path, mark: bytes, encoding: str, newline: str
) -> None:
    file = tmp_path / "feed.csv"
    head, tail = '\n"S. No.",Product Name ,Input Image Urls\n\n', '\n,,\n2,"é\n",x\n\n\n'
    text = head + ' 1,"Müller, ""XL""",{}' + tail
    before, after = (
        text.format(url).replace("\n", newline) for url in ("http://a/1", "http://b/2")
    )
    file.write_bytes(mark + before.encode(encoding))
    assert spliced(file, [(4, {2: "http://b/2"})]) == mark + after.encode(encoding)
    assert spliced(file, []) == file.read_bytes()


def test_a_cell_keeps_its_quotes_and_gets_them_where_it_needs_them(tmp_path: Path) -> None:
    file = tmp_path / "feed.csv"
    file.write_text(f'sep=;\n{HEADER.replace(",", ";")}\n1;"a";"u"\n2;b;u')
    edits = [(3, {2: 'x"y'}), (4, {1: "c;d", 2: "z"})]
    assert spliced(file, edits).decode().splitlines()[2:] == ['1;"a";"x""y"', '2;"c;d";z']


def test_a_row_that_is_gone_is_said(tmp_path: Path) -> None:
    file = tmp_path / "feed.csv"
    file.write_text(f"{HEADER}\n1,a,u\n")
    with pytest.raises(CsvError, match="line 3"):
        spliced(file, [(3, {2: "x"})])


def test_the_cells_that_are_found_in_the_text_are_those_that_are_read(tmp_path: Path) -> None:
    chance = random.Random(14)
    file = tmp_path / "feed.csv"
    pieces = ['"', '""', "a", ",", "\n", "\r\n", "\r", " ", "é", "http://a/1"]
    tried = 0
    for _ in range(3_000):
        body = "".join(chance.choices(pieces, k=chance.randrange(1, 14)))
        file.write_bytes(f"{HEADER}\n{body}\n7,z,u\n".encode())
        dialect, problems = detect_dialect(file)
        found = Problems()
        records = list(_records(file, dialect, found))
        if problems or found.count:
            continue
        tried += 1
        # Every cell of every row is exchanged for itself, and then for another text.
        same = [(line, dict(enumerate(cells))) for line, cells in records]
        assert read(spliced(file, same), tmp_path) == records
        other = [(line, {at: f"<{at}>" for at in range(len(cells))}) for line, cells in records]
        assert [cells for _, cells in read(spliced(file, other), tmp_path)] == [
            [f"<{at}>" for at in range(len(cells))] for _, cells in records
        ]
    assert tried > 1_000


def read(content: bytes, folder: Path) -> list[tuple[int, list[str]]]:
    again = folder / "again.csv"
    again.write_bytes(content)
    return list(_records(again, detect_dialect(again)[0], Problems()))
