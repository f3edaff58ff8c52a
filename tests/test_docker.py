"""The Dockerfile, followed in a bare folder: no engine is needed to see that its steps work.

What needs the registry (the base image, the requirements) is not done again: the packages are those
of the tests, which `test_project.py` compares with the lock.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import venv
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

import pytest
from a_project import ROOT, picture

PORT = 8000


class Image(NamedTuple):
    """What the steps left: a folder in the place of /, and what a container starts with."""

    root: Path
    workdir: str
    env: dict[str, str]
    instructions: dict[str, str]

    def inside(self, text: str) -> str:
        """A command or a value with the folders of the image in the place of the system's."""
        return re.sub(r"/(?=(?:data|opt|usr/src)\b)", f"{self.root}/", text)

    def start(self, words: list[str], **options: object) -> subprocess.Popen[str]:
        path = f"{self.root}/venv/bin:{os.environ['PATH']}"
        env = {name: self.inside(value) for name, value in self.env.items()}
        return subprocess.Popen(
            [self.inside(word) for word in words],
            cwd=f"{self.root}{self.workdir}",
            env={"PATH": path, "PIPELINE_TOKEN": "a-token-of-the-tests"} | env,
            text=True,
            **options,
        )


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text("utf-8"), flags=re.M)
    lines = text.replace("\\\n", "").splitlines()
    return [
        (word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines if line)
    ]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    root = tmp_path_factory.mktemp("image")
    # The packages of the tests, without this project, which they have as it lies here.
    venv.create(root / "venv", symlinks=True, system_site_packages=False, with_pip=False)
    (packages,) = (root / "venv/lib").glob("python*/site-packages")
    # Its editable install of this project is a .pth file, which counts in site folders alone.
    ours = next(path for path in sys.path if path.endswith("site-packages"))
    (packages / "of_the_tests.pth").write_text(f"{ours}\n")
    for script in Path(sys.executable).parent.iterdir():
        if script.name in ("datapipe", "pip"):
            text = script.read_text("utf-8").partition("\n")[2]
            (root / "venv/bin" / script.name).write_text(f"#!{root}/venv/bin/python\n{text}")
            (root / "venv/bin" / script.name).chmod(0o755)
    done = Image(root, "/", {}, {})
    for word, rest in instructions():
        if word == "WORKDIR":
            done = done._replace(workdir=rest)
            Path(f"{root}{rest}").mkdir(parents=True, exist_ok=True)
        elif word == "COPY":
            *sources, target = rest.split()
            for source in sources:
                copy(source, Path(f"{root}{done.workdir}") / target)
        elif word == "ENV":
            done.env.update(pair.split("=", 1) for pair in shlex.split(rest))
        elif word == "RUN":
            follow(done, rest)
        else:
            done.instructions[word] = rest
    return done


def copy(source: str, target: Path) -> None:
    """COPY, of what the context has: what .dockerignore leaves out is not there."""
    rules = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert f"!{source}" in rules, f"{source} is not in the context"
    if (ROOT / source).is_dir():
        without = shutil.ignore_patterns(
            *(rule.removeprefix("**/") for rule in rules if rule.startswith("**/"))
        )
        shutil.copytree(ROOT / source, target, ignore=without)
    else:
        shutil.copy(ROOT / source, target)


def follow(image: Image, command: str) -> None:
    words = shlex.split(command)
    if words[0] == "useradd" or "-r" in words:
        return  # needs root, or the registry
    if words[0] == "install":
        # As who runs this: other users are for root alone.
        words = [word for word in words if word not in ("-o", "-g", "10001")]
    process = image.start(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said, _ = process.communicate(timeout=100)
    assert process.returncode == 0, said


def test_the_context_holds_nothing_secret() -> None:
    rules = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert "*" in rules
    named = [rule[1:] for rule in rules if rule.startswith("!")]
    for name in (".env", "db.sqlite", "input", "output", "quarantine", ".lockstep", ".git"):
        assert not any(fnmatch.fnmatch(name, pattern) for pattern in named)


def test_a_container_serves_what_lies_in_its_volume_and_ends_well(image: Image) -> None:
    data = image.root / "data"
    (data / "input").mkdir()
    (data / "input/red.jpg").write_bytes(picture(".jpg", "red"))
    shutil.copy(ROOT / "recipes.toml", data)
    entry, command = (json.loads(image.instructions[name]) for name in ("ENTRYPOINT", "CMD"))
    run = image.start([*entry, "run"], stderr=subprocess.PIPE)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 0, said
    assert {"db.sqlite", "input", "output"} <= {file.name for file in data.iterdir()}
    assert list((data / "output").rglob("red.jpg*"))
    # Not the sources: what was installed.
    assert "site-packages" in where_the_package_is(image)

    # Any port: the one of the image may be taken on this machine.
    assert image.instructions["EXPOSE"] == str(PORT)
    serving = image.start([*entry, *command, "--port", "0"], stderr=subprocess.PIPE)
    try:
        for line in serving.stderr:
            if found := re.search(r"Lockstep is at http://\S+:(\d+)", line):
                break
        else:
            raise AssertionError("it did not start")
        check = json.loads(image.instructions["HEALTHCHECK"].removeprefix("CMD "))
        health = image.start([word.replace(f":{PORT}/", f":{found[1]}/") for word in check])
        assert health.wait(timeout=30) == 0
        with urlopen(f"http://127.0.0.1:{found[1]}/healthz", timeout=10) as answer:
            assert answer.status == 200
    finally:
        serving.send_signal(signal.SIGTERM)
        _, said = serving.communicate(timeout=60)
    assert serving.returncode == 0, said


def where_the_package_is(image: Image) -> str:
    code = "import pipeline; print(pipeline.__file__)"
    process = image.start(["python", "-c", code], stdout=subprocess.PIPE)
    said, _ = process.communicate(timeout=30)
    return said
