"""Excel workbooks: read as a stream of rows, whatever is in them, and written again in place."""

from __future__ import annotations

import datetime
import io
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import openpyxl
import pytest

from pipeline.csvs import workbook
from pipeline.csvs.lines import UnreadableCsv
from pipeline.csvs.workbook import Workbook
from pipeline.csvs.workbook_writing import write_workbook

HEADER = ["S. No.", "Product Name", "Input Image Urls"]
MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
EVERYTHING = 1_000_000_000


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "products.xlsx"


def written(file: Path, rows: list[list[object]]) -> openpyxl.Workbook:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(file)
    return book


def rows_of(file: Path, sheet: int = 0) -> list[tuple[int, list[str]]]:
    with Workbook(file, EVERYTHING) as book:
        return list(book.rows(book.sheets[sheet]))


def with_part(file: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    """Replace one part of a workbook."""
    with zipfile.ZipFile(file) as archive:
        parts = {found: archive.read(found) for found in archive.namelist()}
    parts[name] = change(parts.get(name, b""))
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for found, content in parts.items():
            archive.writestr(found, content)


def with_rows(file: Path, rows: str) -> None:
    """A workbook whose first sheet has just these rows, as XML."""
    written(file, [["x"]])
    xml = f'<worksheet xmlns="{MAIN}"><sheetData>{rows}</sheetData></worksheet>'
    with_part(file, "xl/worksheets/sheet1.xml", lambda _: xml.encode())


def test_cells_are_read_as_people_see_them(file: Path) -> None:
    day = datetime.datetime(2026, 11, 22)
    cells = [1.0, 2.5, 0.1 + 0.2, 4006381333931, True, day, day.replace(hour=7, minute=5), "a\nb"]
    written(file, [["title"], [], [*cells, None, "é"]])
    assert rows_of(file) == [
        (1, ["title"]),
        (3, ["1", "2.5", "0.3", "4006381333931", "TRUE", "2026-11-22", "2026-11-22 07:05:00",
             "a\nb", "", "é"]),
    ]  # fmt: skip


def test_a_formula_is_its_last_value_and_shared_texts_are_found(file: Path) -> None:
    with_rows(
        file,
        '<row><c t="s"><v>1</v></c><c><f>1+1</f><v>2</v></c><c t="str"><f>A1</f><v>x</v></c>'
        '<c><f>3</f></c><c t="inlineStr"><is><r><t>ri</t></r><r><t>ch</t></r></is></c></row>',
    )
    strings = (
        f'<sst xmlns="{MAIN}"><si><t>no</t></si><si><r><t>a_x000D_</t></r><r><t>b</t></r>'
        "<rPh><t>reading</t></rPh></si></sst>"
    )
    with_part(file, "xl/sharedStrings.xml", lambda _: strings.encode())
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"
    entry = f'<Override PartName="/xl/sharedStrings.xml" ContentType="{kind}"/></Types>'
    with_part(
        file,
        "[Content_Types].xml",
        lambda old: old if kind.encode() in old else old.replace(b"</Types>", entry.encode()),
    )
    assert rows_of(file) == [(1, ["a\rb", "2", "x", "", "rich"])]


def test_hidden_sheets_are_left_out(file: Path) -> None:
    book = openpyxl.Workbook()
    book.active.sheet_state = "hidden"
    book.create_sheet("Shown").append(["x"])
    book.save(file)
    with Workbook(file, EVERYTHING) as opened:
        assert [sheet.name for sheet in opened.sheets] == ["Shown"]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ('<row r="99999999"><c t="str"><v>x</v></c></row>', "more than 1,048,576 rows"),
        ("<row>" + "<c/>" * 16_385 + "</row>", "more than 16,384 cells"),
        (f'<row x="{random.Random(1).randbytes(5 << 20).hex()}"/>', "more than 8,388,608 bytes"),
        ('<row><c r="ZZZ1" t="str"><v>x</v></c></row>', "no spreadsheet can hold"),
        ('<row><c r="ZZZZZZZZZ1"><v>1</v></c></row>', "damaged"),
        ('<row><c t="s"><v>-1</v></c></row>', "damaged"),
        ("<row><c><v>x</v></c></row>", "damaged"),
        ("<row><c></row>", "damaged"),
    ],
)
def test_a_sheet_made_to_fill_the_memory_or_fool_a_reader_is_refused(
    file: Path, rows: str, said: str
) -> None:
    with_rows(file, rows)
    with pytest.raises(UnreadableCsv, match=said):
        rows_of(file)


