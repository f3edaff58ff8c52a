"""A decoder that crashes, hangs or eats memory costs only the original that it was on."""

import os
import time
from pathlib import Path

import pytest
from a_project import Project

# Loaded by every Python that is started with this folder on its path, so also by the workers'
# fork server: bytes that begin with a word of ours meet a decoder that does what the word says.
DECODER = '''
import importlib.abc
import importlib.machinery
import sys


class Finder(importlib.abc.MetaPathFinder):
    """Puts the decoder in place as soon as the renderer is loaded."""

    def find_spec(self, name, path, target=None):
        if name != "pipeline.imaging.render":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def load_and_patch(module):
            load(module)
            whole = module.render
            module.render = lambda data, *rest: decode(data) or whole(data, *rest)

        spec.loader.exec_module = load_and_patch
        return spec


def decode(data):
    import os
    import signal
    import time

    if data.startswith(b"CRASH"):
        os.kill(os.getpid(), signal.SIGSEGV)
    elif data.startswith(b"KILLED"):
        os.kill(os.getpid(), signal.SIGKILL)
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


sys.meta_path.insert(0, Finder())
'''


@pytest.fixture
def dangerous(project: Project) -> Project:
    plugin = project.root / "plugin"
    plugin.mkdir()
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
    words = ("CRASH", "KILLED", "EXIT", "SLEEP", "ALLOCATE", "RAISE")
    for number, word in enumerate(words):
        (project.input / f"{number:02}-{word}.png").write_bytes(word.encode() + b" me")
    began = time.monotonic()
    answer = project.process("run", "--json")
    assert answer.code == 1, answer
    assert time.monotonic() - began < 60
    done = answer.json["renditions"]
    assert (done["rendered"], done["failed"]) == (24, 12), answer
    reasons = {row["path"][3:-4]: row["reason"] for row in project.cli("errors", "--json").json}
    assert sorted(reasons) == sorted(words)
    assert "crashed (SIGSEGV" in reasons["CRASH"]
    assert "killed" in reasons["KILLED"]
    assert "exit code 7" in reasons["EXIT"]
    assert reasons["SLEEP"] == "took longer than 15 s (PIPELINE_RENDER_TIMEOUT_S)"
    assert "PIPELINE_WORKER_MEMORY_MB" in reasons["ALLOCATE"]
    assert "a decoder of a dream" in reasons["RAISE"]
    assert not list(project.output.rglob(".lockstep-*"))

    # Not tried again, and the neighbours are in step.
    again = project.process("run", "--json")
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
    answer = project.process("run", "--json", timeout_s=110)
    assert answer.code == 1
    done = answer.json["renditions"]
    assert (done["rendered"], done["failed"]) == (40, 20)


@pytest.mark.skipif(not Path("/proc").exists(), reason="children are found in /proc")
def test_no_worker_is_left_when_a_run_ends(dangerous: Project) -> None:
    project = dangerous
    project.add("a.png")
    (project.input / "b.png").write_bytes(b"CRASH")
    answer = project.process("run", start_new_session=True)
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
    import pipeline.workers as workers

    # A file that goes between the scan and the worker is no failure.
    project.add("a.png")
    gone = project.add("b.png")
    submit = workers.Workers.submit

    def remove_first(self: workers.Workers, task: workers.Task) -> None:
        if task.path == "b.png":
            gone.unlink(missing_ok=True)
        submit(self, task)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers.Workers, "submit", remove_first)
        report = project.run()
    assert report["renditions"]["failed"] == 0
    assert report["renditions"]["pending"] == 2
    report = project.run()
    assert report["originals"]["removed"] == 1
    assert report["renditions"]["pending"] == 0
    project.assert_in_step()
