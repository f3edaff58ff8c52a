"""Reading lists of hashes: CSV with or without a header, or text with a hash a line.

Besides a plain column these are read as they come: ``threatexchange dataset -P --csv``
(``collab,signal_type,signal_str,category,tags``), the samples of hasher-matcher-actioner (``hash``,
an id, a time, tags), ``pdq-photo-hasher`` (``hash,quality,file``), ``sha256sum`` and ``md5sum``,
and what ``datapipe blocklist export`` writes.
"""

from __future__ import annotations

import csv
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TextIO

from pipeline.errors import HashListError
from pipeline.states import HashKind

# The recommendation of PDQ's paper: below it a picture is too flat to be told from others.
MIN_QUALITY = 50
FAULTS_SHOWN = 10
REASON_MAX = 2_000
LINE_MAX = 1_000_000

_DIGITS = {HashKind.SHA256: 64, HashKind.MD5: 32, HashKind.PDQ: 64}
_KIND = re.compile(r"(?:(?:hash|photo|image|video)\W*)?(sha\W?256|md5|pdq)(?:\W*hash)?")
_BEGINS_WITH_HASH = re.compile(r"(?:[0-9a-fA-F]{64}|[0-9a-fA-F]{32})(?:\s|$)")
# The columns that are read, by the names that they have in lists.
_NAMES = {
    "hash": {"hash", "value", "signal", "signal_str", "indicator", "raw_indicator", "digest"},
    "kind": {"kind", "type", "signal_type", "hash_type", "indicator_type", "algorithm"},
    "reason": {"reason", "description", "tags"},
    "quality": {"quality", "pdq_quality"},
    "source": {"source", "collab"},
    "verdict": {"category", "status"},
}
# What ThreatExchange says of content that was found to be harmless.
_HARMLESS = {"NEGATIVE_CLASS", "FALSE_POSITIVE", "NON_MALICIOUS"}


class ListedHash(NamedTuple):
    """One hash of a list; ``source`` and ``reason`` where the file says them."""

    kind: str
    hash: str
    source: str | None
    reason: str | None


@dataclass
class Reading:
    """What was read so far besides hashes: lines, what was left out, and what is invalid."""

    lines: int = 0
    low_quality: int = 0
    harmless: int = 0
    other_kinds: Counter[str] = field(default_factory=Counter)
    # The first ten, as `line 3: ...`.
    faults: list[str] = field(default_factory=list)
    fault_count: int = 0

    def add_fault(self, line: int, what: str) -> None:
        """Count an invalid line."""
        self.fault_count += 1
        if len(self.faults) < FAULTS_SHOWN:
            self.faults.append(f"line {line:,}: {what}")


def lines_of(name: str, stream: TextIO) -> Iterator[str]:
    """The lines of a file, each of them short enough to be held in memory.

    Raises:
        HashListError: one is too long for a list of hashes.
    """
    number = 0
    while line := stream.readline(LINE_MAX):
        number += 1
        if len(line) == LINE_MAX and not line.endswith("\n"):
            raise HashListError(
                f"{name}: line {number:,} has more than {LINE_MAX:,} characters, so this is no "
                "list of hashes; name another file"
            )
        yield line


def read_hashes(
    name: str, lines: Iterable[str], kind: HashKind | None, reading: Reading
) -> Iterator[ListedHash]:
    """The hashes of a list, one after another; invalid lines are counted in ``reading``.

    ``kind`` is for hashes of which the file does not say it. Left out, and counted: PDQ hashes of a
    quality below 50, content that the list says is harmless, and hashes of other kinds.

    Raises:
        HashListError: it cannot be told whether hashes are SHA-256 or PDQ, or no column has any.
    """
    columns: _Columns | None = None
    for number, cells in _rows(lines, reading):
        reading.lines = number
        if columns is None:
            columns = _header(name, cells)
            if columns is not None:
                continue
            columns = _without_header(cells)
        verdict = columns.cell(cells, columns.verdict)
        if verdict is not None and verdict.upper() in _HARMLESS:
            reading.harmless += 1
            continue
        reason = columns.cell(cells, columns.reason)
        if reason is not None:
            reason = " ".join(reason.split())[:REASON_MAX]
        source = columns.cell(cells, columns.source)
        for its, digits in _hashes_in(columns, cells, number, kind, reading):
            if its is None:
                raise HashListError(
                    f"{name}: line {number:,}: 64 digits are a SHA-256 or a PDQ hash; say which "
                    "with --kind sha256 or --kind pdq, or in a column called kind"
                )
            if its is HashKind.PDQ and columns.is_flat(cells, number, reading):
                continue
            yield ListedHash(its.value, digits, source, reason)


