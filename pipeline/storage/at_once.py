"""Requests to a bucket side by side: each waits for the network, and hardly for a processor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

REQUESTS_AT_ONCE = 32


def at_once(call: Callable[[T], R], items: Sequence[T]) -> list[R | Exception]:
    """What ``call`` returned, or raised, for each of ``items``, in their order."""

    def tried(item: T) -> R | Exception:
        try:
            return call(item)
        except Exception as error:
            return error

    if len(items) < 2:
        return [tried(item) for item in items]
    with ThreadPoolExecutor(min(len(items), REQUESTS_AT_ONCE)) as threads:
        return list(threads.map(tried, items))
