"""Killing a run at any moment, and what must not be left of it."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from a_project import Project

# What a run does to files and to the database, as Python's audit events call it.
FILE_EVENTS = ("os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir", "os.unlink")


# `make test` kills at a few moments of each kind; `make test-moments` at every one.
EVERY_MOMENT = bool(os.environ.get("EVERY_MOMENT"))


def apart(moments: int) -> int:
    """How many moments are between two kills of a test that takes samples."""
    return 1 if EVERY_MOMENT else moments


def kill_at(moment: int) -> Callable[[], None]:
    """Kill this process right before its ``moment``-th change of a file or of the database."""

    def prepare() -> None:
        import sqlalchemy as sa

        left = moment

        def count() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        def on_event(event: str, arguments: tuple[object, ...]) -> None:
            if event in FILE_EVENTS and "shop" in place_of(arguments):
                count()

        def on_statement(con: object, cursor: object, statement: str, *rest: object) -> None:
            if not statement.lstrip().upper().startswith(("SELECT", "PRAGMA")):
                count()

        sys.addaudithook(on_event)
        sa.event.listen(sa.Engine, "before_cursor_execute", on_statement)
        sa.event.listen(sa.Engine, "commit", lambda con: count())

    return prepare


def place_of(arguments: tuple[object, ...]) -> str:
    """Where the first name of an audit event is: after it come the folders that are open."""
    folders = [argument for argument in arguments[1:] if isinstance(argument, int)]
    where = str(arguments[0])
    if not os.path.isabs(where):
        for folder in folders:
            with contextlib.suppress(OSError):
                return os.path.join(os.readlink(f"/proc/self/fd/{folder}"), where)
    return where


def temporary_files(project: Project) -> list[Path]:
    return [p for p in project.output.rglob("*") if p.name.startswith(".lockstep-")]


def alive_in_group(group: int) -> list[str]:
    """What still runs of a process group (Linux; elsewhere nothing is known)."""
    alive = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = file.read_text().rpartition(") ")
        except OSError:
            continue
        state, _, process_group = rest.split()[:3]
        if int(process_group) == group and state != "Z":
            alive.append(name)
    return alive


def killed_before(name: str, skew_s: float = 0) -> Callable[[], None]:
    """Kill this process where a run would call this method of the publisher."""

    def prepare() -> None:
        from pipeline.engine.publish import Publisher

        now = time.time
        time.time = lambda: now() + skew_s
        setattr(Publisher, name, lambda *arguments: os.kill(os.getpid(), signal.SIGKILL))

    return prepare


def killed_run(project: Project, before: str, *args: str, skew_s: float = 0) -> None:
    """A run that is killed right before a method of the publisher is called."""
    code = project.in_child(killed_before(before, skew_s), *(args or ("run",)))
    assert code == -signal.SIGKILL
