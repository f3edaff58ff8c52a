"""The session that a login gives a browser.

The cookie never holds the token. It holds an account, a time and a random number, and their HMAC
under a key made of the account's token: sessions outlive a restart although none is stored, and a
new token ends all of them. Those that were logged out are stored until they would have ended
anyway.
"""

from __future__ import annotations

import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable
from typing import Protocol

from pipeline.database.state import ENDED_SESSIONS

COOKIE = "lockstep_session"
SESSION_S = 14 * 24 * 3600
NUMBER_DIGITS = 16
# Sessions that were logged out. Beyond that, the older half of all sessions ends early.
MAX_ENDED = 4_000


class NamedValues(Protocol):
    """Named texts that outlive a restart: a ``StateRepository``."""

    def fresh(self, name: str) -> str | None: ...

    def set(self, name: str, value: str | None) -> None: ...


class Sessions:
    """Begins, checks and ends sessions; the check is in constant time."""

    def __init__(
        self, key_of: Callable[[str], bytes | None], values: NamedValues | None = None
    ) -> None:
        """``key_of`` gives the secret of an account; ``None`` if there is no such account.

        ``values`` keeps which sessions were logged out; without it, a restart forgets them.
        """
        self._key_of = key_of
        self._values = values
        self._ending = threading.Lock()
        # By number, when they would have ended; and up to when all others are over, too.
        self._ended: dict[str, int] = {}
        self._over_until = 0
        self._load()

    def begin(self, account: str, now_s: float | None = None) -> str:
        """The value of the cookie of a new session of an account that there is."""
        ends = str(int((time.time() if now_s is None else now_s) + SESSION_S))
        number = secrets.token_hex(NUMBER_DIGITS // 2)
        return f"{account}.{ends}.{number}{self._sign(account, ends, number)}"

    def account(self, value: str, now_s: float | None = None) -> str | None:
        """Whose session this cookie is; ``None`` if it is none, or has ended."""
        account, ends, number = self._read(value)
        holds = (
            ends > (time.time() if now_s is None else now_s)
            and ends > self._over_until
            and number not in self._ended
        )
        return account if holds else None

    def end(self, value: str, now_s: float | None = None) -> None:
        """Log out: no copy of the cookie of this session gives access any more.

        Nothing happens if it is not the cookie of a session.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: it cannot be stored; it has ended until the next start.
        """
        _, ends, number = self._read(value)
        if not ends:
            return
        now = time.time() if now_s is None else now_s
        with self._ending:
            self._ended[number] = ends
            self._load()
            kept = {number: ends for number, ends in self._ended.items() if ends > now}
            if len(kept) > MAX_ENDED:
                self._over_until = sorted(kept.values())[MAX_ENDED // 2]
            self._ended = {n: ends for n, ends in kept.items() if ends > self._over_until}
            if self._values is not None:
                stored = {"sessions": self._ended, "over_until": self._over_until}
                self._values.set(ENDED_SESSIONS, json.dumps(stored))

    def _load(self) -> None:
        """Add what is stored: another service on the same database may have ended sessions."""
        text = self._values.fresh(ENDED_SESSIONS) if self._values is not None else None
        if text is not None:
            stored = json.loads(text)
            self._ended = self._ended | stored["sessions"]
            self._over_until = max(self._over_until, stored["over_until"])

    def _read(self, value: str) -> tuple[str, int, str]:
        """Whose session a cookie is of, when it ends, and its number; 0 if it is not ours."""
        account, _, rest = value.partition(".")
        ends, _, rest = rest.partition(".")
        number, signature = rest[:NUMBER_DIGITS], rest[NUMBER_DIGITS:]
        ours = self._sign(account, ends, number).encode()
        if not ours or not hmac.compare_digest(signature.encode("utf-8", "replace"), ours):
            return "", 0, ""
        return account, int(ends), number

    def _sign(self, account: str, ends: str, number: str) -> str:
        """The signature; empty if there is no such account."""
        secret = self._key_of(account)
        if secret is None:
            return ""
        key = hmac.digest(secret, b"lockstep session key 2", "sha256")
        text = f"{account}.{ends}.{number}".encode("utf-8", "replace")
        return hmac.digest(key, text, "sha256").hex()
