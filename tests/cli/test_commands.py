"""Every command: its JSON, its words, its exit codes, its help."""

import shutil

import pytest
from a_project import Project

OURS = ["run", "status", "errors", "retry", "verify", "explain", "serve"]
THEIRS = ["db create-all", "table list", "step list", "step run", "lint"]


@pytest.fixture
def shop(project: Project) -> Project:
    """One original that is well, one that is broken."""
    project.add("good.png")
    (project.input / "bad.png").write_bytes(b"no picture")
    project.run(code=1)
    return project


@pytest.mark.parametrize("command", [*OURS, *THEIRS])
def test_every_command_has_help_with_an_example(project: Project, command: str) -> None:
    answer = project.cli(*command.split(), "--help")
    assert answer.code == 0
    assert "Example" in answer.stdout
    assert f"datapipe {command.split()[0]}" in answer.stdout


def test_a_process_speaks_json_on_stdout_and_nothing_else(project: Project) -> None:
    project.add("a.png")
    for _ in range(2):
        answer = project.script("run", "--json")
        assert (answer.code, answer.stderr) == (0, "")
    report = answer.json
    assert report["originals"] == {"new": 0, "changed": 0, "removed": 0, "unchanged": 1}
    assert set(report["renditions"]) >= {"rendered", "deleted", "failed", "in_step", "reused"}
    assert report["renditions"]["in_step"] == 2
    assert isinstance(report["seconds"], float)
    answer = project.script("run")
    assert answer.stdout.startswith("originals   1 unchanged\nrenditions  2 in step\nin step (")
    assert answer.stderr == ""


def test_the_summary_is_for_people(shop: Project) -> None:
    shop.add("new.png")
    answer = shop.cli("run")
    assert answer.code == 0
    lines = answer.stdout.splitlines()
    assert lines[0] == "originals   1 new, 2 unchanged"
    assert lines[1] == "renditions  2 rendered, 2 failed before, 4 in step"
    assert lines[2].startswith("in step, except for what failed before (`datapipe errors`) (")
    (shop.input / "bad.png").write_bytes(b"still none")
    answer = shop.cli("run")
    assert answer.code == 1
    assert "failed      bad.png: not an image" in answer.stdout


def test_status_counts_by_recipe(shop: Project) -> None:
    assert shop.cli("status", "--json").json == {
        "originals": 2,
        "renditions": 2,
        "failed": 2,
        "held": 0,
        "taken_down": 0,
        "pending": 0,
        "recipes": {
            "half": {"ok": 1, "failed": 1, "held": 0, "taken_down": 0, "pending": 0},
            "thumb": {"ok": 1, "failed": 1, "held": 0, "taken_down": 0, "pending": 0},
        },
        "features": {},
        "steps": {},
        "jobs": {},
        "reasons": {"not_an_image": 2},
        "workers": {"place": "local", "processes": 1},
        "verdict": {"state": "failed", "words": "In step, except for 2 that failed"},
    } | dict.fromkeys(("unverified", "sharing"))
    assert shop.cli("status").code == 0
    assert shop.cli("status").stdout.endswith("\nIn step, except for 2 that failed\n")
    assert shop.cli("status", "--check").code == 1
    assert "half: 1 ok, 1 failed, 0 pending" in shop.cli("status").stdout
    shop.cli("retry")
    assert shop.cli("status", "--json").json["pending"] == 2
    (shop.input / "bad.png").unlink()
    shop.run()
    assert shop.cli("status", "--check").code == 0


def test_status_of_a_new_project_is_no_error(project: Project) -> None:
    assert project.cli("status", "--json").json == {
        "originals": 0,
        "renditions": 0,
        "failed": 0,
        "held": 0,
        "taken_down": 0,
        "pending": 0,
        **{name: {} for name in ("recipes", "features", "steps", "jobs", "reasons")},
        "workers": {"place": "local", "processes": 1},
        "verdict": {"state": "empty", "words": "Ready for the first originals"},
    } | dict.fromkeys(("unverified", "sharing"))
    assert project.cli("errors", "--json").json == []
    assert project.cli("verify").code == 0
    assert project.cli("retry").code == 0


