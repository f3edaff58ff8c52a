"""Who sends a request: somebody with a token or a session, or whom a proxy names.

The users are read at most once a second, beside the requests: a removed user has no access two
seconds later. The slow hash of a token is computed once in five minutes, one at a time, and only
for a token whose random id is known.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import Scope

from pipeline.database.state import StateRepository
from pipeline.settings.values import Settings
from pipeline.states import Role
from pipeline.text import login_name
from pipeline.users import ADMIN, User, UserRepository, is_token, token_id_of
from pipeline.web.security.attempts import TokenAttempts, TokenCheck, address_of
from pipeline.web.security.hosts import is_loopback
from pipeline.web.security.proxies import Proxy
from pipeline.web.security.roles import Person
from pipeline.web.security.sessions import Sessions

log = logging.getLogger("lockstep.web")

# The users are read again after this long, and waited for after twice as long.
KNOWN_S = 1.0
# How long a token that was checked is not hashed again, and how many are remembered.
VERIFIED_S = 300.0
VERIFIED = 1_000
# What PIPELINE_REPORT_TOKEN allows, and nothing else; and who sends it. No user has this id.
REPORT, REPORTER = ("POST", "/reports"), "report token"
# Tokens that wait for their turn to be hashed.
WAITING = 16


class Checked(NamedTuple):
    """The result for a token, and whose it is: ``admin``, or the id of a token."""

    result: TokenCheck
    account: str = ""


class Access:
    """Tokens, sessions and the proxy; used in the thread of the event loop."""

    def __init__(
        self,
        settings: Settings,
        users: UserRepository,
        ended: StateRepository | None,
        may_be_open: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``may_be_open``: anybody who can connect is the admin while nobody else is known.

        ``ended`` keeps the sessions that were logged out. ``clock`` counts seconds.
        """
        self._token = settings.token.encode()
        self._digest = hashlib.sha256(self._token).digest() if self._token else None
        reports = settings.report_token.encode()
        self._report_digest = hashlib.sha256(reports).digest() if reports else None
        self._may_be_open = may_be_open and not self._token and not settings.user_header
        self._clock = clock
        self.proxy = (
            Proxy(settings.user_header, settings.roles_header, settings.proxy_addresses)
            if settings.user_header
            else None
        )
        self._repository = users
        self._users: dict[str, User] = {}
        self._read_s = clock()
        self._reading: asyncio.Task[None] | None = None
        self.sessions = Sessions(self._key, ended)
        self.attempts = TokenAttempts(clock)
        self._verified: OrderedDict[bytes, tuple[str, float]] = OrderedDict()
        self._slowly = asyncio.Lock()
        self._waiting = 0
        self._take(users.all())

    @property
    def is_open(self) -> bool:
        """Whether anybody who can connect may do everything."""
        return self._may_be_open

    @property
    def has_tokens(self) -> bool:
        """Whether there is any token to log in with."""
        return self._digest is not None or bool(self._users)

    def is_current(self) -> bool:
        """Whether the users are known as they are now; begins to read them where it is time."""
        age_s = self._clock() - self._read_s
        if age_s >= KNOWN_S and self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._read())
        return age_s < 2 * KNOWN_S

    async def refresh(self) -> None:
        """Wait until the users are known as they are now; for not longer than a query takes."""
        if not self.is_current() and self._reading is not None:
            await asyncio.shield(self._reading)

    async def _read(self) -> None:
        try:
            self._take(await run_in_threadpool(self._repository.all))
        except SQLAlchemyError as error:
            # Who was known is known: the pages say themselves that the database is away.
            log.warning("users cannot be read: %s", error)
        finally:
            self._read_s = self._clock()
            self._reading = None

    def _take(self, users: list[User]) -> None:
        self._users = {user.token_id: user for user in users}
        if users:
            # Once locked, the door stays locked: removing the last user must not open it.
            self._may_be_open = False

    def of_proxy(self, scope: Scope, headers: Headers) -> Person | None:
        """Whom the proxy names.

        Raises:
            HTTPException: somebody else names a person, or the proxy names one who has no role.
        """
        if self.proxy is None:
            return None
        return self.proxy.person(headers, scope["state"].get("peer", ""))

    def of_nobody(self, scope: Scope) -> Person:
        """Who acts where anybody may do everything, as far as is known."""
        host = scope["client"][0] if scope.get("client") else "unknown"
        return Person(login_name() if is_loopback(host) else f"web ({host})", Role.ADMIN)

    def person(self, account: str) -> Person | None:
        """Whose account this is; ``None`` if it is nobody's any more."""
        if account == ADMIN:
            return Person(ADMIN, Role.ADMIN) if self._digest is not None else None
        if account == REPORTER:
            return Person(REPORTER, Role.VIEWER)
        user = self._users.get(account)
        return None if user is None else Person(user.name, user.role)

    def of_session(self, cookie: str) -> Person | None:
        """Whose session this is; ``None`` if it is none, or has ended."""
        account = self.sessions.account(cookie)
        return None if account is None else self.person(account)

    async def check(self, token: str, scope: Scope) -> Checked:
        """Check a token, if it may be checked."""
        address = address_of(scope)
        if not self.attempts.may_try(address):
            return Checked(TokenCheck.NOT_CHECKED)
        account = self._at_once(token, scope)
        user = self._users.get(token_id_of(token) or "")
        if account is None and user is not None:
            if self._waiting >= WAITING:
                return Checked(TokenCheck.NOT_CHECKED)
            self._waiting += 1
            try:
                async with self._slowly:
                    # While it waited, others may have used up the attempts, or hashed this token.
                    if not self.attempts.may_try(address):
                        return Checked(TokenCheck.NOT_CHECKED)
                    account = self._at_once(token, scope) or await self._hashed(token, user)
                    return self._noted(address, account)
            finally:
                self._waiting -= 1
        return self._noted(address, account)

    def _at_once(self, token: str, scope: Scope) -> str | None:
        """Whose token this is, if that is known without the slow hash."""
        # Digests are of one length: the comparison does not even reveal the length of the token.
        given = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        if self._digest is not None and hmac.compare_digest(given, self._digest):
            return ADMIN
        is_report = self._report_digest is not None and (scope["method"], scope["path"]) == REPORT
        if is_report and hmac.compare_digest(given, self._report_digest or b""):
            return REPORTER
        account, until_s = self._verified.get(given, ("", 0.0))
        return account if account in self._users and self._clock() < until_s else None

    async def _hashed(self, token: str, user: User) -> str | None:
        if not await run_in_threadpool(is_token, token, user.token_hash):
            return None
        self._verified[hashlib.sha256(token.encode()).digest()] = (
            user.token_id,
            self._clock() + VERIFIED_S,
        )
        if len(self._verified) > VERIFIED:
            self._verified.popitem(last=False)
        return user.token_id

    def _noted(self, address: str, account: str | None) -> Checked:
        self.attempts.note(address, was_right=account is not None)
        return Checked(TokenCheck.WRONG) if account is None else Checked(TokenCheck.RIGHT, account)

    def _key(self, account: str) -> bytes | None:
        """What the sessions of an account are signed with: a new token ends all of them."""
        if account == ADMIN:
            return self._token or None
        user = self._users.get(account)
        return None if user is None else self._token + user.token_hash.encode()
