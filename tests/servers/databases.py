"""A database for each test: SQLite, and the servers that Lockstep works on.

``database_url`` is a new, empty one of each kind in turn; ``server_url`` of each kind of server.
What runs on a server has the marker ``databases``. A server is started once for all processes of
the tests, by the first that needs it, and stopped by the one that started them.

With ``TESTS_DATABASE=mysql`` (or ``postgresql``) every test's project has its tables there: most of
the suite can be run on another database in this way.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import a_mariadb
import a_postgresql
import pytest
import sqlalchemy as sa
from a_project import Project
from filelock import FileLock

from pipeline.database.dialects import dialect_of

KINDS: dict[str, Any] = {"postgresql": a_postgresql, "mysql": a_mariadb}
ON_SERVERS = [pytest.param(kind, marks=pytest.mark.databases) for kind in KINDS]

_numbers = itertools.count()
_shared = pytest.StashKey[Path]()


def share_servers(config: pytest.Config) -> None:
    """Where all processes of these tests find what was started; short, as a socket is in it."""
    ours = getattr(config, "workerinput", {}).get("servers")
    config.stash[_shared] = Path(ours or tempfile.mkdtemp(prefix="servers-"))
    if ours is None:
        (config.stash[_shared] / "owner").write_text(str(os.getpid()))
    kind = os.environ.get("TESTS_DATABASE")
    if kind:
        Project.new_database = staticmethod(lambda: new_database(config, kind))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["servers"] = str(node.config.stash[_shared])


def pytest_unconfigure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput") or _shared not in config.stash:
        return
    folder = config.stash[_shared]
    for file in folder.glob("*.json"):
        stop(json.loads(file.read_text())["process"])
    shutil.rmtree(folder)


def stop(process: int) -> None:
    """End a server at once; nobody needs its data."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGQUIT)
    until = time.monotonic() + 10
    while Path(f"/proc/{process}").exists() and time.monotonic() < until:
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def end_with(owner: int, process: int, folder: Path) -> None:
    """End a server also where the tests themselves are killed and stop nothing."""
    wait = f"while kill -0 {owner} 2>/dev/null; do sleep 2; done"
    end = f"[ ! -d {folder} ] || {{ kill -QUIT {process}; sleep 2; rm -rf {folder}; }}"
    subprocess.Popen(
        ["sh", "-c", f"{{ {wait}; {end}; }} >/dev/null 2>&1 &"], start_new_session=True
    ).wait()


def server(config: pytest.Config, kind: str) -> str:
    """The address of the server of a kind, without a database; skips where there can be none."""
    missing = KINDS[kind].missing()
    if missing:
        pytest.skip(missing)
    folder = config.stash[_shared]
    note = folder / f"{kind}.json"
    with FileLock(folder / f"{kind}.lock"):
        if not note.exists():
            folder.chmod(0o755)  # the server may be another user's
            (folder / kind).mkdir()
            address, process = KINDS[kind].start(folder / kind)
            note.write_text(json.dumps({"address": address, "process": process}))
            end_with(int((folder / "owner").read_text()), process, folder)
        address = json.loads(note.read_text())["address"]
    return str(address)


def _statement(address: str, *statements: str) -> None:
    engine = KINDS[sa.make_url(address).get_backend_name()].admin(address)
    with engine.connect() as con:
        for statement in statements:
            con.execute(sa.text(statement))
    engine.dispose()


def emptied(address: str) -> str:
    """The database of this address, made anew."""
    kind = KINDS[sa.make_url(address).get_backend_name()]
    name = sa.make_url(address).database
    assert name is not None
    _statement(address, kind.drop(name), f"CREATE DATABASE {name}")
    return address


def engine_of(address: str) -> sa.Engine:
    """An engine of SQLAlchemy's alone, by the driver that Lockstep chooses."""
    return sa.create_engine(dialect_of(sa.make_url(address)).address)


def rows_of(address: str, sql: str) -> list[tuple[Any, ...]]:
    """The rows of a query as a person would ask it."""
    engine = engine_of(address)
    with engine.begin() as con:
        result = con.execute(sa.text(sql))
        rows = [tuple(row) for row in result] if result.returns_rows else []
    engine.dispose()
    # Keys are bytes on MySQL.
    return [tuple(v.decode() if isinstance(v, bytes) else v for v in row) for row in rows]


def new_database(config: pytest.Config, kind: str) -> str:
    """The address of an empty database on the server of a kind."""
    address = sa.make_url(server(config, kind)).set(database=f"t{os.getpid()}_{next(_numbers)}")
    return emptied(address.render_as_string(hide_password=False))


@pytest.fixture
def server_url_of(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Make an empty database on a server of a kind, and give its address."""
    made = []

    def make(kind: str) -> str:
        made.append(new_database(request.config, kind))
        return made[-1]

    yield make
    for address in made:
        name = sa.make_url(address).database
        _statement(address, KINDS[sa.make_url(address).get_backend_name()].drop(str(name)))


@pytest.fixture(params=["sqlite", *ON_SERVERS])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'test.sqlite'}"
    return str(request.getfixturevalue("server_url_of")(request.param))


@pytest.fixture(params=ON_SERVERS)
def server_url(request: pytest.FixtureRequest, server_url_of: Any) -> str:
    """The address of an empty database on each kind of server in turn."""
    return str(server_url_of(request.param))
