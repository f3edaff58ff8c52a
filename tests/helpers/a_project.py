"""A project folder of its own for every test, and the commands run on it as a person runs them.

``project.cli("run")`` calls the `datapipe` command in this process. The application stays loaded
as that of a service does, until `app.py` or the environment changes: besides that, what differs
from a process of its own is the second that Python and pandas take to start.
``project.process("run")`` is a process of its own that starts with both loaded, for what only a
process can show; ``project.script("run")`` is the script as a shell starts it, for its start.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from preloaded import Command, preloaded

# Each command sets up tracing, which a process does once.
logging.getLogger("opentelemetry").setLevel(logging.ERROR)

ROOT = Path(__file__).parents[2]
DATAPIPE = Path(sys.executable).with_name("datapipe")

# What Lockstep itself keeps in the output folder.
NOTE_OF_THE_FOLDER = ".lockstep.json"

HALF_AND_THUMB = """
[half]
scale = 0.5

[thumb]
fit = [40, 40]
format = "webp"
quality = 80
"""


OWN_STEP = """

from datapipe.compute import ComputeStep, PipelineStep


class OwnStep(ComputeStep):
    def run_full(self, ds, run_config=None, executor=None):
        own()


class Own(PipelineStep):
    def build_compute(self, ds, catalog):
        return [OwnStep(name="own", input_dts=[], output_dts=[])]


settings = load_settings()
"""


def worded(args: tuple[str, ...]) -> list[str]:
    """A command that says what it says on a terminal: no stdout of a test is one."""
    is_terse = args[:1] == ("run",) and "--json" not in args
    return [*args, "--summary"] if is_terse else [*args]


@dataclass
class Answer:
    """What a command gave back."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


