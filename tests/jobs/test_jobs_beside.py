"""What is fetched goes on beside everything else: rendering, other jobs, those that come later."""

from __future__ import annotations

import contextlib
import hashlib
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from a_project import picture
from a_shop import Shop, make_slow, wait_for
from a_watcher import Watching

from pipeline.engine.progress import Progress, Silent
from pipeline.states import Lane


@contextlib.contextmanager
def running(shop: Shop, path: str) -> Iterator[Any]:
    """A run that has requested a gated URL; afterwards the gate is open, and the run has ended."""
    process = shop.start("run")
    try:
        wait_for(lambda: shop.hits().get(path), f"a request for {path}")
        yield process
    finally:
        shop.server.gate.set()  # type: ignore[attr-defined]
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr


def state(shop: Shop, reference: str) -> str:
    return str(shop.job(reference)["state"])


def assert_fetched_once(shop: Shop) -> None:
    assert {path: count for path, count in shop.hits().items() if count != 1} == {}


def test_originals_are_rendered_while_a_url_is_fetched(shop: Shop) -> None:
    for number in range(5):
        shop.add(f"{number}.jpg")
    reference = shop.submit(shop.csv({"1": shop.urls("/gated/1")}))
    with running(shop, "/gated/1"):
        wait_for(lambda: len(shop.outputs()) == 10, "all renditions of the input folder")
        assert state(shop, reference) == "fetching"
    assert state(shop, reference) == "completed"
    assert_fetched_once(shop)


def test_a_job_that_comes_later_is_complete_while_another_is_fetched(shop: Shop) -> None:
    slow = shop.submit(shop.csv({"1": shop.urls("/gated/1", "/pic/1")}))
    with running(shop, "/gated/1"):
        small = shop.submit(shop.csv({"1": shop.urls("/pic/1", "/pic/2", "/pic/3")}, "b.csv"))
        wait_for(lambda: state(shop, small) == "completed", "the small job")
        assert len([row for row in shop.answer(small)[1:] if row[3].count(",") == 2]) == 1
        assert state(shop, slow) == "fetching"
    assert state(shop, slow) == "completed"
    assert_fetched_once(shop)
    assert shop.run()["jobs"]["completed"] == 0
    assert shop.cli("verify", "--deep").code == 0


def test_many_urls_of_a_slow_host_keep_out_no_other_host(shop: Shop) -> None:
    shop.env |= {"PIPELINE_FETCH_ALLOW": "127.0.0.1, localhost"}
    urls = [shop.server.url(f"/gated/{number}") for number in range(1_500)]
    slow = shop.submit(shop.csv({"1": ", ".join(urls)}))
    process = shop.start("run")
    try:
        wait_for(lambda: len(shop.hits()) == 6, "as many requests as one host gets")
        other = ", ".join(shop.server.url(f"/pic/{number}", "localhost") for number in range(3))
        small = shop.submit(shop.csv({"1": other}, "b.csv"))
        wait_for(lambda: state(shop, small) == "completed", "the small job")
        assert state(shop, slow) == "fetching"
        assert len(shop.hits()) == 9
    finally:
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert not list(shop.state.rglob(".lockstep-*"))


def test_two_large_jobs_at_one_host_advance_together(shop: Shop) -> None:
    shop.env |= {"PIPELINE_FETCH_CONCURRENT": "1"}
    for name in "ab":
        urls = {str(n): shop.urls(f"/one/{name}{n}") for n in range(40)}
        shop.submit(shop.csv(urls, f"{name}.csv"))
    shop.run()
    order = [request.path[5] for request in shop.server.seen]
    assert sorted(order) == ["a"] * 40 + ["b"] * 40
    for count in (20, 40, 60):
        assert 0.4 * count <= order[:count].count("a") <= 0.6 * count
    assert shop.cli("status", "--json").json["jobs"] == {"completed": 2}


