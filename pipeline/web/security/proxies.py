"""People whom a proxy has logged in: it names them, and their roles, in headers of its own.

Anybody can send such a header. It is believed only from the addresses of the proxy, and refused
from any other: a request that claims to be somebody must not be served as somebody else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from pipeline.settings.parsing import Network, is_in
from pipeline.states import Role
from pipeline.users import NAME_MAX
from pipeline.web.security.roles import Person

_SEPARATOR = re.compile(r"[,;\s]+")


class Proxy:
    """The headers of ``PIPELINE_USER_HEADER`` and ``PIPELINE_ROLES_HEADER``."""

    def __init__(self, user_header: str, roles_header: str, addresses: Sequence[Network]) -> None:
        self._user_header = user_header.lower()
        self._roles_header = roles_header.lower()
        self._addresses = addresses
        self.headers = frozenset((self._user_header.encode(), self._roles_header.encode()))

    def person(self, headers: Headers, peer: str) -> Person | None:
        """Whom the proxy names; ``None`` if it names nobody.

        ``peer`` is the address that has connected to us, whatever other headers say.

        Raises:
            HTTPException: 403, the request does not come from the proxy, or the person has no
                role; 400, the name cannot be one.
        """
        names, roles = headers.getlist(self._user_header), headers.getlist(self._roles_header)
        if not names and not roles:
            return None
        if not is_in(peer, self._addresses):
            raise HTTPException(
                403,
                f"this request says who sent it ({self._user_header}, {self._roles_header}), which "
                "is believed only from PIPELINE_PROXY_ADDRESSES, and it did not come from there",
            )
        if len(names) > 1:
            raise HTTPException(400, f"the header {self._user_header} was sent twice")
        name = _text(names[0]).strip() if names else ""
        if not name:
            return None
        if len(name) > NAME_MAX or not name.isprintable():
            raise HTTPException(400, f"the header {self._user_header} does not hold a name")
        named = {word.casefold() for value in roles for word in _SEPARATOR.split(_text(value))}
        for role in reversed(Role):
            if role.value in named:
                return Person(name, role)
        known = ", ".join(role.value for role in Role)
        raise HTTPException(
            403,
            f"{name} has none of the roles {known}: the header {self._roles_header} names none",
        )


def _text(value: str) -> str:
    """A header as text: proxies send UTF-8, and the server reads bytes as Latin-1."""
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        return value
