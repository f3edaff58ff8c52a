"""From a host name to the addresses that a connection may use.

The name is resolved once; every address is validated, and the caller connects to one of exactly
these. A name server that responds differently a moment later ("DNS rebinding") changes nothing.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor

from pipeline.errors import FetchError
from pipeline.fetch.addresses import AllowList, parse_address, validate
from pipeline.fetch.urls import literal_address
from pipeline.reasons import Code

# From a host name to its addresses, in the order of preference. Raises OSError if there are none.
Resolver = Callable[[str], Awaitable[Sequence[str]]]

# More are never tried: a name with a hundred addresses must not turn into a port scan.
MAX_ADDRESSES_TRIED = 4


class AddressRefused(FetchError):
    """The host is at an address that is not public; nothing was sent to it.

    The message for people omits the address: somebody who submits a CSV must not learn what the
    names of an internal network resolve to. ``detail`` is for logs.
    """

    code = Code.REFUSED_ADDRESS

    def __init__(self, host: str, detail: str) -> None:
        super().__init__(f"{host} is not at a public address, and images are fetched from no other")
        self.detail = detail


def system_resolver(executor: Executor | None = None) -> Resolver:
    """The operating system's resolver, in the threads of ``executor``."""

    async def resolve(host: str) -> Sequence[str]:
        infos = await asyncio.get_running_loop().run_in_executor(
            executor, lambda: socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        )
        return [str(info[4][0]) for info in infos]

    return resolve


async def validated_addresses(host: str, resolve: Resolver, allow: AllowList) -> list[str]:
    """The addresses of ``host``, each of them public or allowed; no more than four.

    Raises:
        AddressRefused: at least one address is neither, so none may be used: a name that mixes
            public and private addresses is how checks of only the first one are bypassed.
        OSError: the name has no address.
    """
    literal = literal_address(host)
    found = [str(literal)] if literal is not None else list(await resolve(host))
    addresses = list(dict.fromkeys(found))
    if not addresses:
        raise OSError(f"{host} has no address")
    for text in addresses:
        try:
            why = validate(host, parse_address(text), allow)
        except ValueError:
            why = "not an address"
        if why is not None:
            raise AddressRefused(host, f"{host} is at {text} ({why})")
    return addresses[:MAX_ADDRESSES_TRIED]
