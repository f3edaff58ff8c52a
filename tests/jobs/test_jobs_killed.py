"""Jobs, deletions and submissions that are killed: the next run finishes or clears them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from a_shop import Shop
from killing import apart, kill_at, temporary_files
from loopback import Server

ROWS = 6


def killed_before(module: str, name: str, call: int = 1, after: bool = False) -> Callable[[], None]:
    """A patch that kills the process before, or after, the ``call``-th call of a function."""

    def prepare() -> None:
        import importlib

        owner: Any = importlib.import_module(module)
        *path, last = name.split(".")
        for part in path:
            owner = getattr(owner, part)
        original, calls = getattr(owner, last), []

        def kill(*args: Any, **options: Any) -> Any:
            calls.append(None)
            result = original(*args, **options) if after or len(calls) != call else None
            if len(calls) == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(owner, last, kill)

    return prepare


KILLS = {
    "received": killed_before("pipeline.jobs.reading", "read_csvs"),
    "checking, copied": killed_before("pipeline.jobs.reading", "check_csv"),
    "checking, stored": killed_before("pipeline.jobs.reading", "_Reading._remove_others"),
    "fetching, first": killed_before("pipeline.jobs.recording", "Recorder.add"),
    "fetching, in the journal": killed_before(
        "pipeline.jobs.recording", "Recorder.add", 4, after=True
    ),
    "fetching, recorded": killed_before("pipeline.jobs.recording", "Recorder._clear_journal"),
    "fetching, checked": killed_before("pipeline.jobs.images", "has_size", 4),
    "rendering, made": killed_before("pipeline.jobs.originals", "JobImages.settled"),
    "rendering, recorded": killed_before("pipeline.jobs.answering", "answer_jobs"),
    "writing": killed_before("pipeline.jobs.answering", "write_answer"),
    "writing, written": killed_before("pipeline.jobs.answering", "_Answer._end"),
}


@pytest.mark.parametrize("where", KILLS)
def test_a_job_that_is_killed_goes_on_and_fetches_nothing_twice(shop: Shop, where: str) -> None:
    # One at a time: the one that was on its way may be asked for again, and no other.
    shop.env["PIPELINE_FETCH_CONCURRENT"] = "1"
    rows = {str(n): shop.urls(f"/pic/{n}", f"/one/{n}") for n in range(ROWS // 2)}
    file = shop.csv(rows, "input/feed.csv")
    assert shop.in_child(KILLS[where], "run") == -signal.SIGKILL
    state = shop.job()["state"]
    assert state == where.partition(",")[0]
    shop.run()
    job = shop.job()
    assert (job["state"], job["images"]["done"]) == ("completed", ROWS)
    hits = shop.hits()
    assert len(hits) == ROWS
    # The one on its way; and the one whose end was not noted yet.
    assert sum(hits.values()) <= ROWS + {"fetching, first": 2}.get(
        where, where.startswith("fetching")
    )
    assert len([row for row in shop.answer()[1:] if row[3].count(",") == 1]) == ROWS // 2
    assert len(shop.pictures()) == ROWS
    assert not [path for path in shop.root.rglob(".lockstep-*") if path.is_file()]
    assert shop.run()["jobs"]["completed"] == 0
    assert shop.cli("verify", "--deep").code == 0
    file.unlink()
    shop.run("--allow-removed")
    assert (shop.outputs(), shop.stored()) == ({}, [])


def test_a_kill_while_originals_and_jobs_go_on_side_by_side_is_healed(
    server: Server, tmp_path: Path
) -> None:
    moment, killed = 5, 0
    while True:
        shop = Shop(tmp_path / f"at-{moment}" / "shop", server)
        for number in range(3):
            shop.add(f"{number}.png")
        shop.run()
        # A backlog, something new, something gone, and a CSV that is fetched beside them.
        shop.recipes("[half]\nscale = 0.25\n[thumb]\nfit = [30, 30]\n")
        shop.add("new.png")
        (shop.input / "0.png").unlink()
        shop.csv({"1": shop.urls("/pic/1", "/pic/2"), "2": shop.urls("/one/3")}, "input/a.csv")
        code = shop.in_child(kill_at(moment), "run")
        shop.run()
        job = shop.job()
        assert (job["state"], job["images"]["done"]) == ("completed", 3)
        assert len(shop.pictures()) == 3
        # Two of each original, and the result CSV.
        assert len(shop.outputs()) == 6 + 3 + 1
        assert temporary_files(shop) == []
        assert shop.cli("verify", "--deep").code == 0
        report = shop.run()
        assert (report["renditions"]["rendered"], report["jobs"]["completed"]) == (0, 0)
        if code != -signal.SIGKILL:
            assert code == 0
            break
        killed += 1
        moment += apart(97)
    assert killed >= 2


@pytest.mark.parametrize(
    "where",
    [
        ("pipeline.jobs.reading", "_forget_rows"),
        ("pipeline.jobs.reading", "clear_images"),
        ("pipeline.jobs.reading", "collect_garbage"),
        ("pipeline.engine.publish", "Publisher.delete"),
    ],
)
def test_a_deletion_that_is_killed_is_done_by_the_next_run(
    shop: Shop, where: tuple[str, str]
) -> None:
    file = shop.csv({"1": shop.urls("/pic/1", "/pic/2")}, "input/feed.csv")
    shop.run()
    file.unlink()
    killed = shop.in_child(killed_before(*where), "run", "--allow-removed")
    assert killed == -signal.SIGKILL
    shop.run()
    assert (shop.outputs(), shop.stored()) == ({}, [])
    assert shop.query("SELECT COUNT(*) FROM fetches") == [(0,)]


@pytest.mark.parametrize(
    "where",
    [
        ("pipeline.jobs.acts", "check_csv"),
        ("pathlib", "Path.replace"),
        ("pathlib", "Path.replace", 1, True),
    ],
)
def test_what_a_killed_submission_leaves_is_gone_after_the_next_run(
    shop: Shop, where: tuple[Any, ...]
) -> None:
    file = shop.csv({"1": shop.urls("/pic/1")})
    killed = shop.in_child(killed_before(*where), "job", "submit", str(file))
    assert killed == -signal.SIGKILL
    assert len(shop.stored()) == 1
    report = shop.run()
    assert (shop.stored(), report["jobs"]["received"]) == ([], 0)
    # Also what an upload left, and not a thing of a job.
    reference = shop.submit(file)
    (shop.state / "jobs/.lockstep-tmp1x.upload").write_text("S. No.")
    shop.run()
    assert [name for name in shop.stored() if name.startswith("jobs/")] == [f"jobs/{reference}.csv"]
