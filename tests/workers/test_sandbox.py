"""What a decoder that was taken over can do: nearly nothing, and the rest works as before."""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import os
import pickle
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from a_project import Project
from icc_profiles import gamma, grey_profile
from patched_renderer import FINDER
from samples import encoded, every_format, photo

from pipeline.reasons import Code, Reason
from pipeline.transforms.recipes import Recipe
from pipeline.workers import sandbox
from pipeline.workers.local import Workers
from pipeline.workers.tasks import Folders, Outcome, RenditionWanted, Task, WorkerSetup

needs_landlock = pytest.mark.skipif(
    sandbox.why_not() is not None, reason=f"no sandbox here: {sandbox.why_not()}"
)

# Loaded by every Python that is started with this folder on its path, so also by the fork server:
# an original that ends with a word of ours meets a decoder that does what the word says.
TAKEN_OVER = (
    FINDER
    + '''
def patch(module):
    whole = module.render
    module.render = lambda data, *rest: taken_over(data) or whole(data, *rest)


def taken_over(data):
    if data.endswith(b"PROBE"):
        import json
        from pipeline.errors import ImageError
        raise ImageError(json.dumps(probe()))
    if data.endswith(b"PICKLE"):
        import os
        from pipeline.workers.tasks import Outcome
        Outcome.__reduce__ = lambda self: (os.mkdir, (os.environ["PROBE_ROOT"] + "/escaped",))


def probe():
    """Tries what a decoder never needs; by name, whether it could."""
    import os
    import socket
    root, port = os.environ["PROBE_ROOT"], int(os.environ["PROBE_PORT"])
    parent = os.getppid()

    def write(path):
        with open(path, "wb") as file:
            file.write(b"x")

    def read(path):
        with open(path, "rb") as file:
            return file.read(10)

    def connect(kind, address, family=socket.AF_INET):
        with socket.socket(family, kind) as one:
            one.connect(address)
            one.send(b"x")

    def run_a_program():
        done = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 0"], {})
        assert os.waitpid(done, 0)[1] == 0

    attempts = {
        "read the database": lambda: read(f"{root}/db.sqlite"),
        "read the settings": lambda: read(f"{root}/.env"),
        "read /etc/passwd": lambda: read("/etc/passwd"),
        "read a rendition": lambda: read(f"{root}/output/half/01.png"),
        "read the environment of the parent": lambda: read(f"/proc/{parent}/environ"),
        "list the project": lambda: os.listdir(root),
        "read the state folder": lambda: os.listdir(f"{root}/.lockstep"),
        "write into input": lambda: write(f"{root}/input/new.png"),
        "overwrite an original": lambda: write(f"{root}/input/other.txt"),
        "truncate an original": lambda: os.truncate(f"{root}/input/other.txt", 0),
        "let all read an original": lambda: os.chmod(f"{root}/input/other.txt", 0o666),
        "delete an original": lambda: os.unlink(f"{root}/input/other.txt"),
        "write beside the output": lambda: write(f"{root}/new"),
        "write into the state folder": lambda: write(f"{root}/.lockstep/new"),
        "plant a link": lambda: os.symlink("/etc", f"{root}/output/link"),
        "connect by TCP": lambda: connect(socket.SOCK_STREAM, ("127.0.0.1", port)),
        "send by UDP": lambda: connect(socket.SOCK_DGRAM, ("127.0.0.1", port)),
        "connect to a local socket": lambda: connect(
            socket.SOCK_STREAM, os.environ["PROBE_SOCKET"], socket.AF_UNIX
        ),
        "run a program": run_a_program,
    }
    needed = {
        "read an original": lambda: read(f"{root}/input/01.png"),
        "write a rendition": lambda: write(f"{root}/output/half/.lockstep-probe"),
        "delete a temporary file": lambda: os.unlink(f"{root}/output/half/.lockstep-probe"),
        "load a module": lambda: __import__("xml.dom.minidom"),
        "load a library": lambda: __import__("PIL._imagingmath"),
    }
    return {name: outcome(attempt) for name, attempt in (needed | attempts).items()}


def outcome(attempt):
    try:
        attempt()
    except PermissionError:
        return "refused"
    except Exception as error:
        return repr(error)
    return "done"


'''
)
NEEDED = 5


