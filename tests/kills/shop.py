"""The project of a round, and its commands: each in a forked child of this warm process.

The child leads a process group of its own, so that a kill takes its workers as well.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib
import io
import json
import logging
import os
import pkgutil
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from .preload import Plan, is_loaded

TIMEOUT_S = 60
STOPS_WITHIN_S = 5.0
# How a command ends that was killed, that hung, and by an exception that nobody caught.
KILLED, HUNG, CRASHED = -signal.SIGKILL, -signal.SIGALRM, 99
_PR_SET_CHILD_SUBREAPER = 36


def warm_up() -> None:
    """Load all that a command needs, and become the parent of orphaned workers."""
    import datapipe.cli  # noqa: F401 - for the children

    import pipeline

    for module in pkgutil.walk_packages(pipeline.__path__, "pipeline."):
        if ".web" not in module.name:
            importlib.import_module(module.name)
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


@dataclass
class Ended:
    """How a command ended: exit code or -signal, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Shop:
    """A folder with `app.py`, `recipes.toml`, `input/`, `output/` and `quarantine/`."""

    def __init__(self, root: Path) -> None:
        self.root, self.input, self.output = root, root / "input", root / "output"
        self.quarantine = root / "quarantine"
        # What is ours lies beside the project, where the oracle does not look.
        self.beside = root.with_name(root.name + "-beside")
        self.input.mkdir(parents=True)
        self.beside.mkdir()
        shutil.copy(Path(__file__).parents[2] / "app.py", root)
        self.plan = Plan(self.beside / "plan")
        self._contents = 0

    def picture(self, suffix: str, size: tuple[int, int]) -> bytes:
        """A picture in a colour that none had before; many have equal numbers of bytes."""
        self._contents += 1
        digits = (self._contents * 92 // 7**place % 7 for place in range(3))
        image = Image.new("RGB", size, tuple(20 + 35 * digit for digit in digits))
        name = Image.registered_extensions()[suffix.lower()]
        image.save(stream := io.BytesIO(), name)
        if name == "JPEG":
            image.save(stream := io.BytesIO(), name, comment=b"-" * (1000 - len(stream.getvalue())))
        return stream.getvalue()

    def originals(self) -> list[Path]:
        """Every file below `input/`, in the order of their names."""
        return sorted(path for path in self.input.rglob("*") if path.is_file())

    @staticmethod
    def contents(folder: Path) -> dict[str, str]:
        """The SHA-256 of every file below a folder, by its path from there."""
        return {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.rglob("*")
            if path.is_file()
        }

    def command(self, *arguments: str, stopped: Callable[[], None], kill_s: float) -> Ended:
        """A `datapipe` command, with the plan as it is armed; none of its processes is left.

        ``stopped`` is called while the plan has stopped it; it is killed after ``kill_s`` seconds.
        """
        printed = self.beside / "out", self.beside / "err"
        for file in printed:
            file.write_bytes(b"")
        group = os.fork()
        if group == 0:
            self._be_the_command(arguments, printed)
        with contextlib.suppress(OSError):
            os.setpgid(group, group)  # the child does so as well: whoever comes first
        ends, code = time.monotonic() + kill_s, None
        # A process that has just started another by vfork stops only when that one has: stopped as
        # well, it never tells. Then we go by what the plan says.
        tells_by = None
        # Its workers become our children when it is gone.
        while code is None or not _is_over(group):
            pid, status = os.waitpid(group, os.WNOHANG | os.WUNTRACED) if code is None else (0, 0)
            if self.plan.is_stopping and tells_by is None:
                tells_by = time.monotonic() + STOPS_WITHIN_S
            is_late = tells_by is not None and time.monotonic() > tells_by
            if code is None and ((pid and os.WIFSTOPPED(status)) or (is_late and not pid)):
                tells_by = None
                stopped()
                os.killpg(group, signal.SIGCONT)
            elif pid:
                code = os.waitstatus_to_exitcode(status)
            if time.monotonic() > ends:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(group, signal.SIGKILL)
            time.sleep(0.002)
        if kill_s == TIMEOUT_S and time.monotonic() > ends:
            code = HUNG
        return Ended(code, *(file.read_text("utf-8", "replace") for file in printed))

    def _be_the_command(self, arguments: tuple[str, ...], printed: tuple[Path, Path]) -> None:
        code = CRASHED
        try:
            os.setpgid(0, 0)
            for number, file in enumerate(printed, 1):
                os.dup2(os.open(file, os.O_WRONLY), number)
            sys.stdout = open(1, "w")  # noqa: SIM115 - until the end
            sys.stderr = open(2, "w", errors="backslashreplace")  # noqa: SIM115 - as Python's own
            os.chdir(self.root)
            sys.path.insert(0, str(self.root))
            os.environ.update({"PIPELINE_WORKERS": "2", "TMPDIR": str(self.beside)})
            if is_loaded():
                self.plan.enter()
            from datapipe.cli import cli

            cli.main(list(arguments), prog_name="datapipe")
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def _is_over(group: int) -> bool:
    """Whether no process of the group is left."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-group, os.WNOHANG)[0]:
            pass
        return False
    return True
