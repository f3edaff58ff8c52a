"""A setting that cannot work is refused before any work, with its name and the remedy."""

import os
from pathlib import Path

import pytest
from a_project import Project

from pipeline.errors import SettingsError
from pipeline.settings.load import load_settings
from pipeline.settings.values import default_worker_memory_mb


def test_the_defaults_lie_in_the_working_folder(tmp_path: Path) -> None:
    settings = load_settings({}, tmp_path)
    assert settings.input_dir == tmp_path / "input"
    assert settings.output_dir == tmp_path / "output"
    assert settings.recipes_file == tmp_path / "recipes.toml"
    assert settings.database_url == f"sqlite:///{tmp_path / 'db.sqlite'}"
    assert settings.workers >= 1
    assert (settings.max_pixels, settings.max_frames) == (200_000_000, 1000)
    assert (settings.max_removed_percent, settings.render_timeout_s) == (50, 60)
    assert settings.worker_memory_mb == default_worker_memory_mb(200_000_000)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("WORKERS", "many", "whole number of processes from 1"),
        ("WORKERS", "0", "whole number of processes from 1"),
        ("WORKERS", "-1", "whole number of processes from 1"),
        ("MAX_PIXELS", "1e6", "pixels"),
        ("MAX_FRAMES", "none", "frames"),
        ("MAX_REMOVED", "101", "percentage from 0 to 100"),
        ("MAX_REMOVED", "nan", "percentage from 0 to 100"),
        ("RENDER_TIMEOUT_S", "0", "seconds"),
        ("RENDER_TIMEOUT_S", "inf", "seconds"),
        ("WORKER_MEMORY_MB", "1", "megabytes"),
        ("SANDBOX", "yes", "one of auto, off, required"),
        ("INPUT", "ftp://x/y", "s3://BUCKET/PREFIX"),
        ("INPUT", "s3://", "must name a bucket, for example s3://photos/originals"),
        ("OUTPUT", "gs://photos/a//b", "without // and .."),
        ("STATE", "s3://photos/state", "a path of this machine"),
        ("DB", "oracle://x/y", "sqlite:///"),
        ("DB", "db.sqlite", "sqlite:///"),
        ("DB", "sqlite://", "outlive the run"),
        ("DB", "sqlite:///:memory:", "outlive the run"),
        ("DB", "sqlite:///nowhere/db.sqlite", "does not exist"),
        ("DB", "sqlite:///.", "folder"),
    ],
)
def test_a_bad_value_names_the_variable_and_the_remedy(
    tmp_path: Path, name: str, value: str, said: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({f"PIPELINE_{name}": value}, tmp_path)
    assert f"PIPELINE_{name}={value!r}" in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("input", "input", "is the same folder as"),
        ("input", "./input/../input", "is the same folder as"),
        ("input", "input/out", "lies inside"),
        ("output/in", "output", "contains"),
        (".", "output", "lies inside"),
        ("s3://photos/in", "s3://photos/in/", "is the same folder as"),
        ("s3://photos", "s3://photos/out", "lies inside"),
        ("s3://photos/all/in", "s3://photos/all", "contains"),
    ],
)
def test_nested_folders_are_refused(tmp_path: Path, source: str, target: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        load_settings({"PIPELINE_INPUT": source, "PIPELINE_OUTPUT": target}, tmp_path)


def test_a_link_between_the_folders_does_not_hide_that_they_are_one(tmp_path: Path) -> None:
    (tmp_path / "input").mkdir()
    (tmp_path / "output").symlink_to("input")
    with pytest.raises(SettingsError, match="is the same folder as"):
        load_settings({}, tmp_path)


def test_the_environment_wins_over_the_dotenv_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PIPELINE_WORKERS=3\nPIPELINE_INPUT=photos\nPIPELINE_DB=\n")
    assert load_settings({}, tmp_path).workers == 3
    assert load_settings({}, tmp_path).input_dir == tmp_path / "photos"
    assert load_settings({"PIPELINE_WORKERS": "4"}, tmp_path).workers == 4


def test_a_bad_setting_ends_the_command_with_2_before_any_work(project: Project) -> None:
    project.add("a.jpg")
    project.env["PIPELINE_WORKERS"] = "none"
    answer = project.script("run")
    assert answer.code == 2
    assert answer.stdout == ""
    assert answer.stderr.startswith("Error: PIPELINE_WORKERS='none'")
    assert len(answer.stderr.splitlines()) == 1
    there = {path.name for path in project.root.iterdir()} - {"__pycache__"}
    assert there == {"app.py", "input", "recipes.toml"}
    project.env = {"PIPELINE_OUTPUT": "input/out"}
    assert project.cli("run").code == 2
    project.env = {"PIPELINE_OUTPUT": "recipes.toml"}
    answer = project.cli("run")
    assert answer.code == 2
    assert "PIPELINE_OUTPUT" in answer.stderr
    assert project.cli("status").code == 0


def test_a_locale_that_would_rename_every_original_is_refused(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.add("a.png")
    for name, value in (("PYTHONUTF8", "0"), ("PYTHONCOERCECLOCALE", "0"), ("LC_ALL", "C")):
        monkeypatch.setenv(name, value)
    answer = project.script("run")
    assert answer.code == 2
    assert "set PYTHONUTF8=1" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert project.outputs() == {}


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_an_output_that_cannot_be_written_is_refused(project: Project) -> None:
    project.add("a.jpg")
    project.output.mkdir()
    project.output.chmod(0o500)
    answer = project.cli("run")
    assert answer.code == 2
    assert "PIPELINE_OUTPUT" in answer.stderr


def test_every_path_can_lie_elsewhere(project: Project) -> None:
    project.add("a.jpg")
    (project.root / "data").mkdir()
    project.input.rename(project.root / "data/photos #1")
    (project.root / "recipes.toml").rename(project.root / "data/sizes.toml")
    project.env |= {
        "PIPELINE_INPUT": "data/photos #1",
        "PIPELINE_OUTPUT": str(project.root / "data/made %20"),
        "PIPELINE_DB": "sqlite:///data/tables.db",
        "PIPELINE_RECIPES": "data/sizes.toml",
    }
    assert project.run()["renditions"]["rendered"] == 2
    assert sorted(p.name for p in (project.root / "data").iterdir() if "-" not in p.name)[:3] == [
        "made %20",
        "photos #1",
        "sizes.toml",
    ]
    assert (project.root / "data/made %20/half/a.jpg").exists()
    assert not project.output.exists()
    assert not (project.root / "db.sqlite").exists()


@pytest.mark.parametrize(
    ("recipes", "said"),
    [
        ("", "has no recipe"),
        ("[half]\nscal = 0.5\n", "did you mean scale?"),
        ("[half]\nscale = '0.5'\n", "must be a number"),
        ("[half]\n", "has no size"),
        ("[a]\nscale = 0.5\n[A]\nscale = 0.5\n", "same files"),
        ("[half\n", "not valid TOML"),
    ],
)
def test_a_recipe_with_faults_stops_the_run_and_keeps_all(
    project: Project, recipes: str, said: str
) -> None:
    project.add("a.jpg")
    project.run()
    before = project.stamps()
    project.recipes(recipes)
    for command in ("run", "run --dry-run", "explain a.jpg"):
        answer = project.cli(*command.split())
        assert answer.code == 2, (command, answer)
        assert said in answer.stderr
    assert project.stamps() == before


def test_a_typo_in_dot_env_is_named_with_what_was_meant(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PIPELINE_WORKER=3\n")
    with pytest.raises(SettingsError, match=r"PIPELINE_WORKER is no.*mean PIPELINE_WORKERS\?"):
        load_settings({}, tmp_path)


def test_a_variable_of_another_program_is_let_be(tmp_path: Path) -> None:
    assert load_settings({"PIPELINE_ID": "77"}, tmp_path).workers >= 1


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("JOB_RECIPES", " , ", "names of recipes separated by commas"),
        ("JOB_MAX_ROWS", "0", "whole number of rows from 1"),
        ("PUBLIC_URL", "img.example", "begins with https://"),
        ("WEBHOOK_URL", "ftp://x", "begins with https://"),
        ("FETCH_ALLOW", "10.0.0.1/8", "neither a host"),
        ("FETCH_PORTS", "80,http", "ports from 1 to 65535"),
        ("FETCH_RATE", "-1", "requests a second"),
        ("FETCH_RETRIES", "21", "whole number of retries from 0 to 20"),
        ("FETCH_BACKOFF_S", "soon", "seconds from 0"),
    ],
)
def test_a_wrong_setting_of_jobs_is_named_with_what_to_give(
    tmp_path: Path, name: str, value: str, said: str
) -> None:
    with pytest.raises(SettingsError, match=f"PIPELINE_{name}=.*{said}"):
        load_settings({f"PIPELINE_{name}": value}, tmp_path)


def test_secrets_do_not_stand_in_the_settings_that_a_log_may_show(tmp_path: Path) -> None:
    settings = load_settings(
        {"PIPELINE_WEBHOOK_SECRET": "between us", "PIPELINE_FETCH_PROXY": "http://me:word@proxy"},
        tmp_path,
    )
    assert settings.jobs.webhook_secret == "between us"
    assert "between us" not in repr(settings)
    assert "word" not in repr(settings)


def test_an_app_without_a_step_that_is_needed_says_which(project: Project) -> None:
    app = (project.root / "app.py").read_text("utf-8")
    answer_step = app[app.index("        Answer(") : app.index("    ]\n)\n\napp = ")]
    (project.root / "unanswering.py").write_text(app.replace(answer_step, ""), "utf-8")
    answer = project.cli("--pipeline", "unanswering", "run")
    assert answer.code == 2
    assert "app.py declares no Answer step" in answer.stderr


def test_places_may_be_buckets_that_do_not_overlap(tmp_path: Path) -> None:
    places = {"PIPELINE_INPUT": "s3://photos/in", "PIPELINE_OUTPUT": "s3://photos/out/"}
    settings = load_settings(places, tmp_path)
    assert (settings.input_place.text, settings.output_place.text) == (
        "s3://photos/in",
        "s3://photos/out",
    )
    assert settings.quarantine_place.folder == tmp_path / "quarantine"
    with pytest.raises(SettingsError, match="PIPELINE_INPUT='s3://photos/in': this works with a"):
        settings.input_dir  # noqa: B018 - it raises
    for name, value in (
        ("OUTPUT", "s3://photos/in/half"),
        ("OUTPUT", "s3://photos"),
        ("QUARANTINE", "s3://photos/out/kept"),
        ("OUTPUT", "ftp://photos/out"),
        ("X_ACCEL", "/renditions/"),
    ):
        with pytest.raises(SettingsError, match=f"PIPELINE_{name}="):
            load_settings({**places, f"PIPELINE_{name}": value}, tmp_path)


def test_a_signed_address_lasts_as_long_as_is_said(tmp_path: Path) -> None:
    lasts = {"": None, "off": None, "on": 60, "300": 300}
    for value, seconds in lasts.items():
        assert load_settings({"PIPELINE_PRESIGN": value}, tmp_path).presign_s == seconds
    with pytest.raises(SettingsError, match=r"PIPELINE_PRESIGN='a minute'.*or on or off"):
        load_settings({"PIPELINE_PRESIGN": "a minute"}, tmp_path)