def test_a_text_that_is_in_every_cell_of_a_row_has_a_limit(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workbook, "MAX_ROW_CHARACTERS", 10_000)
    with_rows(file, "<row>" + "<c t='inlineStr'><is><t>" + "x" * 10_001 + "</t></is></c></row>")
    with pytest.raises(UnreadableCsv, match="more than 10,000 characters"):
        rows_of(file)


def test_an_archive_that_is_nothing_but_a_bomb_is_refused(file: Path) -> None:
    with_rows(file, "<row/>" * 3_000_000)
    with pytest.raises(UnreadableCsv, match="100 times its size"):
        rows_of(file)


def test_only_escapes_that_stand_for_text_are_read(file: Path) -> None:
    written(file, [["a_x000D_b_xD800__x0000_", "_x005F_x000D_", "x_x"]])
    assert rows_of(file) == [(1, ["a\rb_xD800__x0000_", "_x000D_", "x_x"])]


def test_filters_titles_links_and_formats_are_no_obstacle(file: Path) -> None:
    book = written(file, [HEADER, [1, "a", "http://a/1"]])
    sheet = book.active
    sheet.auto_filter.ref = "A1:C2"
    sheet.print_title_rows = "1:1"
    sheet["C2"].hyperlink = "http://a/1"
    book.create_chartsheet()
    book.save(file)
    extension = b'<extLst><ext uri="{CCE6A557-97BC-4b89-ADB6-D9C93CAAB3DF}"/></extLst></worksheet>'
    with_part(
        file,
        "xl/worksheets/sheet1.xml",
        lambda old: old.replace(b"</worksheet>", extension),
    )
    assert rows_of(file) == [(1, HEADER), (2, ["1", "a", "http://a/1"])]


def test_entities_are_refused(file: Path) -> None:
    with_rows(file, "<row/>")
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;">]><worksheet>&b;</worksheet>'
    with_part(file, "xl/worksheets/sheet1.xml", lambda _: bomb)
    with pytest.raises(UnreadableCsv, match="damaged"):
        rows_of(file)


def test_a_workbook_that_unpacks_to_more_than_is_allowed_is_refused(file: Path) -> None:
    with_rows(file, " " * 3_000_000)
    assert file.stat().st_size < 100_000
    with pytest.raises(UnreadableCsv, match="split the file"), Workbook(file, 1_000_000):
        pass


def test_an_archive_of_countless_parts_is_refused_before_they_are_listed(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(30_000):
            archive.writestr(f"{number}", b"")
    with pytest.raises(UnreadableCsv, match="too many parts"):
        rows_of(file)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mimetype", r"OpenDocument file \(\.ods\)"),
        ("xl/workbook.bin", r"\.xlsb"),
        ("photo.jpg", "a ZIP file"),
    ],
)
def test_other_archives_are_called_by_their_names(file: Path, name: str, said: str) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(UnreadableCsv, match=f"{said}.*save it as .xlsx or CSV UTF-8"):
        rows_of(file)


def test_a_workbook_with_macros_is_refused_because_its_result_would_not_open(file: Path) -> None:
    written(file, [["x"]])
    with_part(
        file,
        "[Content_Types].xml",
        lambda old: old.replace(
            b"vnd.openxmlformats-officedocument.spreadsheetml.sheet.main",
            b"vnd.ms-excel.sheet.macroEnabled.main",
        ),
    )
    with pytest.raises(UnreadableCsv, match="macros"):
        rows_of(file)


@pytest.mark.parametrize("cut", [10, 1_000, 3_000])
def test_half_a_workbook_is_damaged(file: Path, cut: int) -> None:
    written(file, [HEADER])
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(UnreadableCsv, match="damaged"):
        rows_of(file)


def edited(
    file: Path, edits: list[tuple[int, dict[int, tuple[str, str]]]], adds: bool
) -> tuple[Path, dict[str, bytes]]:
    """The workbook with ``edits`` in its first sheet, and its parts."""
    result = file.with_name("result.xlsx")
    with Workbook(file, EVERYTHING) as book, result.open("wb") as target:
        write_workbook(book, book.sheets[0], iter(edits), target, adds)
    with zipfile.ZipFile(result) as archive:
        assert archive.testzip() is None
        return result, {name: archive.read(name) for name in archive.namelist()}


