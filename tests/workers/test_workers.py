"""A decoder that crashes, hangs or eats memory costs only the original that it was on."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from a_project import Answer, Project
from patched_renderer import FINDER

# Loaded by every Python that is started with this folder on its path, so also by the workers'
# fork server: bytes that begin with a word of ours meet a decoder that does what the word says.
DECODER = (
    FINDER
    + '''
import os

HERE = os.path.dirname(__file__)


def patch(module):
    whole = module.render
    module.render = noted(lambda data, *rest: decode(data) or whole(data, *rest))
    # The notes are kept beside this file.
    from pipeline.workers import sandbox
    confine = sandbox.confine
    sandbox.confine = lambda read, write: confine((*read, HERE), (*write, HERE))


def noted(render):
    """Notes beside this file who is rendering, and a dot for each end."""
    import os

    def render_and_note(data, *rest):
        note = os.path.join(HERE, "busy", str(os.getpid()))
        open(note, "w").close()
        try:
            return render(data, *rest)
        finally:
            os.unlink(note)
            with open(os.path.join(HERE, "ends"), "a") as ends:
                ends.write(".")

    return render_and_note


def hold():
    """As often as there are files in `kills/`: tell our process id, and wait to be killed."""
    import os
    import time

    kills = os.path.join(HERE, "kills")
    for name in os.listdir(kills)[:1]:
        os.unlink(os.path.join(kills, name))
        with open(os.path.join(HERE, "new"), "w") as new:
            new.write(str(os.getpid()))
        os.rename(os.path.join(HERE, "new"), os.path.join(HERE, "held"))
        time.sleep(600)


def decode(data):
    import os
    import signal
    import time

    if data.endswith(b"HOLD"):
        hold()
    elif data.startswith(b"CRASH"):
        os.kill(os.getpid(), signal.SIGSEGV)
    elif data.startswith(b"ABORT"):
        os.kill(os.getpid(), signal.SIGABRT)
    elif data.startswith(b"EXIT"):
        os._exit(7)
    elif data.startswith(b"SLEEP"):
        time.sleep(600)
    elif data.startswith(b"ALLOCATE"):
        hoard = []
        while True:
            hoard.append(bytearray(50_000_000))
    elif data.startswith(b"RAISE"):
        raise RuntimeError("a decoder of a dream")


'''
)


@pytest.fixture
def dangerous(project: Project) -> Project:
    plugin = project.root / "plugin"
    (plugin / "busy").mkdir(parents=True)
    (plugin / "kills").mkdir()
    (plugin / "sitecustomize.py").write_text("import importlib.util\n" + DECODER)
    project.env |= {
        "PYTHONPATH": str(plugin),
        "PIPELINE_RENDER_TIMEOUT_S": "15",
        "PIPELINE_WORKER_MEMORY_MB": "900",
    }
    return project


def test_each_kind_of_loss_is_one_failed_original(dangerous: Project) -> None:
    project = dangerous
    for number in range(12):
        project.add(f"{number:02}.png")
    words = ("CRASH", "ABORT", "EXIT", "SLEEP", "ALLOCATE", "RAISE")
    for number, word in enumerate(words):
        (project.input / f"{number:02}-{word}.png").write_bytes(word.encode() + b" me")
    began = time.monotonic()
    answer = project.script("run", "--json")
    assert answer.code == 1, answer
    assert time.monotonic() - began < 60
    done = answer.json["renditions"]
    assert (done["rendered"], done["failed"]) == (24, 12), answer
    reasons = {row["path"][3:-4]: row["reason"] for row in project.cli("errors", "--json").json}
    assert sorted(reasons) == sorted(words)
    assert "crashed (SIGSEGV" in reasons["CRASH"]
    assert "out of memory" in reasons["ABORT"]
    assert "exit code 7" in reasons["EXIT"]
    assert reasons["SLEEP"] == "took longer than 15 s"
    assert "needs more memory than" in reasons["ALLOCATE"]
    assert "a decoder of a dream" in reasons["RAISE"]
    assert not list(project.output.rglob(".lockstep-*"))

    # Not tried again, and the neighbours are in step.
    again = project.script("run", "--json")
    assert again.code == 0, again
    assert again.json["renditions"]["failed_before"] == 12
    assert again.json["seconds"] < 3
    assert project.cli("verify", "--deep").code == 0


def test_many_crashes_in_a_row_leave_the_rest_whole(dangerous: Project) -> None:
    project = dangerous
    for number in range(30):
        if number % 3:
            project.add(f"{number:02}.png")
        else:
            (project.input / f"{number:02}.png").write_bytes(b"CRASH %d" % number)
    answer = project.script("run", "--json", timeout_s=110)
    assert answer.code == 1
    done = answer.json["renditions"]
    assert (done["rendered"], done["failed"]) == (40, 20)


@pytest.mark.skipif(not Path("/proc").exists(), reason="children are found in /proc")
def test_no_worker_is_left_when_a_run_ends(dangerous: Project) -> None:
    project = dangerous
    project.add("a.png")
    (project.input / "b.png").write_bytes(b"CRASH")
    answer = project.script("run", start_new_session=True)
    assert answer.code == 1
    # What a process of ours was started with stays readable for as long as it lives.
    marker = str(project.root / "plugin").encode()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and (left := with_environment(marker)):
        time.sleep(0.1)
    assert left == []


def with_environment(marker: bytes) -> list[str]:
    """Processes in whose environment ``marker`` stands."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if folder.name != str(os.getpid()) and marker in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_bytes().decode(errors="replace"))
        except OSError:
            continue
    return found