class Project:
    """A folder with `app.py`, `recipes.toml`, `input/` and `output/`."""

    # Makes the database of each, where the tests are run on a server (see `databases.py`).
    new_database: Callable[[], str] | None = None

    def __init__(self, root: Path, recipes: str = HALF_AND_THUMB) -> None:
        self.root = root
        self.input = root / "input"
        self.output = root / "output"
        self.env: dict[str, str] = {"PIPELINE_WORKERS": "1"}
        if self.new_database is not None:
            self.env["PIPELINE_DB"] = self.new_database()
        self.input.mkdir(parents=True)
        shutil.copy(ROOT / "app.py", root)
        self.recipes(recipes)

    def recipes(self, text: str) -> None:
        (self.root / "recipes.toml").write_text(text, "utf-8")

    def own_step(self, code: str) -> None:
        """Declare a step of the user's before the render step; ``code`` defines its `own()`."""
        text = (self.root / "app.py").read_text("utf-8")
        text = text.replace("\nsettings = load_settings()\n", f"\n{code}{OWN_STEP}")
        text = text.replace("        Render(\n", "        Own(),\n        Render(\n")
        (self.root / "app.py").write_text(text, "utf-8")
        # A process would find the `app.py` of this checkout first, where `pipeline` is installed.
        self.env["PYTHONPATH"] = str(self.root)

    def cli(self, *args: str, as_on_terminal: bool = True, stdin: str = "") -> Answer:
        """A command in this process."""
        from click.testing import CliRunner
        from datapipe.cli import cli

        words = worded(args) if as_on_terminal else [*args]
        # A command freezes what it has loaded, as its process ends with it. This one goes on: what
        # every command of every test loads would add up to gigabytes.
        freeze, gc.freeze = gc.freeze, lambda: None
        try:
            with self._as_if_started_here():
                result = CliRunner().invoke(cli, words, stdin, prog_name="datapipe")
        finally:
            gc.freeze = freeze
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Answer(result.exit_code, result.stdout, result.stderr)

    def run(self, *args: str, code: int | None = 0) -> Any:
        """`datapipe run --json`: its report."""
        answer = self.cli("run", "--json", *args)
        assert code is None or answer.code == code, answer
        return answer.json

    def process(self, *args: str, timeout_s: float = 90, session: bool = False) -> Answer:
        """A command as a process of its own."""
        return answer_of(self.start(*args, session=session), timeout_s)

    def start(self, *args: str, session: bool = False) -> Command:
        """A command as a process that goes on while the test does; in its own session if asked."""
        words = [str(DATAPIPE), *worded(args)]
        return preloaded().start(words, self.root, self._environment(), session)

    def python(self, code: str) -> Command:
        """Code that runs in a process of its own."""
        return preloaded().start(["-c", code], self.root, self._environment())

    def script(self, *args: str, timeout_s: float = 90, **options: Any) -> Answer:
        """The script `datapipe`, with ``options`` of ``subprocess``."""
        done = subprocess.run(
            [str(DATAPIPE), *worded(args)],
            cwd=self.root,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            **options,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def start_script(self, *args: str, **options: Any) -> subprocess.Popen[str]:
        """The script `datapipe`, which goes on while the test does."""
        return subprocess.Popen(
            [str(DATAPIPE), *worded(args)],
            cwd=self.root,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def in_child(self, prepare: Callable[[], object], *args: str) -> int:
        """A command in a forked child, after ``prepare`` there; its exit code, or -signal."""
        from multiprocessing import forkserver

        # Ours loads the decoders once for all children.
        is_shared = forkserver._forkserver._forkserver_pid is not None  # type: ignore[attr-defined]
        if is_shared:
            forkserver.ensure_running()
        pid = os.fork()
        if pid == 0:
            code = 99
            try:
                with open(os.devnull, "w") as nowhere:
                    os.dup2(nowhere.fileno(), 1)
                    os.dup2(nowhere.fileno(), 2)
                if is_shared:
                    # It runs, but it would be waited for as a child, which it is of our parent.
                    for place in (forkserver, forkserver._forkserver):  # type: ignore[attr-defined]
                        setattr(place, "ensure_running", lambda: None)  # noqa: B010
                prepare()
                code = self.cli(*args).code
            except BaseException:
                code = 98
            finally:
                os._exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def add(self, path: str, seed: int | None = None, size: tuple[int, int] = (60, 40)) -> Path:
        """Write a small picture, its pixels drawn from ``seed``, in the format of its suffix."""
        file = self.input / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture(Path(path).suffix, path if seed is None else seed, size))
        return file

    def outputs(self) -> dict[str, bytes]:
        """Every file below `output/` with its bytes."""
        found: dict[str, bytes] = {}
        for file in self.output.rglob("*"):
            # While a run goes on, a temporary file may be gone as soon as it was listed.
            with contextlib.suppress(FileNotFoundError):
                if file.is_file() and file.name != NOTE_OF_THE_FOLDER:
                    found[file.relative_to(self.output).as_posix()] = file.read_bytes()
        return found

    def stamps(self) -> dict[str, tuple[int, int]]:
        """Inode and mtime of every file below `output/`."""
        return {
            file.relative_to(self.output).as_posix(): (
                file.stat().st_ino,
                file.stat().st_mtime_ns,
            )
            for file in self.output.rglob("*")
            if file.is_file() and file.name != NOTE_OF_THE_FOLDER
        }

    def expected(self) -> dict[str, bytes]:
        """What `output/` would hold had these originals and recipes been there from the start."""
        fresh = self.root.with_name(self.root.name + "-fresh")
        shutil.rmtree(fresh, ignore_errors=True)
        twin = Project(fresh, (self.root / "recipes.toml").read_text("utf-8"))
        twin.input.rmdir()
        shutil.copytree(self.input, twin.input, symlinks=True)
        twin.run(code=None)
        outputs = twin.outputs()
        shutil.rmtree(fresh)
        return outputs

    def assert_in_step(self, want: dict[str, bytes] | None = None) -> None:
        """Exactly the right files with exactly the right bytes, and nothing else.

        ``want`` is what :meth:`expected` gave for the same originals and recipes, if known.
        """
        have, want = self.outputs(), self.expected() if want is None else want
        assert sorted(have) == sorted(want)
        assert [name for name in want if have[name] != want[name]] == []

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        if "PIPELINE_DB" in self.env:
            from databases import rows_of

            return rows_of(self.env["PIPELINE_DB"], sql)
        import sqlite3

        with contextlib.closing(sqlite3.connect(self.root / "db.sqlite")) as con, con:
            return con.execute(sql).fetchall()

    def _environment(self) -> dict[str, str]:
        own = {k: v for k, v in os.environ.items() if not k.startswith("PIPELINE_")}
        return own | self.env

    def _declared(self) -> object:
        """What an application is made of: where it is the same, that of the command before serves,
        as it would for the next run of a service."""
        files = {file: file.read_bytes() for file in self.root.glob("*.py")}
        dotenv = self.root / ".env"
        return files, dotenv.read_bytes() if dotenv.is_file() else None, self._environment()

    @contextlib.contextmanager
    def _as_if_started_here(self) -> Iterator[None]:
        cwd, path, environ = os.getcwd(), list(sys.path), dict(os.environ)
        sigterm = signal.getsignal(signal.SIGTERM)
        os.chdir(self.root)
        os.environ.clear()
        os.environ.update(self._environment())
        sys.path.insert(0, str(self.root))
        # A command within another's project: each has an application of its own.
        outer = sys.modules.pop("app", None)
        declared, loaded = self._declared(), self.__dict__.pop("_loaded", None)
        if loaded is not None and loaded[0] == declared:
            sys.modules["app"] = loaded[1]
        try:
            yield
            if "app" in sys.modules:
                self._loaded = declared, sys.modules["app"]
        finally:
            app = sys.modules.pop("app", None)
            if app is not None:
                app.database.engine.dispose()
                takedowns = vars(getattr(app, "app", None) or app).get("takedowns")
                if takedowns is not None and takedowns.shared is not None:
                    takedowns.shared.close()
                made = vars(getattr(app, "app", app)).get("takedowns")
                if made is not None and made.shared is not None:
                    made.shared.close()
            if outer is not None:
                sys.modules["app"] = outer
            signal.signal(signal.SIGTERM, sigterm)
            sys.path[:] = path
            os.environ.clear()
            os.environ.update(environ)
            os.chdir(cwd)


def answer_of(process: Command, timeout_s: float) -> Answer:
    """What a command gives back at its end; one that takes longer is killed."""
    with process:
        try:
            stdout, stderr = process.communicate(timeout_s)
        except BaseException:
            process.kill()
            raise
        return Answer(process.wait(), stdout, stderr)


def picture(suffix: str, seed: object, size: tuple[int, int] = (60, 40)) -> bytes:
    """The bytes of a picture of noise: two seeds never give the same."""
    noise = random.Random(str(seed)).randbytes(size[0] // 4 * (size[1] // 4) * 3)
    image = Image.frombytes("RGB", (size[0] // 4, size[1] // 4), noise).resize(size)
    stream = io.BytesIO()
    formats = {".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".webp": "WEBP"}
    name = formats.get(suffix.lower(), suffix[1:].upper())
    image.save(stream, name, **({"lossless": True} if name == "WEBP" else {}))
    return stream.getvalue()
