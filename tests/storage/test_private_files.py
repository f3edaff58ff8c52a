"""What only this service should read is closed to other users of the machine, or a warning."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from a_project import Project
from a_server import serving
from a_shop import Shop
from a_watcher import Watching
from fetch_fixtures import server
from loopback import Server

from pipeline.storage.modes import open_to_others

__all__ = ["server"]

WARNING = "other users of this machine can access"


@pytest.fixture
def generous() -> Iterator[None]:
    """A umask that takes nothing away."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def public(server: Server) -> Iterator[Shop]:
    """A shop in a folder that every user can enter; pytest's own are closed."""
    root = Path(tempfile.mkdtemp(dir="/tmp"))
    root.chmod(0o755)
    yield Shop(root / "shop", server)
    shutil.rmtree(root)


def mode(place: Path) -> int:
    return stat.S_IMODE(place.stat().st_mode)


def fill(shop: Shop) -> None:
    """Have a database, a state folder and a quarantine."""
    shop.add("a.jpg")
    shop.add("b.jpg")
    shop.submit(shop.csv({"1": shop.urls("/pic/1")}))
    shop.run()
    assert shop.cli("takedown", "b.jpg", "--reason", "x").code == 0


def test_new_places_are_for_their_owner_only(generous: None, public: Shop) -> None:
    fill(public)
    assert mode(public.root / "db.sqlite") == 0o600
    assert mode(public.state) == mode(public.root / "quarantine") == 0o700
    # What is to be served stays open.
    assert mode(public.output / "half/a.jpg") & stat.S_IROTH
    assert WARNING not in public.cli("run").stderr


def test_the_files_beside_the_database_are_closed_as_well(generous: None, project: Project) -> None:
    project.add("a.jpg")
    code = (
        "import sys; sys.path.insert(0, ''); import app, os\n"
        "from pipeline.tables import make_tables\n"
        "make_tables(app.app.database)\n"
        "for name in sorted(os.listdir('.')):\n"
        "    if name in ('db.sqlite', 'db.sqlite-wal', 'db.sqlite-shm'):\n"
        "        print(name, oct(os.stat(name).st_mode & 0o777))\n"
    )
    with project.python(code) as process:
        said = process.communicate(90)[0]
    assert said.splitlines() == [
        "db.sqlite 0o600",
        "db.sqlite-shm 0o600",
        "db.sqlite-wal 0o600",
    ]


def test_the_database_is_never_open_not_even_for_a_moment(
    generous: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.database import connection

    seen = []
    before = connection.DBConn._init

    def note(self: object, url: str, *args: object, **options: object) -> None:
        seen.append(mode(tmp_path / "real.sqlite"))
        before(self, url, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(connection.DBConn, "_init", note)
    (tmp_path / "link.sqlite").symlink_to("real.sqlite")
    connection.open_database(f"sqlite:///{tmp_path / 'link.sqlite'}").engine.dispose()
    assert seen == [0o600]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.sqlite", "real.sqlite"]


def test_places_that_are_open_are_named_with_what_closes_them(public: Shop) -> None:
    fill(public)
    database, quarantine = public.root / "db.sqlite", public.root / "quarantine"
    for place, rights in ((database, 0o644), (public.state, 0o755), (quarantine, 0o701)):
        place.chmod(rights)
    answer = public.cli("run", "--json")
    (line,) = answer.stderr.splitlines()
    assert line == (
        f"warning: {WARNING} db.sqlite, .lockstep, quarantine; to prevent that, run "
        "`chmod o-rwx db.sqlite* .lockstep quarantine`"
    )
    assert answer.code == 0
    # It is a warning of a run and a service; what only asks is silent. Nothing was changed.
    assert public.cli("status").stderr == ""
    assert mode(database) == 0o644
    command = line.partition("`")[2].rstrip("`")
    subprocess.run(command, shell=True, cwd=public.root, check=True)
    assert public.cli("run").stderr == ""


def test_a_group_that_shares_on_purpose_hears_nothing(public: Shop) -> None:
    fill(public)
    (public.root / "db.sqlite").chmod(0o660)
    public.state.chmod(0o2770)
    (public.root / "quarantine").chmod(0o2770)
    assert public.cli("run").stderr == ""
    assert mode(public.root / "db.sqlite") == 0o660
    assert mode(public.state) == 0o2770


def test_watch_and_serve_warn_once(public: Shop, watch: Callable[..., Watching]) -> None:
    fill(public)
    (public.root / "db.sqlite").chmod(0o604)
    watching = Watching(public)
    try:
        watching.wait_for("a.jpg")
        watching.wait_for_start()
        public.add("c.jpg")
        watching.wait_for("a.jpg", "c.jpg")
        assert watching.stop() == 0
    finally:
        watching.kill()
    assert len([line for line in watching.said if WARNING in line]) == 1
    with serving(public) as service:
        service.until_rested()
    (line,) = [line for line in service.log if WARNING in line]
    assert "WARNING lockstep" in line
    assert "chmod o-rwx db.sqlite*" in line


def test_a_closed_folder_closes_what_is_in_it(public: Shop) -> None:
    file = public.root / "open"
    file.touch()
    file.chmod(0o666)
    assert open_to_others([file, public.root / "missing"]) == [file]
    public.root.chmod(0o750)
    assert open_to_others([file]) == []
