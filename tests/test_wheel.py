"""The wheel does all that a clone does: built, installed into a bare environment, and used."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import urllib.request
import venv
from pathlib import Path

import pytest
from a_project import DATAPIPE, ROOT, picture


def html(address: str) -> urllib.request.Request:
    return urllib.request.Request(address, headers={"Accept": "text/html"})


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """The folder of programs of an environment that has the wheel, and what it depends on.

    The dependencies are those of this environment, as tests never reach the internet.
    """
    (recipe,) = re.findall(r"-m (pip wheel .*) -w dist \.$", (ROOT / "Makefile").read_text(), re.M)
    pip = [sys.executable, "-m"]
    subprocess.run([*pip, *recipe.split(), "-w", tmp_path, ROOT], check=True, timeout=90)
    (wheel,) = tmp_path.glob("lockstep-*.whl")
    env = tmp_path / "env"
    venv.create(env, symlinks=True)
    programs = env / "bin"
    options = ["-q", "--disable-pip-version-check", "--no-deps", "--no-index"]
    pip += ["pip", "--python", str(programs / "python")]
    subprocess.run([*pip, "install", *options, wheel], check=True, timeout=90)
    (site,) = env.glob("lib/python*/site-packages")
    # A path alone: the link to this checkout that lies there is not followed.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    text = DATAPIPE.read_text().split("\n", 1)[1]
    (programs / "datapipe").write_text(f"#!{programs / 'python'}\n{text}")
    (programs / "datapipe").chmod(0o755)
    return programs


def test_a_project_starts_from_the_wheel_in_an_empty_folder(bare: Path, tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    shop.mkdir()
    env = {"PATH": f"{bare}:/usr/bin:/bin", "HOME": str(tmp_path)}

    def datapipe(*words: str, code: int = 0) -> str:
        done = subprocess.run(
            ["datapipe", *words], cwd=shop, env=env, capture_output=True, text=True, timeout=90
        )
        assert done.returncode == code, done
        return done.stdout + done.stderr

    code = "import pipeline; print(pipeline.__file__)"
    done = subprocess.run([bare / "python", "-c", code], cwd=shop, capture_output=True, text=True)
    assert str(bare.parent) in done.stdout, done
    assert "there is no project in this folder" in datapipe("status", code=2)
    assert list(shop.iterdir()) == []

    said = datapipe("init", "--input", "photos", "--output", "renditions")
    assert said.endswith(
        "next:\n  datapipe run --dry-run     # shows what it would do\n  datapipe run\n"
    )
    assert (shop / "app.py").read_bytes() == (ROOT / "app.py").read_bytes()
    assert (shop / "recipes.toml").read_bytes() == (ROOT / "recipes.toml").read_bytes()
    (shop / "photos/a.jpg").write_bytes(picture(".jpg", "a"))
    datapipe("db", "create-all")
    datapipe("run")
    made = sorted(file.relative_to(shop).as_posix() for file in shop.glob("renditions/*/*"))
    assert made == ["renditions/half/a.jpg", "renditions/thumb/a.jpg.webp"]

    command = ["datapipe", "serve", "--port", "0"]
    with subprocess.Popen(command, cwd=shop, env=env, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            said = next(line for line in server.stderr if "Lockstep is at " in line)
            (address,) = re.findall(r"http://[\d.:]+", said)
            for path, words in (
                ("/", b"<html"),
                ("/images", b"a.jpg"),
                ("/static/lockstep.css", b"{"),
            ):
                with urllib.request.urlopen(html(address + path), timeout=60) as page:
                    assert words in page.read()
        finally:
            server.terminate()
            server.communicate(timeout=60)
