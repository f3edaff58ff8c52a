"""Recording: how fetches ended, each in the journal at once, batches of them in the tables.

A commit for each image would be most of the work; a batch alone would lose, with a process that is
killed, what it fetched since the last one.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Collection
from dataclasses import fields
from typing import Any

import sqlalchemy as sa

from pipeline.engine.report import Report
from pipeline.errors import ImageError
from pipeline.fetch.types import Fetched, FetchStatus
from pipeline.imaging.formats import suffix_for
from pipeline.imaging.sniff import HEAD_BYTES, sniff
from pipeline.jobs.images import drop_stored
from pipeline.jobs.store import ENDED, JobFolders, JobRepository, url_key
from pipeline.reasons import Code
from pipeline.states import JobState, UrlState
from pipeline.storage.blobs import blob_path
from pipeline.storage.folder import explained

BATCH = 500
FLUSH_S = 1.0
JOURNAL = "journal"
# On a refresh, a server that is down or busy says nothing about the image: what is there stays.
_PASSING = frozenset((408, 425, 429))
_JOURNALLED = tuple({field.name for field in fields(Fetched)} - {"path", "content_type"})
_CONTENT = ("sha256", "size_bytes", "suffix", "etag", "last_modified")


class Recorder:
    """Writes how fetches ended. There is one, in the run that fetches."""

    def __init__(self, repository: JobRepository, folders: JobFolders, report: Report) -> None:
        self.repository = repository
        self.folders = folders
        self.report = report
        self._path = folders.fetched / JOURNAL
        self._journal = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        self._batch: list[dict[str, Any]] = []
        self._last_flush = time.monotonic()

    def close(self) -> None:
        """Close the journal, and remove it; unless something failed it is empty."""
        os.close(self._journal)
        if not self._path.stat().st_size:
            self._path.unlink()

    def replay(self) -> None:
        """Record what an earlier run fetched, but did not record."""
        for line in self._path.read_text("utf-8").splitlines():
            with contextlib.suppress(ValueError):  # the line that was being written
                self._batch.append(json.loads(line))
        self.flush()

    def add(self, fetched: Fetched) -> None:
        """One fetch that ended."""
        ended = {name: getattr(fetched, name) for name in _JOURNALLED}
        ended |= {"status": fetched.status.value, "asked_ts": time.time()}
        try:
            os.write(self._journal, json.dumps(ended).encode() + b"\n")
        except OSError as error:
            raise explained(error, self._path) from error
        self._batch.append(ended)
        counts = self.report.jobs
        counts.requested += 1
        counts.fetched += fetched.status is FetchStatus.FETCHED
        counts.not_modified += fetched.status is FetchStatus.NOT_MODIFIED
        if len(self._batch) >= BATCH:
            self.flush()
        else:
            self.flush_if_due()

    def flush_if_due(self) -> None:
        """Record what has been added, if the last time was a second ago."""
        if time.monotonic() - self._last_flush >= FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Record all that has been added."""
        batch, self._batch = self._batch, []
        self._last_flush = time.monotonic()
        if not batch:
            return
        fetches = self.repository.fetches
        ended_by_key = {url_key(ended["url"]): ended for ended in batch}
        query = sa.select(fetches).where(fetches.c.url_key.in_(ended_by_key))
        before = {row.url_key: row for row in self.repository.database.rows(query)}
        after = {key: self._update(ended_by_key[key], row) for key, row in before.items()}
        if after:
            names = list(next(iter(after.values())))
            statement = (
                sa.update(fetches)
                .where(fetches.c.url_key == sa.bindparam("the_key"))
                .values({name: sa.bindparam(f"new_{name}") for name in names})
            )
            values = [
                {"the_key": key, **{f"new_{name}": row[name] for name in names}}
                for key, row in after.items()
            ]
            moved = [key for key, row in after.items() if row["sha256"] != before[key].sha256]
            with self.repository.database.writing() as con:
                con.execute(statement, values)
                self._count(con.con, after)
                self._disturb(con.con, moved)
        self._clear_journal()
        kept = {row["sha256"] for row in after.values()}
        # The bytes that were replaced, and what turned out not to be an image.
        unused = {row.sha256 for row in before.values()} | {ended["sha256"] for ended in batch}
        drop_stored(self.repository, self.folders, unused - kept - {None})

    def _clear_journal(self) -> None:
        os.ftruncate(self._journal, 0)

    def _update(self, ended: dict[str, Any], before: Any) -> dict[str, Any]:
        """The new values of one row of ``fetches``."""
        status, reason = FetchStatus(ended["status"]), ended["reason"]
        # The journal of the release before had no codes.
        code: str | None = ended.get("code") or Code.OTHER.value
        there: dict[str, Any] = {name: getattr(before, name) for name in _CONTENT}
        content: dict[str, Any] = dict.fromkeys(_CONTENT)
        if status is FetchStatus.FETCHED:
            try:
                suffix = self._suffix(ended["sha256"])
            except ImageError as error:
                state, reason, code = UrlState.REFUSED, str(error), error.code.value
            except OSError:
                # Somebody cleared the state folder during the run.
                state, reason = UrlState.WAITING, None
            else:
                state, reason = UrlState.FETCHED, None
                content = {name: ended[name] for name in ("sha256", "etag", "last_modified")}
                content |= {"suffix": suffix, "size_bytes": ended["bytes"]}
        elif status is FetchStatus.NOT_MODIFIED and there["sha256"]:
            state, reason, content = UrlState.FETCHED, None, there
            for name in ("etag", "last_modified"):
                content[name] = ended[name] or there[name]
        elif there["sha256"] and status is FetchStatus.FAILED and _is_passing(ended["http_code"]):
            state, content = UrlState.FETCHED, there
            reason = f"kept as it was: {reason}"
            self.report.warnings.append(f"{ended['url']}: {reason}")
        else:
            state = UrlState.REFUSED if status is FetchStatus.REFUSED else UrlState.FAILED
        return content | {
            "state": state.value,
            "reason": reason,
            "code": code if content["sha256"] is None and reason else None,
            "http_code": ended["http_code"],
            "received_bytes": ended["bytes"],
            "duration_ms": ended["duration_ms"],
            "attempts": ended["attempts"],
            "final_url": ended["final_url"],
            "asked_ts": ended["asked_ts"],
        }

    def _suffix(self, sha256: str) -> str:
        with open(blob_path(self.folders.fetched, sha256), "rb") as file:
            return suffix_for(sniff(file.read(HEAD_BYTES)))

    def _count(self, con: sa.Connection, url_keys: Collection[str]) -> None:
        """For people who watch; the exact counts follow when all is fetched."""
        urls, fetches, jobs = self.repository.urls, self.repository.fetches, self.repository.jobs
        there = sa.case((fetches.c.sha256.is_not(None), 1), else_=0)
        query = (
            sa.select(urls.c.reference, sa.func.sum(there), sa.func.count())
            .join(fetches, fetches.c.url_key == urls.c.url_key)
            .where(urls.c.url_key.in_(url_keys))
            .group_by(urls.c.reference)
        )
        for reference, fetched, count in con.execute(query).all():
            con.execute(
                sa.update(jobs)
                .where(jobs.c.reference == reference, jobs.c.state == JobState.FETCHING.value)
                .values(
                    fetched=jobs.c.fetched + fetched,
                    failed=jobs.c.failed + (count - fetched),
                )
            )

    def _disturb(self, con: sa.Connection, moved: Collection[str]) -> None:
        """Bring other jobs with these URLs in step as well, even if they ended long ago."""
        urls, jobs = self.repository.urls, self.repository.jobs
        ended = [state.value for state in (*ENDED, JobState.RENDERING, JobState.WRITING)]
        theirs = sa.select(urls.c.reference).where(urls.c.url_key.in_(moved))
        con.execute(
            sa.update(jobs)
            .where(jobs.c.state.in_(ended), jobs.c.reference.in_(theirs))
            .values(state=JobState.FETCHING.value, changed_ts=time.time())
        )


def _is_passing(http_code: int | None) -> bool:
    return http_code is None or http_code >= 500 or http_code in _PASSING