class Slowly(Silent):
    """The progress of a run that goes on until a job is complete, unless nothing ever does it."""

    def __init__(self, shop: Shop, submit: threading.Event) -> None:
        self.shop, self.submit = shop, submit
        self.left: list[int] = []
        self._total = self._done = 0
        self._pause = threading.Event()

    def start(self, what: str, total: int) -> None:
        self._total, self._done = total, 0

    def advance(self, count: int, total: int | None = None) -> None:
        self._done += count
        self.submit.set()
        if self.left or self._done >= self._total:
            return
        if self.shop.query("SELECT 1 FROM jobs WHERE state = 'completed'"):
            self.left.append(self._total - self._done)
        else:
            self._pause.wait(0.05)

    def lane(self, lane: Lane) -> Progress:
        return Silent()


def test_a_job_that_comes_while_originals_render_is_complete_before_they_are(shop: Shop) -> None:
    for number in range(150):
        shop.add(f"{number}.jpg")
    file = shop.csv({"1": shop.urls("/pic/1", "/pic/2")})
    with shop._as_if_started_here():
        import app
        from pipeline.engine.run import run_once
        from pipeline.jobs.acts import submit

        begun = threading.Event()

        def come() -> None:
            begun.wait(60)
            submit(app.app.jobs, file, "feed.csv")

        other = threading.Thread(target=come)
        other.start()
        slowly = Slowly(shop, begun)
        report = run_once(app.app.plan, progress=slowly)
        other.join()
    assert slowly.left
    assert slowly.left[0] > 0
    assert (report.jobs.completed, report.rendered) == (1, 300)
    assert_fetched_once(shop)


def test_a_refresh_is_honoured_while_another_job_is_fetched(shop: Shop) -> None:
    done = shop.submit(shop.csv({"1": shop.urls("/pic/1", "/pic/2")}))
    shop.run()
    shop.server.changed["/pic/1"] = 2  # type: ignore[attr-defined]
    before = shop.outputs()
    slow = shop.submit(shop.csv({"1": shop.urls("/gated/1")}, "slow.csv"))
    with running(shop, "/gated/1"):
        assert shop.cli("job", "refresh", done).code == 0
        wait_for(lambda: state(shop, done) == "completed", "the refreshed job")
        assert state(shop, slow) == "fetching"
    after = shop.outputs()
    assert len([name for name in before if after[name] != before[name] and "jobs/" in name]) == 1
    assert shop.hits() == {"/pic/1": 2, "/pic/2": 2, "/gated/1": 1}


def test_a_deleted_job_cuts_off_no_fetch_of_another(shop: Shop) -> None:
    shop.submit(shop.csv({"1": shop.urls("/gated/1")}))
    with running(shop, "/gated/1"):
        shared = shop.submit(shop.csv({"1": shop.urls("/gated/1")}, "b.csv"))
        wait_for(lambda: state(shop, shared) == "fetching", "the other job")
        assert shop.cli("job", "delete", shared).code == 0
    assert shop.hits() == {"/gated/1": 1}


def test_what_is_left_when_the_time_for_a_job_is_over_fails_until_a_refresh(shop: Shop) -> None:
    shop.env["PIPELINE_JOB_FETCH_S"] = "1.5"
    shop.csv({"1": shop.urls("/pic/1", "/gated/1", "/gated/2")}, "input/feed.csv")
    report = shop.run(code=1)
    assert report["jobs"]["completed_with_errors"] == 1
    reasons = {row[2] for row in shop.query("SELECT url, state, reason FROM fetches")}
    why = "not fetched within 1.5 s"
    assert reasons == {None, why}
    assert [row[4].count(why) for row in shop.answer()[1:]] == [2]
    assert not list(shop.state.rglob(".lockstep-*"))
    shop.server.gate.set()  # type: ignore[attr-defined]
    assert shop.cli("job", "refresh", shop.job()["reference"]).code == 0
    shop.run()
    assert (shop.job()["state"], shop.job()["images"]["done"]) == ("completed", 3)


