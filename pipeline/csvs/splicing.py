"""Writing a CSV again with other texts in some of its cells, and byte for byte the same elsewhere.

Encoding, byte order mark, line ends, quotes, title lines and blank lines are copied as they are,
for a shop system imports again what it has exported, and often nothing else.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from pipeline.csvs.dialect import CsvDialect
from pipeline.csvs.lines import Lines
from pipeline.errors import CsvError

MARK = "\ufeff"

# The new texts of cells of one record: the line on which it begins, and them by column, from 0.
Edits = Iterator[tuple[int, Mapping[int, str]]]

_LINE_ENDS = re.compile(r"[\r\n]+")
_WITH_MARK = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",  # before UTF-16, whose mark its own begins with
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}


def write_spliced(source: Path, dialect: CsvDialect, edits: Edits, target: BinaryIO) -> None:
    """Copy the CSV in ``source`` to ``target`` with ``edits``, which are in the order of its lines.

    Raises:
        CsvError: a record of ``edits`` is not there any more.
        OSError: the file cannot be read, or ``target`` not written.
    """
    encoding = _encoding_as_written(source, dialect.encoding)
    wanted = next(edits, None)
    text = io.TextIOWrapper(target, encoding, newline="")
    with source.open(encoding=encoding, newline="") as file:
        lines = Lines(file, encoding)
        for line in lines:
            if lines.taken <= dialect.skipped_lines:
                text.write(line)
                continue
            begins = lines.taken
            is_wanted = wanted is not None and wanted[0] == begins
            if not is_wanted and '"' not in line:
                # A record of its own, and most of them: where its cells are does not matter.
                text.write(line)
                continue
            if begins == 1 and line.startswith(MARK):
                text.write(MARK)
                line = line[1:]
            record, cells = _record(line, lines, dialect.delimiter)
            if is_wanted and wanted is not None:
                record = _edited(record, cells, wanted[1], dialect.delimiter)
                wanted = next(edits, None)
            text.write(record)
    text.detach()
    if wanted is not None:
        raise CsvError(f"line {wanted[0]}: no row begins here any more")


def _encoding_as_written(source: Path, encoding: str) -> str:
    """An encoding that neither drops a byte order mark nor adds one."""
    with source.open("rb") as file:
        head = file.read(4)
    return next((plain for mark, plain in _WITH_MARK.items() if head.startswith(mark)), encoding)


def _record(text: str, lines: Lines, delimiter: str) -> tuple[str, list[tuple[int, int]]]:
    """The record that begins with the line ``text``, as it is written, and where its cells are."""
    plain = re.compile(f"[^\r\n{re.escape(delimiter)}]*")
    cells: list[tuple[int, int]] = []
    start = 0
    while True:
        end = start
        if text.startswith('"', start):
            # A doubled quote is one that stands in the cell.
            end = text.find('"', start + 1)
            while end < 0 or text.startswith('"', end + 1):
                if end >= 0:
                    end = text.find('"', end + 2)
                    continue
                searched = len(text)
                # Many line ends at once, as there may be a million of them.
                text += lines.run(_LINE_ENDS) or next(lines, "")
                if len(text) == searched:
                    raise CsvError(f"line {lines.taken}: a quoted cell is not closed any more")
                end = text.find('"', searched)
            end += 1
        found = plain.match(text, end)
        end = found.end() if found else end
        cells.append((start, end))
        if not text.startswith(delimiter, end):
            return text, cells
        start = end + 1


def _edited(
    record: str, cells: list[tuple[int, int]], new: Mapping[int, str], delimiter: str
) -> str:
    pieces = []
    done = 0
    for column, text in sorted(new.items()):
        start, end = cells[column]
        is_quoted = record.startswith('"', start) or re.search(
            f'["\r\n{re.escape(delimiter)}]', text
        )
        quoted = '"' + text.replace('"', '""') + '"'
        pieces += [record[done:start], quoted if is_quoted else text]
        done = end
    return "".join([*pieces, record[done:]])
