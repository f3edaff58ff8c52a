"""A project whose jobs fetch from the loopback server, which answers with real pictures."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from a_project import Project, answer_of, picture
from loopback import Request, Server
from patched_renderer import FINDER
from routes import route

HEADER = ["S. No.", "Product Name", "Input Image Urls"]
ANSWER_HEADER = [*HEADER, "Output Image Urls", "Errors", "Error Codes"]
DEADLINE_S = 60.0
MANY = 40
SLOW = """
import time


def patch(module):
    render = module.render
    module.render = lambda *given: time.sleep(0.15) or render(*given)
"""


@route
async def pic(server: Server, request: Request) -> None:
    """A picture for each path, with its tag; another one where the path is in `server.changed`."""
    body = picture(".jpg", (request.path, getattr(server, "changed", {}).get(request.path)))
    tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
    if request.headers.get("if-none-match") == tag:
        await request.send(f"HTTP/1.1 304 Not Modified\r\nETag: {tag}\r\n\r\n".encode())
    else:
        await request.answer(body=body, headers=(f"ETag: {tag}",))


@route
async def one(server: Server, request: Request) -> None:
    """The same picture under every path."""
    await request.answer(body=picture(".jpg", "one"))


@route
async def gated(server: Server, request: Request) -> None:
    """A picture, once the gate is open."""
    gate: threading.Event = server.gate  # type: ignore[attr-defined]
    while not gate.is_set():
        await asyncio.sleep(0.01)
    await request.answer(body=picture(".jpg", request.path))


class Shop(Project):
    """``urls(*paths)`` of the server, CSVs of them, and what the commands say of the jobs."""

    def __init__(self, root: Path, server: Server) -> None:
        super().__init__(root)
        self.server = server
        server.changed = {}  # type: ignore[attr-defined]
        server.gate = threading.Event()  # type: ignore[attr-defined]
        self.env |= {
            "PIPELINE_FETCH_ALLOW": "127.0.0.1",
            "PIPELINE_FETCH_PORTS": str(server.port),
            "PIPELINE_FETCH_BACKOFF_S": "0.01",
        }

    @property
    def state(self) -> Path:
        return self.root / ".lockstep"

    def urls(self, *paths: str) -> str:
        return ", ".join(self.server.url(path) for path in paths)

    def csv(self, rows: dict[str, str] | list[list[str]], to: str | Path = "feed.csv") -> Path:
        """Write a CSV beside the project, or below `input/` where ``to`` begins with it.

        ``rows`` are URLs by S. No., each product called SKU and its number.
        """
        file = self.root / to
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(rows, dict):
            rows = [[number, f"SKU{number}", urls] for number, urls in rows.items()]
        with file.open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows([HEADER, *rows])
        return file

    def submit(self, file: Path, *args: str) -> str:
        answer = self.cli("job", "submit", str(file), "--json", *args)
        assert answer.code == 0, answer
        return str(answer.json["reference"])

    def job(self, reference: str | None = None) -> dict[str, Any]:
        """`job status` of a job, or of the only one."""
        if reference is None:
            (found,) = self.cli("job", "list", "--json").json
            reference = found["reference"]
        answer = self.cli("job", "status", str(reference), "--json")
        assert answer.code == 0, answer
        found = answer.json
        assert isinstance(found, dict)
        return found

    def answer(self, reference: str | None = None) -> list[list[str]]:
        """The rows of the result CSV."""
        found = self.job(reference)
        text = (self.output / found["answer"]).read_text("utf-8-sig")
        return list(csv.reader(io.StringIO(text)))

    def pictures(self) -> list[str]:
        """The renditions of jobs, without their folder."""
        return sorted(name[5:] for name in self.outputs() if name.startswith("jobs/"))

    def stored(self) -> list[str]:
        """Every file of the state folder."""
        return sorted(
            path.relative_to(self.state).as_posix()
            for path in self.state.rglob("*")
            if path.is_file()
        )

    def hits(self) -> dict[str, int]:
        return dict(self.server.hits)


def submit_at_once(shop: Shop, file: Path, processes: int, times: int) -> list[str]:
    """The references of the jobs that several processes submit, each some, at the same time."""
    code = (
        "import sys; sys.path.insert(0, ''); import app\n"
        "from pathlib import Path\n"
        "from pipeline.jobs.acts import submit\n"
        "from pipeline.tables import make_tables\n"
        "make_tables(app.app.database)\n"
        f"file = Path({str(file)!r})\n"
        f"for _ in range({times}): print(submit(app.app.jobs, file, 'feed.csv').reference)\n"
    )
    references: list[str] = []
    for process in [shop.python(code) for _ in range(processes)]:
        answer = answer_of(process, 90)
        assert answer.code == 0, answer.stderr
        references += answer.stdout.split()
    return references


def make_busy(shop: Shop) -> None:
    """Have the originals of a shop render slowly, and one image of a job wait for the gate."""
    for number in range(MANY):
        shop.add(f"{number:02}.png")
    shop.submit(shop.csv({"1": shop.urls("/pic/1", "/gated/1")}))
    make_slow(shop)


def make_slow(shop: Shop) -> None:
    """Have each rendering take a while, and only one at a time."""
    plugin = shop.root / "plugin"
    plugin.mkdir()
    (plugin / "sitecustomize.py").write_text(FINDER + SLOW)
    shop.env |= {"PYTHONPATH": str(plugin), "PIPELINE_WORKERS": "1"}


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """Wait until a condition holds; give what it gave."""
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what} has not come to pass within {DEADLINE_S:g} s")
