"""Names: the key of an original in the tables, and the file that a rendition is written to.

A key is the path below ``input/`` with ``/`` between folders, as text that every database takes.
File systems allow bytes that are no text; Python shows those as lone surrogates, which SQLite and
PostgreSQL refuse. Each such byte becomes one character of U+EF80..U+EFFF (the range that MirBSD
chose for raw octets, see the MirOS OPTU-8 encoding); a name that really holds such a character has
that character's own bytes written the same way, so that two names never share a key.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

RAW_FIRST = 0xEF80
_RAW = re.compile("[\uef80-\uefff]")
_NOT_TEXT = re.compile("[\udc80-\udcff\uef80-\uefff]")

# Linux, macOS and Windows file systems agree on 255 (bytes, or code units, of which bytes are the
# stricter count).
NAME_MAX_BYTES = 255

# Between the name of a recipe that has several widths, and the width. No name has it.
WIDTH_SIGN = "@"

# Begins with a dot so that other tools and our own scans skip it.
TEMPORARY_PREFIX = ".lockstep-"

# Below the state folder: the bytes of every fetched image.
FETCHED_FOLDER = "fetched"
# And files on their way from or to a bucket.
CARRIED_FOLDER = "carried"


def key_of(name: str) -> str:
    """The key of a file name as the operating system gave it (``os.fsdecode``)."""
    if name.isascii() or not _NOT_TEXT.search(name):
        return name
    return _NOT_TEXT.sub(_raw_from_text, name)


def name_of(key: str) -> str:
    """The file name (or path) of a key: the inverse of :func:`key_of`."""
    if key.isascii() or not _RAW.search(key):
        return key
    raw = b"".join(
        bytes((ord(c) - RAW_FIRST + 0x80,)) if _RAW.match(c) else os.fsencode(c) for c in key
    )
    return os.fsdecode(raw)


def _raw_from_text(match: re.Match[str]) -> str:
    return "".join(chr(RAW_FIRST + byte - 0x80) for byte in os.fsencode(match.group()))


def folder_of(recipe: str) -> str:
    """The folder below ``output/`` of a recipe: one for all widths of a recipe that has several."""
    return recipe.partition(WIDTH_SIGN)[0]


def rendition_key(original: str, recipe: str, suffix: str | None) -> str:
    """The key, below ``output/``, of the rendition that ``recipe`` makes of ``original``.

    ``suffix`` (for example ``.webp``) is appended if the format differs from the original's suffix;
    ``None`` keeps the name. After the width of a recipe that has several, there is always one. A
    name that grows past 255 bytes is cut and made unique by a hash of the whole name.
    """
    folder, _, name = original.rpartition("/")
    below, sign, width = recipe.partition(WIDTH_SIGN)
    if sign:
        suffix = sign + width + (suffix or os.path.splitext(name)[1])
    new = name + (suffix or "")
    if len(os.fsencode(name_of(new))) > NAME_MAX_BYTES:
        new = shortened_name(name, name[-_suffix_length(name) :] if suffix is None else suffix)
    return "/".join(part for part in (below, folder, new) if part)


def set_apart(key: str, original: str) -> str:
    """Another key for a rendition whose natural one already belongs to another original.

    ``b.png`` as WebP and ``b.png.webp`` kept as it is would both be ``b.png.webp``.
    """
    folder, _, name = key.rpartition("/")
    suffix = name[-_suffix_length(name) :]
    return f"{folder}/{shortened_name(name.removesuffix(suffix), suffix, of=original)}"


def without_folders(key: str, below: str, original: str) -> str:
    """Another key, right ``below`` the folder of its recipe, for a rendition one of whose folders
    cannot exist, because a file has its name.

    ``b.png`` as WebP is the file ``b.png.webp``, and there may be a folder of originals named so.
    """
    return set_apart(f"{below}/{key.rpartition('/')[2]}", original)


def shortened_name(name: str, suffix: str, of: str | None = None) -> str:
    """``name`` cut to fit 255 bytes with ``~``, ten digits of a hash of ``of``, and ``suffix``."""
    digest = hashlib.sha256(os.fsencode(name_of(of or name))).hexdigest()[:10]
    tail = f"~{digest}{suffix}"
    head = os.fsencode(name_of(name))[: NAME_MAX_BYTES - len(tail.encode())]
    # A cut inside a character would leave a name that is no text: drop the torn end.
    return key_of(head.decode("utf-8", "ignore")) + tail


def _suffix_length(name: str) -> int:
    stem, suffix = os.path.splitext(name)
    return len(suffix) if stem and 0 < len(suffix) <= 16 else len(name)


def key_below(folder: Path, typed: str) -> str:
    """The key of a path that was typed below ``folder``, or as a path that leads into it."""
    here = Path(os.path.normpath(Path.cwd() / typed))
    if here.is_relative_to(folder) and here != folder:
        return key_of(here.relative_to(folder).as_posix())
    return key_of(Path(os.path.normpath(typed)).as_posix())
