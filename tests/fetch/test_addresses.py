"""Each range's first, last and neighbouring addresses, and each way to wrap one in another."""

from __future__ import annotations

import ipaddress

import pytest

from pipeline.fetch.addresses import AllowList, parse_address, refusal, validate
from pipeline.fetch.urls import UrlRefused, checked_url, literal_address

# As in the issue, written out again: a slip in the module's own table must not pass.
# fmt: off
RANGES = [
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
    "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15",
    "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "168.63.129.16/32",
    "::/128", "::1/128", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8", "100::/64",
    "100:0:0:1::/64", "2001::/23", "2001:db8::/32", "3fff::/20", "5f00::/16",
]
# fmt: on
# Neighbours that lie in another of the ranges, or wrap an address of one (::2 wraps 0.0.0.2).
ALSO_REFUSED = {
    "224.0.0.0/4": {"240.0.0.0"},
    "240.0.0.0/4": {"239.255.255.255"},
    "100::/64": {"100:0:0:1::"},
    "100:0:0:1::/64": {"100::ffff:ffff:ffff:ffff"},
    "::/128": {"::1"},
    "::1/128": {"::", "::2"},
    "fe80::/10": {"fec0::"},
    "fec0::/10": {"febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ff00::"},
    "ff00::/8": {"feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
}


def _edges() -> list[tuple[str, bool]]:
    edges = []
    for text in RANGES:
        network = ipaddress.ip_network(text)
        first, last = int(network.network_address), int(network.broadcast_address)
        make = type(network.network_address)
        edges += [(str(make(first)), True), (str(make(last)), True)]
        edges.append((str(make((first + last) // 2)), True))
        for neighbour in (first - 1, last + 1):
            if 0 <= neighbour < 2**network.max_prefixlen:
                address = str(make(neighbour))
                edges.append((address, address in ALSO_REFUSED.get(text, set())))
    return edges


@pytest.mark.parametrize(("address", "refused"), _edges())
def test_ranges_end_where_they_should(address: str, refused: bool) -> None:
    assert (refusal(parse_address(address)) is not None) == refused


# https://www.iana.org/assignments/iana-ipv4-special-registry and iana-ipv6-special-registry, both
# as updated on 2025-10-09: each block, and whether it is globally reachable (None where they do
# not say: it is deprecated, or what it wraps decides).
# fmt: off
REGISTRY = {
    "0.0.0.0/8": False, "0.0.0.0/32": False, "10.0.0.0/8": False, "100.64.0.0/10": False,
    "127.0.0.0/8": False, "169.254.0.0/16": False, "172.16.0.0/12": False, "192.0.0.0/24": False,
    "192.0.0.0/29": False, "192.0.0.8/32": False, "192.0.0.9/32": True, "192.0.0.10/32": True,
    "192.0.0.170/32": False, "192.0.0.171/32": False, "192.0.2.0/24": False,
    "192.31.196.0/24": True, "192.52.193.0/24": True, "192.88.99.0/24": None,
    "192.88.99.2/32": False, "192.168.0.0/16": False, "192.175.48.0/24": True,
    "198.18.0.0/15": False, "198.51.100.0/24": False, "203.0.113.0/24": False, "240.0.0.0/4": False,
    "255.255.255.255/32": False,
    "::1/128": False, "::/128": False, "::ffff:0:0/96": False, "64:ff9b::/96": True,
    "64:ff9b:1::/48": False, "100::/64": False, "100:0:0:1::/64": False, "2001::/23": False,
    "2001::/32": None, "2001:1::1/128": True, "2001:1::2/128": True, "2001:1::3/128": True,
    "2001:2::/48": False, "2001:3::/32": True, "2001:4:112::/48": True, "2001:10::/28": None,
    "2001:20::/28": True, "2001:30::/28": True, "2001:db8::/32": False, "2002::/16": None,
    "2620:4f:8000::/48": True, "3fff::/20": False, "5f00::/16": False, "fc00::/7": False,
    "fe80::/10": False,
}
# Globally reachable, and refused all the same: they lie in blocks for protocols alone.
REFUSED_ANYWAY = {
    "192.0.0.9/32", "192.0.0.10/32", "2001:1::1/128", "2001:1::2/128", "2001:1::3/128",
    "2001:3::/32", "2001:4:112::/48", "2001:20::/28", "2001:30::/28",
}
# fmt: on
# Blocks whose addresses carry an IPv4 address: reachable as far as that is.
WRAPPING = {"::ffff:0:0/96", "64:ff9b::/96", "2002::/16"}


def _samples(block: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Addresses all over a block: its ends, its middle, and some between."""
    network = ipaddress.ip_network(block)
    first, size = int(network.network_address), network.num_addresses
    make = type(network.network_address)
    return [make(first + step * (size - 1) // 64) for step in range(65)]


@pytest.mark.parametrize("block", sorted(REGISTRY.keys() - WRAPPING))
def test_what_the_registries_call_not_globally_reachable_is_refused(block: str) -> None:
    is_public = REGISTRY[block] is True and block not in REFUSED_ANYWAY
    for address in _samples(block):
        assert (refusal(address) is None) == is_public, address


def test_what_python_calls_not_global_is_refused() -> None:
    """Also of a release of Python that knows of blocks which this table does not."""
    blocks = [*REGISTRY.keys() - WRAPPING, *RANGES]
    edges = [ipaddress.ip_address(text) for text, _ in _edges()]
    for address in [*edges, *(address for block in blocks for address in _samples(block))]:
        if not address.is_global or address.is_multicast:
            assert refusal(address), address


def _wrapped(inner: str) -> list[str]:
    """Every form that wraps the IPv4 address ``inner``."""
    number = int(ipaddress.IPv4Address(inner))
    high, low = number >> 16, number & 0xFFFF
    return [
        f"::ffff:{inner}",
        f"::ffff:{high:x}:{low:x}",
        f"::{inner}",
        f"::ffff:0:{inner}",
        f"64:ff9b::{inner}",
        f"2002:{high:x}:{low:x}::",
        f"2002:{high:x}:{low:x}:ffff::1",
    ]


@pytest.mark.parametrize(
    "inner", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "168.63.129.16", "255.255.255.255"]
)
def test_a_wrapped_private_address_is_refused(inner: str) -> None:
    for address in _wrapped(inner):
        assert refusal(parse_address(address)), address


def test_a_wrapped_public_address_is_as_public_as_what_it_wraps() -> None:
    for address in _wrapped("93.184.216.34"):
        assert refusal(parse_address(address)) is None, address


def test_the_wrapping_networks_end_where_they_should() -> None:
    for outside in ("::1:0:7f00:1", "::fffe:7f00:1", "64:ff9c::7f00:1", "2003:7f00:1::"):
        assert refusal(parse_address(outside)) is None, outside


def test_local_nat64_is_refused_whatever_it_wraps() -> None:
    for address in (
        "64:ff9b:1::",
        "64:ff9b:1::808:808",
        "64:ff9b:1:808:8:800::",
        "64:ff9b:1:ffff:ffff:ffff:ffff:ffff",
    ):
        assert refusal(parse_address(address)), address
    assert refusal(parse_address("64:ff9b:2::808:808")) is None


def test_ordinary_addresses_are_public() -> None:
    for address in ("1.1.1.1", "8.8.8.8", "93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"):
        assert refusal(parse_address(address)) is None


def test_a_zone_does_not_hide_a_link_local_address() -> None:
    assert refusal(parse_address("fe80::1%eth0"))


@pytest.mark.parametrize(
    "spelling",
    [
        "127.0.0.1",
        "127.0.0.1.",
        "127.1",
        "127.0.1",
        "2130706433",
        "017700000001",
        "0x7f000001",
        "0x7f.1",
        "0x7f.0x0.0x0.0x1",
        "0177.0.0.1",
        "00000177.00.00.01",
        "0x7F.1",
    ],
)
def test_odd_spellings_are_the_address_that_they_connect_to(spelling: str) -> None:
    assert literal_address(spelling) == ipaddress.IPv4Address("127.0.0.1")


@pytest.mark.parametrize("name", ["example.com", "1and1.com", "x1", "0xyz.example", "256.1.1.1"])
def test_names_are_not_taken_for_addresses(name: str) -> None:
    assert literal_address(name) is None


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/a.jpg", "file:///etc/passwd", "gopher://x/", "data:image/png;base64,AA",
        "example.com/a.jpg", "//example.com/a.jpg", "http:/example.com", "http://", "http:///a.jpg",
        "http://user@example.com/", "http://user:pw@example.com/", "http://@example.com/",
        "http://:@example.com/", "http://example.com:22/", "http://example.com:0/",
        "http://example.com:99999/", "http://example.com:80x/", "http://[::1/", "http://[1.2.3.4]/",
        "http://[fe80::1%25eth0]/", "http://a b.com/", "http://%31%32%37.0.0.1/", "http://a..b/",
        "http://example.com\\@10.0.0.1/", "http://exa\nmple.com/", "http://example.com/\r\nX: y",
        "http://-x.example/", "http://１２７.0.0.1/", "http://" + "a" * 64 + ".com/",
        "https://example.com/" + "a" * 2029, "http://\ud800.com/", "", "http://ex!ample.com/",
    ],
)  # fmt: skip
def test_urls_against_the_rules_are_refused(url: str) -> None:
    with pytest.raises(UrlRefused):
        checked_url(url)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://example.com/a.jpg", "example.com"),
        ("HTTPS://EXAMPLE.com/a%20b.jpg?x=1#part", "example.com"),
        ("http://example.com:443/", "example.com"),
        ("http://bücher.example/ü b.jpg", "xn--bcher-kva.example"),
        ("http://127。0。0。1/", "127.0.0.1"),
        ("http://[2606:2800:220::1]/", "2606:2800:220::1"),
        ("http://my_host.example./", "my_host.example."),
        ("https://example.com/" + "a" * 2028, "example.com"),
        ("http://example.com/a,b@c.jpg", "example.com"),
    ],
)
def test_urls_within_the_rules_lead_to_their_host(url: str, host: str) -> None:
    parsed = checked_url(url)
    assert parsed.raw_host.decode() == host
    assert not parsed.fragment


def test_further_ports_are_listed() -> None:
    assert checked_url("http://example.com:8080/", frozenset({8080})).port == 8080


def test_a_network_on_the_allow_list_is_allowed_under_any_name() -> None:
    allow = AllowList.parse("127.0.0.1, 10.1.0.0/16\nfd00::/8")
    assert validate("any.example", parse_address("127.0.0.1"), allow) is None
    assert validate("any.example", parse_address("127.0.0.2"), allow) == "127.0.0.0/8, this machine"
    assert validate("any.example", parse_address("10.1.255.255"), allow) is None
    assert validate("any.example", parse_address("10.2.0.0"), allow) is not None
    assert validate("any.example", parse_address("fd12::1"), allow) is None


def test_a_mapped_address_is_allowed_with_the_one_that_it_is() -> None:
    allow = AllowList.parse("127.0.0.1")
    assert validate("x", parse_address("::ffff:127.0.0.1"), allow) is None
    assert validate("x", parse_address("64:ff9b::127.0.0.1"), allow) is not None
    assert validate("x", parse_address("2002:7f00:1::"), allow) is not None


def test_a_host_on_the_allow_list_is_allowed_at_any_address() -> None:
    allow = AllowList.parse(["Images.Internal", "[::1]"])
    assert validate("images.internal.", parse_address("10.0.0.1"), allow) is None
    assert validate("sub.images.internal", parse_address("10.0.0.1"), allow) is not None
    assert validate("::1", parse_address("::1"), allow) is None


@pytest.mark.parametrize("entry", ["10.0.0.1/8", "http://x", "a/b", "exa mple*", "fd00::/129"])
def test_a_wrong_entry_of_the_allow_list_is_named(entry: str) -> None:
    with pytest.raises(ValueError, match="is neither a host"):
        AllowList.parse(entry)


def test_an_empty_allow_list_allows_nothing() -> None:
    assert AllowList.parse("") == AllowList() == AllowList.parse(" , ")
