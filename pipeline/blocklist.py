"""The blocklist: which content must never be published, by takedowns and by lists of hashes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import sqlalchemy as sa

from pipeline.database.connection import Database
from pipeline.database.paging import chunks, known_among
from pipeline.database.state import BLOCKED_HASHES, state_table
from pipeline.database.tracked import insert_or_update
from pipeline.database.transaction import Write
from pipeline.moderation_tables import (
    blocked_hashes_table,
    digests_table,
    takedown_files_table,
    takedowns_table,
)
from pipeline.states import HashKind, Kind, State, TakedownState
from pipeline.tables import EXCEPTION

# How the reason begins of what is on a list. The audit says more: this is in the results of jobs.
BY_LIST = "taken down (list "


class Blocklist:
    """What a run needs of takedowns and lists: which bytes are blocked."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.acts = takedowns_table(database.sqla_metadata)
        self.files = takedown_files_table(database.sqla_metadata)
        self.hashes = blocked_hashes_table(database.sqla_metadata)
        self.digests = digests_table(database.sqla_metadata)

    def blocked_among(
        self, digests: Collection[str | None], md5s: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """Those of ``digests`` (SHA-256) that are blocked, each with the reason people read.

        ``md5s`` are those by SHA-256 that the table of digests may still lack.
        """
        wanted = sorted({digest for digest in digests if digest is not None})
        if not wanted:
            return {}
        with self._database.reading() as con:
            blocked = self._taken_down(con, wanted) if self._any(con) else {}
            if self.lists(con, HashKind.SHA256):
                left = [digest for digest in wanted if digest not in blocked]
                blocked |= self._listed(con, HashKind.SHA256, {digest: digest for digest in left})
            if self.lists(con, HashKind.MD5):
                left = [digest for digest in wanted if digest not in blocked]
                known = self._md5s(con, left) | {
                    digest: md5s[digest] for digest in left if md5s and digest in md5s
                }
                blocked |= self._listed(con, HashKind.MD5, known)
        return blocked

    def _taken_down(self, con: sa.Connection, wanted: Sequence[str]) -> dict[str, str]:
        blocked: dict[str, str] = {}
        acts = self.acts
        for chunk in chunks(wanted):
            query = (
                sa.select(acts.c.sha256, acts.c.id)
                .where(acts.c.sha256.in_(chunk))
                .where(acts.c.state != TakedownState.LIFTED.value)
                .order_by(acts.c.id)
            )
            for row in con.execute(query):
                # The audit says why: this text is also in the results of jobs.
                blocked[row.sha256] = f"taken down (takedown {row.id})"
        return blocked

    def _listed(
        self, con: sa.Connection, kind: HashKind, hash_of: Mapping[str, str]
    ) -> dict[str, str]:
        """Those SHA-256 whose hash of this kind is listed; of several lists, the first names it."""
        hashes, source_of = self.hashes, dict[str, str]()
        for chunk in chunks(set(hash_of.values())):
            query = (
                sa.select(hashes.c.hash, sa.func.min(hashes.c.source))
                .where(hashes.c.kind == kind.value, hashes.c.hash.in_(chunk))
                .group_by(hashes.c.hash)
            )
            source_of |= dict(con.execute(query).tuples().all())
        return {
            digest: f"{BY_LIST}{source_of[its]})"
            for digest, its in hash_of.items()
            if its in source_of
        }

    def _md5s(self, con: sa.Connection, digests: Sequence[str]) -> dict[str, str]:
        known: dict[str, str] = {}
        for chunk in chunks(digests):
            query = sa.select(self.digests).where(self.digests.c.sha256.in_(chunk))
            known |= dict(con.execute(query).tuples().all())
        return known

    def lists(self, con: sa.Connection, kind: HashKind) -> bool:
        """Whether any hash of this kind is blocked."""
        query = sa.select(self.hashes.c.kind).where(self.hashes.c.kind == kind.value)
        return con.execute(query.limit(1)).first() is not None

    def lists_content(self) -> bool:
        """Whether any content is blocked by a hash of its bytes, whose size is not known."""
        with self._database.reading() as con:
            return self.lists(con, HashKind.SHA256) or self.lists(con, HashKind.MD5)

    def digested_among(self, digests: Collection[str | None]) -> set[str]:
        """Those of ``digests`` (SHA-256) whose MD5 is known."""
        return known_among(self._database, self.digests.c.sha256, set(digests) - {None})

    def remember_md5s(self, md5s: Mapping[str, str]) -> None:
        """Keep the MD5 of contents, by their SHA-256."""
        rows = [{"sha256": digest, "md5": md5s[digest]} for digest in sorted(md5s)]
        insert_or_update(self._database, self.digests, ["sha256"], (), rows)

    def note_change(self, write: Write) -> None:
        """Whatever writes ``blocked_hashes`` calls this in the same transaction.

        Who keeps hashes in memory compares :meth:`version`; the next run brings renditions in step.
        """
        state = state_table(self._database.sqla_metadata)
        row = {"name": BLOCKED_HASHES, "value": repr(write.now)}
        insert_or_update(self._database, state, ["name"], ["value"], [row])

    def version(self) -> str | None:
        """What differs after each change of ``blocked_hashes``; ``None``: it was always empty."""
        state = state_table(self._database.sqla_metadata)
        row = self._database.first(sa.select(state.c.value).where(state.c.name == BLOCKED_HASHES))
        return None if row is None else str(row.value)

    def blocked_sizes(
        self, made: Sequence[sa.Table] = (), among: Collection[int | None] | None = None
    ) -> set[int]:
        """The sizes, in bytes, of the originals whose bytes are blocked, as far as they are known.

        Of a list no size is known but for what is there: the tables of what was ``made`` say it.
        With ``among`` no other sizes are looked for than these.
        """
        in_force = self.acts.c.state != TakedownState.LIFTED.value
        asked = [(self.acts.c.size_bytes, in_force)]
        if made and self.lists_content():
            for table in made:
                is_down = sa.and_(table.c.state == State.TAKEN_DOWN.value, sa.text(EXCEPTION))
                asked.append((table.c.original_bytes, is_down))
        sizes: set[int] = set()
        for size, condition in asked:
            wanted = size.is_not(None) if among is None else size.in_({*among} - {None})
            query = sa.select(size).where(condition, wanted)
            sizes.update(self._database.column(query.distinct()))
        return sizes

    def _any(self, con: sa.Connection) -> bool:
        in_force = self.acts.c.state != TakedownState.LIFTED.value
        return con.execute(sa.select(self.acts.c.id).where(in_force).limit(1)).first() is not None

    def removed_among(self, paths: Sequence[str]) -> int:
        """How many of these originals takedowns removed from the input folder."""
        count, files = 0, self.files
        with self._database.reading() as con:
            for chunk in chunks(paths):
                query = sa.select(sa.func.count(files.c.path.distinct())).where(
                    files.c.kind == Kind.ORIGINAL.value,
                    files.c.path.in_(chunk),
                    files.c.removed.is_(sa.true()),
                    files.c.restored.is_(None),
                )
                count += con.execute(query).scalar_one()
        return count
