"""Jobs that have their result CSV: refreshed, lost in part, checked, and left alone otherwise."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

from a_shop import Shop


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
