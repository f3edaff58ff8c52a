"""The rows of lists of hashes: importing, listing, exporting and removing them.

A list is read and checked as a whole before its first row is written, so one with invalid lines
leaves nothing behind. Its rows are then written some thousands at a time, because one transaction
of a million rows would hold up a run on SQLite. Killed in between, a part of them is there and
blocks; ``datapipe blocklist list`` and each run say so, and the same import adds the rest.
"""

from __future__ import annotations

import csv
import json
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import IO, Any, TypeAlias

import sqlalchemy as sa

from pipeline.blocklist import Blocklist
from pipeline.csvs.hashes import ListedHash, Reading, read_hashes
from pipeline.database.connection import Database
from pipeline.database.paging import chunks, pages
from pipeline.database.state import IMPORTING, UNSENT, StateRepository, state_table
from pipeline.database.transaction import Write
from pipeline.errors import HashListError, LockstepError, NotFoundError
from pipeline.near import BlockedPictures
from pipeline.states import HashKind
from pipeline.storage.owners import is_alive, owner
from pipeline.text import iso

# Rows of one transaction: a tenth of a second on SQLite.
ROWS_AT_ONCE = 10_000
SOURCE_MAX = 200
# Of rows that takedowns have written: `takedown 12`.
OF_TAKEDOWN = "takedown "


