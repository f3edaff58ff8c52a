"""Whose turn it is, without any HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from pipeline.fetch.schedule import Schedule


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 10))  # type: ignore[arg-type]


async def soon(schedule: Schedule[int]) -> tuple[str, int] | None:
    """What can be taken now, without any waiting for a place."""
    try:
        return await asyncio.wait_for(schedule.take(), 0.01)
    except asyncio.TimeoutError:
        return None


def test_hosts_take_turns() -> None:
    async def test() -> None:
        schedule: Schedule[int] = Schedule(per_host=2)
        for i in range(3):
            schedule.put("a", i)
        schedule.put("b", 9)
        taken = [await soon(schedule) for _ in range(4)]
        assert taken == [("a", 0), ("b", 9), ("a", 1), None]
        schedule.leave("a")
        assert await soon(schedule) == ("a", 2)

    run(test)


def test_groups_take_turns_at_a_host_whichever_came_first() -> None:
    async def test() -> None:
        schedule: Schedule[int] = Schedule(per_host=9)
        for i in range(3):
            schedule.put("a", i, group="early")
        schedule.put("a", 8, group="late")
        schedule.put("a", 9, first=True, group="late")
        assert [(await schedule.take())[1] for _ in range(5)] == [9, 0, 8, 1, 2]

    run(test)


def test_a_place_that_comes_free_wakes_who_waits() -> None:
    async def test() -> None:
        schedule: Schedule[int] = Schedule(per_host=1)
        schedule.put("a", 1)
        schedule.put("a", 2)
        await schedule.take()
        waiting = asyncio.create_task(schedule.take())
        await asyncio.sleep(0)
        assert not waiting.done()
        schedule.leave("a")
        assert await waiting == ("a", 2)

    run(test)


def test_a_pause_holds_one_host_and_no_other() -> None:
    async def test() -> None:
        schedule: Schedule[int] = Schedule(per_host=2)
        schedule.put("a", 1)
        assert schedule.pause("a", 0.2) == pytest.approx(0.2, abs=0.01)
        assert schedule.pause("a", 0.1) == 0
        schedule.put("b", 2)
        assert await schedule.take() == ("b", 2)
        assert await soon(schedule) is None
        assert await schedule.take() == ("a", 1)

    run(test)


def test_who_gives_up_waiting_loses_no_turn() -> None:
    async def test() -> None:
        schedule: Schedule[int] = Schedule(per_host=1)
        given_up = [asyncio.create_task(schedule.take()) for _ in range(3)]
        await asyncio.sleep(0)
        schedule.put("a", 1)  # wakes the first of them, which is cancelled before it goes on
        for task in given_up:
            task.cancel()
        await asyncio.gather(*given_up, return_exceptions=True)
        assert await schedule.take() == ("a", 1)

    run(test)


def test_a_first_item_goes_before_the_others() -> None:
    async def test() -> None:
        schedule: Schedule[int] = Schedule(per_host=9)
        schedule.put("a", 1)
        schedule.put("a", 2, first=True)
        assert [await schedule.take() for _ in range(2)] == [("a", 2), ("a", 1)]

    run(test)


def test_hosts_that_are_done_are_forgotten() -> None:
    async def test() -> None:
        schedule: Schedule[int] = Schedule(per_host=2)
        for i in range(100):
            schedule.put(f"host{i}", i)
            host, _ = await schedule.take()
            schedule.leave(host)
        assert not schedule._hosts

    run(test)


def test_hosts_with_a_rate_are_forgotten_when_their_time_is_over() -> None:
    async def test() -> None:
        schedule: Schedule[int] = Schedule(per_host=2, interval_s=0.02)
        for i in range(100):
            schedule.put(f"host{i}", i)
            host, _ = await schedule.take()
            schedule.leave(host)
        while schedule._hosts:
            await asyncio.sleep(0.01)

    run(test)
