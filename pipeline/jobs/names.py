"""Names of jobs, and of the images that they make.

A name is made from an untrusted cell, and becomes a file name. So it is restricted to what
every file system, shell, URL and archive accepts, and a name that had to be changed ends in a hash
of the original text.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from datetime import datetime

# Below the 255 bytes of common file systems, so that a prefix or a suffix still fits.
MAX_NAME_BYTES = 200
MAX_NUMBER_BYTES = 60
# 64 bits: two of a million cut names share theirs once in 37 million jobs.
HASH_DIGITS = 16
# A hash ends a part and is separated by this, which user text never contains.
HASH_MARK = "~"

_UNSAFE = re.compile(r"[^\w-]+")
_PLAIN = re.compile(r"\w(?:[\w-]*\w)?", re.ASCII)
# No "_", which separates the number from the product; no small letters, so that a1 and A1 stay two
# files where the file system ignores case.
_PLAIN_NUMBER = re.compile(r"[A-Z0-9](?:[A-Z0-9-]*[A-Z0-9])?")


def reference(now: datetime, running: int) -> str:
    """The number of a job: the time to the second, and the running number within that second.

    For example ``202502230413203`` for job 3 of 04:13:20 on 2025-02-23. The caller makes sure that
    a ``running`` number is used once per second; two references of different seconds differ in
    their first 14 digits.

    Raises:
        ValueError: ``running`` is below 0, or the year has not four digits.
    """
    if running < 0:
        raise ValueError(f"running number {running}; give 0 or more")
    if now.year < 1000:
        raise ValueError(f"year {now.year}; give a later one")
    return f"{now:%Y%m%d%H%M%S}{running}"


def image_name(reference: str, number: str, product: str, sequence: int, suffix: str) -> str:
    """The file name of one image of a job: ``202502230413203_1_SKU1_0.jpg``.

    ``sequence`` counts the images of a row from 0; ``suffix`` is for example ``.jpg``. Letters and
    digits of any script and ``-`` stay, in a product ``_`` as well. All else (separators, dots,
    blanks, emoji, controls) becomes ``-``, and a part that was changed or cut ends in a hash of
    what it was. So two images of a job share no name if their S. No. or sequence differs, not even
    where the file system ignores case or the forms of Unicode. A name is at most 200 bytes long. It
    begins with the reference, so that no device name of Windows can come of it.
    """
    head = f"{reference}_{_part(number, MAX_NUMBER_BYTES, _PLAIN_NUMBER)}_"
    tail = f"_{sequence}{suffix}"
    room = MAX_NAME_BYTES - len(f"{head}{tail}".encode())
    return f"{head}{_part(product, room, _PLAIN)}{tail}"


def _part(text: str, max_bytes: int, plain: re.Pattern[str]) -> str:
    if plain.fullmatch(text) and len(text) <= max_bytes:
        return text
    safe = _UNSAFE.sub("-", unicodedata.normalize("NFC", text)).strip("-_")
    if plain is _PLAIN_NUMBER:
        safe = safe.replace("_", "-")
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:HASH_DIGITS]
    room = max_bytes - HASH_DIGITS - len(HASH_MARK)
    cut = safe.encode("utf-8", "ignore")[:room].decode("utf-8", "ignore").rstrip("-_")
    return f"{cut}{HASH_MARK}{digest}"
