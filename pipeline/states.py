"""States: each one closed set, the same words in the database, the CLI, JSON and the page."""

from __future__ import annotations

import enum


class State(str, enum.Enum):
    """What became of a rendition. The same words stand in the tables, the CLI and JSON."""

    OK = "ok"
    FAILED = "failed"
    TAKEN_DOWN = "taken_down"


class TakedownState(str, enum.Enum):
    """Where a takedown is. Its SHA-256 is barred in every state but the last."""

    REMOVING = "removing"
    IN_FORCE = "in_force"
    LIFTING = "lifting"
    LIFTED = "lifted"


class JobState(str, enum.Enum):
    """Where a job is; the same words in the tables, the CLI, JSON and the page."""

    RECEIVED = "received"
    CHECKING = "checking"
    REJECTED = "rejected"
    FETCHING = "fetching"
    RENDERING = "rendering"
    WRITING = "writing"
    COMPLETED = "completed"
    COMPLETED_WITH_ERRORS = "completed_with_errors"
    FAILED = "failed"
    DELETED = "deleted"


class UrlState(str, enum.Enum):
    """What is known of a URL: yet to be asked, or how asking ended."""

    WAITING = "waiting"
    FETCHED = "fetched"
    REFUSED = "refused"
    FAILED = "failed"


class WebhookState(str, enum.Enum):
    """Whether the end of a job has been told."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class Kind(str, enum.Enum):
    """What a row of ``takedown_files`` is about."""

    ORIGINAL = "original"
    RENDITION = "rendition"
