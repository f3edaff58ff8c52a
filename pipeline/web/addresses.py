"""Addresses of files as whole URLs of the host that was asked.

Without ``PIPELINE_PUBLIC_URL``, the result of a job is stored with paths: one server may be reached
under several names, and what is stored under one of them would be wrong under the next. So the URLs
are written while the result is sent.
"""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import IO, TextIO

from starlette.requests import Request

from pipeline.csvs.writing import output_address

PIECE_CHARACTERS = 1 << 16
# What may stand before an address in a cell, and what cannot be in one: names have no such letter.
_BEFORE = r"(?<![^\s,;|\"'\[])"
_NAME = r"[^/\s,;|\"'\]]+"
# The same in the XML of a workbook: a cell begins after a tag, and letters may be numbers.
_BEFORE_IN_XML = r"(?<![^\s,;|\"'\[>])"
_NAME_IN_XML = r"(?:[^/\s,;|\"'\]<&]|&#\w+;|&amp;)+"
# Where the texts of a workbook's cells are.
_TEXTS = re.compile(r"xl/(?:worksheets/[^/]+|sharedStrings)\.xml")
_PIECE_BYTES = 1 << 16
# `zipfile` has to know beforehand where sizes need 64 bits; URLs are longer than paths.
_BIG_PART_BYTES = 1 << 30


def files_url(request: Request) -> str:
    """The address of the output folder at this server.

    The guard has checked the Host header, and the scheme is the one that a proxy on this machine
    tells: a stranger cannot make it another site's.
    """
    return f"{request.base_url}files"


def with_whole_urls(result: TextIO, reference: str, public_url: str) -> Iterator[str]:
    """The text of the result of a job, in pieces, with a URL for each path of a rendition of it.

    Open the file with ``newline=""``: line ends stay as they are. It is closed at the end.
    """
    path = re.compile(rf"{_BEFORE}jobs/{_NAME}/{reference}/{_NAME}")

    def whole(found: re.Match[str]) -> str:
        return output_address(found[0], public_url)

    lines: list[str] = []
    size = 0
    with result:
        for line in result:
            lines.append(path.sub(whole, line))
            size += len(line)
            if size >= PIECE_CHARACTERS:
                yield "".join(lines)
                lines, size = [], 0
    yield "".join(lines)


def write_with_whole_urls(result: Path, reference: str, public_url: str, target: IO[bytes]) -> None:
    """The same for a workbook, which is written to ``target`` as a whole.

    A sheet in UTF-16, which no spreadsheet program writes, stays as it is.

    Raises:
        OSError: it cannot be read, or written.
    """
    path = re.compile(
        rf"{_BEFORE_IN_XML}jobs/{_NAME_IN_XML}/{reference}/{_NAME_IN_XML}".encode("ascii")
    )

    def whole(found: re.Match[bytes]) -> bytes:
        return output_address(unescape(found[0].decode("utf-8", "replace")), public_url).encode()

    with zipfile.ZipFile(result) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            is_big = info.file_size > _BIG_PART_BYTES
            with old.open(info) as source, new.open(info, "w", force_zip64=is_big) as copy:
                if not _TEXTS.fullmatch(info.filename):
                    shutil.copyfileobj(source, copy)
                    continue
                for piece in _between_tags(source):
                    copy.write(path.sub(whole, piece))


def _between_tags(source: IO[bytes]) -> Iterator[bytes]:
    """The bytes of XML in pieces that end before a tag: no text is cut in two."""
    held = b""
    while piece := source.read(_PIECE_BYTES):
        whole, tag, rest = (held + piece).rpartition(b"<")
        yield whole
        held = tag + rest
    yield held
