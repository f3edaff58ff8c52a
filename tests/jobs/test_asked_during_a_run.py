"""Pages that ask what is pending, while a run works on it."""

from __future__ import annotations

import threading
from typing import Any

import sqlalchemy as sa
from a_shop import Shop

from pipeline.engine.progress import Silent

WAIT_S = 60


class Slow:
    """Holds the thread of a page back right after it has asked what is pending of jobs."""

    def __init__(self, engine: sa.Engine, ask: Any) -> None:
        self.thread = threading.Thread(target=ask)
        self.asked, self.go_on = threading.Event(), threading.Event()
        self._asks = False
        sa.event.listen(engine, "before_cursor_execute", self._before)
        sa.event.listen(engine, "commit", self._after)
        self.thread.start()
        assert self.asked.wait(WAIT_S)

    def _before(
        self, con: object, cursor: object, statement: str, parameters: Any, *rest: object
    ) -> None:
        if threading.current_thread() is self.thread:
            self._asks = "_kind" in statement and "jobs" in parameters

    def _after(self, con: object) -> None:
        if threading.current_thread() is self.thread and self._asks:
            self.asked.set()
            assert self.go_on.wait(WAIT_S)


class Beside(Silent):
    """The progress of a run: as soon as that knows what it will work on, the page gets on."""

    def __init__(self, page: Slow) -> None:
        self.page = page

    def start(self, what: str, total: int) -> None:
        self.page.go_on.set()
        self.page.thread.join(WAIT_S)
        assert not self.page.thread.is_alive()


def test_a_page_that_asks_what_is_pending_takes_nothing_from_a_run(shop: Shop) -> None:
    shop.submit(shop.csv({"1": shop.urls("/pic/1", "/pic/2", "/pic/3")}))
    assert shop.run()["jobs"]["renditions"]["rendered"] == 3
    before = shop.outputs()
    with shop._as_if_started_here():
        import app
        from pipeline.engine.run import run_once
        from pipeline.web.routes.home import _recipes

        # The page finds that nothing is pending, for no run has loaded the recipes yet.
        shop.recipes("[half]\nscale = 0.25\n")
        shown: list[Any] = []
        page = Slow(app.app.database.engine, lambda: shown.append(_recipes(app.app)))
        report = run_once(app.app.plan, progress=Beside(page))
    assert report.jobs.images.rendered == 3
    assert len(shown) == 1
    after = shop.outputs()
    assert [
        name for name in after if name.startswith("jobs/") and after[name] == before[name]
    ] == []