@pytest.fixture
def probed(project: Project) -> Iterator[Project]:
    """A project with all that a probe is after, and a server that hears it."""
    plugin = project.root / "plugin"
    plugin.mkdir()
    (plugin / "sitecustomize.py").write_text("import importlib.util\n" + TAKEN_OVER)
    (project.root / ".env").write_text("# secrets\n")
    (project.root / ".lockstep").mkdir()
    (project.input / "other.txt").write_text("not an original")
    project.add("01.png")
    with contextlib.ExitStack() as exits:
        tcp = exits.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = tcp.getsockname()[1]
        udp = exits.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", port))
        local = exits.enter_context(socket.socket(socket.AF_UNIX))
        # Not below the project: the path of a socket has 107 bytes at most.
        place = exits.enter_context(tempfile.TemporaryDirectory())
        local.bind(f"{place}/socket")
        local.listen()
        project.env |= {
            "PYTHONPATH": str(plugin),
            "PROBE_ROOT": str(project.root),
            "PROBE_SOCKET": f"{place}/socket",
            "PROBE_PORT": str(port),
            "PIPELINE_RENDER_TIMEOUT_S": "8",
        }
        yield project


def answers(project: Project) -> dict[str, str]:
    """What a worker could do, tried while it rendered."""
    project.run()
    with project.add("probe.png").open("ab") as file:
        file.write(b"PROBE")
    answer = project.script("run", "--json")
    assert answer.code == 1, answer
    reason = project.cli("errors", "--json").json[0]["reason"]
    found: dict[str, str] = json.loads(reason)
    return found


@needs_landlock
def test_a_worker_can_read_originals_and_write_renditions_and_nothing_else(probed: Project) -> None:
    probed.env["PIPELINE_SANDBOX"] = "required"
    found = answers(probed)
    needed = dict(list(found.items())[:NEEDED])
    assert set(needed.values()) == {"done"}, needed
    refused = dict(list(found.items())[NEEDED:])
    assert len(refused) == 19
    assert set(refused.values()) == {"refused"}, refused


@needs_landlock
def test_without_the_sandbox_the_same_attempts_succeed(probed: Project) -> None:
    probed.env["PIPELINE_SANDBOX"] = "off"
    found = answers(probed)
    assert {n: f for n, f in found.items() if f != "done"} == {}


@needs_landlock
def test_a_confined_worker_renders_the_same_bytes_of_every_format(project: Project) -> None:
    profile = grey_profile(gamma(1.8))
    for name, data in every_format().items():
        (project.input / f"{name}.{name.partition('-')[0]}").write_bytes(data)
    grey = encoded(photo().convert("L"), "JPEG", icc_profile=profile)
    (project.input / "grey.jpg").write_bytes(grey)
    both = []
    for sandboxed in ("off", "required"):
        project.env["PIPELINE_SANDBOX"] = sandboxed
        shutil.rmtree(project.output, ignore_errors=True)
        (project.root / "db.sqlite").unlink(missing_ok=True)
        report = project.run()
        assert report["renditions"]["failed"] == 0
        both.append(project.outputs())
    assert len(both[0]) == 2 * len(list(project.input.iterdir()))
    assert both[0] == both[1]


def test_what_is_no_result_is_not_taken_from_a_worker(probed: Project) -> None:
    probed.env["PIPELINE_SANDBOX"] = "off"  # so that nothing but the reader stands in the way
    with probed.add("pickle.png").open("ab") as file:
        file.write(b"PICKLE")
    answer = probed.script("run", "--json")
    assert not (probed.root / "escaped").exists()
    assert "posix.mkdir is not part of a result" in answer.stderr
    # It costs the one original.
    assert answer.code == 1, answer
    done = answer.json["renditions"]
    assert (done["rendered"], done["failed"]) == (2, 2)
    assert "took longer" in probed.cli("errors", "--json").json[0]["reason"]


@pytest.mark.skipif(os.name != "posix", reason="Windows has pipes of another kind, not guarded")
def test_broken_messages_of_a_worker_are_ignored(caplog: pytest.LogCaptureFixture) -> None:
    from pipeline.workers.results import pipe

    reading, writing = pipe()
    with reading, writing, caplog.at_level(logging.WARNING):
        writing.send_bytes(b"no pickle")
        writing.send_bytes(pickle.dumps(Outcome("a.png"))[:-3])
        writing.send(os.system)
        writing.send(Outcome("a.png", failed=[("half", "why")]))
        assert [reading.recv() for _ in range(3)] == [None] * 3
        assert reading.recv() == Outcome("a.png", failed=[("half", "why")])
    assert len(caplog.records) == 3


class AsGetattr:
    """What Debian 12's Python 3.11.2 makes of an enum's member, or an attacker of anything."""

    def __init__(self, *of: object) -> None:
        self.of = of

    def __reduce__(self) -> tuple[object, ...]:
        return getattr, self.of


