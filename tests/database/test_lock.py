"""One run at a time, by a lock that dies with its process."""

import json
import signal
import subprocess
import sys
import time

import pytest
from a_project import Project

from pipeline.database import locks

HOLD = """
import sys, time
from pathlib import Path
from pipeline.database.locks import RUN_LOCK
from pipeline.tables import connect
with connect("sqlite:///" + sys.argv[1]).lock(RUN_LOCK):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def holder(project: Project, seconds: float) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(project.root / "db.sqlite"), str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_run_ends_at_once_and_says_who_holds_the_lock(project: Project) -> None:
    project.add("a.jpg")
    process = holder(project, 60)
    try:
        began = time.monotonic()
        answer = project.process("run", "--json")
        assert time.monotonic() - began < 20
        assert answer.code == 3
        assert answer.stdout == ""
        assert f"another run is in progress (process {process.pid} on " in answer.stderr
        assert "--wait" in answer.stderr
        for command in (("verify", "--fix"),):
            assert project.cli(*command).code == 3
        # Questions do not wait.
        assert project.cli("status").code == 0
        assert project.cli("run", "--dry-run").code == 0
    finally:
        process.kill()
        process.communicate()
    # The lock of a killed process blocks nobody.
    assert project.run()["renditions"]["rendered"] == 2


def test_a_run_that_waits_goes_on_when_the_lock_is_free(project: Project) -> None:
    project.add("a.jpg")
    process = holder(project, 1.5)
    began = time.monotonic()
    assert project.run("--wait")["renditions"]["rendered"] == 2
    assert time.monotonic() - began > 1
    process.communicate()


def test_waiting_can_be_stopped(project: Project) -> None:
    project.add("a.jpg")
    process = holder(project, 60)
    try:
        waiting = project.start("run", "--wait")
        time.sleep(4)
        assert waiting.poll() is None
        waiting.send_signal(signal.SIGINT)
        _, err = waiting.communicate(timeout=20)
        assert waiting.returncode == 130, err
        assert "Traceback" not in err
    finally:
        process.kill()
        process.communicate()


def test_two_runs_started_together_do_the_work_once(project: Project) -> None:
    for number in range(20):
        project.add(f"{number}.jpg")
    both = [project.start("run", "--json", "--wait") for _ in range(2)]
    answers = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], answers
    rendered = sorted(json.loads(out)["renditions"]["rendered"] for out, _ in answers)
    assert rendered == [0, 40]
    assert project.cli("verify", "--deep").code == 0


def test_a_lock_file_that_cannot_be_made_is_a_clear_error(project: Project) -> None:
    project.cli("db", "create-all")
    (project.root / "db.sqlite.lock").mkdir()
    answer = project.cli("run")
    assert answer.code == 2, answer
    assert "db.sqlite.lock" in answer.stderr


@pytest.mark.parametrize("command", ["status", "errors", "verify"])
def test_reading_leaves_no_lock_behind(project: Project, command: str) -> None:
    project.cli(command)
    assert not (project.root / "db.sqlite.lock.json").exists()


def test_every_lock_has_a_key_of_its_own_on_postgresql() -> None:
    names = {value for name, value in vars(locks).items() if name.endswith("_LOCK")}
    keys = locks.AdvisoryLocks.KEYS
    assert set(keys) == names
    assert len(set(keys.values())) == len(names)
