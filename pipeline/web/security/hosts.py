"""Under which names the service may be requested, and from which pages.

A service on loopback is reached by every web page that its user opens: an attacker's name that
resolves to 127.0.0.1 makes it the same origin (DNS rebinding), and an attacker's form posts to it
(CSRF). So the Host header must be one of ours, and a request that changes something must come from
a page of ours.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Collection, Mapping

LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))
# Host headers that were accepted: parsing one costs as much as the rest of the guard.
REMEMBERED = 100
MAX_PORT = 65_535
_HOST = re.compile(
    r"(?:(?P<name>[\w-]+(?:\.[\w-]+)*\.?)|\[(?P<address>[0-9a-f:.]+)\])(?::(?P<port>\d{1,5}))?",
    re.ASCII | re.IGNORECASE,
)
UNSAFE = frozenset(("POST", "PUT", "PATCH", "DELETE"))


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine can connect to a server bound to ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Hosts:
    """The names that the service answers to."""

    def __init__(self, bound: str, more: Collection[str] = ()) -> None:
        """``bound`` is the address that the server listens on, ``more`` is ``PIPELINE_HOSTS``."""
        self.names = LOOPBACK | {_plain(name) for name in (bound, *more)}
        self._known: set[str] = set()
        # A server that people reach by the machine's address cannot be rebound to by number: the
        # page of an attacker would have to come from that very address.
        self.any_number = not is_loopback(bound)
        if self.any_number:
            self.names |= {_plain(socket.gethostname())}

    def knows(self, header: str | None) -> bool:
        """Whether this Host header is one of ours; with or without a port."""
        if header in self._known:
            return True
        known = self._is_known(host_named_in(header or ""))
        if known and header and len(self._known) < REMEMBERED:
            self._known.add(header)
        return known

    def _is_known(self, name: str | None) -> bool:
        if name is None:
            return False
        if name in self.names:
            return True
        if self.any_number:
            try:
                ipaddress.ip_address(name)
            except ValueError:
                return False
            return True
        return False


def host_named_in(header: str) -> str | None:
    """The name or address in a Host header, in lower case; ``None`` if it is malformed.

    An IPv6 address is in its shortest form. Nothing may follow it but a port: some parsers of URLs
    take ``[::1].evil.example`` for ``::1``.
    """
    found = _HOST.fullmatch(header)
    if found is None or int(found["port"] or 0) > MAX_PORT:
        return None
    if found["name"] is not None:
        return found["name"].lower().removesuffix(".")
    try:
        return str(ipaddress.IPv6Address(found["address"]))
    except ValueError:
        return None


def _plain(name: str) -> str | None:
    """A name or address of the settings as :func:`host_named_in` gives it."""
    return host_named_in(f"[{name.strip('[]')}]" if ":" in name else name)


def comes_from_us(headers: Mapping[str, str]) -> bool:
    """Whether a request that changes something was made by a page of ours, or by no page at all.

    Browsers say with Sec-Fetch-Site, which no page can forge, where a request comes from; on plain
    HTTP they say Origin alone. Other programs send neither, and no page controls them.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = headers.get("origin")
    if origin is None:
        return True
    host = headers.get("host", "").lower()
    return host != "" and origin.lower() in (f"http://{host}", f"https://{host}")