@pytest.mark.skipif(os.name != "posix", reason="Windows has pipes of another kind, not guarded")
def test_the_enums_of_a_result_are_read_however_a_python_sends_them() -> None:
    from pebble.common.types import ResultStatus

    from pipeline.reasons import Code
    from pipeline.workers.results import pipe

    reading, writing = pipe()
    with reading, writing:
        writing.send(AsGetattr(ResultStatus, "FAILURE"))
        assert reading.recv() is ResultStatus.FAILURE
        writing.send(AsGetattr(Code, "CUT_OFF"))
        assert reading.recv() is Code.CUT_OFF
        for of in ((ResultStatus, "__init_subclass__"), (Outcome, "__init__"), (os, "system")):
            try:
                writing.send(AsGetattr(*of))
            except TypeError:
                continue  # a module is not sent at all
            assert reading.recv() is None


# --- workers that live on while folders change ---------------------------------------------------


class Pool:
    """One confined worker, and the folders that it is for."""

    def __init__(self, root: Path) -> None:
        self.folders = {name: root / name for name in ("input", "fetched", "output")}
        reads, writes = [str(self.folders[n]) for n in ("input", "fetched")], [self.output]
        setup = WorkerSetup(10**8, 100, 2_000, Folders(tuple(reads), tuple(writes)))
        self.workers = Workers(setup, 1, 60)

    @property
    def output(self) -> str:
        return str(self.folders["output"])

    def add(self, name: str, folder: str = "input") -> None:
        self.folders[folder].mkdir(exist_ok=True)
        (self.folders[folder] / name).write_bytes(encoded(photo(), "PNG"))

    def render(self, name: str, folder: str = "input") -> Outcome:
        wanted = (RenditionWanted(Recipe("half", scale=0.5), None, None, None),)
        self.workers.submit(Task(name, wanted, str(self.folders[folder]), name, self.output))
        while True:
            outcome = self.workers.next_outcome()
            if outcome is not None:
                assert self.workers.waiting() == 0
                return outcome


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    pool = Pool(tmp_path)
    pool.add("a.png")
    pool.folders["output"].mkdir()
    with contextlib.closing(pool.workers):
        assert pool.render("a.png").made
        yield pool


@needs_landlock
@pytest.mark.parametrize("name", ["input", "output"])
def test_a_folder_that_was_replaced_is_used_at_once(pool: Pool, name: str) -> None:
    pool.folders[name].rename(pool.folders[name].with_name("old"))
    pool.folders[name].mkdir()
    pool.add("b.png")
    outcome = pool.render("b.png")
    assert (len(outcome.made), outcome.failed) == (1, [])
    assert pool.workers.lost == 0


@needs_landlock
def test_a_folder_that_was_missing_is_used_once_it_is_there(pool: Pool) -> None:
    pool.add("b.png", "fetched")
    assert pool.render("b.png", "fetched").made


@needs_landlock
def test_an_original_outside_of_the_folders_fails_alone(pool: Pool, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(encoded(photo(), "PNG"))
    (pool.folders["input"] / "link.png").symlink_to(tmp_path / "secret.png")
    outcome = pool.render("link.png")
    assert outcome.failed == [
        ("half", Reason(Code.UNREADABLE, "cannot be read (Permission denied)"))
    ]
    assert pool.render("a.png").made


@needs_landlock
def test_no_thread_of_a_worker_is_outside_of_the_sandbox(pool: Pool) -> None:
    found = []
    for worker in multiprocessing.active_children():
        for status in Path(f"/proc/{worker.pid}/task").glob("*/status"):
            lines = dict(line.split(":\t", 1) for line in status.read_text().splitlines())
            found.append((lines["NoNewPrivs"], lines["Seccomp"]))
    assert len(found) >= 2
    # 2: filtered. A thread that was there before would not be, and not be confined either.
    assert set(found) == {("1", "2")}


# --- what people are told ------------------------------------------------------------------------


def test_where_there_is_no_sandbox_a_run_says_so_in_one_line(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.add("a.png")
    monkeypatch.setattr("pipeline.engine.context.why_not", lambda: "the kernel is old")
    answer = project.cli("run")
    line = "no sandbox for the workers that decode images: the kernel is old (docs/service.md)\n"
    assert (answer.code, answer.stderr.count(line)) == (0, 1)
    project.env["PIPELINE_SANDBOX"] = "off"
    assert line not in project.cli("run").stderr


@pytest.mark.parametrize("command", ["run", "watch", "serve"])
def test_a_sandbox_that_is_required_and_missing_is_an_error(
    project: Project, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    project.env["PIPELINE_SANDBOX"] = "required"
    monkeypatch.setattr("pipeline.engine.context.why_not", lambda: "the kernel is old")
    answer = project.cli(command)
    assert answer.code == 2
    assert "PIPELINE_SANDBOX=required" in answer.stderr
    assert "the kernel is old" in answer.stderr
