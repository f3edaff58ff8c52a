"""Lanes: each shows what it is doing while others work."""

from __future__ import annotations

import os
import pty
import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from a_server import HTML, serving
from a_shop import MANY, Shop, make_busy
from fetch_fixtures import server
from loopback import Server

from pipeline.cli.progress import for_stderr
from pipeline.engine.progress import Growing, Progress, Silent
from pipeline.states import Lane

__all__ = ["server"]


@pytest.fixture
def busy(tmp_path: Path, server: Server) -> Iterator[Shop]:
    """A shop whose originals render slowly, and that waits for one image of a job."""
    shop = Shop(tmp_path / "shop", server)
    make_busy(shop)
    yield shop
    server.gate.set()  # type: ignore[attr-defined]


def lanes_of(status: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {lane["lane"]: lane for lane in status["lanes"]}


@pytest.mark.parametrize("how", [(), ("--no-watch",)])
def test_the_status_shows_what_each_lane_is_doing(busy: Shop, how: tuple[str, ...]) -> None:
    with serving(busy, *how) as service:
        service.post("/retries")  # without a watcher, this starts a run

        def both() -> dict[str, Any] | None:
            status = service.get("/status").json()
            lanes = lanes_of(status)
            is_both = {"originals", "fetching"} <= set(lanes)
            is_moving = is_both and lanes["originals"]["done"] and lanes["fetching"]["done"]
            return status if is_moving else None

        status = service.until(both)
        assert [lane["lane"] for lane in status["lanes"]][:1] == ["originals"]
        originals, fetching = (lanes_of(status)[name] for name in ("originals", "fetching"))
        # Each original also gets its hash, which nobody asked for.
        assert (originals["what"], originals["total"]) == ("renditions", 2 * MANY)
        assert (fetching["what"], fetching["done"], fetching["total"]) == ("images", 1, 2)
        assert originals["seconds_left"] > 0
        assert status["in_step"] is False
        # For those who ask for one: the first of them.
        assert set(status["now"]) == {"state", *originals} - {"lane"}
        assert (status["now"]["state"], status["now"]["what"]) == ("running", "renditions")
        busy.server.gate.set()  # type: ignore[attr-defined]
        after = service.until(lambda: (s := service.get("/status").json())["in_step"] and s)
        service.until_rested()
        assert after["counts"]["jobs"] == {"completed": 1}
        assert service.get("/status").json()["lanes"] == []


def test_home_is_not_in_step_while_a_job_is_unfinished(busy: Shop) -> None:
    # Nothing is pending but the job.
    busy.env.pop("PYTHONPATH")
    with serving(busy) as service:

        def heading() -> str:
            found = re.search("data-verdict>(.*?)</h1>", service.get("/", headers=HTML).text)
            assert found is not None
            return found.group(1)

        service.until(lambda: heading() == "1 job unfinished")
        status = service.until(
            lambda: (s := service.get("/status").json())["counts"]["pending"] == 0 and s
        )
        assert status["in_step"] is False
        busy.server.gate.set()  # type: ignore[attr-defined]
        service.until(lambda: heading() == "All in step")
        assert service.get("/status").json()["in_step"] is True


def test_home_names_jobs_that_ended_with_errors(tmp_path: Path, server: Server) -> None:
    shop = Shop(tmp_path / "shop", server)
    shop.submit(shop.csv({"1": shop.urls("/not-found")}))
    shop.run(code=1)
    with serving(shop, "--no-watch") as service:
        shown = service.until(
            lambda: "except for 1 that failed" in (t := service.get("/", headers=HTML).text) and t
        )
        assert '<a id="see-failed" href="/failed">' in shown
        # As the command says.
        assert service.get("/status").json()["in_step"] is False
        assert shop.cli("status", "--check").code == 1


def test_two_lanes_have_a_bar_each_on_a_terminal_and_none_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, theirs = pty.openpty()
    written: list[bytes] = []

    def read() -> None:
        try:
            while data := os.read(ours, 4096):
                written.append(data)
        except OSError:
            pass  # the terminal was closed

    reader = threading.Thread(target=read)
    reader.start()
    terminal = os.fdopen(theirs, "w", encoding="utf-8")
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    originals = for_stderr()
    fetching = originals.lane(Lane.FETCHING)
    originals.start("renditions", 100)
    fetching.start("images", 10)
    other = threading.Thread(target=lambda: [fetching.advance(1) for _ in range(4)])
    other.start()
    for _ in range(40):
        originals.advance(1)
    other.join()
    time.sleep(0.3)  # the display is drawn ten times a second
    fetching.stop()
    fetching.advance(1)
    originals.stop()
    terminal.close()
    reader.join()
    os.close(ours)
    text = b"".join(written).decode()
    frames = re.split(r"\x1b\[1A|\r", re.sub(r"\x1b\[[0-9;?]*m", "", text))
    lines = [line for frame in frames for line in frame.splitlines()]
    assert any(re.search(r"originals: renditions .* 40/100 ", line) for line in lines)
    assert any(re.search(r"fetching: images .* 4/10 ", line) for line in lines)
    assert not any("originals" in line and "fetching" in line for line in lines)
    # The cursor is shown again, and the last bar was taken away.
    assert "\x1b[?25h" in text[text.rindex("originals: renditions") :]


class Noted(Silent):
    """What was shown."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def start(self, what: str, total: int) -> None:
        self.calls.append((what, total))

    def advance(self, count: int, total: int | None = None) -> None:
        self.calls.append((count, total))

    def stop(self) -> None:
        self.calls.append(())

    def lane(self, lane: Lane) -> Progress:
        return self


def test_work_that_more_is_added_to_is_shown_from_where_it_began() -> None:
    noted = Noted()
    growing = Growing(noted, "images")
    growing.show(0, 0)
    growing.show(1, 2)
    growing.show(2, 5)
    growing.show(5, 5)
    growing.stop()
    growing.show(5, 5)
    growing.show(5, 7)
    growing.show(6, 7)
    growing.stop()
    first = [("images", 2), (1, 2), (1, 5), (3, 5), ()]
    assert noted.calls == [*first, ("images", 2), (0, 2), (1, 2), ()]
