"""The blocklist: which content must never be published."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import sqlalchemy as sa

from pipeline.database.connection import Database
from pipeline.database.paging import chunks
from pipeline.moderation_tables import takedown_files_table, takedowns_table
from pipeline.states import Kind, TakedownState


class Blocklist:
    """The part of ``takedowns`` that a run needs: which bytes are blocked."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.acts = takedowns_table(database.sqla_metadata)
        self.files = takedown_files_table(database.sqla_metadata)

    def blocked_among(self, digests: Collection[str | None]) -> dict[str, str]:
        """Those of ``digests`` (SHA-256) that are blocked, each with the reason people read."""
        blocked: dict[str, str] = {}
        wanted = sorted({digest for digest in digests if digest is not None})
        acts = self.acts
        with self._database.reading() as con:
            if not wanted or not self._any(con):
                return blocked
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

    def blocked_sizes(self) -> set[int]:
        """The sizes, in bytes, of the originals whose bytes are blocked."""
        size = self.acts.c.size_bytes
        query = sa.select(size).where(
            size.is_not(None), self.acts.c.state != TakedownState.LIFTED.value
        )
        return set(self._database.column(query.distinct()))

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
