"""A PostgreSQL server of the tests' own."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa


def server_binaries() -> Path | None:
    """Where PostgreSQL's `initdb` is, the newest of several."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a server of our own, on a socket in a folder of its own."""
    binaries = server_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL server is installed (no initdb)")
    pytest.importorskip("psycopg2", reason="the driver psycopg2 is not installed")
    user: dict[str, object] = {}
    # The server refuses to run as root.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    if os.geteuid() == 0:
        names = {entry.pw_name for entry in pwd.getpwall()}
        name = "postgres" if "postgres" in names else "nobody"
        entry = pwd.getpwnam(name)
        os.chown(folder, entry.pw_uid, entry.pw_gid)
        user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}

    def run(*command: str) -> None:
        subprocess.run(
            command, check=True, cwd=folder, stdout=subprocess.DEVNULL, timeout=60, **user
        )

    data = str(folder / "data")
    # A collation other than "C": the order of keys must not depend on it.
    options = ["-U", "lockstep", "-A", "trust", "-E", "UTF8", "--no-sync"]
    run(str(binaries / "initdb"), "-D", data, "--locale", "C.UTF-8", *options)
    # Nothing of it has to outlive a crash of the machine.
    fast = "fsync=off synchronous_commit=off full_page_writes=off autovacuum=off jit=off"
    options_of_it = " ".join(f"-c {each}" for each in fast.split())
    settings = f"-k {folder} -c listen_addresses= {options_of_it}"
    run(
        str(binaries / "pg_ctl"),
        "-D",
        data,
        "-w",
        "-l",
        str(folder / "log"),
        "-o",
        settings,
        "start",
    )
    try:
        yield f"postgresql://lockstep@/postgres?host={folder}"
    finally:
        run(str(binaries / "pg_ctl"), "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder)


def emptied(postgres: str) -> str:
    engine = sa.create_engine(postgres)
    with engine.begin() as con:
        con.execute(sa.text("DROP SCHEMA public CASCADE"))
        con.execute(sa.text("CREATE SCHEMA public"))
    engine.dispose()
    return postgres
