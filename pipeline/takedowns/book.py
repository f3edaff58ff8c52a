"""The rows of takedowns: which bytes are barred, what was removed, and where it is kept."""

from __future__ import annotations

import enum
import time
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from datapipe.store.database import DBConn

from pipeline.tables import TakedownState, takedown_files_table, takedowns_table

LOOKED_UP_AT_ONCE = 2_000


class Kind(str, enum.Enum):
    """What a row of ``takedown_files`` is about."""

    ORIGINAL = "original"
    RENDITION = "rendition"


class TakedownBook:
    """Reads and writes ``takedowns`` and ``takedown_files``, each call in its own transaction."""

    def __init__(self, connection: DBConn) -> None:
        self._connection = connection
        self.acts = takedowns_table(connection.sqla_metadata)
        self.files = takedown_files_table(connection.sqla_metadata)

    # --- what is barred ---

    def barred_among(self, digests: Collection[str | None]) -> dict[str, str]:
        """Those of ``digests`` (SHA-256) that are barred, each with the reason people read."""
        barred: dict[str, str] = {}
        wanted = sorted({digest for digest in digests if digest is not None})
        acts = self.acts
        with self._connection.con.begin() as con:
            if not wanted or not self._any(con):
                return barred
            for start in range(0, len(wanted), LOOKED_UP_AT_ONCE):
                query = (
                    sa.select(acts.c.sha256, acts.c.id)
                    .where(acts.c.sha256.in_(wanted[start : start + LOOKED_UP_AT_ONCE]))
                    .where(acts.c.state != TakedownState.LIFTED.value)
                    .order_by(acts.c.id)
                )
                for row in con.execute(query):
                    # Why is for the audit: this text also stands in the answers of jobs.
                    barred[row.sha256] = f"taken down (takedown {row.id})"
        return barred

    def barred_sizes(self) -> set[int]:
        """The sizes, in bytes, of the originals whose bytes are barred."""
        size = self.acts.c.size_bytes
        query = sa.select(size).where(
            size.is_not(None), self.acts.c.state != TakedownState.LIFTED.value
        )
        with self._connection.con.begin() as con:
            return set(con.execute(query.distinct()).scalars())

    def _any(self, con: sa.Connection) -> bool:
        in_force = self.acts.c.state != TakedownState.LIFTED.value
        return con.execute(sa.select(self.acts.c.id).where(in_force).limit(1)).first() is not None

    def has_removed(self, kind: Kind, path: str) -> bool:
        """Whether a takedown that is not lifted removed this file."""
        query = (
            sa.select(self.acts.c.id)
            .join(self.files, self.files.c.takedown == self.acts.c.id)
            .where(
                self.files.c.kind == kind.value,
                self.files.c.path == path,
                self.acts.c.state != TakedownState.LIFTED.value,
            )
        )
        with self._connection.con.begin() as con:
            return con.execute(query.limit(1)).first() is not None

    def removed_among(self, paths: Sequence[str]) -> int:
        """How many of these originals takedowns took out of the input folder."""
        count, files = 0, self.files
        with self._connection.con.begin() as con:
            for start in range(0, len(paths), LOOKED_UP_AT_ONCE):
                query = sa.select(sa.func.count(files.c.path.distinct())).where(
                    files.c.kind == Kind.ORIGINAL.value,
                    files.c.path.in_(paths[start : start + LOOKED_UP_AT_ONCE]),
                    files.c.removed.is_(sa.true()),
                    files.c.restored.is_(None),
                )
                count += con.execute(query).scalar_one()
        return count

    # --- acts ---

    def add(
        self,
        sha256: str,
        size_bytes: int | None,
        target: str,
        reason: str,
        who: str,
        purge: bool,
        originals: Sequence[str],
    ) -> int:
        """Bar ``sha256`` from now on, before any file is touched; the number of the takedown."""
        with self._connection.con.begin() as con:
            done = con.execute(
                sa.insert(self.acts).values(
                    sha256=sha256,
                    size_bytes=size_bytes,
                    target=target,
                    state=TakedownState.REMOVING.value,
                    purge=purge,
                    reason=reason,
                    who=who,
                    created_ts=time.time(),
                )
            )
            assert done.inserted_primary_key is not None
            number = int(done.inserted_primary_key[0])
            for path in originals:
                con.execute(self._new_file(number, Kind.ORIGINAL, path))
        return number

    def act(self, number: int) -> sa.Row[Any] | None:
        """The row of one takedown."""
        with self._connection.con.begin() as con:
            return con.execute(sa.select(self.acts).where(self.acts.c.id == number)).first()

    def acts_on(self, sha256: str) -> Sequence[sa.Row[Any]]:
        """Every takedown of these bytes, the first one first."""
        query = sa.select(self.acts).where(self.acts.c.sha256 == sha256).order_by(self.acts.c.id)
        with self._connection.con.begin() as con:
            return con.execute(query).all()

    def unfinished(self) -> list[int]:
        """Takedowns and lifts that were cut off."""
        states = (TakedownState.REMOVING.value, TakedownState.LIFTING.value)
        query = sa.select(self.acts.c.id).where(self.acts.c.state.in_(states))
        with self._connection.con.begin() as con:
            return list(con.execute(query.order_by(self.acts.c.id)).scalars())

    def change(self, number: int, **values: Any) -> None:
        """Write columns of one takedown."""
        with self._connection.con.begin() as con:
            con.execute(sa.update(self.acts).where(self.acts.c.id == number).values(**values))

    def page(self, limit: int, before: int | None) -> Sequence[sa.Row[Any]]:
        """Takedowns, the last one first."""
        query = sa.select(self.acts).order_by(self.acts.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(self.acts.c.id < before)
        with self._connection.con.begin() as con:
            return con.execute(query).all()

    # --- files ---

    def files_of(self, numbers: Collection[int]) -> Sequence[sa.Row[Any]]:
        """The files of these takedowns, in the order of their paths."""
        files = self.files
        query = (
            sa.select(files)
            .where(files.c.takedown.in_(list(numbers)))
            .order_by(files.c.takedown, files.c.kind, files.c.path)
        )
        with self._connection.con.begin() as con:
            return con.execute(query).all()

    def add_files(self, number: int, kind: Kind, paths: Iterable[str]) -> None:
        """Note files before they are removed; those that are noted already are left as they are."""
        with self._connection.con.begin() as con:
            for path in paths:
                con.execute(self._new_file(number, kind, path))

    def change_file(self, number: int, path: str, **values: Any) -> None:
        """Write columns of one original."""
        files = self.files
        with self._connection.con.begin() as con:
            con.execute(
                sa.update(files)
                .where(
                    files.c.takedown == number,
                    files.c.kind == Kind.ORIGINAL.value,
                    files.c.path == path,
                )
                .values(**values)
            )

    def is_kept(self, kept: str) -> bool:
        """Whether a place in the quarantine is spoken for."""
        query = sa.select(self.files.c.takedown).where(
            self.files.c.kept == kept, self.files.c.restored.is_(None)
        )
        with self._connection.con.begin() as con:
            return con.execute(query.limit(1)).first() is not None

    def _new_file(self, number: int, kind: Kind, path: str) -> Any:
        row = {"takedown": number, "kind": kind.value, "path": path, "removed": False}
        return self._connection.insert(self.files).values(row).on_conflict_do_nothing()
