"""A mount namespace of its own: a test mounts there what it likes, and nobody else sees it."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
from a_project import DATAPIPE, Answer, Project, answer_of
from preloaded import Command, Preloaded


class MountNamespace:
    """Commands run where things can be mounted over the folders of a project."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self._preloaded: Preloaded | None = None
        self._as_root = os.geteuid() == 0
        if shutil.which("unshare") is None or shutil.which("nsenter") is None:
            pytest.skip("needs unshare and nsenter, which this system has not")
        user = [] if self._as_root else ["--map-root-user"]
        self._holder = subprocess.Popen(
            ["unshare", "--mount", *user, "--", "sh", "-c", "echo ready && exec sleep 600"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "ready\n":
            self.close()
            pytest.skip("this user may not make mount namespaces on this system")
        (project.root / "probe").mkdir()
        if self.sh("mount -t tmpfs tmpfs probe && umount probe").code != 0:
            self.close()
            pytest.skip("this user may not mount anything on this system")

    def close(self) -> None:
        if self._preloaded is not None:
            self._preloaded.close()
        self._holder.kill()
        self._holder.communicate()

    def inside(self, *command: str) -> list[str]:
        """The command line that runs ``command`` in there, in the folder of the project."""
        user = [] if self._as_root else ["--user", "--preserve-credentials"]
        into = ["nsenter", f"--target={self._holder.pid}", "--mount", *user, "--"]
        return [*into, "sh", "-c", 'cd "$0" && exec "$@"', str(self.project.root), *command]

    def sh(self, script: str) -> Answer:
        return self._run("sh", "-c", script)

    def datapipe(self, *args: str) -> Answer:
        return answer_of(self.start(*args), 90)

    def start(self, *args: str) -> Command:
        if self._preloaded is None:
            self._preloaded = Preloaded(self.inside())
        words = [str(DATAPIPE), *args]
        return self._preloaded.start(words, self.project.root, self.project._environment())

    def mounted(self, *arguments: str) -> None:
        """``mount`` with these arguments, paths from the folder of the project on."""
        done = self._run("mount", *arguments)
        assert done.code == 0, done

    def unmounted(self, folder: str) -> None:
        done = self._run("umount", folder)
        assert done.code == 0, done

    def _run(self, *command: str) -> Answer:
        done = subprocess.run(
            self.inside(*command),
            env=self.project._environment(),
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)
