"""States: each one closed set, the same words in the database, the CLI, JSON and the page."""

from __future__ import annotations

import enum


class State(str, enum.Enum):
    """The state of a rendition. The same words are used in the tables, the CLI and JSON."""

    OK = "ok"
    FAILED = "failed"
    HELD = "held"
    TAKEN_DOWN = "taken_down"


class Source(str, enum.Enum):
    """Where originals come from, in the order in which a run renders them."""

    INPUT = "input"
    JOBS = "jobs"


class Lane(str, enum.Enum):
    """What goes on beside other work, in the order in which it is shown."""

    ORIGINALS = "originals"
    CHANGES = "changes"
    FETCHING = "fetching"
    JOB_IMAGES = "job images"
    STEPS = "steps"
    BULK = "bulk"


class TakedownState(str, enum.Enum):
    """The state of a takedown. Its SHA-256 is blocked in every state but the last."""

    REMOVING = "removing"
    IN_FORCE = "in_force"
    LIFTING = "lifting"
    LIFTED = "lifted"


class TakedownEvent(str, enum.Enum):
    """What happened to a takedown besides its states. The last of the first two counts."""

    LEGAL_HOLD = "legal_hold"
    RELEASED = "released"
    PURGED = "purged"


class Notice(str, enum.Enum):
    """What the webhook of moderation tells of."""

    TAKEDOWN = "takedown"
    REINSTATEMENT = "reinstatement"
    REPORT = "report"
    HOLD = "hold"
    DECISION = "decision"
    UNDONE = "undone"


class HashKind(str, enum.Enum):
    """By which hash content is blocked: of its bytes, or of what the picture looks like."""

    SHA256 = "sha256"
    MD5 = "md5"
    PDQ = "pdq"


class ReviewKind(str, enum.Enum):
    """Why a person has to look: it is near to blocked content, or somebody reported it."""

    HELD = "held"
    REPORTED = "reported"


class ReviewState(str, enum.Enum):
    """What a person decided. Content that was published once is never held again."""

    OPEN = "open"
    PUBLISHED = "published"
    TAKEN_DOWN = "taken_down"


class Role(str, enum.Enum):
    """What a person may do, from least to most: each role includes those before it."""

    VIEWER = "viewer"
    UPLOADER = "uploader"
    MODERATOR = "moderator"
    ADMIN = "admin"

    def includes(self, other: Role) -> bool:
        """Whether a person with this role may do what needs ``other``."""
        order = list(Role)
        return order.index(self) >= order.index(other)


class JobState(str, enum.Enum):
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


class UrlState(str, enum.Enum):
    """The state of a URL: waiting, or how its last fetch ended."""

    WAITING = "waiting"
    FETCHED = "fetched"
    REFUSED = "refused"
    FAILED = "failed"


class WebhookState(str, enum.Enum):
    """Whether the webhook was delivered."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class BulkAct(str, enum.Enum):
    """What is done with many originals at once."""

    TAKE_DOWN = "take_down"
    REINSTATE = "reinstate"
    PUBLISH = "publish"
    RETRY = "retry"


class BulkState(str, enum.Enum):
    """The state of a bulk: it goes on until it is done, or until somebody stops it."""

    RUNNING = "running"
    STOPPED = "stopped"
    DONE = "done"


class BulkItemState(str, enum.Enum):
    """The state of one original of a bulk."""

    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"


class Kind(str, enum.Enum):
    """What a row of ``takedown_files`` is about."""

    ORIGINAL = "original"
    RENDITION = "rendition"