def test_errors_lists_path_recipe_reason_and_since(shop: Project) -> None:
    rows = shop.cli("errors", "--json").json
    names = {"path", "recipe", "source", "state", "code", "reason", "since"}
    assert [set(row) for row in rows] == [names] * 2
    assert [(row["path"], row["recipe"]) for row in rows] == [
        ("bad.png", "half"),
        ("bad.png", "thumb"),
    ]
    assert shop.cli("errors").stdout.startswith(
        "not_an_image: 2 (Not an image)\n  bad.png [half] not an image"
    )


def test_retry_takes_originals_and_folders(shop: Project) -> None:
    (shop.input / "deep").mkdir()
    (shop.input / "deep/bad.png").write_bytes(b"none either")
    shop.run(code=1)
    assert shop.cli("retry", "deep", "--json").json == {"retried": 2}
    assert shop.cli("retry", "input/bad.png", "--json").json == {"retried": 2}
    assert shop.cli("retry", str(shop.input / "bad.png"), "--json").json == {"retried": 2}
    assert shop.cli("retry", "good.png", "--json").json == {"retried": 0}
    answer = shop.cli("retry", "unknown.png")
    assert answer.code == 2
    assert "unknown.png: no original of that name" in answer.stderr
    assert shop.run(code=1)["renditions"]["failed"] == 4


def test_retry_older_makes_again_what_an_older_release_made(shop: Project) -> None:
    import sqlite3

    assert shop.cli("retry", "--older", "--json").json == {"retried": 2}
    shop.run(code=1)
    con = sqlite3.connect(shop.root / "db.sqlite")
    con.execute("UPDATE renditions SET renderer = 0 WHERE path = 'good.png'")
    con.commit()
    con.close()
    # A new release makes nothing again by itself.
    assert shop.run()["renditions"]["rendered"] == 0
    assert "older renderer" in shop.cli("explain", "good.png").stdout
    assert shop.cli("retry", "--older", "--json").json == {"retried": 4}
    assert shop.run(code=1)["renditions"]["rendered"] == 2
    assert shop.query("SELECT min(renderer) FROM renditions WHERE path = 'good.png'") != [(0,)]


def test_verify_finds_and_mends_exactly_what_is_wrong(project: Project) -> None:
    for number in range(5):
        project.add(f"{number}.png")
    project.run()
    whole = project.outputs()
    (project.output / "half/0.png").unlink()
    (project.output / "half/1.png").write_bytes(b"short")
    data = bytearray((project.output / "half/2.png").read_bytes())
    data[-20] ^= 1
    (project.output / "half/2.png").write_bytes(data)
    (project.output / "half/stray.png").write_bytes(b"x")
    (project.output / "gone/deep").mkdir(parents=True)
    (project.output / "gone/deep/stray.png").write_bytes(b"x")

    answer = project.cli("verify", "--json")
    assert answer.code == 1
    assert answer.json == {
        "checked": 10,
        "missing": ["half/0.png"],
        "altered": ["half/1.png"],
        "strays": ["gone/deep/stray.png", "half/stray.png"],
        "fixed": False,
        "run": None,
    }
    deep = project.cli("verify", "--deep", "--json").json
    assert deep["altered"] == ["half/1.png", "half/2.png"]
    assert project.outputs() != whole
    rest = {
        k: v for k, v in project.stamps().items() if k[:6] not in ("half/0", "half/1", "half/2")
    }

    # What else has changed is not brought in by a repair.
    project.add("later.png")
    answer = project.cli("verify", "--deep", "--fix")
    assert answer.code == 0, answer
    assert "all fixed" in answer.stdout
    assert project.outputs() == whole
    stamps = project.stamps()
    assert {k: stamps[k] for k in rest if "stray" not in k} == {
        k: v for k, v in rest.items() if "stray" not in k
    }
    assert not (project.output / "gone").exists()
    assert project.cli("verify", "--deep").code == 0
    assert project.run()["renditions"]["rendered"] == 2


def test_verify_cannot_mend_what_has_no_original(project: Project) -> None:
    project.add("a.png")
    project.run()
    (project.output / "half/a.png").unlink()
    (project.input / "a.png").unlink()
    answer = project.cli("verify", "--fix")
    assert answer.code == 1, answer
    project.run("--allow-removed")
    assert project.cli("verify").code == 0