def test_a_url_that_a_job_with_time_left_waits_for_does_not_fail(shop: Shop) -> None:
    from pipeline.jobs.requesting import TimeLimit, give_up
    from pipeline.jobs.store import JobRepository
    from pipeline.tables import connect

    both = shop.submit(shop.csv({"1": shop.urls("/pic/1", "/pic/2")}))
    shop.submit(shop.csv({"1": shop.urls("/pic/2")}, "b.csv"))

    def prepare() -> None:
        import os

        from pipeline.jobs import fetching

        fetching.Fetching.start = lambda *args: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore

    assert shop.in_child(prepare, "run") == -signal.SIGKILL
    connection = connect(f"sqlite:///{shop.root / 'db.sqlite'}")
    repository = JobRepository(connection)
    (over,) = [job for job in [repository.get(both)] if job]
    limit = TimeLimit(0.0, {})
    assert limit.newly_over([over]) == {both}
    assert limit.newly_over([over]) == set()
    give_up(repository, {both}, limit)
    connection.engine.dispose()
    rows = shop.query("SELECT url, state FROM fetches")
    states = {url.rpartition("/")[2]: state for url, state in rows}
    assert states == {"1": "failed", "2": "waiting"}


def test_a_fetched_image_that_cannot_be_written_ends_the_run(shop: Shop) -> None:
    shop.add("a.jpg")
    digest = hashlib.sha256(picture(".jpg", ("/pic/1", None))).hexdigest()
    # A file where the folder of the hash should be: root may write anywhere else.
    (shop.state / "fetched").mkdir(parents=True)
    (shop.state / "fetched" / digest[:2]).write_text("")
    reference = shop.submit(shop.csv({"1": shop.urls("/pic/1", "/gated/1")}))
    answer = shop.process("run")
    assert answer.code == 2, answer
    assert "a fetched image cannot be written" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not list(shop.root.rglob(".lockstep-tmp*"))
    (shop.state / "fetched" / digest[:2]).unlink()
    shop.server.gate.set()  # type: ignore[attr-defined]
    shop.run()
    assert state(shop, reference) == "completed"


@pytest.mark.parametrize("step", ["fetch"])
def test_a_fetch_that_is_started_on_its_own_ends_before_its_command(shop: Shop, step: str) -> None:
    reference = shop.submit(shop.csv({"1": shop.urls("/pic/1")}))
    for name in ("load_recipes", "read_csvs", step):
        assert shop.cli("step", f"--name={name}", "run").code == 0
    assert state(shop, reference) == "completed"
    assert_fetched_once(shop)


def test_an_image_whose_row_is_gone_waits_for_no_fetch(shop: Shop) -> None:
    shop.csv({"1": shop.urls("/pic/1"), "2": shop.urls("/pic/2")}, "input/feed.csv")
    shop.run()
    before = shop.outputs()
    shop.csv({"2": shop.urls("/gated/2"), "3": shop.urls("/gated/3")}, "input/feed.csv")
    with running(shop, "/gated/2"):
        wait_for(lambda: len(shop.pictures()) == 1, "the deletion")
        # The other one is served until the new one is there.
        (name,) = shop.pictures()
        assert "_2_SKU2_" in name
        assert shop.outputs()[f"jobs/{name}"] == before[f"jobs/{name}"]
    assert len(shop.pictures()) == 2
    assert shop.outputs()[f"jobs/{name}"] != before[f"jobs/{name}"]


def test_the_end_of_a_job_is_posted_while_another_is_fetched(shop: Shop) -> None:
    shop.env["PIPELINE_WEBHOOK_URL"] = shop.urls("/hook/all")
    slow = shop.submit(shop.csv({"1": shop.urls("/gated/1")}))
    shop.submit(shop.csv({"1": shop.urls("/pic/1")}, "b.csv"))
    with running(shop, "/gated/1"):
        wait_for(lambda: shop.hits().get("/hook/all"), "the webhook")
        assert state(shop, slow) == "fetching"
    assert shop.hits()["/hook/all"] == 2


