"""One server for the tests of a module that do not disturb each other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from a_project import Project
from a_server import Server, serving

NASTY = "<img src=x onerror=alert(1)>.png"


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
        server.until_rested()
        yield server