def test_a_rendition_deleted_by_hand_comes_back_with_verify(project: Project) -> None:
    project.add("a.png")
    project.run()
    shutil.rmtree(project.output)
    assert project.cli("verify", "--fix").code == 0
    project.assert_in_step()


def test_explain_says_why(shop: Project) -> None:
    story = shop.cli("explain", "good.png", "--json").json
    assert story["path"] == "good.png"
    assert story["known"]
    assert [r["verdict"] for r in story["renditions"]] == ["in step", "in step"]
    assert "this exact file failed before" in shop.cli("explain", "input/bad.png").stdout

    shop.add("good.png", seed=2)
    assert "the content changed" in shop.cli("explain", "good.png").stdout
    shop.recipes("[half]\nscale = 0.4\n[wide]\nwidth = 20\n")
    text = shop.cli("explain", "good.png").stdout
    assert "the recipe changed" in text
    assert "the recipe is gone" in text
    assert "it has none yet" in text
    (shop.input / "good.png").unlink()
    assert "the original is gone" in shop.cli("explain", "good.png").stdout
    answer = shop.cli("explain", "unknown.png")
    assert answer.code == 1
    assert "there is no such original" in answer.stdout
    shop.add("fresh.png")
    assert "the next run picks it up" in shop.cli("explain", "fresh.png").stdout


def test_explain_says_why_a_file_is_passed_over(shop: Project) -> None:
    (shop.input / "notes.txt").write_text("Remember the milk.")
    (shop.input / ".hidden.png").write_bytes(b"")
    (shop.root / "elsewhere.png").write_bytes(b"")
    (shop.input / "link.png").symlink_to(shop.root / "elsewhere.png")
    for path, why in (
        ("notes.txt", "other suffix (.txt)"),
        (".hidden.png", "hidden"),
        ("link.png", "link that leads out of the input folder"),
        ("../elsewhere.png", "outside the input folder"),
        (str(shop.root / "app.py"), "outside the input folder"),
    ):
        story = shop.cli("explain", path, "--json").json
        assert (story["verdict"], story["renditions"]) == (f"skipped: {why}", []), path


def test_a_folder_of_renditions_that_is_gone_is_told(shop: Project) -> None:
    shutil.rmtree(shop.output / "thumb")
    answer = shop.cli("run")
    assert answer.stderr.startswith("warning:")
    assert "the folder is gone with all its renditions" in answer.stderr
    assert "`datapipe verify`" in shop.cli("explain", "good.png").stdout
    assert shop.cli("verify", "--fix").code == 0
    assert shop.cli("run").stderr == ""
    shop.assert_in_step()


def test_a_folder_that_came_back_with_one_file_does_not_hide_that_the_rest_is_missing(
    shop: Project,
) -> None:
    shutil.rmtree(shop.output / "thumb")
    # The run that makes the folder again is the first that could have seen it gone.
    shop.add("new.png")
    for _ in range(2):
        assert shop.run("--json", code=0)["renditions"]["in_step"] == 4
        answer = shop.cli("run")
        assert answer.stderr.count("warning:") == 1
        assert f"{shop.output / 'thumb'}: the folder was gone" in answer.stderr
    assert shop.cli("verify", "--fix").code == 0
    assert shop.cli("run").stderr == ""
    assert shop.query("SELECT * FROM lockstep_state WHERE name = 'folders_gone'") == []
    shop.assert_in_step()


def test_a_folder_that_is_mounted_again_is_warned_of_no_more(shop: Project) -> None:
    (shop.output / "thumb").rename(shop.root / "unplugged")
    assert "gone with all its renditions" in shop.cli("run").stderr
    (shop.root / "unplugged").rename(shop.output / "thumb")
    assert shop.cli("run").stderr == ""
    assert shop.query("SELECT * FROM lockstep_state WHERE name = 'folders_gone'") == []


def test_an_empty_folder_counts_as_gone(shop: Project) -> None:
    (shop.output / "thumb").rename(shop.root / "unplugged")
    (shop.output / "thumb").mkdir()
    assert "gone with all its renditions" in shop.cli("run").stderr


