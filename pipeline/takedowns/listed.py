"""Following the lists of hashes: what they block goes, what they block no more may come back.

Everything is compared, whichever list has changed, so that it can be interrupted and repeated. The
publish lock is held for a page of rows at a time: what a run publishes in between is not blocked,
because it looks at the lists with the same lock held. Originals stay where they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from pipeline.blocklist import BY_LIST, Blocklist
from pipeline.database.locks import PUBLISH_LOCK
from pipeline.database.paging import pages
from pipeline.database.state import BLOCKED_HASHES_FOLLOWED, StateRepository
from pipeline.engine.pending import recipe_in, rows_in
from pipeline.engine.recovery import forget_content, remove_unrecorded, sweep_after_kill
from pipeline.engine.render_step import RenderStep
from pipeline.moderation_tables import reviews_table
from pipeline.states import HashKind, ReviewKind, ReviewState, Source, State
from pipeline.storage.at_hand import digests_in
from pipeline.storage.opening import open_store
from pipeline.takedowns.context import Takedowns
from pipeline.takedowns.holds import look_again
from pipeline.takedowns.removing import take_rendition, take_values
from pipeline.transforms.features import PREFIX, is_listed

# A run waits for one page at most.
PAGE_ROWS = 250
# Called with how many originals were hashed, of how many.
Advance = Callable[[int, int], None]


@dataclass
class Followed:
    """What was done: numbers of renditions, of values of features, and of either to make again.

    ``unread`` are originals whose MD5 is needed and could not be read: the next run tries again.
    """

    renditions: int = 0
    values: int = 0
    released: int = 0
    hashed: int = 0
    unread: list[str] = field(default_factory=list)


def follow_lists(
    context: Takedowns, advance: Advance = lambda done, total: None
) -> Followed | None:
    """Bring what is published in step with the lists; ``None`` if it is already.

    Nothing happens while the input folder is missing: its disk may only not be mounted.

    Raises:
        OutputError: a file cannot be removed; the next run tries again.
    """
    state, blocklist = StateRepository(context.database), Blocklist(context.database)
    version = blocklist.version()
    if version is None or version == state.get(BLOCKED_HASHES_FOLLOWED):
        return None
    folder = context.settings.input_place.folder
    if folder is not None and not folder.is_dir():
        return None
    output, followed = context.settings.output_store, Followed()
    with context.database.lock(PUBLISH_LOCK, wait=True):
        # A killed run may have left the picture under names without a row.
        remove_unrecorded(state, output, context.renders)
    sweep_after_kill(state, output, context.renders)
    with context.database.reading() as con:
        needs_md5s = blocklist.lists(con, HashKind.MD5)
    if needs_md5s:
        _hash_unknown(context, blocklist, followed, advance)
    for step in context.renders:
        for table in step.pending.tables:
            _withdraw(context, blocklist, step, table, followed)
            _release(context, blocklist, step, table, followed)
    _stop_holding(context, blocklist)
    if not followed.unread:
        state.set(BLOCKED_HASHES_FOLLOWED, version)
    return followed


def warnings_of(followed: Followed | None) -> list[str]:
    """What people should know: originals whose MD5 is needed and not known."""
    if followed is None or not followed.unread:
        return []
    unread = followed.unread
    more = f" and {len(unread) - 1:,} more" if len(unread) > 1 else ""
    return [
        f"{unread[0]}{more}: changed, gone or unreadable since the last run, so it is not known "
        "whether a list of MD5 blocks what was published; the next run looks again"
    ]


def _withdraw(
    context: Takedowns,
    blocklist: Blocklist,
    step: RenderStep,
    table: sa.Table,
    followed: Followed,
) -> None:
    hashes, digests = blocklist.hashes, blocklist.digests
    by_sha256 = sa.select(hashes.c.hash).where(
        hashes.c.kind == HashKind.SHA256.value, hashes.c.hash == table.c.sha256
    )
    by_md5 = (
        sa.select(digests.c.md5)
        .join(hashes, sa.and_(hashes.c.kind == HashKind.MD5.value, hashes.c.hash == digests.c.md5))
        .where(digests.c.sha256 == table.c.sha256)
    )
    is_down = table.c.state == State.TAKEN_DOWN.value
    query = rows_in(table).where(~is_down, sa.or_(by_sha256.exists(), by_md5.exists()))

    def withdraw(rows: Sequence[sa.Row[Any]]) -> None:
        blocked = blocklist.blocked_among([row.sha256 for row in rows])
        for row in rows:
            reason = blocked.get(row.sha256)
            if reason is None:
                continue  # the list has changed meanwhile
            if table is step.pending.table:
                take_rendition(context, step, row, reason, row.sha256)
                followed.renditions += row.file is not None
            else:
                take_values(context, step, row, reason, row.sha256)
                followed.values += row.value is not None and is_listed(PREFIX + row.name)

    _work_on_pages(context, table, query, withdraw)


def _release(
    context: Takedowns,
    blocklist: Blocklist,
    step: RenderStep,
    table: sa.Table,
    followed: Followed,
) -> None:
    """Make pending what no list blocks any more, or another one does."""
    its = (table.c.source, table.c.path, recipe_in(table).label("recipe"))
    query = sa.select(*its, *_own_key(table), table.c.sha256, table.c.reason).where(
        table.c.state == State.TAKEN_DOWN.value,
        table.c.sha256.is_not(None),
        table.c.reason.startswith(BY_LIST, autoescape=True),
    )

    def release(rows: Sequence[sa.Row[Any]]) -> None:
        blocked = blocklist.blocked_among([row.sha256 for row in rows])
        changed = [row for row in rows if blocked.get(row.sha256) != row.reason]
        forget_content(step.pending, [(row.source, row.path, row.recipe) for row in changed])
        followed.released += sum(
            row.sha256 not in blocked and is_listed(row.recipe) for row in changed
        )

    _work_on_pages(context, table, query, release)


def _stop_holding(context: Takedowns, blocklist: Blocklist) -> None:
    """Have the next run decide anew about what is held for a source that blocks nothing now."""
    reviews, hashes = reviews_table(context.database.sqla_metadata), blocklist.hashes
    blocks = sa.select(hashes.c.hash).where(hashes.c.source == reviews.c.near_source).exists()
    query = sa.select(reviews.c.near_source).where(
        reviews.c.kind == ReviewKind.HELD.value,
        reviews.c.state == ReviewState.OPEN.value,
        reviews.c.near_source.is_not(None),
        ~blocks,
    )
    for source in context.database.column(query.distinct()):
        with context.database.lock(PUBLISH_LOCK, wait=True):
            look_again(context, source)


def _own_key(table: sa.Table) -> list[sa.ColumnElement[Any]]:
    return [] if "recipe" in table.c else [table.c.name]


def _work_on_pages(
    context: Takedowns,
    table: sa.Table,
    query: sa.Select[Any],
    work: Callable[[Sequence[sa.Row[Any]]], None],
) -> None:
    """Read and work on the rows of a query, with the publish lock held for each page."""
    coming = pages(context.database, query, list(table.primary_key.columns), PAGE_ROWS)
    while True:
        with context.database.lock(PUBLISH_LOCK, wait=True):
            rows = next(coming, None)
            if rows is None:
                return
            work(rows)


def _hash_unknown(
    context: Takedowns, blocklist: Blocklist, followed: Followed, advance: Advance
) -> None:
    """Read the originals whose MD5 is not known: all of an earlier release."""
    total = sum(len(rows) for _, rows in _unknown(context, blocklist))
    for step, rows in _unknown(context, blocklist):
        md5s: dict[str, str] = {}
        for row in rows:
            if row.sha256 not in md5s:
                _hash(step, row, md5s, followed)
            followed.hashed += 1
        blocklist.remember_md5s(md5s)
        advance(followed.hashed, max(total, followed.hashed))
    # Those of which another original has the content are known now.
    known = {row.path for _, rows in _unknown(context, blocklist) for row in rows}
    followed.unread = sorted(known.intersection(followed.unread))


def _hash(step: RenderStep, row: sa.Row[Any], md5s: dict[str, str], followed: Followed) -> None:
    originals = step.originals[Source(row.source)]
    try:
        if not originals.place.is_bucket and originals.file(row.path, row.sha256) is None:
            raise FileNotFoundError(row.path)
        # The row may be of other bytes by now: what is true of these is kept, and the run that
        # finds them changed looks at them again.
        key = originals.key(row.path, row.sha256)
        sha256, md5 = digests_in(open_store(originals.place), key)
    except OSError:
        followed.unread.append(row.path)
        return
    md5s[sha256] = md5
    if sha256 != row.sha256:
        followed.unread.append(row.path)


def _unknown(
    context: Takedowns, blocklist: Blocklist
) -> Iterator[tuple[RenderStep, Sequence[sa.Row[Any]]]]:
    """Originals of which something is published, by the SHA-256 whose MD5 is not known."""
    digests = blocklist.digests
    for step in context.renders:
        for table in step.pending.tables:
            is_known = sa.select(digests.c.md5).where(digests.c.sha256 == table.c.sha256).exists()
            query = (
                sa.select(table.c.source, table.c.path, table.c.sha256)
                .where(table.c.state == State.OK.value, table.c.sha256.is_not(None), ~is_known)
                .where(table.c.source.in_([source.value for source in step.sources]))
                .distinct()
            )
            keys = [table.c.source, table.c.path, table.c.sha256]
            for rows in pages(context.database, query, keys, PAGE_ROWS):
                yield step, rows
