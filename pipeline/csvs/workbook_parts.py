"""The parts of an Excel workbook, which is a ZIP archive of XML, given out within bounds.

An archive may unpack to a thousand times its size, or list millions of parts; what reads the XML
builds trees of it in memory.
"""

from __future__ import annotations

import contextlib
import errno
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from xml.etree.ElementTree import ParseError

from pipeline.csvs.lines import SPLIT, CsvProblem, UnreadableCsv

ZIP_MAGIC = b"PK\x03\x04"
# The list of the parts of a workbook has a kilobyte or two; Python needs ten times its size.
MAX_DIRECTORY_BYTES = 1 << 20
# One part that is built in memory as a whole (styles, the list of sheets), and one row.
MAX_AT_ONCE_BYTES = 8 << 20
# XML packs to a tenth; what unpacks to far more was made to take time and memory.
MAX_RATIO = 100
ENCRYPTED = 0x1
# What Excel itself allows.
MAX_COLUMNS = 16_384

_OTHERS = (
    ("xl/workbook.bin", "a binary Excel workbook (.xlsb)"),
    ("mimetype", "an OpenDocument file (.ods)"),
    ("Index/Document.iwa", "a Numbers file"),
    ("word/document.xml", "a Word document"),
)
# What the decoders raise on files that were damaged or made to fool them.
_BROKEN = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    EOFError,
    RuntimeError,
    RecursionError,
    ParseError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
)


def is_archive(path: Path) -> bool:
    """Whether the file begins like a workbook."""
    with path.open("rb") as file:
        return file.read(len(ZIP_MAGIC)) == ZIP_MAGIC


class Parts(zipfile.ZipFile):
    """The parts of a workbook, each read with the bounds of :class:`Source`.

    Raises:
        UnreadableCsv: it is another archive, or unpacks to more than ``max_bytes``.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        _check_directory(path)
        super().__init__(path)
        try:
            _refuse_others(self, path.stat().st_size, max_bytes)
        except BaseException:
            self.close()
            raise

    def open(self, name: Any, *_: Any, **__: Any) -> Any:
        return Source(super().open(name))

    def read(self, name: Any, pwd: bytes | None = None) -> bytes:
        with self.open(name) as source:
            return bytes(source.read())

    def copied(self, name: str) -> IO[bytes]:
        """A part to be copied piece by piece, without bounds."""
        return super().open(name)


class Source:
    """A part as a file that gives no more than is allowed between two calls of ``begin``."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.begin()

    def begin(self) -> None:
        self._left_bytes = MAX_AT_ONCE_BYTES

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            size = self._left_bytes + 1
        data = self._file.read(size)
        self._left_bytes -= len(data)
        if self._left_bytes < 0:
            raise problem(f"a row, or a list of formats, of more than {MAX_AT_ONCE_BYTES:,} bytes")
        return data

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _check_directory(path: Path) -> None:
    """Python builds an object for each part that the archive lists, before any can be counted."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        start = max(0, size - 66_000)
        file.seek(start)
        tail = file.read()
        at = tail.rfind(b"PK\x05\x06")
        if at < 0 or len(tail) - at < 22:
            raise zipfile.BadZipFile("no directory")
        (listed,) = struct.unpack_from("<L", tail, at + 12)
        locator = tail[max(0, at - 20) : at]
        if locator.startswith(b"PK\x06\x07"):
            file.seek(struct.unpack_from("<Q", locator, 8)[0])
            listed = struct.unpack_from("<Q", file.read(56), 40)[0]
    if listed > MAX_DIRECTORY_BYTES:
        raise problem("an archive of too many parts for a workbook")


def _refuse_others(parts: Parts, packed_bytes: int, max_bytes: int) -> None:
    # `zipfile` unpacks no more of a part than its directory says.
    size_bytes = sum(info.file_size for info in parts.infolist())
    if size_bytes > max_bytes:
        raise problem(
            f"unpacked, the workbook has {size_bytes:,} bytes, at most {max_bytes:,} are "
            f"allowed; {SPLIT}"
        )
    if size_bytes > max(MAX_RATIO * packed_bytes, MAX_AT_ONCE_BYTES):
        raise problem(f"this workbook unpacks to more than {MAX_RATIO} times its size")
    if any(info.flag_bits & ENCRYPTED for info in parts.infolist()):
        raise problem("this archive needs a password")
    names = set(parts.namelist())
    if "[Content_Types].xml" in names and any(name.startswith("xl/worksheets/") for name in names):
        return
    what = next((what for name, what in _OTHERS if name in names), "a ZIP file")
    raise problem(f"this is {what}, not an Excel workbook (.xlsx) or a CSV")


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """What goes wrong in the decoders is a problem of the file."""
    try:
        yield
    except UnreadableCsv:
        raise
    except _BROKEN as error:
        raise problem("this Excel or ZIP file is damaged") from error
    except OSError as error:
        # openpyxl finds no list of sheets; or a part begins before the file does.
        if error.errno not in (None, errno.EINVAL):
            raise
        raise problem("this workbook is damaged") from error


def problem(what: str, row: int = 1) -> UnreadableCsv:
    """What is wrong, with a remedy unless ``what`` has one."""
    remedy = "" if ";" in what else "; open it in a spreadsheet and save it as .xlsx or CSV UTF-8"
    return UnreadableCsv(CsvProblem(row, "", what + remedy))
