"""What openpyxl makes of the parts of a workbook: texts, dates, numbers, the list of sheets.

It builds trees of XML in memory and keeps what it has read. So it is given one row and one text at
a time, and each is forgotten before the next.
"""

from __future__ import annotations

import tempfile
import warnings
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from openpyxl.reader.excel import SHARED_STRINGS, ExcelReader
from openpyxl.worksheet._reader import WorkSheetParser
from openpyxl.xml.functions import iterparse

from pipeline.csvs.lines import MAX_ROW_CHARACTERS
from pipeline.csvs.workbook_parts import MAX_COLUMNS, Parts, problem

TEXTS_IN_MEMORY_BYTES = 16 << 20

_XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"
_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


class Texts:
    """The texts that cells share, by number; most of them on disk where there are many."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(TEXTS_IN_MEMORY_BYTES)  # noqa: SIM115
        self._ends = array("Q", [0])
        self.close = self._file.close
        self.begin()

    def begin(self) -> None:
        """A row begins; its texts together have a limit, as each cell may have the same one."""
        self._left_bytes = 4 * MAX_ROW_CHARACTERS

    def append(self, text: str) -> None:
        data = text.encode("utf-8", "surrogatepass")
        self._file.write(data)
        self._ends.append(self._ends[-1] + len(data))

    def __getitem__(self, number: int) -> str:
        if not 0 <= number < len(self._ends) - 1:
            raise IndexError(number)
        start, end = self._ends[number], self._ends[number + 1]
        self._left_bytes -= end - start
        if self._left_bytes < 0:
            raise problem(f"a row of more than {MAX_ROW_CHARACTERS:,} characters")
        self._file.seek(start)
        return self._file.read(end - start).decode("utf-8", "surrogatepass")


class WorkbookReader(ExcelReader):  # type: ignore[misc]
    """A workbook whose sheets are read row by row; nothing is built of charts and pictures.

    ``visible`` are the sheets that are shown: their names, and the parts with their cells.

    Raises:
        UnreadableCsv: it has macros, or is a template.
        Exception: whatever damaged or hostile XML makes openpyxl raise.
    """

    archive: Any

    def __init__(self, path: Path, parts: Parts, texts: Texts) -> None:
        # It warns of what it would lose if it wrote the workbook again, which it never does here.
        warnings.filterwarnings("ignore", module=r"openpyxl\.")
        # By a path it would judge the file by its name.
        with path.open("rb") as file:
            super().__init__(file, read_only=True, data_only=True, keep_links=False)
        self.archive.close()
        self.archive, self.shared_strings = parts, texts
        self.visible: list[tuple[str, str]] = []
        self.read()

    def cells(self, part: str) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        """The rows of a sheet: their numbers, and what is in each cell that is written there."""
        with self.archive.open(part) as source:
            parser = WorkSheetParser(
                source,
                self.shared_strings,
                data_only=True,
                epoch=self.wb.epoch,
                date_formats=self.wb._date_formats,
                timedelta_formats=self.wb._timedelta_formats,
            )
            table = None
            for event, element in iterparse(source, ("start", "end")):
                if event == "start":
                    table = element if element.tag == f"{_MAIN}sheetData" else table
                elif element.tag == f"{_MAIN}row" and table is not None:
                    if len(element) > MAX_COLUMNS:
                        raise problem(f"a row of more than {MAX_COLUMNS:,} cells")
                    self.shared_strings.begin()
                    yield parser.parse_row(element)
                    # Both would keep something of each row.
                    table.clear()
                    parser.row_dimensions.clear()
                    source.begin()
                elif element is table:
                    return  # formats, links and pictures follow

    def read_strings(self) -> None:
        """The texts that cells share, one by one."""
        part = self.package.find(SHARED_STRINGS)
        if part is None:
            return
        with self.archive.open(part.PartName[1:]) as source:
            events = iterparse(source, ("start", "end"))
            root = next(events)[1]
            for event, element in events:
                if event == "end" and element.tag == f"{_MAIN}si":
                    # Without the readings of Japanese words, which have texts as well.
                    runs = [element, *element.findall(f"{_MAIN}r")]
                    texts = [run.findtext(f"{_MAIN}t") or "" for run in runs]
                    self.shared_strings.append("".join(texts))
                    root.clear()
                    source.begin()

    def read_worksheets(self) -> None:
        """The list of the sheets, not what is in them."""
        if _XLSX not in {part.ContentType for part in self.package.Override}:
            raise problem("this is a workbook with macros or a template, not an .xlsx")
        self.visible = [
            (sheet.name, rel.target)
            for sheet, rel in self.parser.find_sheets()
            if sheet.state == "visible" and rel.Type.endswith("/worksheet")
        ]

    def read_properties(self) -> None:
        """Who wrote it, when: nothing for us."""

    read_custom = read_theme = read_properties