def test_an_original_that_changes_while_it_is_read_is_looked_at_again(project: Project) -> None:
    import pipeline.workers.local as workers
    from pipeline.workers import tasks as tasks_module

    # A file that goes between the scan and the worker is no failure.
    project.add("a.png")
    gone = project.add("b.png")
    submit = workers.Workers.submit

    def remove_first(self: workers.Workers, task: tasks_module.Task, *how: Any) -> None:
        if task.path == "b.png":
            gone.unlink(missing_ok=True)
        submit(self, task, *how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers.Workers, "submit", remove_first)
        report = project.run()
    assert report["renditions"]["failed"] == 0
    assert report["renditions"]["pending"] == 2
    report = project.run()
    assert report["originals"]["removed"] == 1
    assert report["renditions"]["pending"] == 0
    project.assert_in_step()


# --- killed from outside -------------------------------------------------------------------------


class Killing:
    """Runs of a project whose workers are killed while they hold `00-big.png`."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.plugin = project.root / "plugin"
        for number in range(1, 13):
            project.add(f"{number:02}.png", size=(400, 300))
        with project.add("00-big.png", size=(440, 300)).open("ab") as big:
            big.write(b"HOLD")

    def run(self, kills: int, number: int = signal.SIGKILL) -> tuple[Answer, list[set[str]]]:
        """A run in which the worker is killed ``kills`` times; who else was rendering each time."""
        (self.plugin / "ends").write_text("")
        for name in range(kills):
            (self.plugin / "kills" / str(name)).touch()
        beside: list[set[str]] = []
        process = self.project.start_script("run", "--json")
        held = self.plugin / "held"
        deadline = time.monotonic() + 90
        while process.poll() is None:
            assert time.monotonic() < deadline
            if held.exists():
                worker = held.read_text()
                held.unlink()
                beside.append({path.name for path in (self.plugin / "busy").iterdir()} - {worker})
                os.kill(int(worker), number)
                (self.plugin / "busy" / worker).unlink()
            time.sleep(0.01)
        stdout, stderr = process.communicate()
        return Answer(process.returncode, stdout, stderr), beside

    @property
    def ends(self) -> int:
        return len((self.plugin / "ends").read_text())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_original_whose_worker_is_killed_is_tried_again_by_itself(
    dangerous: Project, number: int
) -> None:
    killing = Killing(dangerous)
    answer, beside = killing.run(kills=1, number=number)
    assert answer.code == 0, answer
    done = answer.json["renditions"]
    assert (done["rendered"], done["failed"], done["pending"]) == (26, 0, 0)
    assert len(beside) == 1
    dangerous.assert_in_step()
    assert not list(dangerous.output.rglob(".lockstep-*"))


def test_killed_by_itself_as_well_it_is_tried_once_more_in_the_next_run(
    dangerous: Project,
) -> None:
    project, killing = dangerous, Killing(dangerous)
    answer, beside = killing.run(kills=2)
    assert answer.code == 1, answer
    assert answer.json["renditions"]["failed"] == 2
    assert answer.json["renditions"]["rendered"] == 24
    # The second time, all the others had been rendered, and none was being rendered.
    assert beside[1] == set()
    assert killing.ends == 12
    errors = project.cli("errors", "--json").json
    assert {row["path"] for row in errors} == {"00-big.png"}
    assert all("the next run tries it once more" in row["reason"] for row in errors)
    status = project.cli("status", "--json").json
    assert (status["renditions"], status["failed"], status["pending"]) == (24, 2, 2)
    assert "would be rendered again, alone" in project.cli("explain", "00-big.png").stdout

    report = project.run(code=0)
    assert (report["renditions"]["rendered"], report["renditions"]["failed_before"]) == (2, 0)
    assert project.cli("errors", "--json").json == []
    project.assert_in_step()


def test_an_original_whose_worker_is_killed_in_two_runs_stays_failed(dangerous: Project) -> None:
    project, killing = dangerous, Killing(dangerous)
    assert killing.run(kills=2)[0].code == 1
    # Once, by itself, in the next run; a second kill is not asked for.
    answer, beside = killing.run(kills=2)
    assert answer.code == 1, answer
    assert answer.json["renditions"]["failed"] == 2
    assert len(beside) == 1
    reasons = {row["reason"] for row in project.cli("errors", "--json").json}
    assert len(reasons) == 1
    assert "in two runs" in reasons.pop()
    assert project.cli("status", "--json").json["pending"] == 0

    answer, beside = killing.run(kills=0)
    assert (answer.code, beside) == (0, [])
    assert answer.json["renditions"]["failed_before"] == 2
    # A retry begins again: one of the kills that were left meets it, and it is tried by itself.
    assert project.cli("retry", "--json").json == {"retried": 2}
    answer, beside = killing.run(kills=0)
    assert (answer.code, len(beside)) == (0, 1)
    project.assert_in_step()


def test_workers_that_are_killed_while_idle_cost_no_original(dangerous: Project) -> None:
    import multiprocessing

    from pipeline.transforms.recipes import Recipe
    from pipeline.workers.local import Workers
    from pipeline.workers.tasks import RenditionWanted, Task, WorkerSetup

    project = dangerous
    for number in range(40):
        project.add(f"{number:02}.png")
    wanted = (RenditionWanted(Recipe("half", scale=0.5), None, None, None),)
    tasks = [
        Task(
            f"{number:02}.png", wanted, str(project.input), f"{number:02}.png", str(project.output)
        )
        for number in range(40)
    ]
    workers = Workers(WorkerSetup(10**8, 100, 1_000), 2, 60)

    def work(tasks: list[Task]) -> list[str]:
        for task in tasks:
            workers.submit(task)
        made = []
        while workers.waiting():
            outcome = workers.next_outcome()
            if outcome is not None:
                assert not outcome.failed, outcome
                made.append(outcome.path)
        return sorted(made)

    with contextlib.closing(workers):
        assert work(tasks[:1]) == ["00.png"]
        for _ in range(2):
            idle = multiprocessing.active_children()
            assert len(idle) == 2
            for process in idle:
                os.kill(process.pid or 0, signal.SIGKILL)
            assert work(tasks) == [task.path for task in tasks]


# Workers that are still loading when their run ends: they open the locks of the pool after it has
# given them up, and before they are told to end.
STOPPED_WHILE_LOADING = """
import os, sys, time
import pebble.pool.process as pebble
from pipeline.workers.local import Workers
from pipeline.workers.tasks import WorkerSetup

stop_process = pebble.stop_process

class Slow(WorkerSetup):
    def __reduce__(self):
        return wait, tuple(self)

def wait(*setup):
    while not os.path.exists("the pool is closed"):
        time.sleep(0.01)
    return WorkerSetup(*setup)

def stop_late(process):
    open("the pool is closed", "w").close()
    process.join(60)
    print("ended:", not process.is_alive())
    stop_process(process)

if __name__ == "__main__":
    sys.modules["slow"] = sys.modules["__main__"]
    wait.__module__ = "slow"
    pebble.stop_process = stop_late
    workers = Workers(Slow(10**8, 100, 1_000), 2, 60)
    workers.warm_up()
    workers.close()
"""


def test_workers_that_are_still_loading_when_a_run_ends_say_nothing(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(STOPPED_WHILE_LOADING)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, str(tmp_path / "slow.py")]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("ended: True\n" * 2, "", 0)
