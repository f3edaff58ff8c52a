"""A MariaDB server of the tests' own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import sqlalchemy as sa

USER, PASSWORD = "lockstep", "a:b@c/d%"
STARTED_WITHIN_S = 60


def missing() -> str | None:
    """Why there can be no server here."""
    for program in ("mariadbd", "mariadb-install-db", "mariadb"):
        if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") is None:
            return f"no MariaDB server is installed (no {program})"
    try:
        import pymysql  # noqa: F401
    except ImportError:
        return "the driver PyMySQL is not installed"
    return None


def start(folder: Path) -> tuple[str, int]:
    """The address of a server whose files are in ``folder``, without a database; its process."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    data, log, users = folder / "data", folder / "log", folder / "users.sql"
    users.write_text(
        f"CREATE USER {USER}@'%' IDENTIFIED BY '{PASSWORD}';\nGRANT ALL ON *.* TO {USER}@'%';\n"
    )
    data.mkdir()
    user = "--user=root" if os.geteuid() == 0 else f"--user={os.environ.get('USER', '')}"
    with log.open("w") as output:
        subprocess.run(
            ["mariadb-install-db", "--no-defaults", user, f"--datadir={data}", "--skip-test-db"],
            check=True,
            stdout=output,
            stderr=output,
            timeout=STARTED_WITHIN_S,
        )
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        # Nothing of it has to outlive a crash of the machine.
        fast = ["--innodb-flush-log-at-trx-commit=0", "--innodb-file-per-table=0"]
        fast += ["--innodb-buffer-pool-size=64M", "--performance-schema=off", "--skip-log-bin"]
        fast += ["--skip-name-resolve"]
        # The order of keys, and what is equal, must not depend on the server.
        options = ["--character-set-server=latin1", "--max-connections=300", *fast]
        server = subprocess.Popen(
            [
                shutil.which("mariadbd", path=path) or "mariadbd",
                "--no-defaults",
                user,
                f"--datadir={data}",
                f"--init-file={users}",
                f"--port={port}",
                "--bind-address=127.0.0.1",
                f"--socket={folder / 'socket'}",
                *options,
            ],
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    url = sa.URL.create("mysql", USER, PASSWORD, "127.0.0.1", port)
    address = url.render_as_string(hide_password=False)
    engine, until = admin(address), time.monotonic() + STARTED_WITHIN_S
    while True:
        try:
            with engine.connect():
                break
        except sa.exc.OperationalError:
            if server.poll() is not None or time.monotonic() > until:
                server.kill()
                raise RuntimeError(log.read_text()) from None
            time.sleep(0.05)
    engine.dispose()
    # Python warns of a process that nobody waited for. Its number ends it, maybe elsewhere.
    server.returncode = 0
    return address, server.pid


def admin(address: str) -> sa.Engine:
    """An engine whose statements make and drop databases."""
    url = sa.make_url(address).set(drivername="mysql+pymysql", database="mysql")
    return sa.create_engine(url, isolation_level="AUTOCOMMIT")


def drop(name: str) -> str:
    """The statement that drops a database."""
    return f"DROP DATABASE IF EXISTS {name}"
