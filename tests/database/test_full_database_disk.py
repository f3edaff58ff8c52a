"""The database's disk is full: every command says so and ends with 2, and nothing is lost."""

import resource
import signal
import threading

import pytest
from a_mount import MountNamespace
from a_project import Project
from a_watcher import wait_until

COMMANDS = (
    "run",
    "run --dry-run",
    "status",
    "errors",
    "retry",
    "verify",
    "verify --fix",
    "explain a.png",
    "takedown a.png --reason withdrawn",
    "takedown list",
    "job list",
    "job submit feed.csv",
    "db create-all",
)
# They read alone: as long as the database can be opened, they answer.
READING = ("run --dry-run", "status", "errors", "retry", "verify", "explain a.png")
READING += ("takedown list", "job list", "db create-all")


def in_need(project: Project) -> None:
    for name in ("a.png", "b.png", "c.png"):
        project.add(name)
    (project.root / "feed.csv").write_text(
        "S. No.,Product Name,Input Image Urls\n1,SKU,http://127.0.0.1/a.jpg\n"
    )


def fill(namespace: MountNamespace) -> None:
    """Leave no room on the database's disk, not even in a write-ahead log that may be reused."""
    namespace.sh("rm -f db/*-wal; cat /dev/zero >> db/fill")


def test_no_command_that_writes_ends_in_a_traceback(project: Project) -> None:
    in_need(project)
    assert project.cli("run").code == 0
    before = project.stamps()

    def limit() -> None:
        # As a full disk: nothing more can be written, to any file.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    for command in ("run", "verify --fix", "takedown a.png --reason x", "job submit feed.csv"):
        answer = project.script(*command.split(), preexec_fn=limit)
        assert answer.code == 2, answer
        assert "run again" in answer.stderr
        assert "Traceback" not in answer.stderr
    assert project.stamps() == before
    assert project.run()["renditions"]["in_step"] == 6
    assert project.cli("verify", "--deep").code == 0


@pytest.mark.parametrize("has_tables", [True, False])
def test_a_full_disk_is_told_by_every_command(
    project: Project, namespace: MountNamespace, has_tables: bool
) -> None:
    in_need(project)
    (project.root / "db").mkdir()
    project.env["PIPELINE_DB"] = "sqlite:///db/db.sqlite"
    namespace.mounted("-t", "tmpfs", "-o", "size=2m", "tmpfs", "db")
    if has_tables:
        assert namespace.datapipe("run").code == 0
    # Without tables it is the making of these that fails, for all of them alike.
    for command in COMMANDS if has_tables else ("run", "status", "job submit feed.csv"):
        fill(namespace)
        answer = namespace.datapipe(*command.split())
        allowed = (0, 2) if has_tables and command in READING else (2,)
        assert answer.code in allowed, (command, answer)
        assert "Traceback" not in answer.stderr, command
        assert answer.code == 0 or "run again" in answer.stderr, (command, answer)
    namespace.sh("rm db/fill")
    assert namespace.datapipe("run").code == 0
    assert namespace.datapipe("verify", "--deep").code == 0
    project.env["PIPELINE_DB"] = "sqlite:///db.sqlite"
    # The takedown was in its journal, on a disk with room, when the database refused it.
    withdrawn = 2 if has_tables else 0
    assert len(project.outputs()) == 6 - withdrawn
    assert (project.output / "half/a.png").exists() is not has_tables


def test_a_watcher_says_once_that_the_disk_is_full_and_goes_on(
    project: Project, namespace: MountNamespace
) -> None:
    in_need(project)
    (project.root / "db").mkdir()
    project.env["PIPELINE_DB"] = "sqlite:///db/db.sqlite"
    namespace.mounted("-t", "tmpfs", "-o", "size=2m", "tmpfs", "db")
    assert namespace.datapipe("run").code == 0
    fill(namespace)
    (project.input / "c.png").unlink()
    said: list[str] = []
    with namespace.start("watch") as watching:
        reader = threading.Thread(target=said.extend, args=(watching.stderr,))
        reader.start()
        try:
            wait_until(lambda: any("run again" in line for line in said), lambda: said)
            namespace.sh("rm db/fill")
            wait_until(lambda: len(list(project.output.glob("*/*"))) == 4, lambda: said)
        finally:
            watching.terminate()
            watching.wait(60)
            reader.join()
    assert sum("run again" in line for line in said) == 1, said
    assert "Traceback" not in "".join(said)
