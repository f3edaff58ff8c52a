"""Ceph's RADOS gateway as a bucket store of the tests' own: one of each daemon, in memory."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

from ports import free_port

PROGRAMS = ("ceph-mon", "ceph-mgr", "ceph-osd", "radosgw", "ceph", "monmaptool", "radosgw-admin")
PACKAGES = "ceph-mon ceph-osd ceph-mgr radosgw ceph-common"
KEY, SECRET = "lockstep", "lockstep-secret"
_UP_WITHIN_S = 90

_CONFIGURATION = """
[global]
fsid = {fsid}
mon host = [v1:127.0.0.1:{mon}/0]
mon initial members = a
public addr = 127.0.0.1
ms bind ipv6 = false
ms bind msgr2 = false
auth cluster required = none
auth service required = none
auth client required = none
auth allow insecure global id reclaim = true
run dir = {folder}/run
admin socket = {folder}/run/$name.asok
log file = {folder}/run/$name.log
mon data = {folder}/mon
osd data = {folder}/osd
mgr data = {folder}/mgr
osd pool default size = 1
osd pool default min size = 1
osd crush chooseleaf type = 0
mon allow pool size one = true
osd pool default pg num = 8
osd objectstore = memstore
memstore device bytes = 2147483648
osd max object name len = 1024
osd class dir = {rados}/rados-classes
plugin dir = {rados}/ceph
erasure code dir = {rados}/ceph/erasure-code
keyring = {folder}/keyring
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw enable usage log = false
"""


def missing() -> str | None:
    """What is to be installed before it can be started; ``None``: nothing."""
    if all(shutil.which(program) for program in PROGRAMS):
        return None
    return f"Ceph is not installed (apt-get install --no-install-recommends {PACKAGES})"


class Ceph:
    """A gateway at ``endpoint`` with one user, until :meth:`stop`; up in about 16 s."""

    def __init__(self) -> None:
        # The paths of its sockets have at most 107 characters.
        self.folder = Path(tempfile.mkdtemp(prefix="ceph-", dir="/tmp"))
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._daemons: list[subprocess.Popen[bytes]] = []
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End every daemon, and forget what was stored."""
        for daemon in reversed(self._daemons):
            daemon.kill()
            daemon.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self) -> None:
        folder, fsid = self.folder, str(uuid.uuid4())
        for name in ("mon", "mgr", "osd", "run"):
            (folder / name).mkdir()
        (folder / "keyring").touch()
        mon = free_port()
        rados = next(Path("/usr/lib").glob("*/rados-classes")).parent
        text = _CONFIGURATION.format(fsid=fsid, mon=mon, folder=folder, port=self.port, rados=rados)
        (folder / "ceph.conf").write_text(text)
        monmap = f"{folder}/monmap"
        address = f"[v1:127.0.0.1:{mon}]"
        self._call("monmaptool", "--create", "--addv", "a", address, "--fsid", fsid, monmap)
        self._ceph("ceph-mon", "-i", "a", "--mkfs", "--monmap", monmap)
        self._daemon("ceph-mon", "-i", "a")
        self._ceph("ceph", "osd", "new", str(uuid.uuid4()), "0")
        self._ceph("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", self._osd_uuid())
        self._ceph("ceph", "osd", "crush", "add", "osd.0", "1.0", "root=default", "host=a")
        self._daemon("ceph-mgr", "-i", "x")
        self._daemon("ceph-osd", "-i", "0")
        self._daemon("radosgw", "-n", "client.rgw")
        self._wait()
        user = ["--uid=lockstep", "--display-name=L", f"--access-key={KEY}"]
        self._ceph("radosgw-admin", "user", "create", *user, f"--secret-key={SECRET}")

    def _osd_uuid(self) -> str:
        dump = self._ceph("ceph", "osd", "dump")
        return next(line for line in dump.splitlines() if line.startswith("osd.0")).split()[-1]

    def _daemon(self, program: str, *arguments: str) -> None:
        command = [program, "-c", f"{self.folder}/ceph.conf", *arguments, "-f"]
        with open(self.folder / "run" / f"{program}.out", "wb") as out:
            self._daemons.append(subprocess.Popen(command, stdout=out, stderr=out))

    def _ceph(self, program: str, *arguments: str) -> str:
        return self._call(program, "-c", f"{self.folder}/ceph.conf", *arguments)

    def _call(self, *command: str) -> str:
        done = subprocess.run(command, capture_output=True, timeout=_UP_WITHIN_S, text=True)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def _wait(self) -> None:
        until = time.monotonic() + _UP_WITHIN_S
        while time.monotonic() < until:
            try:
                with urllib.request.urlopen(self.endpoint, timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        raise TimeoutError(f"the gateway of {self.folder} does not answer")
