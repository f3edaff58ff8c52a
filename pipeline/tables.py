"""Every table of Lockstep in one place: columns, keys, and which columns count as a change.

``originals``   a row per original: of the input folder, or fetched for a row of a CSV
``recipes``     a row per recipe, or feature, and source of originals that it is used for
``renditions``  a row per original and recipe: what was made, of which bytes, by what
``features``    a row per original and feature: the values that a function made of it
``csv_rows``    a row per product of a job's CSV

Not tracked: ``jobs`` (a row per CSV), ``csv_urls`` (a row per URL of a row), ``fetches`` (a row per
URL, however many rows name it), those of moderation (:mod:`pipeline.moderation_tables`), ``runs``
(what the last runs did), ``lockstep_state`` (a few values about the tables themselves).

datapipe-core keeps a ``<table>_meta`` beside each tracked table, and ``render_meta`` for the step.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from pipeline.database import layout
from pipeline.database.connection import Database, open_database
from pipeline.database.dialects import Dialect, Key
from pipeline.database.layout import plain_table
from pipeline.migrations import MIGRATIONS
from pipeline.moderation_tables import (
    blocked_hashes_table,
    bulk_items_table,
    bulks_table,
    digests_table,
    notices_table,
    reviews_table,
    takedown_events_table,
    takedown_files_table,
    takedowns_table,
    users_table,
)
from pipeline.reasons import Code

# Raise it with every change of a column, and add the migration to `pipeline.migrations`.
LAYOUT_VERSION = 4


def _source() -> sa.Column[Any]:
    """Where originals come from: a value of :class:`pipeline.states.Source`."""
    return sa.Column("source", Key, primary_key=True)


def recipes_columns() -> list[sa.Column[Any]]:
    """A recipe, once for each ``source`` of originals that it is used for.

    ``fingerprint`` changes whenever the bytes of a rendition would; ``spec`` is for people. A
    feature is one whose name begins with ``features.``: what it makes is a row of ``features``.
    """
    return [
        _source(),
        sa.Column("recipe", Key, primary_key=True),
        sa.Column("fingerprint", sa.String, nullable=False),
        sa.Column("spec", sa.String, nullable=False),
    ]


def originals_columns() -> list[sa.Column[Any]]:
    """An original, and what tells that it changed.

    Of a file below ``input/``: the result of one ``stat``, of which a difference in any column
    makes a scan report the file as changed; ``sha256`` is NULL. Of a fetched image: the ``sha256``
    of its bytes, which they are stored under; ``path`` begins with the reference of its job.
    """
    return [
        _source(),
        sa.Column("path", Key, primary_key=True),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("mtime_ns", sa.BigInteger, nullable=True),
        sa.Column("ctime_ns", sa.BigInteger, nullable=True),
        sa.Column("inode", sa.BigInteger, nullable=True),
        sa.Column("sha256", sa.String, nullable=True),
    ]


def renditions_columns() -> list[sa.Column[Any]]:
    """What was made of which bytes, by which recipe and renderer, and in which state it is.

    ``file`` is below ``output/``, and NULL where the state is not ``ok``. ``sha256`` and
    ``original_bytes`` are the original's, ``file_sha256`` and ``size_bytes`` the rendition's.
    ``since`` is the Unix time, in seconds, at which the state and its reason began.
    """
    return [
        _source(),
        sa.Column("path", Key, primary_key=True),
        sa.Column("recipe", Key, primary_key=True),
        sa.Column("file", Key, nullable=True, index=True),
        sa.Column("width_px", sa.BigInteger, nullable=True),
        sa.Column("height_px", sa.BigInteger, nullable=True),
        sa.Column("size_bytes", sa.BigInteger, nullable=True),
        sa.Column("file_sha256", sa.String, nullable=True),
        *_outcome(),
    ]


def features_columns() -> list[sa.Column[Any]]:
    """What a function said of an original, as a JSON object, and in which state that is.

    ``value`` is NULL where the state is not ``ok``; the rest is as in ``renditions``.
    """
    return [
        _source(),
        sa.Column("path", Key, primary_key=True),
        sa.Column("name", Key, primary_key=True),
        sa.Column("value", sa.String, nullable=True),
        *_outcome(),
    ]


def _outcome() -> list[sa.Column[Any]]:
    """What an original became, of which content, by what, and since when.

    ``code`` is a value of :class:`pipeline.reasons.Code` where it failed, and else NULL.
    """
    return [
        sa.Column("sha256", sa.String, nullable=True, index=True),
        sa.Column("original_bytes", sa.BigInteger, nullable=True, index=True),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("reason", sa.String, nullable=True),
        sa.Column("code", sa.String, nullable=True),
        sa.Column("since", sa.Float, nullable=False),
        sa.Column("fingerprint", sa.String, nullable=False),
        sa.Column("renderer", sa.BigInteger, nullable=False),
    ]


def code_in(table: sa.Table) -> sa.ColumnElement[str]:
    """Why something failed, also of a row that has no code."""
    return sa.func.coalesce(table.c.code, Code.OTHER.value)


def csv_rows_columns() -> list[sa.Column[Any]]:
    """One product. ``number`` is its S. No.; ``urls`` a JSON list.

    Neither its line nor its other cells are here: a row added above would change every row below.
    Both are in the copy of the CSV, which the result is written from. The number is first in the
    key: many rows are looked up at once by their numbers, few jobs have the same.
    """
    return [
        sa.Column("number", Key, primary_key=True),
        sa.Column("reference", Key, primary_key=True, index=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("urls", sa.String, nullable=False),
    ]


@plain_table
def jobs_table(metadata: sa.MetaData) -> sa.Table:
    """``jobs``: one CSV of products, its state, and its outcome.

    ``source`` is ``submitted``, or the key of the CSV below ``input/``, whose stat and content
    (``csv_sha256``) were those given when it was last read. Times are Unix times in seconds.
    ``total``, ``fetched``, ``done`` and ``failed`` count images. ``made_for`` holds the settings
    that the answer was written with.
    ``ask_again``: the next run fetches all of its URLs again. ``cleared``: a deleted job is
    completely purged. ``webhook_secret`` signs what ``webhook``, an address of the job's own, is
    sent. ``options`` is JSON: how its CSV is read. ``without_images`` counts its products that have
    no image, which are in no other table.
    """
    return sa.Table(
        "jobs",
        metadata,
        sa.Column("reference", Key, primary_key=True),
        sa.Column("source", Key, nullable=False, index=True),
        sa.Column("filename", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False, index=True),
        sa.Column("reason", sa.String, nullable=True),
        sa.Column("created_ts", sa.Float, nullable=False, index=True),
        sa.Column("started_ts", sa.Float, nullable=True),
        sa.Column("changed_ts", sa.Float, nullable=False),
        sa.Column("ended_ts", sa.Float, nullable=True),
        sa.Column("rows", sa.BigInteger, nullable=False, default=0),
        sa.Column("total", sa.BigInteger, nullable=False, default=0),
        sa.Column("fetched", sa.BigInteger, nullable=False, default=0),
        sa.Column("done", sa.BigInteger, nullable=False, default=0),
        sa.Column("failed", sa.BigInteger, nullable=False, default=0),
        sa.Column("faults", sa.String, nullable=True),
        sa.Column("csv_sha256", sa.String, nullable=True),
        sa.Column("size_bytes", sa.BigInteger, nullable=True),
        sa.Column("mtime_ns", sa.BigInteger, nullable=True),
        sa.Column("ctime_ns", sa.BigInteger, nullable=True),
        sa.Column("inode", sa.BigInteger, nullable=True),
        sa.Column("made_for", sa.String, nullable=True),
        sa.Column("answer", Key, nullable=True),
        sa.Column("webhook", sa.String, nullable=True),
        sa.Column("webhook_state", sa.String, nullable=True),
        sa.Column("webhook_reason", sa.String, nullable=True),
        sa.Column("ask_again", sa.Boolean, nullable=False, default=False),
        sa.Column("cleared", sa.Boolean, nullable=False, default=False),
        sa.Column("webhook_secret", sa.String, nullable=True),
        sa.Column("options", sa.String, nullable=True),
        sa.Column("without_images", sa.BigInteger, nullable=True),
    )


@plain_table
def csv_urls_table(metadata: sa.MetaData) -> sa.Table:
    """``csv_urls``: each URL of each row, in full in ``fetches``.

    ``stem`` is the path of its image in ``originals``, but for the suffix. ``told``: a run has
    reported by its exit code that the image failed.
    """
    return sa.Table(
        "csv_urls",
        metadata,
        sa.Column("reference", Key, primary_key=True),
        sa.Column("number", Key, primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("url_key", Key, nullable=False, index=True),
        sa.Column("stem", sa.String, nullable=False),
        sa.Column("told", sa.Boolean, nullable=False, default=False),
    )


@plain_table
def fetches_table(metadata: sa.MetaData) -> sa.Table:
    """``fetches``: how the last fetch of each URL ended, and the bytes that are stored for it.

    ``url_key`` is a hash of the URL: PostgreSQL keeps no key of more than 2,704 bytes in an index.
    ``sha256``, ``size_bytes``, ``suffix``, ``etag`` and ``last_modified`` are those of the bytes
    that are there, also while the URL waits to be fetched again; ``received_bytes`` is what the
    last fetch received. ``place`` is a random number: in its order, the URLs of one host are mixed
    with those of others.
    """
    return sa.Table(
        "fetches",
        metadata,
        sa.Column("url_key", Key, primary_key=True),
        sa.Column("url", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("place", sa.BigInteger, nullable=False),
        sa.Column("http_code", sa.BigInteger, nullable=True),
        sa.Column("reason", sa.String, nullable=True),
        sa.Column("code", sa.String, nullable=True),
        sa.Column("received_bytes", sa.BigInteger, nullable=True),
        sa.Column("duration_ms", sa.BigInteger, nullable=True),
        sa.Column("attempts", sa.BigInteger, nullable=True),
        sa.Column("final_url", sa.String, nullable=True),
        sa.Column("asked_ts", sa.Float, nullable=True),
        sa.Column("sha256", sa.String, nullable=True, index=True),
        sa.Column("size_bytes", sa.BigInteger, nullable=True),
        sa.Column("suffix", sa.String, nullable=True),
        sa.Column("etag", sa.String, nullable=True),
        sa.Column("last_modified", sa.String, nullable=True),
        sa.Index("ix_fetches_waiting", "state", "place"),
    )


@plain_table
def runs_table(metadata: sa.MetaData) -> sa.Table:
    """``runs``: a row per run that did something, or was stopped by an error.

    ``began_ts`` is Unix time in seconds; ``report`` is the JSON of ``datapipe run --json``, and
    NULL where ``stopped_by``, the message of an error, says why the run did not end.
    """
    return sa.Table(
        "runs",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("began_ts", sa.Float, nullable=False),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.Column("report", sa.String, nullable=True),
        sa.Column("stopped_by", sa.String, nullable=True),
    )


def index_states(renditions: sa.Table, dialect: Dialect) -> None:
    """Declare an index to count states by, and one of the renditions that are not ``ok``.

    With the second the gallery finds the few that failed among millions. It holds no other row, so
    a new rendition costs nothing more.
    """
    name, columns = f"ix_{renditions.name}_exceptions", renditions.c
    if name not in {index.name for index in renditions.indexes}:
        sa.Index(f"ix_{renditions.name}_states", columns.source, columns.state)
        options = dialect.where(EXCEPTION)
        sa.Index(name, columns.source, columns.state, columns.path, **options)


def index_originals(originals: sa.Table, found: sa.Table, dialect: Dialect) -> None:
    """Declare what the gallery is sorted by, beside names: size, and when they were ``found``.

    A takedown also looks by its size for an original that was never hashed.
    """
    name = f"ix_{originals.name}_sizes"
    if name not in {index.name for index in originals.indexes}:
        sa.Index(name, originals.c.source, originals.c.size_bytes, originals.c.path)
        times = (found.c.source, found.c.create_ts, found.c.path)
        sa.Index(f"ix_{originals.name}_found", *times, **dialect.where(NOT_DELETED))


# SQLite uses a partial index only if a query contains its exact condition.
EXCEPTION = "state <> 'ok'"
NOT_DELETED = "delete_ts IS NULL"


def connect(url: str) -> Database:
    """Open the database of ``PIPELINE_DB``, with the tables that are not tracked declared.

    Raises:
        DatabaseError: it cannot be reached or opened.
    """
    database = open_database(url)
    jobs = (jobs_table, csv_urls_table, fetches_table)
    moderation = (takedowns_table, takedown_files_table, blocked_hashes_table, reviews_table)
    beside = (digests_table, takedown_events_table, notices_table, users_table)
    bulks = (bulks_table, bulk_items_table)
    for untracked in (runs_table, *jobs, *moderation, *beside, *bulks):
        untracked(database.sqla_metadata)
    return database


def make_tables(database: Database, is_run: bool = False) -> None:
    """Create the tables that are missing; bring those of an older release forward.

    ``is_run``: the caller holds the lock of runs.

    Raises:
        DatabaseError: the tables are of a newer release, or the database is read-only.
        LockedError: the tables are of an older release, and a run is in progress.
    """
    layout.create_missing(database, LAYOUT_VERSION, MIGRATIONS, is_run)
