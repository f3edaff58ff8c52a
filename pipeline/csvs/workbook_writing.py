"""Writing a workbook again with other texts in some of its cells, and all else as it was.

The XML of the one sheet is copied as a stream, and only the cells in question are exchanged or
added: formats, formulas, links, other sheets and pictures stay byte for byte. What is written is
text, never a formula, whatever it begins with.
"""

from __future__ import annotations

import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import IO, BinaryIO
from xml.parsers import expat
from xml.sax.saxutils import escape

from pipeline.csvs.workbook import Sheet, Workbook
from pipeline.csvs.workbook_parts import MAX_COLUMNS, problem
from pipeline.errors import CsvError

CHUNK_BYTES = 64 * 1024
# `zipfile` has to know beforehand where sizes need 64 bits; a sheet may grow while it is written.
BIG_PART_BYTES = 1 << 30
MAX_TEXT_CHARACTERS = 32_767

# The old and the new text of cells of one row, by column, from 1, in the order of the sheet's rows.
Edits = Iterator[tuple[int, Mapping[int, tuple[str, str]]]]

_CALC_CHAIN = "calcChain.xml"
# The parts that name the list of formulas. Excel repairs a workbook whose list has a cell without.
_NAMES_CALC_CHAIN = ("[Content_Types].xml", "xl/_rels/workbook.xml.rels")
_CALC_CHAIN_ENTRY = re.compile(rb"<[^<>]*calcChain\.xml[^<>]*/>")
_SPANS = re.compile(rb"""\sspans\s*=\s*("[^"]*"|'[^']*')""")
# What XML cannot hold.
_NO_XML = re.compile("[^\\t\\n\\r -\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")
_MARKS = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}


