"""Listing a large prefix in several ranges at once, in the order of the names.

A listing gives a thousand names a request, one request after the other, and a store takes 50 to 200
ms for each: a million originals would take minutes. So behind the first pages the folders of the
first level, or of the first two, are looked up, and what lies between them is listed side by side,
with some pages held ready.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from pipeline.storage.s3 import S3, Listed

# Before that it costs more requests than it saves.
PAGES_FIRST = 8
RANGES_AT_ONCE = 8
# Held ready for each range, so that memory stays bounded: a thousand names are about 300 KB.
PAGES_READY = 16
# With fewer folders than these the next level is looked at as well; more than those are joined,
# since each range ends with a page that goes beyond it.
FOLDERS_WANTED, FOLDERS_AT_MOST = 8, 128
_CHECK_S = 0.1

_Page = list[Listed] | Exception | None


def objects_at_once(s3: S3, prefix: str) -> Iterator[list[Listed]]:
    """All objects whose names begin with ``prefix``, page by page, in order.

    Raises:
        Answered, StoreError: see :meth:`S3.page`.
    """
    more: str | None = ""
    for _ in range(PAGES_FIRST):
        first, _, more = s3.page(prefix, more or "")
        if first:
            yield first
        if more is None:
            return
    assert more is not None
    with ThreadPoolExecutor(RANGES_AT_ONCE, thread_name_prefix="listing") as threads:
        bounds = _bounds(s3, prefix, more, threads)
        stop = threading.Event()
        waiting = deque(_Range(*each) for each in zip([more, *bounds], [*bounds, ""], strict=True))
        started: deque[_Range] = deque()
        try:
            while waiting or started:
                while waiting and len(started) < RANGES_AT_ONCE:
                    started.append(waiting.popleft())
                    threads.submit(started[-1].read, s3, prefix, stop)
                yield from started[0].pages()
                started.popleft()
        finally:
            stop.set()


class _Range:
    """The names after ``after``, up to and with ``until``; to the end where that is empty."""

    def __init__(self, after: str, until: str) -> None:
        self._after = after
        self._until = until
        self._ready: queue.Queue[_Page] = queue.Queue(PAGES_READY)

    def pages(self) -> Iterator[list[Listed]]:
        """What :meth:`read` finds in another thread."""
        while (page := self._ready.get()) is not None:
            if isinstance(page, Exception):
                raise page
            yield page

    def read(self, s3: S3, prefix: str, stop: threading.Event) -> None:
        """List it; an error is handed on."""
        try:
            for page in s3.objects(prefix, self._after):
                is_last = bool(self._until) and page[-1].name > self._until
                if is_last:
                    page = [each for each in page if each.name <= self._until]
                if not self._put(page, stop) or is_last:
                    break
            self._put(None, stop)
        except Exception as error:
            self._put(error, stop)

    def _put(self, page: _Page, stop: threading.Event) -> bool:
        while not stop.is_set():
            try:
                self._ready.put(page, timeout=_CHECK_S)
                return True
            except queue.Full:
                continue
        return False


def _bounds(s3: S3, prefix: str, after: str, threads: ThreadPoolExecutor) -> list[str]:
    """Names of folders after ``after``, in order, between which ranges begin."""
    _, found, _ = s3.page(prefix, after, delimiter="/")
    if found and len(found) < FOLDERS_WANTED:
        below = threads.map(lambda folder: s3.page(folder, delimiter="/")[1], found)
        found = sorted([*found, *(name for names in below for name in names)])
    found = [name for name in found if name > after]
    return found[:: len(found) // FOLDERS_AT_MOST + 1]
