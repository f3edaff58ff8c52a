"""How often a wrong token may be tried: ten times a second by all together, once by an address.

Beyond that a token is not looked at, so that trying faster finds nothing sooner. An address from
which the right token came is heard nevertheless: neither strangers nor one client with an old token
lock its neighbours out. It is not only when it sends wrong tokens itself while all together have
used up theirs.
"""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from enum import Enum

from starlette.types import Scope

# How long a wrong token counts, and how long its answer takes: whoever waits for the answer before
# the next attempt is never refused.
WRONG_TOKEN_S = 1.0
OF_ALL = 10
TOO_MANY = "too many wrong tokens; try again in a second"
# Addresses from which the right token came; the least recent are forgotten first.
REMEMBERED = 1_000


class Verdict(Enum):
    """What became of a token: it is the one, it is not, or it was not looked at."""

    RIGHT = "right"
    WRONG = "wrong"
    NOT_HEARD = "not heard"


class Attempts:
    """Judges tokens; in the thread of the event loop, in constant memory."""

    def __init__(
        self, admits: Callable[[str], bool], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``clock`` counts seconds."""
        self._admits = admits
        self._clock = clock
        # Time and address of the wrong ones of the last second, of which only so many are heard.
        self._wrong: deque[tuple[float, str]] = deque()
        self._known: OrderedDict[str, None] = OrderedDict()

    def judge(self, token: str, address: str) -> Verdict:
        """Look at a token from ``address``, if it may be looked at."""
        now = self._clock()
        while self._wrong and now - self._wrong[0][0] >= WRONG_TOKEN_S:
            self._wrong.popleft()
        has_tried = any(theirs == address for _, theirs in self._wrong)
        is_full = len(self._wrong) >= OF_ALL
        is_known = address in self._known
        if (has_tried and is_full) if is_known else (has_tried or is_full):
            return Verdict.NOT_HEARD
        if not self._admits(token):
            self._wrong.append((now, address))
            return Verdict.WRONG
        self._known[address] = None
        self._known.move_to_end(address)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return Verdict.RIGHT


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
