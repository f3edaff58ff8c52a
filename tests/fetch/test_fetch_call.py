"""One call for many URLs: how far ahead it reads, and how it ends early."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from loopback import Fetcher, Server

from pipeline.errors import OutputError
from pipeline.fetch.client import fetch_all
from pipeline.fetch.types import FetchRequest, FetchStatus


async def tasks_left() -> int:
    """The tasks that go on, apart from the caller; asyncio closes generators a moment later."""
    for _ in range(5):
        await asyncio.sleep(0)
    return len(asyncio.all_tasks()) - 1


def test_cancelling_leaves_no_temporary_file(fetcher: Fetcher, server: Server) -> None:
    async def stopped_early() -> int:
        requests = [FetchRequest(server.url(f"/large/{i}")) for i in range(40)]
        results = fetch_all(requests, fetcher.limits, fetcher.store)
        await results.__anext__()
        await results.aclose()
        return await tasks_left()

    assert asyncio.run(stopped_early()) == 0
    assert all(len(path.name) == 64 for path in fetcher.files())


def test_cancelling_the_task_ends_every_fetch(fetcher: Fetcher, server: Server) -> None:
    async def cancelled() -> int:
        request = FetchRequest(server.url("/stalling"))
        limits = fetcher.limit(stall_timeout_s=30).limits
        results = fetch_all([request], limits, fetcher.store)

        async def first() -> None:
            await results.__anext__()

        task = asyncio.create_task(first())
        while not server.hits["/stalling"]:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await results.aclose()
        return await tasks_left()

    assert asyncio.run(cancelled()) == 0
    assert fetcher.files() == []


def test_urls_are_read_no_further_ahead_than_allowed(fetcher: Fetcher, server: Server) -> None:
    read = 0

    def urls() -> Iterator[FetchRequest]:
        nonlocal read
        for i in range(500):
            read += 1
            yield FetchRequest(server.url(f"/good/{i}"))

    async def slowly() -> list[int]:
        ahead = []
        taken = 0
        limits = fetcher.limit(pending=20).limits
        async for _ in fetch_all(urls(), limits, fetcher.store):
            taken += 1
            await asyncio.sleep(0)
            ahead.append(read - taken)
        return ahead

    ahead = asyncio.run(slowly())
    assert len(ahead) == 500
    assert max(ahead) <= 21


def test_a_folder_that_cannot_be_written_ends_the_call(fetcher: Fetcher, server: Server) -> None:
    fetched = fetcher.one(server.url("/same"))
    assert fetched.sha256 is not None
    # A file where the folder of the hash should be: root may write anywhere else.
    fetched.path.unlink()  # type: ignore[union-attr]
    fetched.path.parent.rmdir()  # type: ignore[union-attr]
    fetched.path.parent.write_text("")  # type: ignore[union-attr]
    with pytest.raises(OutputError, match="cannot be written"):
        fetcher.all(*(server.url(f"/same?{i}") for i in range(10)))
    assert [path.name for path in fetcher.files()] == [fetched.sha256[:2]]


def test_an_error_of_the_callers_own_list_is_raised(fetcher: Fetcher) -> None:
    def urls() -> Iterator[FetchRequest]:
        raise LookupError("no table")
        yield FetchRequest("")

    async def run() -> None:
        async for _ in fetch_all(urls(), fetcher.limits, fetcher.store):
            pass

    with pytest.raises(LookupError, match="no table"):
        asyncio.run(run())


def test_a_list_may_have_nothing_at_the_moment_and_a_url_again(
    fetcher: Fetcher, server: Server
) -> None:
    count = 0

    def urls() -> Iterator[FetchRequest | None]:
        yield FetchRequest(server.url("/good/1"))
        yield FetchRequest(server.url("/good/1"))
        while not count:
            yield None
        yield FetchRequest(server.url("/good/1"))

    async def run() -> None:
        nonlocal count
        async for fetched in fetch_all(urls(), fetcher.limits, fetcher.store):
            assert fetched.status is FetchStatus.FETCHED
            count += 1

    asyncio.run(asyncio.wait_for(run(), 30))
    assert (count, server.hits["/good/1"]) == (2, 2)


def test_nothing_to_fetch_is_no_result(fetcher: Fetcher) -> None:
    assert fetcher.all() == []
