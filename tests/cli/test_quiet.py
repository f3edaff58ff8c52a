"""What a run says where nobody watches: every line that cron finds becomes an email."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from a_project import ROOT, Answer, Project


def unwatched(project: Project, *args: str) -> Answer:
    return project.cli("run", *args, as_on_terminal=False)


def test_a_run_with_nothing_to_do_prints_nothing(project: Project) -> None:
    project.add("a.png")
    project.run()
    assert unwatched(project) == Answer(0, "", "")


def test_a_run_that_did_something_prints_one_line(project: Project) -> None:
    project.add("a.png")
    answer = unwatched(project)
    assert (answer.code, answer.stderr) == (0, "")
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\S+  1 new, 2 rendered \(\d+\.\d\d s\)\n", answer.stdout
    ), answer


def test_the_summary_and_json_are_there_on_request(project: Project) -> None:
    project.add("a.png")
    assert "originals   1 new" in unwatched(project, "--summary").stdout
    assert json.loads(unwatched(project, "--json").stdout)["originals"]["unchanged"] == 1
    assert "this was a dry run" in unwatched(project, "--dry-run").stdout


def test_each_new_failure_is_said_once_with_its_reason(project: Project) -> None:
    project.add("good.png")
    (project.input / "bad.png").write_bytes(b"not a picture")
    answer = unwatched(project)
    assert answer.code == 1
    assert re.fullmatch(r"failed  bad\.png: [^\n]+\n", answer.stderr), answer
    assert answer.stdout.count("\n") == 1
    # It has not changed: neither an email nor an exit code.
    assert unwatched(project) == Answer(0, "", "")


def test_of_many_failures_ten_are_said_and_the_rest_counted(project: Project) -> None:
    for number in range(34):
        (project.input / f"{number:02}.png").write_bytes(b"not a picture %d" % number)
    *failures, last = unwatched(project).stderr.splitlines()
    assert len(failures) == 10
    assert last == "and 24 more failed: see `datapipe errors`"


def test_a_warning_is_said_when_it_is_new(project: Project) -> None:
    project.add("a.png")
    project.run()
    half = (project.output / "half").rename(project.root / "unplugged")
    first = unwatched(project)
    assert re.fullmatch(r"warning: \S+half: the folder is gone [^\n]+\n", first.stderr), first
    assert unwatched(project) == Answer(0, "", "")
    half.rename(project.output / "half")
    assert unwatched(project) == Answer(0, "", "")
    (project.output / "half").rename(half)
    assert unwatched(project).stderr == first.stderr


def test_what_stops_run_after_run_is_said_once_until_it_is_over(project: Project) -> None:
    project.add("a.png")
    project.run()
    away = project.input.rename(project.root / "unplugged")
    first = unwatched(project)
    assert first.code == 4
    assert "the input folder cannot be read" in first.stderr
    assert unwatched(project) == Answer(4, "", "")
    away.rename(project.input)
    assert unwatched(project) == Answer(0, "", "")
    project.input.rename(away)
    assert unwatched(project) == first


def test_where_a_person_watches_it_is_said_each_time(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.cli import quiet

    class Terminal:
        def isatty(self) -> bool:
            return True

    project.input.rmdir()
    assert unwatched(project).code == 4
    fake = type("sys", (), {"stderr": Terminal(), "stdout": sys.stdout})
    monkeypatch.setattr(quiet, "sys", fake)
    assert "the input folder cannot be read" in unwatched(project).stderr


def test_that_another_run_is_in_progress_is_no_failure(project: Project) -> None:
    from pipeline.database.connection import open_database
    from pipeline.database.locks import RUN_LOCK

    project.add("a.png")
    project.run()
    database = open_database(f"sqlite:///{project.root / 'db.sqlite'}")
    with database.lock(RUN_LOCK):
        answer = unwatched(project)
    database.engine.dispose()
    assert (answer.code, answer.stderr) == (3, "")
    assert re.fullmatch(r"\S+  skipped: [^\n]+\n", answer.stdout), answer


def cron_line() -> str:
    """The command of the README's cron line."""
    (line,) = re.findall(r"^\*/10 \* \* \* \* (.*)$", (ROOT / "README.md").read_text("utf-8"), re.M)
    return line


def test_the_cron_line_of_the_readme_sends_mail_only_when_something_newly_went_wrong(
    project: Project, tmp_path: Path
) -> None:
    """As cron runs it: by sh, with hardly an environment, no terminal; all output is a mail."""
    log, clone = tmp_path / "lockstep.log", tmp_path / "clone"
    clone.mkdir()
    (clone / ".venv").symlink_to(sys.prefix)
    here = {"/srv/shop": project.root, "/srv/lockstep": clone, "/var/log/lockstep.log": log}
    command = cron_line()
    for there, place in here.items():
        assert there in command
        command = command.replace(there, str(place))

    def mail() -> str:
        clean = ["env", "-i", "PATH=/usr/bin:/bin", f"HOME={tmp_path}", "SHELL=/bin/sh"]
        done = subprocess.run(
            [*clean, "/bin/sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=90,
            check=False,
        )
        return done.stdout

    project.add("a.png")
    assert mail() == ""
    assert log.read_text().count("\n") == 1
    assert mail() == ""
    assert log.read_text().count("\n") == 1
    (project.input / "bad.png").write_bytes(b"not a picture")
    assert mail().startswith("failed  bad.png: ")
    assert mail() == ""
    assert len(project.outputs()) == 2
