"""How often a wrong token may be tried: ten times a second in total, once per address.

Beyond that a token is not checked, so that trying faster finds nothing sooner. Tokens from an
address that has sent the right one are still checked: neither attackers nor one client with an old
token lock its neighbours out. They are not checked only if the address sends wrong tokens itself
while the total is used up.
"""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from enum import Enum

from starlette.types import Scope

# How long a wrong token counts, and how long its answer takes: a client that waits for the
# answer before its next attempt is never refused.
WRONG_TOKEN_S = 1.0
OF_ALL = 10
TOO_MANY = "too many wrong tokens; try again in a second"
# Addresses from which the right token came; the least recent are forgotten first.
REMEMBERED = 1_000


class TokenCheck(Enum):
    """The result for a token: it is right, it is wrong, or it was not checked."""

    RIGHT = "right"
    WRONG = "wrong"
    NOT_CHECKED = "not checked"


class TokenAttempts:
    """Counts wrong tokens; in the thread of the event loop, in constant memory."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` counts seconds."""
        self._clock = clock
        # Time and address of the wrong ones in the last second; their number is limited.
        self._wrong: deque[tuple[float, str]] = deque()
        self._known: OrderedDict[str, None] = OrderedDict()

    def may_try(self, address: str) -> bool:
        """Whether a token from ``address`` may be checked now."""
        now = self._clock()
        while self._wrong and now - self._wrong[0][0] >= WRONG_TOKEN_S:
            self._wrong.popleft()
        has_tried = any(theirs == address for _, theirs in self._wrong)
        is_full = len(self._wrong) >= OF_ALL
        is_known = address in self._known
        return not ((has_tried and is_full) if is_known else (has_tried or is_full))

    def note(self, address: str, was_right: bool) -> None:
        """Note that a token from ``address`` was checked, and whether it was right."""
        if not was_right:
            self._wrong.append((self._clock(), address))
            return
        self._known[address] = None
        self._known.move_to_end(address)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)


def address_of(scope: Scope) -> str:
    """The address of a request; of IPv6 its /48 network, all of which one customer may have."""
    host: str = scope["client"][0] if scope.get("client") else ""
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is None:
        return str(ipaddress.IPv6Address(int(found) >> 80 << 80))
    return str(getattr(found, "ipv4_mapped", None) or found)