def test_the_summary_names_each_failure_once(project: Project) -> None:
    for number in range(20):
        (project.input / f"{number:02}.png").write_bytes(b"")
    summary = project.cli("run").stdout
    assert summary.count("empty file") == 20
    assert "and more" not in summary
    (project.input / "20.png").write_bytes(b"")
    project.cli("retry")
    assert "and more" in project.cli("run").stdout


def test_a_dry_run_writes_nothing(project: Project) -> None:
    project.add("a.png")
    project.run()
    project.add("b.png")
    (project.input / "a.png").unlink()
    project.recipes("[half]\nscale = 0.4\n")
    before = project.stamps()
    rows = project.query("SELECT * FROM renditions_meta ORDER BY 1, 2")
    report = project.run("--dry-run")
    assert report["dry_run"] is True
    assert (report["renditions"]["rendered"], report["renditions"]["deleted"]) == (1, 2)
    assert "would be rendered" in project.cli("run", "--dry-run").stdout
    assert project.stamps() == before
    assert project.query("SELECT * FROM renditions_meta ORDER BY 1, 2") == rows


def test_rehash_finds_what_no_stat_shows(project: Project) -> None:
    import os
    import sqlite3

    file = project.add("a.bmp", seed=1)
    project.add("b.bmp", seed=2)
    project.run()
    project.add("a.bmp", seed=3)
    status = os.stat(file)
    # As a disk that keeps no times: the row says what `stat` will say.
    con = sqlite3.connect(project.root / "db.sqlite")
    con.execute(
        "UPDATE originals SET mtime_ns = ?, ctime_ns = ?, inode = ? WHERE path = 'a.bmp'",
        (status.st_mtime_ns, status.st_ctime_ns, status.st_ino),
    )
    con.commit()
    con.close()
    assert project.run()["renditions"]["rendered"] == 0
    report = project.run("--rehash")
    assert report["renditions"]["rendered"] == 2
    assert report["originals"]["changed"] == 1
    project.assert_in_step()
    assert project.run("--rehash")["renditions"]["rendered"] == 0


def test_datapipes_own_commands_go_on_working(shop: Project) -> None:
    tables = shop.cli("table", "list").stdout.split()
    assert {"originals", "recipes", "renditions"} <= set(tables)
    steps = shop.cli("step", "list").stdout
    for name in ("load_recipes", "scan", "render"):
        assert f"{name} (" in steps
    assert "changed_idx_count: 0" in shop.cli("step", "list", "--status").stdout
    lint = shop.cli("lint")
    assert lint.code == 0
    assert "FAIL" not in lint.stdout
    shop.add("new.png")
    for name in ("load_recipes", "scan", "render"):
        assert shop.cli("step", f"--name={name}", "run").code == 0
    assert "half/new.png" in shop.outputs()
    assert shop.cli("lint").stdout.count("ok") >= 3


def test_usage_errors_end_with_2(project: Project) -> None:
    for command in ("run --unknown", "explain", "unknown"):
        answer = project.cli(*command.split())
        assert answer.code == 2
        assert "Usage" in answer.stderr


def test_a_folder_without_an_app_is_one_clear_line(project: Project) -> None:
    answer = project.script("--pipeline", "no_such_app", "run")
    assert answer.code == 2
    assert "there is no no_such_app.py in" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_one_is_not_counted_as_many(project: Project) -> None:
    project.recipes("[half]\nscale = 0.5\n")
    project.add("a.png")
    project.run()
    assert project.cli("status").stdout.startswith("1 original, 1 rendition in step, ")
    assert project.cli("verify").stdout == "1 rendition is as it should be\n"
    (project.input / "bad.png").write_bytes(b"no picture")
    project.run(code=1)
    assert project.cli("retry").stdout == "1 failure will be retried in the next run\n"


def test_files_of_other_kinds_are_summed_up(project: Project) -> None:
    for number, suffix in enumerate(("txt", "txt", "md", "psd", "mov", "doc", "zip", "ai")):
        (project.input / f"{number}.{suffix}").touch()
    (project.input / ".hidden").touch()
    lines = project.cli("run").stdout.splitlines()
    ignored = next(line for line in lines if line.startswith("ignored"))
    assert ignored.startswith("ignored     1 hidden, 8 files of other kinds (.txt, ")
    assert (ignored[-4:], ignored.count(".")) == (", …)", 5)
