"""One server for the tests of a module that do not disturb each other."""

from __future__ import annotations

import functools
import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from a_project import Project, picture
from a_server import NASTY, Server, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two folders of originals, one broken, one with a nasty name; all of it rendered."""
    project = Project(tmp_path_factory.mktemp("web") / "shop")
    project.add("shoes/red.png")
    project.add("shoes/summer/blue.jpg")
    project.add("hats/green.webp")
    project.add("hats/twin-of-green.webp", seed="hats/green.webp")
    project.add(NASTY)
    (project.input / "bad.png").write_bytes(b"no picture")
    with serving(project) as server:
        server.until_counted(originals=6, renditions=10, failed=2, pending=0)
        yield server


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with `0.png` to `3.png`, and `slow.png`, which takes its time."""
    folder: Path = tmp_path_factory.mktemp("pictures")
    for number in range(4):
        (folder / f"{number}.png").write_bytes(picture(".png", number))

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/slow.png":
                # So that a page is there before its job has ended.
                time.sleep(1.5)
                self.path = "/1.png"
            super().do_GET()

        def log_message(self, *args: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
