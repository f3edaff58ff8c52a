"""Text of a variable to its value.

Invalid values raise a ``ValueError`` that says what is allowed.
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.fetch.signing import key_of

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

try:
    import resource
except ImportError:
    resource = None  # type: ignore[assignment]

# 16 characters of a random token are 96 bits: too many to try.
TOKEN_MIN = 16
INSTANCE_MAX = 200
_HOST = re.compile(r"[A-Za-z0-9._-]+|\[?[0-9A-Fa-f:]+\]?")
_LOCATION = re.compile(r"(?:/[A-Za-z0-9._-]+)+/?")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_RAY = re.compile(r"ray://(?:auto|(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\]):[0-9]{1,5})")
_RAY_EXAMPLES = "for example ray://ray-head:10001, or ray://auto on a node of it"
_SEPARATOR = re.compile(r"[,\s]+")


def whole(low: int, high: int, unit: str, example: int) -> Callable[[str], int]:
    """Parses a whole number of ``unit`` from ``low`` to ``high``; ``_`` may group its digits."""

    def parse(text: str) -> int:
        try:
            value = int(text.replace("_", ""))
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise ValueError(
                f"must be a whole number of {unit} from {low} to {high}, for example {example}"
            )
        return value

    return parse


def number(low: float, high: float, what: str, example: float) -> Callable[[str], float]:
    """Parses a number from ``low`` to ``high`` of ``what``, for example seconds."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:  # not a number is in no range
            raise ValueError(f"must be {what} from {low:g} to {high:g}, for example {example:g}")
        return value

    return parse


def workers(text: str) -> int:
    """A number of worker processes; of a cluster, those that this machine has for other work."""
    if cluster(text):
        return processor_count()
    try:
        return whole(1, 256, "processes", 4)(text)
    except ValueError as error:
        raise ValueError(f"{error}; or the address of a Ray cluster, {_RAY_EXAMPLES}") from None


def cluster(text: str) -> str:
    """The address of a Ray cluster; empty for a number of processes."""
    if not text.startswith("ray:"):
        return ""
    if not _RAY.fullmatch(text):
        raise ValueError(f"must be the address of a Ray cluster, {_RAY_EXAMPLES}")
    return text


def days_or_none(text: str) -> int | None:
    """A whole number of days; ``None`` for no text, which means for ever."""
    return whole(1, 36_500, "days", 90)(text) if text else None


seconds = number(0.1, 86_400, "seconds", 60)
seconds_or_none = number(0, 3_600, "seconds", 5)


def percent(text: str) -> float:
    """A percentage, with or without its sign."""
    return number(0, 100, "a percentage", 50)(text.rstrip("% "))


def rate(text: str) -> float | None:
    """Requests per second; ``None`` for 0, which means no limit."""
    return number(0, 100_000, "requests a second for one host (0: no limit)", 5)(text) or None


def path(text: str, cwd: Path) -> Path:
    """An absolute path; a relative one starts in ``cwd``."""
    if "\0" in text:
        raise ValueError("must be a path without NUL characters")
    if "://" in text:
        raise ValueError("must be a path of this machine, and this is an address")
    return Path(os.path.normpath(cwd / Path(text).expanduser()))


def paths(text: str, cwd: Path) -> tuple[Path, ...]:
    """Absolute paths, separated as in ``PATH``: by colons, on Windows by semicolons."""
    return tuple(path(part, cwd) for part in text.split(os.pathsep) if part)


def database_url(text: str, cwd: Path) -> str:
    """An address in SQLAlchemy's form; the file of an SQLite database becomes absolute."""
    server = "USER:PASSWORD@HOST/DATABASE"
    remedy = f"for example sqlite:///db.sqlite, postgresql://{server} or mysql://{server}"
    scheme, found, rest = text.partition("://")
    if not found or scheme.split("+")[0] not in ("sqlite", "postgresql", "mysql", "mariadb"):
        raise ValueError(f"must be the address of a database that Lockstep supports, {remedy}")
    if not text.startswith("sqlite"):
        return text
    file = rest.removeprefix("/")
    if not rest.startswith("/") or file in ("", ":memory:"):
        raise ValueError(f"must name a file, since the tables have to outlive the run, {remedy}")
    database = path(file, cwd)
    if database.is_dir():
        raise ValueError(f"must be a file, and this is a folder; {remedy}")
    if not database.parent.is_dir():
        raise ValueError(
            f"the folder {str(database.parent)!r} does not exist; create it or name another file"
        )
    return f"sqlite:///{database}"


def database_url_or_none(text: str, cwd: Path) -> str | None:
    """Like :func:`database_url`; ``None`` for an empty text."""
    return database_url(text, cwd) if text else None


def instance(text: str) -> str:
    """What this instance is called in the audit of others."""
    if len(text) > INSTANCE_MAX or not text.isprintable():
        raise ValueError(f"must be 1 to {INSTANCE_MAX} printable characters, for example shop-1")
    return text


