"""Which network addresses may be fetched from: public ones, and those on the allow list.

URLs come from untrusted CSVs. Whatever name one uses, the address it leads to decides: none of
this machine, of the network around it, or of a cloud's metadata service may be reached.
``ipaddress.is_global`` is not used, since it calls several of these ranges global (such as
168.63.129.16, 192.88.99.0/24, 64:ff9b::/96, 3fff::/20 and 5f00::/16 in some releases of Python).

Sources: the IANA special-purpose address registries, https://www.iana.org/assignments/
iana-ipv4-special-registry and iana-ipv6-special-registry; RFC 6052 (NAT64), RFC 3056 (6to4),
RFC 2765 (translated), RFC 4291 (mapped, compatible), RFC 9780 (dummy).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

REFUSED_V4: tuple[tuple[str, str], ...] = (
    ("0.0.0.0/8", "this network"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "shared by a carrier"),
    ("127.0.0.0/8", "this machine"),
    ("168.63.129.16/32", "a cloud's own service"),
    ("169.254.0.0/16", "link-local, cloud metadata"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "protocol assignments"),
    ("192.0.2.0/24", "documentation"),
    ("192.88.99.0/24", "6to4 relay"),
    ("192.168.0.0/16", "private"),
    ("198.18.0.0/15", "benchmarking"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
)

REFUSED_V6: tuple[tuple[str, str], ...] = (
    ("::/128", "unspecified"),
    ("::1/128", "this machine"),
    # Local-use NAT64: each network lays out the IPv4 address in it as it likes (RFC 8215), so what
    # is wrapped cannot be known from outside.
    ("64:ff9b:1::/48", "local NAT64"),
    ("100::/64", "discard"),
    ("100:0:0:1::/64", "dummy"),
    # Teredo, benchmarking (2001:2::/48), ORCHID (2001:10::/28, 2001:20::/28) and others. What is
    # globally reachable in there, such as anycast addresses of relays, holds no images.
    ("2001::/23", "protocol assignments"),
    ("2001:db8::/32", "documentation"),
    ("3fff::/20", "documentation"),
    ("5f00::/16", "segment routing"),
    ("fc00::/7", "private"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "site-local"),
    ("ff00::/8", "multicast"),
)

# Networks whose addresses carry an IPv4 address, and the bits to shift right to reach it.
WRAPPING: tuple[tuple[str, int], ...] = (
    ("::/96", 0),  # compatible
    ("::ffff:0:0/96", 0),  # mapped
    ("::ffff:0:0:0/96", 0),  # translated
    ("64:ff9b::/96", 0),  # NAT64
    ("2002::/16", 80),  # 6to4
)

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_REFUSED_V4 = tuple((ipaddress.IPv4Network(network), why) for network, why in REFUSED_V4)
_REFUSED_V6 = tuple((ipaddress.IPv6Network(network), why) for network, why in REFUSED_V6)
_WRAPPING = tuple((ipaddress.IPv6Network(network), shift) for network, shift in WRAPPING)
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?")


def parse_address(text: str) -> Address:
    """The address that ``text`` spells; the zone of an IPv6 address (``%eth0``) is dropped.

    Raises:
        ValueError: it is not an address in canonical form.
    """
    return ipaddress.ip_address(text.partition("%")[0])


def refusal(address: Address) -> str | None:
    """Why the address may not be fetched from, for example ``10.0.0.0/8, private``; None if public.

    An IPv6 address that embeds an IPv4 address is validated by that as well.
    """
    if isinstance(address, ipaddress.IPv4Address):
        for network_v4, why in _REFUSED_V4:
            if address in network_v4:
                return f"{network_v4}, {why}"
        return None
    for network_v6, why in _REFUSED_V6:
        if address in network_v6:
            return f"{network_v6}, {why}"
    inner = unwrapped(address)
    return None if inner is None else refusal(inner)


def unwrapped(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that a mapped, compatible, translated, NAT64 or 6to4 address carries."""
    for network, shift in _WRAPPING:
        if address in network:
            return ipaddress.IPv4Address(int(address) >> shift & 0xFFFF_FFFF)
    return None


@dataclass(frozen=True)
class AllowList:
    """Hosts and networks that may be fetched from although they are not public.

    A host allows whatever addresses its name has; a network allows its addresses under any name.
    """

    hosts: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()

    @classmethod
    def parse(cls, text: str | Iterable[str]) -> AllowList:
        """Read ``PIPELINE_FETCH_ALLOW``: hosts, addresses and networks, separated by commas or
        spaces.

        Raises:
            ValueError: an entry is none of these; the text says which and what to write.
        """
        entries = re.split(r"[,\s]+", text) if isinstance(text, str) else list(text)
        hosts: set[str] = set()
        networks: list[Network] = []
        for entry in filter(None, entries):
            bare = entry[1:-1] if entry.startswith("[") and entry.endswith("]") else entry
            try:
                networks.append(ipaddress.ip_network(bare))
            except ValueError:
                host = bare.lower().rstrip(".")
                if "/" in bare or ":" in bare or not _HOST.fullmatch(host):
                    raise ValueError(
                        f"{entry!r} is neither a host, such as images.example, nor a network, "
                        "such as 10.1.0.0/16 (with no bits set after the prefix)"
                    ) from None
                hosts.add(host)
        return cls(frozenset(hosts), tuple(networks))

    def allows(self, host: str, address: Address) -> bool:
        """Whether ``address``, reached under the name ``host``, is on the list."""
        if host.lower().rstrip(".") in self.hosts:
            return True
        if isinstance(address, ipaddress.IPv6Address) and address in _MAPPED:
            # The operating system connects to a mapped address over IPv4: it is the same address.
            mapped = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
            return any(mapped in network or address in network for network in self.networks)
        return any(address in network for network in self.networks)


def validate(host: str, address: Address, allow: AllowList) -> str | None:
    """Why a connection to ``address`` for ``host`` is refused; None where it may be made."""
    why = refusal(address)
    return why if why is None or not allow.allows(host, address) else None
