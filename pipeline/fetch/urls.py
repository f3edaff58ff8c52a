"""URLs: which may be requested at all.

One parser (``httpx.URL``) decides what a URL means, here and where the connection is made: two
parsers that disagree about the host are how checks of this kind are bypassed.
"""

from __future__ import annotations

import re
import socket

import httpx

from pipeline.errors import FetchError
from pipeline.fetch.addresses import Address, parse_address
from pipeline.fetch.types import DEFAULT_PORTS
from pipeline.reasons import Code
from pipeline.text import shortened

MAX_URL_CHARACTERS = 2_048

_OTHER_SCHEME = re.compile(r"[,\s]([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
# What nearly every URL looks like. It needs no parser, which costs 20 µs: a million rows are read.
# The last label begins with a letter, so that no spelling of an address gets past.
_PLAIN = re.compile(
    r"https?://(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?"
    r"(?::[1-9][0-9]{0,3})?(?:[/?](?:[a-z0-9/._~!$&'()*+,;=:@?-]|%[0-9a-f]{2})*)?",
    re.IGNORECASE | re.ASCII,
)
_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?", re.ASCII)


class UrlRefused(FetchError):
    """The URL itself is against the rules; nothing was sent."""

    code = Code.BAD_URL


def url_problem(url: str) -> str | None:
    """What is wrong with the form of one URL of a CSV, and what to do; None if it is fine.

    Ports, addresses and lengths are checked by the fetch: they depend on settings.
    """
    if _PLAIN.fullmatch(url) and len(url) <= MAX_URL_CHARACTERS:
        return None
    other = _OTHER_SCHEME.search(url)
    if not url[:8].lower().startswith(("http://", "https://")):
        return f"{shortened(url)} is not an http or https address; begin it with https://"
    if other and other.group(1).lower() not in ("http", "https"):
        return (
            f"{shortened(url)} contains a {other.group(1)}:// address; "
            "only http:// and https:// are fetched"
        )
    try:
        _parsed(url)
    except UrlRefused as error:
        return f"{shortened(url)} cannot be read as an address ({error}); correct it"
    return None


def checked_url(url: str, ports: frozenset[int] = DEFAULT_PORTS) -> httpx.URL:
    """The URL, parsed, without its fragment, if it may be requested.

    Raises:
        UrlRefused: unparsable, longer than 2,048 characters, with userinfo, neither http nor
            https, or another port than ``ports``.
    """
    if len(url) > MAX_URL_CHARACTERS:
        raise UrlRefused(
            f"the URL has {len(url)} characters; at most {MAX_URL_CHARACTERS} are allowed"
        )
    parsed = _parsed(url)
    port = parsed.port or {"http": 80, "https": 443}[parsed.scheme]
    if port not in ports:
        raise UrlRefused(f"port {port} is not fetched from")
    return parsed


def _parsed(url: str) -> httpx.URL:
    if "\\" in url:
        # Browsers read it as "/", other parsers as part of the userinfo: the host is in doubt.
        raise UrlRefused("a backslash in the URL; write /")
    try:
        parsed = httpx.URL(url)
        host = parsed.raw_host.decode("ascii").lower()
        port = parsed.port
    except Exception as error:  # httpx lets errors of idna and of int() through
        raise UrlRefused(f"not a valid URL: {error or type(error).__name__}") from None
    if parsed.scheme not in ("http", "https"):
        raise UrlRefused(f"{parsed.scheme or 'no scheme'}: only http and https are fetched")
    if parsed.userinfo or "@" in re.split("[/?#]", url.partition("://")[2])[0]:
        raise UrlRefused("a user name or password in the URL; remove it")
    if not host:
        raise UrlRefused("no host in the URL")
    if port is not None and not 0 < port < 65_536:
        raise UrlRefused(f"there is no port {port}")
    if ":" in host:
        if "%" in host:
            raise UrlRefused("an address with a zone; remove the zone")
    elif not _NAME.fullmatch(host) or len(host) > 254:
        raise UrlRefused(f"{shortened(host)} is not a valid host name")
    return parsed.copy_with(fragment=None) if parsed.fragment else parsed


def literal_address(host: str) -> Address | None:
    """The address that the host denotes, also as ``127.1``, ``0x7f000001`` or ``2130706433``.

    None for a name. The odd forms are those of ``inet_aton``, which the operating system's resolver
    accepts, too.
    """
    bare = host.strip("[]").rstrip(".")
    try:
        return parse_address(bare)
    except ValueError:
        pass
    if not bare or not bare[-1].isalnum() or not bare[0].isdigit() or not bare.isascii():
        return None
    try:
        return parse_address(socket.inet_ntoa(socket.inet_aton(bare)))
    except OSError:
        return None


def host_of(url: httpx.URL) -> str:
    """The host whose limits hold for ``url``: lower case, in ASCII, without a trailing dot.

    Of an address it is the usual spelling: ``127.1`` and ``0x7f000001`` share their places.
    """
    host = url.raw_host.decode("ascii").lower().rstrip(".")
    literal = literal_address(host) if ":" in host or host[:1].isdigit() else None
    return host if literal is None else str(literal)
