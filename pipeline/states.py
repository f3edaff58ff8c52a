"""States: each one closed set, the same words in the database, the CLI, JSON and the page."""

from __future__ import annotations

import enum


class Word(str, enum.Enum):
    """A word of a closed set, which is printed as it is on every version of Python."""

    __str__ = str.__str__


class State(Word):
    """The state of a rendition. The same words are used in the tables, the CLI and JSON."""

    OK = "ok"
    FAILED = "failed"
    HELD = "held"
    TAKEN_DOWN = "taken_down"


class Source(Word):
    """Where originals come from, in the order in which a run renders them."""

    INPUT = "input"
    JOBS = "jobs"


class Lane(Word):
    """What goes on beside other work, in the order in which it is shown."""

    ORIGINALS = "originals"
    CHANGES = "changes"
    FETCHING = "fetching"
    JOB_IMAGES = "job images"
    STEPS = "steps"
    BULK = "bulk"


class TakedownState(Word):
    """The state of a takedown. Its SHA-256 is blocked in every state but the last."""

    REMOVING = "removing"
    IN_FORCE = "in_force"
    LIFTING = "lifting"
    LIFTED = "lifted"


class TakedownEvent(Word):
    """What happened to a takedown besides its states. The last of the first two counts."""

    LEGAL_HOLD = "legal_hold"
    RELEASED = "released"
    PURGED = "purged"


class Notice(Word):
    """What the webhook of moderation tells of."""

    TAKEDOWN = "takedown"
    REINSTATEMENT = "reinstatement"
    REPORT = "report"
    HOLD = "hold"
    DECISION = "decision"
    UNDONE = "undone"


class HashKind(Word):
    """By which hash content is blocked: of its bytes, or of what the picture looks like."""

    SHA256 = "sha256"
    MD5 = "md5"
    PDQ = "pdq"


class ReviewKind(Word):
    """Why a person has to look: it is near to blocked content, or somebody reported it."""

    HELD = "held"
    REPORTED = "reported"


class ReviewState(Word):
    """What a person decided. Content that was published once is never held again."""

    OPEN = "open"
    PUBLISHED = "published"
    TAKEN_DOWN = "taken_down"


class Role(Word):
    """What a person may do, from least to most: each role includes those before it."""

    VIEWER = "viewer"
    UPLOADER = "uploader"
    MODERATOR = "moderator"
    ADMIN = "admin"

    def includes(self, other: Role) -> bool:
        """Whether a person with this role may do what needs ``other``."""
        order = list(Role)
        return order.index(self) >= order.index(other)


class JobState(Word):
    """The state of a job; the same words in the tables, the CLI, JSON and the page."""

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


class UrlState(Word):
    """The state of a URL: waiting, or how its last fetch ended."""

    WAITING = "waiting"
    FETCHED = "fetched"
    REFUSED = "refused"
    FAILED = "failed"


class WebhookState(Word):
    """Whether the webhook was delivered."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class BulkAct(Word):
    """What is done with many originals at once."""

    TAKE_DOWN = "take_down"
    REINSTATE = "reinstate"
    PUBLISH = "publish"
    RETRY = "retry"


class BulkState(Word):
    """The state of a bulk: it goes on until it is done, or until somebody stops it."""

    RUNNING = "running"
    STOPPED = "stopped"
    DONE = "done"


class BulkItemState(Word):
    """The state of one original of a bulk."""

    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"


class Kind(Word):
    """What a row of ``takedown_files`` is about."""

    ORIGINAL = "original"
    RENDITION = "rendition"
