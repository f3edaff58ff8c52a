"""Addresses of files as whole URLs of the host that was asked.

Without ``PIPELINE_PUBLIC_URL``, the result of a job is stored with paths: one server may be reached
under several names, and what is stored under one of them would be wrong under the next. So the URLs
are written while the result is sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TextIO

from starlette.requests import Request

from pipeline.csvs.writing import output_address

PIECE_CHARACTERS = 1 << 16
# What may stand before an address in a cell, and what cannot be in one: names have no such letter.
_BEFORE = r"(?<![^\s,;|\"'\[])"
_NAME = r"[^/\s,;|\"'\]]+"


def files_url(request: Request) -> str:
    """The address of the output folder at this server.

    The guard has checked the Host header, and the scheme is the one that a proxy on this machine
    tells: a stranger cannot make it another site's.
    """
    return f"{request.base_url}files"


def with_whole_urls(result: TextIO, reference: str, public_url: str) -> Iterator[str]:
    """The text of the result of a job, in pieces, with a URL for each path of a rendition of it.

    Open the file with ``newline=""``: line ends stay as they are.
    """
    path = re.compile(rf"{_BEFORE}jobs/{_NAME}/{reference}/{_NAME}")

    def whole(found: re.Match[str]) -> str:
        return output_address(found[0], public_url)

    lines: list[str] = []
    size = 0
    for line in result:
        lines.append(path.sub(whole, line))
        size += len(line)
        if size >= PIECE_CHARACTERS:
            yield "".join(lines)
            lines, size = [], 0
    yield "".join(lines)