def _hashes_in(
    columns: _Columns,
    cells: Sequence[str],
    number: int,
    kind: HashKind | None,
    reading: Reading,
) -> Iterator[tuple[HashKind | None, str]]:
    """The hashes of one row with their kinds; ``None`` for one that may be of two."""
    said = columns.cell(cells, columns.kind)
    for column, of_column in columns.hashes:
        digits = (columns.cell(cells, column) or "").lower()
        if not digits and len(columns.hashes) > 1:
            continue
        its = _kind_of(said) if said else of_column
        if said and its is None:
            reading.other_kinds[said.lower()[:40]] += 1
            continue
        its = its or kind
        if not _is_hash(digits):
            reading.add_fault(number, f"{digits[:80]!r} is not a SHA-256, MD5 or PDQ hash")
        elif its is not None and len(digits) != _DIGITS[its]:
            wrong = f"a hash of kind {its.value} has {_DIGITS[its]} digits, not {len(digits)}"
            reading.add_fault(number, wrong)
        else:
            yield its or (HashKind.MD5 if len(digits) == _DIGITS[HashKind.MD5] else None), digits


@dataclass
class _Columns:
    """Where a list has what. ``hashes`` are columns of hashes, each with its kind, if known."""

    hashes: list[tuple[int, HashKind | None]]
    kind: int | None = None
    reason: int | None = None
    quality: int | None = None
    source: int | None = None
    verdict: int | None = None
    # Without a header, a column that may be the quality or an id.
    has_header: bool = True

    @staticmethod
    def cell(cells: Sequence[str], column: int | None) -> str | None:
        """The text of a cell; ``None`` where there is none."""
        if column is None or column >= len(cells):
            return None
        return cells[column].strip() or None

    def is_flat(self, cells: Sequence[str], number: int, reading: Reading) -> bool:
        """Whether the quality of a PDQ hash is too low; counts it if so, or if it is no number."""
        text = self.cell(cells, self.quality)
        if text is None:
            return False
        try:
            quality = float(text)
        except ValueError:
            if self.has_header:
                reading.add_fault(number, f"the quality {text[:40]!r} is not a number")
            return self.has_header
        if not self.has_header and not (text.isdigit() and quality <= 100):
            return False  # an id
        reading.low_quality += quality < MIN_QUALITY
        return quality < MIN_QUALITY


def _header(name: str, cells: Sequence[str]) -> _Columns | None:
    """The columns that a header names; ``None`` if this row is none."""
    names = [cell.strip().lower() for cell in cells]
    if any(_is_hash(text) for text in names):
        return None
    found: dict[str, int] = {}
    hashes: list[tuple[int, HashKind | None]] = []
    for column, text in enumerate(names):
        its = _kind_of(text)
        if its is not None:
            hashes.append((column, its))
        for meaning, called in _NAMES.items():
            if text in called:
                found.setdefault(meaning, column)
    plain = found.pop("hash", None)
    if plain is not None:
        hashes.append((plain, None))
    if not hashes and not found:
        return None
    if not hashes:
        raise HashListError(
            f"{name}: no column of its header is one of hashes; name one hash, sha256, md5 or pdq"
        )
    return _Columns(
        hashes,
        found.get("kind"),
        found.get("reason"),
        found.get("quality"),
        found.get("source"),
        found.get("verdict"),
    )


def _without_header(cells: Sequence[str]) -> _Columns:
    """Columns as the first row of a list shows them."""
    texts = [cell.strip().lower() for cell in cells]
    column = next((n for n, text in enumerate(texts) if _is_hash(text)), 0)
    kinds = (n for n, text in enumerate(texts) if n != column and _kind_of(text) is not None)
    return _Columns([(column, None)], next(kinds, None), quality=column + 1, has_header=False)


def _rows(lines: Iterable[str], reading: Reading) -> Iterator[tuple[int, list[str]]]:
    """The rows with the number of their first line, without blank lines and comments."""
    coming, before = iter(lines), 0
    first = ""
    for first in coming:
        if first.strip() and not first.startswith("#"):
            break
        before += 1
    is_text = _BEGINS_WITH_HASH.match(first) or not any(mark in first for mark in ",;\t")
    if is_text:
        for number, line in enumerate(itertools.chain([first], coming), before + 1):
            if line.strip() and not line.startswith("#"):
                yield number, line.split()
        return
    delimiter = next(mark for mark in ",;\t" if mark in first)
    reader = csv.reader(itertools.chain([first], coming), delimiter=delimiter)
    while True:
        number = before + reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            reading.add_fault(number, f"it cannot be read as CSV ({error})")
            continue
        if any(cells) and not cells[0].startswith("#"):
            yield number, cells


def _kind_of(text: str) -> HashKind | None:
    found = _KIND.fullmatch(text.strip().lower().replace("_", "-"))
    return HashKind(re.sub(r"\W", "", found[1])) if found else None


def _is_hash(text: str) -> bool:
    return len(text) in (32, 64) and not text.strip("0123456789abcdef")
