"""Tiny valid originals by the hundred thousand, each with its own bytes, size and digest.

A few hundred images are encoded once; every file is one of them with a comment of its own put
into it (a COM segment in a JPEG, a tEXt chunk in a PNG), so making one costs no more than writing.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.job import Original

FILES_PER_FOLDER = 1000
_TEMPLATES = 200
_PNG_END_BYTES = 12  # the IEND chunk, always last


def names(count: int) -> Iterator[str]:
    """The names of `count` originals, in folders of FILES_PER_FOLDER; every fourth is a PNG."""
    for number in range(count):
        suffix = "png" if number % 4 == 3 else "jpg"
        yield f"{number // FILES_PER_FOLDER:04d}/{number:07d}.{suffix}"


def make(folder: Path, count: int, *, only_jpeg: bool = False, flat: bool = False) -> None:
    """Write `count` originals below `folder`; nothing is done where the marker says it is done.

    `flat` puts all into one folder and `only_jpeg` leaves out PNG, for a peer that needs it so.
    """
    marker = folder.parent / f"{folder.name}.made"
    if marker.exists() and marker.read_text(encoding="utf-8") == str(count):
        return
    folder.mkdir(parents=True, exist_ok=True)
    jpegs, pngs = _templates("JPEG"), _templates("PNG")
    parent = ""
    for number, name in enumerate(names(count)):
        if only_jpeg:
            name = name.removesuffix("png").removesuffix("jpg") + "jpg"
        if flat:
            name = name.rpartition("/")[2]
        elif name.rpartition("/")[0] != parent:
            parent = name.rpartition("/")[0]
            (folder / parent).mkdir(exist_ok=True)
        is_png = name.endswith("png")
        template = (pngs if is_png else jpegs)[number % _TEMPLATES]
        (folder / name).write_bytes(_with_comment(template[0], _comment(number, 0), is_png))
    marker.write_text(str(count), encoding="utf-8")


def change(folder: Path, count: int, changed: int, generation: int) -> list[str]:
    """Give `changed` originals, spread over the tree, other bytes; returns their names.

    Another `generation` picks other files and other bytes.
    """
    step = max(1, count // changed)
    wanted = set(range(generation % step, count, step))
    picked = [(n, name) for n, name in enumerate(names(count)) if n in wanted][:changed]
    encoded = {True: _templates("PNG"), False: _templates("JPEG")}
    for number, name in picked:
        is_png = name.endswith("png")
        template = encoded[is_png][(number + generation) % _TEMPLATES][0]
        (folder / name).write_bytes(_with_comment(template, _comment(number, generation), is_png))
    return [name for _, name in picked]


def originals(count: int) -> list[Original]:
    """The same originals with their sizes in px, for a job."""
    sizes = [size for _, size in _templates("JPEG")]
    return [Original(name, *sizes[number % _TEMPLATES]) for number, name in enumerate(names(count))]


def _comment(number: int, generation: int) -> bytes:
    return f"original {number} generation {generation} ".encode() + b"." * (number * 7 % 389)


def _with_comment(image: bytes, comment: bytes, is_png: bool) -> bytes:
    if not is_png:
        segment = b"\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment
        return image[:2] + segment + image[2:]
    kind_and_data = b"tEXt" + b"Comment\0" + comment
    chunk = struct.pack(">I", len(kind_and_data) - 4) + kind_and_data
    chunk += struct.pack(">I", zlib.crc32(kind_and_data))
    return image[:-_PNG_END_BYTES] + chunk + image[-_PNG_END_BYTES:]


def _templates(format_: str) -> list[tuple[bytes, tuple[int, int]]]:
    random = np.random.default_rng(7)
    options = {"quality": 80} if format_ == "JPEG" else {"compress_level": 1}
    made = []
    for _ in range(_TEMPLATES):
        width, height = (int(n) for n in random.integers(16, 64, 2))
        coarse = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        file = io.BytesIO()
        image.save(file, format_, **options)
        made.append((file.getvalue(), (width, height)))
    return made
