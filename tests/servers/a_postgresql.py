"""A PostgreSQL server of the tests' own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path

import sqlalchemy as sa

USER = "lockstep"


def server_binaries() -> Path | None:
    """Where PostgreSQL's `initdb` is, the newest of several."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


def missing() -> str | None:
    """Why there can be no server here."""
    if server_binaries() is None:
        return "no PostgreSQL server is installed (no initdb)"
    try:
        import psycopg2  # noqa: F401
    except ImportError:
        return "the driver psycopg2 is not installed"
    return None


def start(folder: Path) -> tuple[str, int]:
    """The address of a server on a socket in ``folder``, without a database, and its process."""
    binaries = server_binaries()
    assert binaries is not None
    user: dict[str, object] = {}
    if os.geteuid() == 0:
        # The server refuses to run as root.
        names = {entry.pw_name for entry in pwd.getpwall()}
        entry = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
        os.chown(folder, entry.pw_uid, entry.pw_gid)
        user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}

    def run(*command: str) -> None:
        subprocess.run(
            command, check=True, cwd=folder, stdout=subprocess.DEVNULL, timeout=60, **user
        )

    data = str(folder / "data")
    # A collation other than "C": the order of keys must not depend on it.
    options = ["-U", USER, "-A", "trust", "-E", "UTF8", "--no-sync"]
    run(str(binaries / "initdb"), "-D", data, "--locale", "C.UTF-8", *options)
    # Nothing of it has to outlive a crash of the machine.
    fast = "fsync=off synchronous_commit=off full_page_writes=off autovacuum=off jit=off"
    fast += " max_connections=300"
    options_of_it = " ".join(f"-c {each}" for each in fast.split())
    settings = f"-k {folder} -c listen_addresses= {options_of_it}"
    log = str(folder / "log")
    run(str(binaries / "pg_ctl"), "-D", data, "-w", "-l", log, "-o", settings, "start")
    process = int((folder / "data/postmaster.pid").read_text().splitlines()[0])
    return f"postgresql://{USER}@/?host={folder}", process


def admin(address: str) -> sa.Engine:
    """An engine whose statements make and drop databases."""
    url = sa.make_url(address).set(database="postgres")
    return sa.create_engine(url, isolation_level="AUTOCOMMIT")


def drop(name: str) -> str:
    """The statement that drops a database, also while somebody is connected to it."""
    return f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'
