"""Who has access: the token of ``PIPELINE_TOKEN``, and the session that a login gives a browser.

The cookie never holds the token. It holds a time and that time's HMAC under a key made of the
token, so that nothing has to be stored, and a new token ends every session.
"""

from __future__ import annotations

import hashlib
import hmac
import time

COOKIE = "lockstep_session"
SESSION_S = 14 * 24 * 3600


class Sessions:
    """Checks tokens and sessions; both in constant time."""

    def __init__(self, token: str) -> None:
        self._token = hashlib.sha256(token.encode()).digest()
        self._key = hmac.digest(token.encode(), b"lockstep session key 1", "sha256")

    def admits(self, token: str) -> bool:
        """Whether this is the token."""
        # Digests are of one length: the comparison does not even reveal the length of the token.
        given = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        return hmac.compare_digest(given, self._token)

    def begin(self, now_s: float | None = None) -> str:
        """The value of the cookie of a new session."""
        ends = str(int((time.time() if now_s is None else now_s) + SESSION_S))
        return f"{ends}.{self._sign(ends)}"

    def holds(self, value: str, now_s: float | None = None) -> bool:
        """Whether this is the cookie of a session that has not ended."""
        ends, _, signature = value.partition(".")
        if not hmac.compare_digest(signature.encode("utf-8", "replace"), self._sign(ends).encode()):
            return False
        return int(ends) > (time.time() if now_s is None else now_s)

    def _sign(self, ends: str) -> str:
        return hmac.digest(self._key, ends.encode("utf-8", "replace"), "sha256").hex()