def test_a_photo_that_a_watcher_sees_to_meanwhile_ends_no_fetch(shop: Shop) -> None:
    reference = shop.submit(shop.csv({"1": shop.urls("/gated/1")}))
    watching = Watching(shop)
    try:
        wait_for(lambda: shop.hits().get("/gated/1"), "a request for /gated/1")
        for name in ("a.jpg", "b.jpg"):
            shop.add(name)
            wait_for((shop.output / "half" / name).exists, f"the rendition of {name}")
        assert state(shop, reference) == "fetching"
        shop.server.gate.set()  # type: ignore[attr-defined]
        wait_for(lambda: state(shop, reference) == "completed", "the job")
        assert watching.stop() == 0
    finally:
        shop.server.gate.set()  # type: ignore[attr-defined]
        watching.kill()
    assert_fetched_once(shop)


def test_a_changed_recipe_waits_for_no_fetch(shop: Shop) -> None:
    shop.add("a.jpg")
    reference = shop.submit(shop.csv({"1": shop.urls("/pic/1", "/gated/1")}))
    watching = Watching(shop)
    try:
        wait_for(lambda: shop.hits().get("/gated/1"), "a request for /gated/1")
        wait_for((shop.output / "half/a.jpg").exists, "the rendition")
        before = (shop.output / "half/a.jpg").read_bytes()
        shop.recipes("[half]\nscale = 0.25\n")
        wait_for(lambda: (shop.output / "half/a.jpg").read_bytes() != before, "the new rendition")
        wait_for(lambda: shop.hits()["/gated/1"] == 2, "the fetch, which goes on")
        assert state(shop, reference) == "fetching"
        assert shop.hits() == {"/pic/1": 1, "/gated/1": 2}
        shop.server.gate.set()  # type: ignore[attr-defined]
        wait_for(lambda: state(shop, reference) == "completed", "the job")
        assert len(shop.pictures()) == 2
        assert watching.stop() == 0
    finally:
        shop.server.gate.set()  # type: ignore[attr-defined]
        watching.kill()
    assert [line for line in watching.said if "Traceback" in line] == []


def test_the_time_for_a_job_goes_on_in_the_next_run(shop: Shop) -> None:
    shop.env["PIPELINE_JOB_FETCH_S"] = "6"
    shop.submit(shop.csv({"1": shop.urls("/gated/1")}))
    watching = Watching(shop)
    try:
        wait_for(lambda: shop.hits().get("/gated/1"), "a request for /gated/1")
        began = time.monotonic()
        for percent in range(20, 90):
            # Each ends a run, and the next one fetches again.
            shop.recipes(f"[half]\nscale = 0.{percent}\n")
            if shop.query("SELECT 1 FROM jobs WHERE state = 'completed_with_errors'"):
                break
            assert time.monotonic() - began < 60
            time.sleep(1)
        assert watching.stop() == 0
    finally:
        watching.kill()
    assert shop.hits()["/gated/1"] > 2


def test_a_job_does_not_wait_for_the_backlog_of_others(shop: Shop) -> None:
    shop.submit(shop.csv({str(n): shop.urls(f"/pic/{n}") for n in range(80)}))
    shop.run()
    before = {name: shop.outputs()[f"jobs/{name}"] for name in shop.pictures()}

    def left() -> int:
        return sum((shop.output / "jobs" / n).read_bytes() == b for n, b in before.items())

    make_slow(shop)
    watching = Watching(shop)
    try:
        watching.wait_for_start()
        shop.recipes("[half]\nscale = 0.25\n")
        wait_for(lambda: left() < len(before), "the backlog")
        shop.csv({"1": shop.urls("/pic/a", "/pic/b")}, "input/small.csv")
        done = "SELECT 1 FROM jobs WHERE source = 'small.csv' AND state = 'completed'"
        wait_for(lambda: shop.query(done), "the small job")
        assert left() > 0, "the backlog went first"
        wait_for(lambda: left() == 0, "the rest of it")
        assert watching.stop() == 0
    finally:
        watching.kill()
    report = shop.run()
    assert report["jobs"]["renditions"]["rendered"] == 0
    assert shop.cli("status", "--check").code == 0