def instance_at(output: str) -> str:
    """The name of an instance that was given none: its machine, and its output folder."""
    shown = "".join(each if each.isprintable() else "?" for each in output)
    return f"{socket.gethostname()}:{shown}"[:INSTANCE_MAX]


def processor_count() -> int:
    """How many processors this process may use."""
    # A container or taskset may leave us fewer processors than the machine has.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def open_files_limit() -> int:
    """How many files and connections this process may have open."""
    if resource is None:
        return 2048  # Windows, where sockets do not count
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 1 << 20 if limit == resource.RLIM_INFINITY else limit


def connection_count() -> int:
    """How many connections leave room for the files that they serve, and for the worker's."""
    return max(8, min(4096, open_files_limit() // 3))


def token(text: str) -> str:
    """A secret of printable ASCII characters, or none."""
    if text and (len(text) < TOKEN_MIN or not text.isprintable() or not text.isascii()):
        raise ValueError(
            f"must be at least {TOKEN_MIN} printable ASCII characters, for example what "
            "`python3 -c 'import secrets; print(secrets.token_urlsafe())'` prints"
        )
    return text


def hosts(text: str) -> tuple[str, ...]:
    """Host names or addresses, separated by commas or blanks."""
    names = _separated(text)
    for name in names:
        if not _HOST.fullmatch(name):
            raise ValueError(
                f"{name!r} is not a host name; give names without scheme and port, separated by "
                "commas, for example images.example.com"
            )
    return names


def header(text: str) -> str:
    """The name of a header, or none."""
    if text and not _HEADER.fullmatch(text):
        raise ValueError("must be the name of a header, for example X-Forwarded-User")
    return text


def networks(text: str) -> tuple[Network, ...]:
    """Addresses or networks, separated by commas or blanks."""
    try:
        return tuple(ipaddress.ip_network(part) for part in _separated(text))
    except ValueError:
        raise ValueError(
            "must be addresses or networks separated by commas, for example 127.0.0.1,10.0.0.0/8"
        ) from None


def is_in(address: str, networks: Sequence[Network]) -> bool:
    """Whether an address is in one of the networks; what is no address is in none."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    found = getattr(found, "ipv4_mapped", None) or found
    return any(found in network for network in networks)


def names(text: str) -> tuple[str, ...]:
    """Names of recipes, at least one, each once."""
    found = tuple(dict.fromkeys(_separated(text)))
    if not found:
        raise ValueError("must be names of recipes separated by commas, for example half,thumb")
    return found


def names_or_none(text: str) -> tuple[str, ...]:
    """Names separated by commas, each once."""
    return tuple(dict.fromkeys(_separated(text)))


def phrases(text: str) -> tuple[str, ...]:
    """Words or phrases separated by commas, each once."""
    found = tuple(dict.fromkeys(filter(None, (" ".join(part.split()) for part in text.split(",")))))
    if not found or any(len(phrase) > 100 or not phrase.isprintable() for phrase in found):
        raise ValueError(
            "must be phrases of at most 100 characters separated by commas, for example "
            "stolen picture,not for sale"
        )
    return found


def one_of(*words: str) -> Callable[[str], str]:
    """One of these words."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return text

    return parse


def on_off(text: str) -> bool:
    """Whether something is done."""
    return one_of("on", "off")(text) == "on"


def on_off_or_seconds(text: str) -> int | None:
    """For how long something lasts, in seconds: a minute for ``on``; ``None`` for ``off``."""
    if text in ("on", "off"):
        return 60 if text == "on" else None
    try:
        return whole(1, 604_800, "seconds", 60)(text)
    except ValueError as error:
        raise ValueError(f"{error}, or on or off") from None


def ports(text: str) -> frozenset[int]:
    """Ports that are allowed beside 80 and 443."""
    try:
        found = {int(part) for part in _separated(text)}
    except ValueError:
        found = {0}
    if not all(0 < port < 65_536 for port in found):
        raise ValueError("must be ports from 1 to 65535 separated by commas, for example 8080,8443")
    return frozenset(found | {80, 443})


def web_address(text: str) -> str:
    """An address on the web, or none."""
    if text and not text.lower().startswith(("http://", "https://")):
        raise ValueError("must be an address that begins with https:// or http://")
    return text


def location(text: str) -> str:
    """A location of a web server that ends in a slash, or none."""
    if text and not _LOCATION.fullmatch(text):
        raise ValueError("must be an internal location of nginx, for example /renditions/")
    return text and text.rstrip("/") + "/"


def webhook_secret(text: str) -> str:
    """A secret that webhooks can be signed with, or none."""
    key_of(text)
    return text


def _separated(text: str) -> tuple[str, ...]:
    return tuple(part for part in _SEPARATOR.split(text) if part)
