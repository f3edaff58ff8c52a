"""The tables of moderation: who took what down, what is blocked, and what waits for a person.

``takedowns``, ``takedown_files``  who took what down, and why
``takedown_events``                what happened to a takedown since
``blocked_hashes``                 content that is blocked
``digests``                        the MD5 of what was seen
``notices``                        what the webhook of moderation was sent
``reviews``                        what a person has to decide, or has decided
``users``                          who may use the page, and as what
``bulks``, ``bulk_items``          what was done with many originals at once, and each of them
"""

from __future__ import annotations

import sqlalchemy as sa

from pipeline.database.dialects import Key
from pipeline.database.layout import plain_table


@plain_table
def takedowns_table(metadata: sa.MetaData) -> sa.Table:
    """``takedowns``: the audit of what was taken down. Rows are never deleted.

    ``size_bytes`` is the size of the original of these bytes, NULL where none was ever seen.
    ``target`` is what the person named. Times are Unix times in seconds. ``instance`` is the one
    that made it, NULL for this one; ``unsent`` counts what the shared blocklist was not told yet.
    """
    return sa.Table(
        "takedowns",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("sha256", sa.String, nullable=False, index=True),
        sa.Column("size_bytes", sa.BigInteger, nullable=True, index=True),
        sa.Column("target", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False, index=True),
        sa.Column("purge", sa.Boolean, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("who", sa.String, nullable=False),
        sa.Column("created_ts", sa.Float, nullable=False),
        sa.Column("lifted_ts", sa.Float, nullable=True),
        sa.Column("lifted_by", sa.String, nullable=True),
        sa.Column("instance", sa.String, nullable=True),
        sa.Column(
            "unsent", sa.BigInteger, nullable=False, default=1, server_default="1", index=True
        ),
        # An id is never reused, even if the last row was removed by hand.
        sqlite_autoincrement=True,
    )


@plain_table
def takedown_files_table(metadata: sa.MetaData) -> sa.Table:
    """``takedown_files``: each original and each rendition that a takedown removed.

    ``path`` is below ``input/`` or ``output/``. Of originals: ``kept`` is the place below the
    quarantine folder, NULL where there is nothing to put back; ``removed`` says that it is out of
    ``input/``; ``restored`` is the path that it was put back to.
    """
    return sa.Table(
        "takedown_files",
        metadata,
        sa.Column("takedown", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String, primary_key=True),
        sa.Column("path", Key, primary_key=True),
        sa.Column("kept", Key, nullable=True, index=True),
        sa.Column("removed", sa.Boolean, nullable=False),
        sa.Column("restored", Key, nullable=True),
        sa.Index("ix_takedown_files_path", "path"),
    )


@plain_table
def takedown_events_table(metadata: sa.MetaData) -> sa.Table:
    """``takedown_events``: what happened to a takedown besides its states, and who did it.

    ``what`` is a value of :class:`pipeline.states.TakedownEvent`. Times are Unix times in seconds.
    """
    return sa.Table(
        "takedown_events",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("takedown", sa.Integer, nullable=False, index=True),
        sa.Column("what", sa.String, nullable=False),
        sa.Column("ts", sa.Float, nullable=False),
        sa.Column("who", sa.String, nullable=False),
        sa.Column("note", sa.String, nullable=True),
        sqlite_autoincrement=True,
    )


@plain_table
def blocked_hashes_table(metadata: sa.MetaData) -> sa.Table:
    """``blocked_hashes``: content that must never be published, by a hash of it.

    ``kind`` is a value of :class:`pipeline.states.HashKind`, ``hash`` in lowercase hexadecimal.
    ``source`` is who blocks it: the name of an imported list, or ``takedown 12``. Content is
    blocked as long as any source blocks it. Of a PDQ: ``distance`` is in how many of 256 bits a
    picture may differ and be near, NULL for the usual distance.
    """
    return sa.Table(
        "blocked_hashes",
        metadata,
        sa.Column("kind", Key, primary_key=True),
        sa.Column("hash", Key, primary_key=True),
        sa.Column("source", Key, primary_key=True, index=True),
        sa.Column("reason", sa.String, nullable=True),
        sa.Column("distance", sa.BigInteger, nullable=True),
        sa.Column("added_ts", sa.Float, nullable=False),
        # What tells cheaply that those of a kind have changed: how many, and the newest.
        sa.Index("ix_blocked_hashes_added", "kind", "added_ts"),
    )


@plain_table
def digests_table(metadata: sa.MetaData) -> sa.Table:
    """``digests``: the MD5 of the content of each SHA-256 that was seen, for lists of MD5.

    A row is true for ever, whichever originals have the content.
    """
    return sa.Table(
        "digests",
        metadata,
        sa.Column("sha256", Key, primary_key=True),
        sa.Column("md5", Key, nullable=False, index=True),
    )


@plain_table
def notices_table(metadata: sa.MetaData) -> sa.Table:
    """``notices``: each event that the webhook of moderation was sent, or is to be sent again.

    ``event`` is a value of :class:`pipeline.states.Notice`, ``subject`` the number of the takedown
    or review, ``ts`` when it happened; ``state`` is one of ``WebhookState``. It is not tried again
    before ``next_ts``. Times are Unix times in seconds.
    """
    return sa.Table(
        "notices",
        metadata,
        sa.Column("event", Key, primary_key=True),
        sa.Column("subject", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("ts", sa.Float, primary_key=True),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("tries", sa.BigInteger, nullable=False),
        sa.Column("next_ts", sa.Float, nullable=False),
        sa.Column("reason", sa.String, nullable=True),
    )


@plain_table
def reviews_table(metadata: sa.MetaData) -> sa.Table:
    """``reviews``: content that a person has to decide about, and what was decided.

    ``kind`` is a value of :class:`pipeline.states.ReviewKind`, ``state`` one of ``ReviewState``.
    ``source`` and ``path`` name the original that it was first found as. Of what is held: ``near``
    is the blocked PDQ hash, ``near_source`` who blocks it, ``distance`` in bits of 256. ``reports``
    counts how often either kind was reported. Of what was only reported: ``reason`` is what the
    first reporter, ``who``, wrote. ``later_reports`` is a JSON list of the other reports. Times are
    Unix times in seconds. Of a decision: ``category`` and ``decision`` are what was chosen and
    written, ``takedown`` is the number of the takedown that it led to, NULL until that is made.
    ``undone_ts`` and ``undone_by`` are of its last undo.
    """
    return sa.Table(
        "reviews",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("sha256", sa.String, nullable=False, index=True),
        sa.Column("source", Key, nullable=False),
        sa.Column("path", Key, nullable=False),
        sa.Column("near", sa.String, nullable=True),
        sa.Column("near_source", sa.String, nullable=True),
        sa.Column("distance", sa.BigInteger, nullable=True),
        sa.Column("category", sa.String, nullable=True),
        sa.Column("reason", sa.String, nullable=True),
        sa.Column("who", sa.String, nullable=True),
        sa.Column("reports", sa.BigInteger, nullable=False, default=0, server_default="0"),
        sa.Column("later_reports", sa.String, nullable=True),
        sa.Column("created_ts", sa.Float, nullable=False),
        sa.Column("decided_ts", sa.Float, nullable=True),
        sa.Column("decided_by", sa.String, nullable=True),
        sa.Column("decision", sa.String, nullable=True),
        sa.Column("takedown", sa.BigInteger, nullable=True),
        sa.Column("undone_ts", sa.Float, nullable=True),
        sa.Column("undone_by", sa.String, nullable=True),
        sa.Index("ix_reviews_open", "state", "created_ts"),
        sa.Index("ix_reviews_decided", "state", "decided_ts"),
        sa.Index("ix_reviews_takedown", "state", "takedown"),
        sqlite_autoincrement=True,
    )


@plain_table
def bulks_table(metadata: sa.MetaData) -> sa.Table:
    """``bulks``: one act on many originals, recorded before the first of them is touched.

    ``act`` is a value of :class:`pipeline.states.BulkAct`, ``state`` one of ``BulkState``.
    ``chosen`` says in words which originals were chosen. ``total``, ``done`` and ``failed`` count
    them. Times are Unix times in seconds; ``ended_by`` is who stopped it.
    """
    return sa.Table(
        "bulks",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("act", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False, index=True),
        sa.Column("chosen", sa.String, nullable=False),
        sa.Column("reason", sa.String, nullable=True),
        sa.Column("who", sa.String, nullable=False),
        sa.Column("purge", sa.Boolean, nullable=False),
        sa.Column("total", sa.BigInteger, nullable=False),
        sa.Column("done", sa.BigInteger, nullable=False),
        sa.Column("failed", sa.BigInteger, nullable=False),
        sa.Column("created_ts", sa.Float, nullable=False),
        sa.Column("ended_ts", sa.Float, nullable=True),
        sa.Column("ended_by", sa.String, nullable=True),
        sqlite_autoincrement=True,
    )


@plain_table
def bulk_items_table(metadata: sa.MetaData) -> sa.Table:
    """``bulk_items``: the originals of a bulk, in the order in which they are worked on.

    ``state`` is a value of :class:`pipeline.states.BulkItemState`, ``note`` says why one failed.
    ``sha256`` is the content that was chosen, NULL where it was not known. ``takedown`` is the
    number of the takedown that it led to, or that is reinstated.
    """
    return sa.Table(
        "bulk_items",
        metadata,
        sa.Column("bulk", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("source", Key, nullable=False),
        sa.Column("path", Key, nullable=False),
        sa.Column("sha256", sa.String, nullable=True),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("note", sa.String, nullable=True),
        sa.Column("takedown", sa.Integer, nullable=True, index=True),
        sa.Index("ix_bulk_items_state", "bulk", "state", "number"),
    )


@plain_table
def users_table(metadata: sa.MetaData) -> sa.Table:
    """``users``: who may use the page. ``role`` is a value of :class:`pipeline.states.Role`.

    ``token_id`` is the part of the token that says whose it is, ``token_hash`` a slow hash of all
    of it. ``created_ts`` is Unix time in seconds.
    """
    return sa.Table(
        "users",
        metadata,
        sa.Column("name", Key, primary_key=True),
        sa.Column("role", sa.String, nullable=False),
        sa.Column("token_id", Key, nullable=False, unique=True),
        sa.Column("token_hash", sa.String, nullable=False),
        sa.Column("created_ts", sa.Float, nullable=False),
    )