def parts_of(file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_only_the_exchanged_cells_of_the_sheet_change(file: Path) -> None:
    book = written(
        file, [[*HEADER, "price"], [1, "a", "http://a/1", 5.0], [2, "b", "http://a/2", 6]]
    )
    book.active["C2"].font = openpyxl.styles.Font(bold=True)
    book.active.column_dimensions["C"].width = 50
    book.create_sheet("Other").append(["=1+1"])
    book.save(file)
    before = parts_of(file)
    result, after = edited(file, [(2, {3: ("http://a/1", "http://b/<1>&é")})], adds=False)
    sheet = "xl/worksheets/sheet1.xml"
    assert {name for name in before if before[name] != after[name]} == {sheet}
    start, end = b'<c r="C2" s="1" t="', b"</c>"
    changed = [part[: part.index(start)] + part[part.index(end, part.index(start)) :]
               for part in (before[sheet], after[sheet])]  # fmt: skip
    assert changed[0] == changed[1]
    assert rows_of(result)[1] == (2, ["1", "a", "http://b/<1>&é", "5"])
    # With another reader.
    again = openpyxl.load_workbook(result).active
    assert (again["C2"].value, again["C2"].font.bold) == ("http://b/<1>&é", True)


def test_new_columns_are_texts_whatever_they_begin_with(file: Path) -> None:
    written(file, [HEADER, [1, "a", "http://a/1"], [2, None, None]])
    edits = [
        (1, {4: ("", "Errors")}),
        (2, {4: ("", "=1+1"), 5: ("", "+\x00x")}),
        (3, {4: ("", "")}),
    ]
    result, _ = edited(file, edits, adds=True)
    assert rows_of(result) == [
        (1, [*HEADER, "Errors"]),
        (2, ["1", "a", "http://a/1", "=1+1", "+?x"]),
        (3, ["2"]),
    ]
    cell = openpyxl.load_workbook(result).active["D2"]
    assert (cell.value, cell.data_type) == ("=1+1", "s")


def test_a_formula_that_is_replaced_leaves_the_list_of_formulas(file: Path) -> None:
    written(file, [["x"]])
    with_rows(
        file,
        '<row r="1"><c r="A1" t="str"><f t="shared" si="0" ref="A1:A2">B1</f><v>old</v></c></row>'
        '<row r="2"><c r="A2" t="str"><f t="shared" si="0"/><v>kept</v></c></row>',
    )
    with_part(file, "xl/calcChain.xml", lambda _: b"<calcChain/>")
    entry = b'<Override PartName="/xl/calcChain.xml" ContentType="x"/></Types>'
    with_part(file, "[Content_Types].xml", lambda old: old.replace(b"</Types>", entry))
    edits = [(1, {1: ("old", "new")}), (2, {1: ("kept", "kept")})]
    result, after = edited(file, edits, adds=False)
    assert rows_of(result) == [(1, ["new"]), (2, ["kept"])]
    assert b"<f" not in after["xl/worksheets/sheet1.xml"]
    assert "xl/calcChain.xml" not in after
    assert b"calcChain" not in after["[Content_Types].xml"]


def test_a_sheet_with_prefixes_and_without_places_is_written_alike(file: Path) -> None:
    written(file, [["x"]])
    row = '<x:row spans="1:2"><x:c t="str"><x:v>{}</x:v></x:c><x:c><x:v>2</x:v></x:c></x:row>'
    xml = (
        f'<x:worksheet xmlns:x="{MAIN}"><x:dimension ref="A1:B2"/><x:sheetData><!-- <c> -->'
        f"{row.format('a')}<x:row/>{row.format('b')}</x:sheetData></x:worksheet>"
    )
    with_part(file, "xl/worksheets/sheet1.xml", lambda _: xml.encode())
    result, after = edited(file, [(1, {1: ("a", "n")}), (3, {3: ("", "added")})], adds=True)
    assert rows_of(result) == [(1, ["n", "2"]), (3, ["b", "2", "added"])]
    assert b"dimension" not in after["xl/worksheets/sheet1.xml"]


def test_damage_behind_the_rows_is_said(file: Path) -> None:
    written(file, [HEADER, [1, "a", "http://a/1"]])
    with_part(file, "xl/worksheets/sheet1.xml", lambda old: old.replace(b"</worksheet>", b"<x"))
    with pytest.raises(UnreadableCsv, match="damaged"):
        edited(file, [(2, {3: ("http://a/1", "x")})], adds=False)


def test_a_large_sheet_is_spliced_piece_by_piece(file: Path) -> None:
    written(file, [HEADER, *([n, "name", f"http://a/{n}"] for n in range(3_000))])
    edits = [(n + 2, {3: (f"http://a/{n}", f"http://b/{n}")}) for n in range(0, 3_000, 7)]
    result, _ = edited(file, edits, adds=False)
    found = [cells[2] for _, cells in rows_of(result)[1:]]
    assert found == [f"http://{'b' if n % 7 == 0 else 'a'}/{n}" for n in range(3_000)]
    target = io.BytesIO()
    with Workbook(file, EVERYTHING) as book, pytest.raises(Exception, match="row 9999"):
        write_workbook(book, book.sheets[0], iter([(9999, {1: ("", "x")})]), target, False)
