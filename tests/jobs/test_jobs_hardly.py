"""Jobs under hard conditions: killed anywhere, many at once, deleted while they are worked on."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from a_shop import Shop, wait_for

from pipeline.database.locks import RUN_LOCK
from pipeline.jobs.copies import clear_copies
from pipeline.jobs.store import JobFolders, JobRepository
from pipeline.tables import connect

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


def test_submissions_from_many_processes_at_once_get_numbers_of_their_own(shop: Shop) -> None:
    file = shop.csv({"1": shop.urls("/pic/1")})
    code = (
        "import sys, threading; sys.path.insert(0, ''); import app\n"
        "from pipeline.tables import make_tables\n"
        "make_tables(app.app.database)\n"
        "from pathlib import Path\n"
        "from pipeline.jobs.acts import submit\n"
        f"file = Path({str(file)!r})\n"
        "for _ in range(10): print(submit(app.app.jobs, file, 'feed.csv').reference)\n"
    )
    # On a database that none of them has made tables in.
    waiting = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=shop.root,
            env=shop._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(5)
    ]
    references: list[str] = []
    for process in waiting:
        stdout, stderr = process.communicate(timeout=90)
        assert process.returncode == 0, stderr
        references += stdout.split()
    assert len(set(references)) == 50
    assert shop.cli("status", "--json").json["jobs"] == {"received": 50}
    assert len(shop.stored()) == 50
    report = shop.run()
    assert report["jobs"]["completed"] == 50
    assert shop.hits() == {"/pic/1": 1}


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


def test_a_refresh_that_finds_nothing_new_costs_no_more(shop: Shop) -> None:
    reference = shop.submit(shop.csv({"1": shop.urls("/pic/1", "/pic/2"), "2": shop.urls("/html")}))
    shop.run(code=1)
    before = {name: stamp for name, stamp in shop.stamps().items() if name.startswith("jobs/")}
    assert shop.cli("job", "refresh", reference, "--json").json["urls"] == 3
    assert shop.job(reference)["state"] == "fetching"
    # What failed failed before: no reason to cry again.
    report = shop.run(code=0)
    assert report["jobs"]["images"] == {"asked": 3, "fetched": 0, "not_modified": 2, "failed": 0}
    assert report["jobs"]["renditions"] == {"rendered": 0, "reused": 0, "deleted": 0}
    after = {name: stamp for name, stamp in shop.stamps().items() if name.startswith("jobs/")}
    assert after == before

    shop.server.changed["/pic/2"] = 1  # type: ignore[attr-defined]
    answer = shop.cli("job", "refresh", reference, "--wait", "--json")
    assert (answer.code, answer.json["state"]) == (1, "completed_with_errors")
    after = {name: stamp for name, stamp in shop.stamps().items() if name.startswith("jobs/")}
    assert [name for name in after if after[name] != before[name]] == [
        f"jobs/half/{reference}/{reference}_1_SKU1_1.jpg"
    ]
    assert len([name for name in shop.stored() if name.startswith("fetched/")]) == 2


def test_a_refresh_brings_other_jobs_with_the_same_url_in_step(shop: Shop) -> None:
    first = shop.submit(shop.csv({"1": shop.urls("/pic/1")}))
    second = shop.submit(shop.csv({"1": shop.urls("/pic/1")}, "other.csv"))
    shop.run()
    shop.server.changed["/pic/1"] = 1  # type: ignore[attr-defined]
    shop.cli("job", "refresh", first)
    report = shop.run()
    assert report["jobs"]["completed"] == 2
    renditions = [data for name, data in shop.outputs().items() if name.startswith("jobs/")]
    assert len(renditions) == 2
    assert renditions[0] == renditions[1]
    assert shop.job(second)["state"] == "completed"


def test_a_server_that_is_down_at_a_refresh_takes_no_image_away(shop: Shop) -> None:
    shop.env["PIPELINE_FETCH_RETRIES"] = "0"
    reference = shop.submit(shop.csv({"1": shop.urls("/pic/1", "/pic/2")}))
    shop.run()
    shop.server.stop()
    shop.cli("job", "refresh", reference)
    answer = shop.cli("run", "--json")
    assert answer.code == 0
    assert "kept as it was" in answer.stderr
    assert shop.job(reference)["state"] == "completed"
    assert len(shop.pictures()) == 2


def test_lost_files_of_the_state_folder_come_back(shop: Shop) -> None:
    shop.csv({"1": shop.urls("/pic/1", "/pic/2")}, "input/feed.csv")
    shop.run()
    # What was stored is asked for again.
    shutil.rmtree(shop.state / "fetched")
    shop.recipes("[half]\nscale = 0.75\n")
    answer = shop.cli("run")
    assert "are missing there" in answer.stderr
    shop.run()
    assert shop.job()["state"] == "completed"
    assert sum(shop.hits().values()) == 4
    assert len(shop.pictures()) == 2
    # The whole folder, with the copy of the CSV.
    shutil.rmtree(shop.state)
    shop.recipes("[half]\nscale = 0.5\n")
    for _ in range(3):
        shop.cli("run")
    assert shop.job()["state"] == "completed"
    assert sum(shop.hits().values()) == 6
    assert shop.cli("verify").code == 0


def test_an_empty_input_folder_deletes_no_large_job(shop: Shop) -> None:
    rows = {str(n): shop.urls(*[f"/one/{n}/{m}" for m in range(10)]) for n in range(10)}
    file = shop.csv(rows, "input/feed.csv")
    shop.run()
    before = shop.outputs()
    file.rename(shop.root / "feed.csv")
    for command in ("run", "run --dry-run"):
        answer = shop.cli(*command.split())
        assert answer.code == 4, command
        assert "100 fetched images of a CSV would be deleted; nothing was" in answer.stderr
    assert shop.outputs() == before
    shop.input.rename(shop.root / "unplugged")
    assert shop.cli("run").code == 4
    (shop.root / "unplugged").rename(shop.input)
    assert shop.run("--allow-removed")["jobs"]["deleted"] == 1
    assert shop.outputs() == {}


def test_another_input_folder_deletes_no_small_job(shop: Shop) -> None:
    shop.csv({"1": shop.urls("/pic/1")}, "input/feed.csv")
    shop.add("a.png")
    shop.run()
    before = shop.outputs()
    shop.input.rename(shop.root / "unplugged")
    shop.add("a.png")
    for command in ("run", "run --dry-run"):
        answer = shop.cli(*command.split())
        assert answer.code == 4, command
        assert "a fetched image of a CSV would be deleted; nothing was" in answer.stderr
        assert "not the folder that was here in the last run" in answer.stderr
    assert shop.outputs() == before
    # Where it holds the CSV as well, it is the input folder from now on.
    shop.csv({"1": shop.urls("/pic/1")}, "input/feed.csv")
    assert shop.run()["jobs"]["deleted"] == 0
    (shop.input / "feed.csv").unlink()
    assert shop.run()["jobs"]["deleted"] == 1


def test_a_run_with_answered_jobs_and_no_change_only_reads(shop: Shop) -> None:
    import sqlalchemy as sa

    shop.csv({"1": shop.urls("/pic/1", "/html")}, "input/feed.csv")
    shop.csv([["1", "", "x"]], "input/bad.csv")
    shop.submit(shop.csv({"1": shop.urls("/pic/1")}))
    shop.run(code=1)
    statements: list[str] = []

    def note(con: object, cursor: object, statement: str, *rest: object) -> None:
        statements.append(statement.split()[0].upper())

    watching = sqlite3.connect(shop.root / "db.sqlite")
    version = watching.execute("PRAGMA data_version").fetchone()
    stamps, hits = shop.stamps(), shop.hits()
    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        shop.run()
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)
    assert set(statements) <= {"SELECT", "PRAGMA"}
    assert watching.execute("PRAGMA data_version").fetchone() == version
    watching.close()
    assert (shop.stamps(), shop.hits()) == (stamps, hits)


def test_a_run_with_answered_jobs_and_no_change_loads_no_http(shop: Shop) -> None:
    shop.csv({"1": shop.urls("/pic/1")}, "input/feed.csv")
    shop.run()
    code = (
        "import sys\nfrom datapipe.cli import cli\n"
        "cli(['run'], standalone_mode=False)\n"
        "print([name for name in ('httpx', 'httpcore', 'pebble') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code.replace("\n", "\n")],
        cwd=shop.root,
        env=shop._environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines()[-1] == "[]", done


def test_verify_finds_an_answer_that_is_gone_and_writes_it_anew(shop: Shop) -> None:
    reference = shop.submit(shop.csv({"1": shop.urls("/pic/1")}))
    shop.run()
    (shop.output / "notes.txt").write_text("people's own")
    assert shop.cli("verify", "--deep").code == 0
    answer = shop.output / f"{reference}.csv"
    before = answer.read_bytes()
    answer.unlink()
    shop.output.joinpath("jobs", shop.pictures()[0]).unlink()
    (shop.output / "jobs/half/stray.jpg").write_bytes(b"stray")
    found = shop.cli("verify", "--json")
    assert found.code == 1
    assert sorted(found.json["missing"]) == sorted(
        [f"{reference}.csv", f"jobs/half/{reference}/{reference}_1_SKU1_0.jpg"]
    )
    assert found.json["strays"] == ["jobs/half/stray.jpg"]
    told = shop.cli("job", "output", reference)
    assert (told.code, "verify --fix" in told.stderr) == (2, True)
    assert shop.cli("verify", "--fix").code == 0
    assert answer.read_bytes() == before
    assert len(shop.pictures()) == 1
    assert shop.hits() == {"/pic/1": 1}


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(shop: Shop) -> None:
    shop.csv({"1": shop.urls("/pic/1"), "2": shop.urls("/pic/2")}, "input/feed.csv")
    shop.csv([["1", "", "x"]], "input/bad.csv")
    said = shop.run("--dry-run")["jobs"]
    assert (said["received"], said["rejected"], said["images"]["asked"]) == (2, 1, 2)
    assert shop.cli("job", "list", "--json").json == []
    shop.run(code=1)
    shop.csv({"1": shop.urls("/pic/1"), "3": shop.urls("/pic/3")}, "input/feed.csv")
    (shop.input / "bad.csv").unlink()
    shop.recipes("[half]\nscale = 0.25\n")
    before, hits = shop.stamps(), shop.hits()
    said = shop.run("--dry-run")["jobs"]
    assert (said["received"], said["deleted"], said["images"]["asked"]) == (1, 1, 1)
    assert said["renditions"]["rendered"] == 2
    assert (shop.stamps(), shop.hits()) == (before, hits)


def test_explain_and_status_know_of_csvs(shop: Shop) -> None:
    def verdict(path: str) -> str:
        return str(shop.cli("explain", path).stdout.strip())

    assert "there is no such CSV" in verdict("feed.csv")
    file = shop.csv({"1": shop.urls("/pic/1")}, "input/feed.csv")
    assert "the next run creates a job from it" in verdict("input/feed.csv")
    shop.run()
    reference = shop.job()["reference"]
    assert f"job {reference} is completed, and its CSV is unchanged" in verdict("feed.csv")
    assert shop.cli("status", "--json").json["jobs"] == {"completed": 1}
    assert shop.cli("status", "--check").code == 0
    shop.csv({"1": shop.urls("/pic/2")}, "input/feed.csv")
    assert "the next run reads it again" in verdict("feed.csv")
    file.unlink()
    assert "the next run deletes it" in verdict("feed.csv")
    shop.submit(shop.csv({"1": shop.urls("/html")}))
    assert shop.cli("status", "--check").code == 1
    shop.run("--allow-removed", code=1)
    assert "1 completed_with_errors, 1 deleted" in shop.cli("status").stdout
    assert shop.cli("status", "--check").code == 1


def test_the_state_folder_has_a_place_of_its_own(shop: Shop) -> None:
    for place in ("input", "output", "output/state", "input/state", "."):
        shop.env["PIPELINE_STATE"] = place
        answer = shop.cli("run")
        assert answer.code == 2, place
        assert "PIPELINE_STATE" in answer.stderr
    shop.env["PIPELINE_STATE"] = str(Path("input/.hidden"))
    assert shop.cli("run").code == 0
