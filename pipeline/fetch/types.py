"""The limits, requests and results of the fetch."""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.fetch.addresses import AllowList
from pipeline.reasons import Code

DEFAULT_PORTS = frozenset({80, 443})


class FetchStatus(str, enum.Enum):
    """How the fetch of one URL ended; the same words in the database, the CLI and the page."""

    FETCHED = "fetched"
    NOT_MODIFIED = "not_modified"
    # Refused by our rules, before or after the request: address, URL, size, content. Retrying
    # cannot help.
    REFUSED = "refused"
    # Refused by the network or the server. It may work another day.
    FAILED = "failed"


@dataclass(frozen=True)
class FetchLimits:
    """What one fetch, all of them at once, and one host may take.

    ``connect_timeout_s`` is for the name and the connection, and once more for the TLS handshake.
    ``total_timeout_s`` counts for each attempt, redirects included. ``retries`` come on top of the
    first attempt; of attempts that timed out, one is repeated. ``retry_after_max_s`` caps one wait
    that a server asks for, ``host_wait_max_s`` all the waits of one host: then 429 and 503 are
    final there. After ``host_faults_max`` URLs in a row that ended with connection problems a host
    counts as down for the rest of the call.
    """

    max_bytes: int = 50_000_000
    connect_timeout_s: float = 5.0
    stall_timeout_s: float = 20.0
    total_timeout_s: float = 120.0
    slow_bytes_per_s: int = 1_000
    slow_for_s: float = 20.0
    concurrent: int = 32
    concurrent_per_host: int = 6
    rate_per_host_per_s: float | None = None
    max_redirects: int = 5
    retries: int = 3
    backoff_s: float = 0.5
    backoff_max_s: float = 30.0
    retry_after_max_s: float = 120.0
    host_wait_max_s: float = 600.0
    host_faults_max: int = 20
    # URLs that wait. More of them offer more hosts to continue with beside a slow one.
    pending: int = 1_000
    ports: frozenset[int] = DEFAULT_PORTS
    allow: AllowList = field(default_factory=AllowList)
    http2: bool = True
    # Its password must not be logged.
    proxy_url: str | None = field(default=None, repr=False)
    user_agent: str = "Lockstep"

    def timeouts(self) -> dict[str, dict[str, float]]:
        """What httpx takes as ``extensions`` of one request, in seconds."""
        stall_s = self.stall_timeout_s
        return {"timeout": {"connect": self.connect_timeout_s, "read": stall_s, "write": stall_s}}

    def backoff_after_s(self, attempts: int) -> float:
        """Seconds to wait after so many failed attempts: twice as long each time.

        By chance up to half as much more or less: what failed together must not come back together.
        """
        base_s = self.backoff_s * 2.0 ** (attempts - 1)
        return min(base_s, self.backoff_max_s) * random.uniform(0.5, 1.5)


@dataclass(frozen=True)
class FetchRequest:
    """One URL; with ``etag`` or ``last_modified`` of the last time, a conditional request.

    At a host that is busy, groups take turns, whichever came first.
    """

    url: str
    etag: str | None = None
    last_modified: str | None = None
    group: str = ""


@dataclass(frozen=True)
class Fetched:
    """How one URL ended.

    ``url`` is the request's, to the letter; ``final_url`` the one that answered last. ``reason`` is
    empty for ``fetched`` and ``not_modified``, where ``code`` is ``None``. ``bytes`` is the size of
    the image, or what was received of it. ``duration_ms`` is the time spent, without the waits
    between attempts.
    ``sha256`` and ``path`` are set for ``fetched`` only. ``content_type`` is what the server says.
    """

    url: str
    status: FetchStatus
    http_code: int | None = None
    reason: str = ""
    code: Code | None = None
    bytes: int = 0
    duration_ms: int = 0
    attempts: int = 0
    final_url: str = ""
    sha256: str | None = None
    path: Path | None = None
    etag: str | None = None
    last_modified: str | None = None
    content_type: str | None = None