@dataclass
class Imported:
    """What an import did. ``added`` and ``known`` count hashes, the others lines of the file."""

    sources: list[str]
    lines: int = 0
    added: int = 0
    known: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    low_quality: int = 0
    harmless: int = 0
    other_kinds: dict[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The result of ``datapipe blocklist import --json``."""
        return asdict(self)


def import_list(
    database: Database,
    name: str,
    lines: Iterable[str],
    source: str | None,
    default_source: str,
    reason: str | None,
    kind: HashKind | None = None,
) -> Imported:
    """Add the hashes of a list; those that are there stay, those of other lists as well.

    ``source`` stands for all of them; without it the column of the file says it, or it is
    ``default_source``. ``name`` is what the file is called in messages.

    Raises:
        HashListError: lines are invalid, or there is no hash; nothing was imported.
    """
    reading, counted = Reading(), Counter[str]()
    for given in (source, default_source):
        _check_source(name, given or default_source)
    with tempfile.TemporaryFile("w+", encoding="utf-8", newline="") as spool:
        sources = _spool(name, lines, kind, source, default_source, reading, counted, spool)
        if reading.fault_count:
            more = reading.fault_count - len(reading.faults)
            raise HashListError(
                f"{name}: {_count(reading.fault_count, 'line')} invalid; nothing is imported. Fix "
                "or remove them and import it again",
                [*reading.faults, *([f"and {more:,} more"] if more else [])],
            )
        if not counted:
            left = reading.low_quality + reading.harmless + sum(reading.other_kinds.values())
            why = f"all {left:,} of it are left out" if left else "it has none"
            raise HashListError(f"{name}: no hash to import: {why}")
        spool.seek(0)
        done = Imported(
            sorted(sources),
            reading.lines,
            kinds=dict(sorted(counted.items())),
            low_quality=reading.low_quality,
            harmless=reading.harmless,
            other_kinds=dict(reading.other_kinds),
        )
        before = sum(_count_of(database, each) for each in sources)
        _write(database, done.sources, csv.reader(spool), reason)
        done.added = sum(_count_of(database, each) for each in sources) - before
        done.known = sum(counted.values()) - done.added
    return done


def _spool(
    name: str,
    lines: Iterable[str],
    kind: HashKind | None,
    source: str | None,
    default_source: str,
    reading: Reading,
    counted: Counter[str],
    spool: IO[str],
) -> set[str]:
    """Write what is read to a temporary file; returns the sources."""
    sources: set[str] = set()
    write = csv.writer(spool).writerow
    for each in read_hashes(name, lines, kind, reading):
        its = source or each.source or default_source
        if its not in sources:
            _check_source(name, its)
            sources.add(its)
        counted[each.kind] += 1
        if not reading.fault_count:
            write(each._replace(source=its))
    return sources


def _write(
    database: Database, sources: Iterable[str], rows: Iterable[list[str]], reason: str | None
) -> None:
    state, added_ts = StateRepository(database), time.time()
    for source in sources:
        state.set(IMPORTING + source, owner())
    for chunk in chunks(rows, ROWS_AT_ONCE):
        listed: dict[tuple[str, str, str], _Row] = {}
        for kind, digest, source, its in chunk:
            why = reason or its or None
            listed[kind, digest, source] = (kind, digest, source, why, added_ts)
        with database.writing() as write:
            for source in {row[2] for row in listed}:
                mark_unsent(database, source, added_ts)
            _write_hashes(database, write, list(listed.values()))
    for source in sources:
        state.set(IMPORTING + source, None)


# Kind, hash, source, reason, and when it was added (Unix time in seconds).
_Row: TypeAlias = "tuple[str, str, str, str | None, float]"


def _write_hashes(
    database: Database,
    write: Write,
    rows: Sequence[_Row],
    gone: Sequence[tuple[str, str, str]] = (),
) -> None:
    """Write rows of lists, and remove others."""
    blocklist = Blocklist(database)
    hashes, insert = blocklist.hashes, database.insert(blocklist.hashes)
    statement = insert.on_conflict_do_update(
        index_elements=["kind", "hash", "source"],
        set_={"reason": insert.excluded.reason, "added_ts": insert.excluded.added_ts},
        where=insert.excluded.reason.is_distinct_from(hashes.c.reason),
    )
    if rows:
        # In the order of the key: pages of the index are read and written once.
        names = ("kind", "hash", "source", "reason", "added_ts")
        write.execute(statement, [dict(zip(names, row, strict=True)) for row in sorted(rows)])
    for kind, source in sorted({(kind, source) for kind, _, source in gone}):
        theirs = [row[1] for row in gone if (row[0], row[2]) == (kind, source)]
        for chunk in chunks(theirs):
            its = hashes.c.kind == kind, hashes.c.source == source, hashes.c.hash.in_(chunk)
            write.execute(sa.delete(hashes).where(*its))
    # Last, since it locks the clock: on PostgreSQL a run writes meanwhile.
    blocklist.note_change(write)
    if any(row[0] == HashKind.PDQ.value for row in (*rows, *gone)):
        BlockedPictures(database).changed()


def take_over_hashes(
    database: Database, rows: Sequence[_Row], gone: Sequence[tuple[str, str, str]]
) -> int:
    """Have the lists here as other instances have them; returns how many hashes that changed."""
    known = _known(database, [*(row[:3] for row in rows), *gone])
    new = [row for row in rows if known.get(row[:3], ("",)) != (row[3],)]
    gone = [key for key in gone if key in known]
    if new or gone:
        with database.writing() as write:
            _write_hashes(database, write, new, gone)
    return len(new) + len(gone)


def _known(
    database: Database, keys: Sequence[tuple[str, str, str]]
) -> dict[tuple[str, str, str], tuple[str | None]]:
    """Those that are there, with their reasons."""
    hashes, found = Blocklist(database).hashes, {}
    for kind, source in sorted({(kind, source) for kind, _, source in keys}):
        theirs = [key[1] for key in keys if (key[0], key[2]) == (kind, source)]
        for chunk in chunks(theirs):
            query = sa.select(hashes.c.hash, hashes.c.reason).where(
                hashes.c.kind == kind, hashes.c.source == source, hashes.c.hash.in_(chunk)
            )
            for row in database.rows(query):
                found[kind, row.hash, source] = (row.reason,)
    return found


def mark_unsent(database: Database, source: str, since_ts: float) -> None:
    """Note that other instances lack what was added to a list since then.

    In the transaction that adds it; each note is another one, so that what is added while an
    earlier part is being sent is not taken for sent.
    """
    state = StateRepository(database)
    before = json.loads(state.get(UNSENT + source) or "{}").get("since_ts", since_ts)
    noted = {"since_ts": min(before, since_ts), "note": uuid.uuid4().hex}
    state.set(UNSENT + source, json.dumps(noted))


def cut_off_imports(database: Database) -> list[str]:
    """Warnings about imports that were killed."""
    return [
        f"the import of the blocklist {source} was interrupted; import it again to block the rest"
        for source, by in _imports(database)
        if not is_alive(by)
    ]


def _imports(database: Database) -> list[tuple[str, str]]:
    state = state_table(database.sqla_metadata)
    begun = state.c.name.startswith(IMPORTING, autoescape=True)
    query = sa.select(state.c.name, state.c.value).where(begun).order_by(state.c.name)
    return [(row.name.removeprefix(IMPORTING), row.value) for row in database.rows(query)]


def sources_of(database: Database) -> list[dict[str, Any]]:
    """Each list with its numbers of hashes, when the first and the last were added, and whether its
    import ended."""
    hashes = Blocklist(database).hashes
    query = (
        sa.select(
            hashes.c.source,
            hashes.c.kind,
            sa.func.count(),
            sa.func.min(hashes.c.added_ts),
            sa.func.max(hashes.c.added_ts),
        )
        .where(~hashes.c.source.startswith(OF_TAKEDOWN, autoescape=True))
        .group_by(hashes.c.source, hashes.c.kind)
        .order_by(hashes.c.source, hashes.c.kind)
    )
    begun, found = dict(_imports(database)), dict[str, dict[str, Any]]()
    times: dict[str, list[float]] = {}
    for source, kind, count, first_ts, last_ts in database.rows(query):
        entry = found.setdefault(source, {"source": source} | {each.value: 0 for each in HashKind})
        entry[kind] = count
        times.setdefault(source, []).extend((first_ts, last_ts))
    for source, entry in found.items():
        entry |= {"added": iso(min(times[source])), "last_added": iso(max(times[source]))}
        entry["complete"] = source not in begun
    return list(found.values())


def hashes_of(database: Database, source: str | None = None) -> Iterator[ListedHash]:
    """The hashes of one source, or of all lists, in an order that stays.

    Raises:
        NotFoundError: nothing is of that source.
    """
    hashes = Blocklist(database).hashes
    columns = (hashes.c.kind, hashes.c.hash, hashes.c.source, hashes.c.reason)
    query = sa.select(*columns)
    if source is None:
        query = query.where(~hashes.c.source.startswith(OF_TAKEDOWN, autoescape=True))
    else:
        _find(database, source)
        query = query.where(hashes.c.source == source)
    for rows in pages(database, query, list(columns[:3]), ROWS_AT_ONCE):
        yield from (ListedHash(*row) for row in rows)


def remove_source(database: Database, source: str) -> int:
    """Remove all hashes of a source; returns how many there were.

    Interrupted, the rest is still there, and is removed by the same again.

    Raises:
        NotFoundError: nothing is of that source.
        LockstepError: it is a takedown's, which is reinstated instead.
    """
    find_source(database, source)
    blocklist, removed = Blocklist(database), 0
    hashes = blocklist.hashes
    for kind in HashKind:
        its = sa.and_(hashes.c.kind == kind.value, hashes.c.source == source)
        some = sa.select(hashes.c.hash).where(its).limit(ROWS_AT_ONCE)
        count = 1
        while count:
            with database.writing() as write:
                found = write.execute(some).scalars().all()
                gone = sa.delete(hashes).where(its, hashes.c.hash.in_(found))
                count = write.execute(gone).rowcount
                blocklist.note_change(write)
                if kind is HashKind.PDQ:
                    BlockedPictures(database).changed()
            removed += count
    for note in (IMPORTING, UNSENT):
        StateRepository(database).set(note + source, None)
    return removed


def find_source(database: Database, source: str) -> None:
    """Refuse to remove what is no list.

    Raises:
        NotFoundError: nothing is of that source.
        LockstepError: it is a takedown's, which is reinstated instead.
    """
    if source.startswith(OF_TAKEDOWN):
        number = source.removeprefix(OF_TAKEDOWN)
        raise LockstepError(
            f"{source}: these hashes belong to a takedown; `datapipe takedown reinstate {number}` "
            "removes them"
        )
    _find(database, source)


def _find(database: Database, source: str) -> None:
    hashes = Blocklist(database).hashes
    query = sa.select(hashes.c.hash).where(hashes.c.source == source).limit(1)
    if database.first(query) is None:
        raise NotFoundError(
            f"{source}: no blocklist has this name; `datapipe blocklist list` shows them"
        )


def _check_source(name: str, source: str) -> None:
    if not source.strip() or len(source) > SOURCE_MAX or not source.isprintable():
        raise HashListError(
            f"{name}: {source[:80]!r} cannot be the name of a source; name 1 to {SOURCE_MAX} "
            "printable characters with --source"
        )
    if source.startswith(OF_TAKEDOWN):
        raise HashListError(
            f"{name}: the source {source!r} is that of a takedown; give another name with --source"
        )


def _count_of(database: Database, source: str) -> int:
    hashes = Blocklist(database).hashes
    query = sa.select(sa.func.count()).select_from(hashes).where(hashes.c.source == source)
    with database.reading() as con:
        return int(con.execute(query).scalar_one())


def _count(count: int, word: str) -> str:
    return f"{count:,} {word} is" if count == 1 else f"{count:,} {word}s are"
