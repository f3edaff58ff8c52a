"""Fixtures that every test may ask for."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from a_mount import MountNamespace
from a_project import Project
from a_watcher import Watching
from databases import (
    database_url,
    pytest_configure_node,
    pytest_unconfigure,
    server_url,
    server_url_of,
    share_servers,
)

# Databases of each kind, on servers that all processes of the tests share.
__all__ = ["database_url", "server_url", "server_url_of"]
__all__ += ["pytest_configure_node", "pytest_unconfigure"]

# What lasts no longer than a test needs no disk; what those have that fail, and large ones, fits.
MEMORY = Path("/dev/shm")
MEMORY_BYTES = 4 << 30


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    share_servers(config)
    if hasattr(config, "workerinput") or config.option.basetemp is not None:
        return
    if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= MEMORY_BYTES:
        folder = tempfile.mkdtemp(prefix="tests-", dir=MEMORY)
        config.option.basetemp = os.path.join(folder, "tests")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """For ``-n auto``: three for each core, as tests wait for servers, browsers, quiet folders."""
    return 3 * (os.cpu_count() or 1)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """What all tests share is not walked through again by each of them."""
    gc.collect()
    gc.freeze()
    # What a command leaves behind is found as well when it is looked for less often.
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "shop")


@pytest.fixture
def make_project(tmp_path: Path) -> Callable[[str], Project]:
    return lambda name: Project(tmp_path / name)


@pytest.fixture
def namespace(project: Project) -> Iterator[MountNamespace]:
    namespace = MountNamespace(project)
    try:
        yield namespace
    finally:
        namespace.close()


@pytest.fixture
def watch(project: Project) -> Iterator[Callable[..., Watching]]:
    """Start watchers on the project; none is left when the test ends."""
    started: list[Watching] = []

    def begin(*args: str) -> Watching:
        started.append(Watching(project, *args))
        return started[-1]

    yield begin
    for watching in started:
        watching.kill()
