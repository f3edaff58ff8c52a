"""Jobs that are submitted, deleted, changed and stopped while others are worked on."""

from __future__ import annotations

import signal
import subprocess
import sys

from a_shop import Shop, submit_at_once, wait_for

from pipeline.database.locks import RUN_LOCK
from pipeline.jobs.copies import clear_copies
from pipeline.jobs.store import JobFolders, JobRepository
from pipeline.tables import connect


def test_submissions_from_many_processes_at_once_get_numbers_of_their_own(shop: Shop) -> None:
    file = shop.csv({"1": shop.urls("/pic/1")})
    # On a database that none of them has made tables in.
    references = submit_at_once(shop, file, processes=5, times=10)
    assert len(set(references)) == 50
    assert shop.cli("status", "--json").json["jobs"] == {"received": 50}
    assert len(shop.stored()) == 50
    report = shop.run()
    assert report["jobs"]["completed"] == 50
    assert shop.hits() == {"/pic/1": 1}


def test_a_submission_at_work_keeps_its_copy(shop: Shop) -> None:
    file = shop.csv({"1": shop.urls("/pic/1")})
    code = (
        "import sys; sys.path.insert(0, ''); import app\n"
        "from pathlib import Path\n"
        "from pipeline.jobs import acts\n"
        "from pipeline.tables import make_tables\n"
        "make_tables(app.app.database)\n"
        "def pausing(call):\n"
        "    def paused(*args):\n"
        "        done = call(*args)\n"
        "        print(call.__name__, flush=True)\n"
        "        sys.stdin.readline()\n"
        "        return done\n"
        "    return paused\n"
        "acts.check_csv = pausing(acts.check_csv)\n"
        "Path.replace = pausing(Path.replace)\n"
        f"print(acts.submit(app.app.jobs, Path({str(file)!r}), 'feed.csv').reference, flush=True)\n"
    )
    submitting = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=shop.root,
        env=shop._environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert submitting.stdout is not None
    assert submitting.stdin is not None
    connection = connect(f"sqlite:///{shop.root / 'db.sqlite'}")
    try:
        assert submitting.stdout.readline() == "check_csv\n"
        shop.run()
        submitting.stdin.write("\n")
        submitting.stdin.flush()
        # Renamed, and its row is not to be seen yet: a run would wait for the database here.
        assert submitting.stdout.readline() == "replace\n"
        assert clear_copies(JobRepository(connection), JobFolders(shop.state)) == 0
        reference, _ = submitting.communicate("\n", timeout=60)
    finally:
        submitting.kill()
        submitting.communicate()
        connection.engine.dispose()
    assert shop.run()["jobs"]["completed"] == 1
    assert f"jobs/{reference.strip()}.csv" in shop.stored()


def test_submitting_and_deleting_need_no_lock(shop: Shop) -> None:
    first = shop.submit(shop.csv({"1": shop.urls("/pic/1")}))
    shop.run()
    connection = connect(f"sqlite:///{shop.root / 'db.sqlite'}")
    with connection.lock(RUN_LOCK):
        reference = shop.submit(shop.csv({"1": shop.urls("/pic/2")}, "other.csv"))
        answer = shop.cli("job", "delete", first, "--json")
        assert answer.json == {"reference": first, "state": "deleted", "removed": False}
        assert shop.job(first)["state"] == "deleted"
        assert shop.cli("run").code == 3
    connection.engine.dispose()
    report = shop.run()
    assert (report["jobs"]["deleted"], report["jobs"]["completed"]) == (1, 1)
    assert {name.split("/")[1] for name in shop.pictures()} == {reference}


def test_a_job_that_is_deleted_while_it_is_fetched_ends_soon(shop: Shop) -> None:
    waits = shop.csv({str(n): shop.urls(f"/gated/{n}") for n in range(100)}, "input/slow.csv")
    other = shop.submit(shop.csv({"1": shop.urls("/pic/1")}))
    process = shop.start("run", "--json")
    wait_for(lambda: any("/gated" in path for path in shop.hits()), "a slow request")
    listed = shop.cli("job", "list", "--json").json
    (slow,) = [job["reference"] for job in listed if job["filename"] == "slow.csv"]
    assert shop.cli("job", "delete", slow).code == 0
    # The gate stays shut: only the deletion can end the run.
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert sum("/gated" in path for path in shop.hits()) < 20
    assert shop.job(other)["state"] == "completed"
    assert shop.run()["jobs"]["deleted"] == 1
    assert shop.job(slow)["state"] == "deleted"
    # Its CSV is there still, and makes no other job until it changes.
    assert waits.is_file()
    assert len(shop.cli("job", "list", "--json").json) == 2
    waits.unlink()
    shop.run()
    shop.csv({"1": shop.urls("/pic/1")}, "input/slow.csv")
    shop.run()
    assert len(shop.cli("job", "list", "--json").json) == 3


def test_a_csv_that_changes_while_its_job_is_fetched_is_read_by_the_next_run(shop: Shop) -> None:
    shop.csv({"1": shop.urls("/gated/1"), "2": shop.urls("/pic/2")}, "input/feed.csv")
    process = shop.start("run")
    wait_for(lambda: len(shop.hits()) == 2, "two requests")
    shop.csv({"2": shop.urls("/pic/2"), "3": shop.urls("/pic/3")}, "input/feed.csv")
    shop.server.gate.set()  # type: ignore[attr-defined]
    assert process.wait(60) == 0
    process.communicate()
    assert [row[0] for row in shop.answer()[1:]] == ["1", "2"]
    report = shop.run()
    assert report["jobs"]["images"]["asked"] == 1
    assert [row[0] for row in shop.answer()[1:]] == ["2", "3"]
    assert len(shop.pictures()) == 2


def test_ctrl_c_keeps_what_was_fetched(shop: Shop) -> None:
    shop.csv({"1": shop.urls("/pic/1", "/gated/1")}, "input/feed.csv")
    process = shop.start("run")
    wait_for(lambda: shop.hits() and shop.job()["images"]["fetched"], "an image")
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    shop.server.gate.set()  # type: ignore[attr-defined]
    shop.run()
    assert shop.hits()["/pic/1"] == 1
    assert shop.job()["state"] == "completed"
    assert not list(shop.state.rglob(".lockstep-*"))
