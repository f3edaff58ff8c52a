"""Two lanes that work on one database, in every order in which their transactions can come.

A lane is a function that runs in a thread of its own. It stops before each query for what is
pending, and at the beginning and before the end of each transaction that it writes; of the lanes
that stop, one goes on at a time. Which one is the choice that all orders differ in. A lane that is
about to write while the other one does is no choice: it would wait for the lock.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

import pytest

from pipeline.database.connection import Database
from pipeline.engine.pending import Pending

Lane = Callable[[], None]


class _Lane(threading.Thread):
    def __init__(self, work: Lane, control: threading.Condition) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._control = control
        self.at: str | None = None
        self.writes = False
        self.goes_on = False
        self.has_ended = False
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.stop("start")
            self._work()
        except BaseException as error:
            self.error = error
        finally:
            with self._control:
                self.has_ended = True
                self._control.notify_all()

    def stop(self, at: str) -> None:
        """Wait here until this lane is the one that goes on."""
        with self._control:
            self.at = at
            self._control.notify_all()
            assert self._control.wait_for(lambda: self.goes_on, 60)
            self.goes_on, self.at = False, None


def _one_order(lanes: list[_Lane], control: threading.Condition, chosen: list[int]) -> list[int]:
    """Run lanes by ``chosen``, then the first that can; how many could go on at each choice."""
    could: list[int] = []
    for lane in lanes:
        lane.start()
    while True:
        with control:
            assert control.wait_for(lambda: all(e.has_ended or e.at for e in lanes), 60)
            can = [
                lane
                for lane in lanes
                if not lane.has_ended
                and not (lane.at == "begin" and any(each.writes for each in lanes))
            ]
            if not can:
                break
            which = chosen[len(could)] if len(could) < len(chosen) else 0
            could.append(len(can))
            can[which].goes_on = True
            # It runs until it stops again, or ends.
            can[which].at = None
            control.notify_all()
    for lane in lanes:
        lane.join(60)
        if lane.error is not None:
            raise lane.error
    return could


def all_orders(
    patch: pytest.MonkeyPatch, lanes: Callable[[], tuple[Lane, Lane]], check: Callable[[], None]
) -> int:
    """Call ``lanes`` for two lanes, run them in an order, then ``check``; for every order.

    How many orders there were.
    """
    control = threading.Condition()
    writing, fetch = Database.writing, Pending.fetch

    @contextlib.contextmanager
    def stopping(self: Database) -> Iterator[object]:
        lane = threading.current_thread()
        if not isinstance(lane, _Lane) or lane.writes:
            with writing(self) as write:
                yield write
            return
        lane.stop("begin")
        lane.writes = True
        try:
            with writing(self) as write:
                yield write
                lane.stop("end")
        finally:
            with control:
                lane.writes = False

    def stopping_fetch(self: Pending, query: object) -> object:
        lane = threading.current_thread()
        if isinstance(lane, _Lane) and not lane.writes:
            lane.stop("query")
        return fetch(self, query)  # type: ignore[arg-type]

    patch.setattr(Database, "writing", stopping)
    patch.setattr(Pending, "fetch", stopping_fetch)
    chosen: list[int] = []
    orders = 0
    while True:
        could = _one_order([_Lane(work, control) for work in lanes()], control, chosen)
        check()
        orders += 1
        chosen += [0] * (len(could) - len(chosen))
        while chosen and chosen[-1] + 1 == could[len(chosen) - 1]:
            chosen.pop()
        if not chosen:
            return orders
        chosen[-1] += 1