def write_workbook(
    workbook: Workbook, sheet: Sheet, edits: Edits, target: BinaryIO, adds: bool
) -> None:
    """Write the workbook to ``target`` with ``edits`` in the cells of ``sheet``.

    ``adds`` says that they are new cells to the right of all others, not the texts of existing
    ones.

    Raises:
        CsvError: a row of ``edits`` is not there any more, a text is longer than a cell may be, or
            the workbook is damaged.
        OSError: it cannot be written.
    """
    try:
        _write_parts(workbook, sheet, edits, target, adds)
    except (expat.ExpatError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        # What follows the rows of a sheet, and the other parts, is not read before.
        raise problem("this Excel file is damaged") from error


def _write_parts(
    workbook: Workbook, sheet: Sheet, edits: Edits, target: BinaryIO, adds: bool
) -> None:
    infos = {info.filename: info for info in workbook.parts.infolist()}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as result:
        # First the sheet: only then it is known whether a formula was replaced.
        with _part(result, infos[sheet.part]) as file:
            splice = _Splice(edits, file, adds)
            with workbook.parts.copied(sheet.part) as source:
                while chunk := source.read(CHUNK_BYTES):
                    splice.feed(chunk)
            splice.close()
        for name, info in infos.items():
            if name == sheet.part or (splice.lost_formula and name.endswith(_CALC_CHAIN)):
                continue
            with workbook.parts.copied(name) as source, _part(result, info) as file:
                if splice.lost_formula and name in _NAMES_CALC_CHAIN:
                    file.write(_CALC_CHAIN_ENTRY.sub(b"", source.read()))
                else:
                    shutil.copyfileobj(source, file, CHUNK_BYTES)


def _part(result: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
    """A part of the new archive, of the same name and time as ``info``."""
    new = zipfile.ZipInfo(info.filename, info.date_time)
    new.compress_type = zipfile.ZIP_DEFLATED
    new.external_attr = info.external_attr
    return result.open(new, "w", force_zip64=info.file_size > BIG_PART_BYTES)


class _Splice:
    """The XML of a sheet, copied from ``feed`` to a file, with other texts in some cells.

    The parser says where each tag begins; what began before ends there. ``_unit`` is what is to be
    exchanged once its end is known: a cell, the tag of a row, the size of the sheet.
    """

    def __init__(self, edits: Edits, file: IO[bytes], adds: bool) -> None:
        self.lost_formula = False
        self._edits, self._file, self._adds = edits, file, adds
        self._next = next(edits, None)
        self._held, self._base, self._seen = bytearray(), 0, 0
        self._encoding = ""
        self._row = self._column = 0
        self._todo: dict[int, tuple[str, str]] = {}
        self._unit: tuple[str, int] | None = None
        self._is_over = self._has_formula = False
        self._prefix = self._style = ""
        self._parser = expat.ParserCreate()
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.DefaultHandler = self._other

    def feed(self, chunk: bytes) -> None:
        """Copy a piece of the sheet, as far as it is clear what to do with it."""
        self._encoding = self._encoding or _MARKS.get(chunk[:2], "ascii")
        self._held += chunk
        self._parser.Parse(chunk, False)
        self._copy_to(self._seen if self._unit is None else self._unit[1])

    def close(self) -> None:
        """Copy what is left.

        Raises:
            CsvError: an edit was not for a row of this sheet.
        """
        self._parser.Parse(b"", True)
        self._copy_to(self._base + len(self._held))
        if self._next is not None:
            raise CsvError(f"row {self._next[0]} is not in the workbook any more")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        at = self._arrive()
        prefix, _, tag = name.rpartition(":")
        if tag == "row":
            self._row = int(attributes.get("r") or self._row + 1)
            self._column = 0
            if self._next is not None and self._next[0] == self._row:
                self._todo = dict(sorted(self._next[1].items()))
                self._next = next(self._edits, None)
                if self._adds:
                    self._unit, self._is_over = ("row", at), True
        elif tag == "c":
            reference = attributes.get("r")
            self._column = _column(reference) if reference else self._column + 1
            self._prefix = f"{prefix}:" if prefix else ""
            if self._column in self._todo:
                self._unit, self._is_over, self._has_formula = ("cell", at), False, False
                self._style = attributes.get("s", "")
        elif tag == "f":
            self._has_formula = True
        elif tag == "dimension" and self._adds:
            self._unit, self._is_over = ("dimension", at), False

    def _end(self, name: str) -> None:
        at = self._arrive()
        tag = name.rpartition(":")[2]
        if tag in ("c", "dimension"):
            self._is_over = True
        elif tag == "row" and self._todo:
            self._copy_to(at)
            self._style = ""
            for column, (_, text) in self._todo.items():
                if text:
                    self._write(column, text)
            self._todo = {}

    def _other(self, _: str) -> None:
        self._arrive()

    def _arrive(self) -> int:
        """Where the parser is; what is over there is exchanged."""
        at = self._seen = self._parser.CurrentByteIndex
        if self._unit is None or not self._is_over or at == self._unit[1]:
            return at
        kind, start = self._unit
        self._unit = None
        self._copy_to(start)
        raw = bytes(self._held[: at - start])
        del self._held[: at - start]
        self._base = at
        if kind == "row":
            # How far the row reaches, which is optional, and wrong with a further cell.
            self._file.write(_SPANS.sub(b"", raw))
        elif kind == "cell":
            old, new = self._todo.pop(self._column)
            # A formula becomes its text even where that stays: others may share the formula of a
            # cell that does not.
            if old == new and not self._has_formula:
                self._file.write(raw)
            else:
                self.lost_formula |= self._has_formula
                self._write(self._column, new)
        return at

    def _copy_to(self, end: int) -> None:
        self._file.write(bytes(self._held[: end - self._base]))
        del self._held[: end - self._base]
        self._base = end

    def _write(self, column: int, text: str) -> None:
        place = f"{_letters(column)}{self._row}"
        if len(text) > MAX_TEXT_CHARACTERS or column > MAX_COLUMNS:
            raise CsvError(
                f"cell {place}: {len(text):,} characters, Excel allows {MAX_TEXT_CHARACTERS:,} in "
                f"{MAX_COLUMNS:,} columns; submit the table as CSV UTF-8"
            )
        style = f' s="{self._style}"' if self._style else ""
        p, shown = self._prefix, escape(_NO_XML.sub("?", text))
        cell = (
            f'<{p}c r="{place}"{style} t="inlineStr"><{p}is><{p}t xml:space="preserve">{shown}'
            f"</{p}t></{p}is></{p}c>"
        )
        self._file.write(cell.encode(self._encoding, "xmlcharrefreplace"))


def _column(reference: str) -> int:
    column = 0
    for letter in reference.upper():
        if not "A" <= letter <= "Z":
            break
        column = column * 26 + ord(letter) - ord("A") + 1
    return column


def _letters(column: int) -> str:
    letters = ""
    while column:
        column, rest = divmod(column - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters
