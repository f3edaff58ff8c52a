"""The peers by name: why one can't run here, how it is called, and its version."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
PEERS_FOLDER = "peers"  # below the scratch folder: what --install-peers installed


@dataclass(frozen=True)
class Peer:
    """`command(scratch)` is put before the job's path, `after` behind it."""

    name: str
    does: str
    command: Callable[[Path], list[str]]
    missing: Callable[[Path], str | None]
    version: Callable[[Path], str]
    after: Callable[[Path], list[str]] = lambda scratch: []
    env: Callable[[Path], dict[str, str]] = lambda scratch: {}
    only_formats: Sequence[str] = field(default=("jpeg", "webp", "avif"))
    only_jpeg_in: bool = False
    is_limit: bool = False  # a limit to compare with, not a product


def _python(module: str) -> Callable[[Path], list[str]]:
    return lambda scratch: [sys.executable, "-m", f"benchmarks.peers.{module}"]


def _installed_packages(scratch: Path) -> dict[str, str]:
    paths = [str(REPOSITORY), str(scratch / PEERS_FOLDER / "python")]
    return {"PYTHONPATH": os.pathsep.join(paths)}


def _needs_module(module: str, remedy: str) -> Callable[[Path], str | None]:
    def missing(scratch: Path) -> str | None:
        done = _ask([sys.executable, "-c", f"import {module}"], _installed_packages(scratch))
        return None if done is not None else f"no module {module} ({remedy})"

    return missing


def _python_version(*packages: str) -> Callable[[Path], str]:
    return lambda scratch: ", ".join(
        f"{package} {importlib.metadata.version(package)}" for package in packages
    )


def _pyvips_version(scratch: Path) -> str:
    code = (
        "import pyvips; print('pyvips', pyvips.__version__, 'on libvips', "
        "'.'.join(str(pyvips.version(n)) for n in range(3)))"
    )
    return _ask([sys.executable, "-c", code], _installed_packages(scratch)) or "?"


def _sharp_missing(scratch: Path) -> str | None:
    if shutil.which("node") is None:
        return "no node on the PATH"
    modules = scratch / PEERS_FOLDER / "node_modules" / "sharp"
    return None if modules.is_dir() else f"no {modules} (--install-peers installs it)"


def _sharp_version(scratch: Path) -> str:
    code = "const s=require('sharp').versions;console.log(`sharp ${s.sharp} on libvips ${s.vips}`)"
    env = {"NODE_PATH": str(scratch / PEERS_FOLDER / "node_modules")}
    return _ask(["node", "-e", code], env) or "?"


def _sharp(name: str, mode: str, does: str) -> Peer:
    return Peer(
        name=name,
        does=does,
        command=lambda scratch: ["node", str(HERE / "sharp_peer.mjs")],
        after=lambda scratch: [str(scratch / PEERS_FOLDER), mode],
        missing=_sharp_missing,
        version=_sharp_version,
    )


def _vipsthumbnail_missing(scratch: Path) -> str | None:
    for tool in ("vipsthumbnail", "xargs"):
        if shutil.which(tool) is None:
            return f"no {tool} on the PATH (Debian: libvips-tools, findutils)"
    return None


def _ask(command: list[str], env: dict[str, str]) -> str | None:
    """The answer of a short command, or None where it fails."""
    done = subprocess.run(
        command, env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else None


_NEVER_MISSING: Callable[[Path], str | None] = lambda scratch: None  # noqa: E731

PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in [
        Peer(
            name="bare-loop",
            does="the fastest codec calls in two processes, nothing around: the limit",
            command=_python("bare"),
            missing=_needs_module("cykooz_resizer", "pip install cykooz-resizer"),
            version=_python_version("pillow", "cykooz-resizer"),
            is_limit=True,
        ),
        Peer(
            name="bare-render",
            does="Lockstep's own imaging code in two processes, nothing around",
            command=_python("bare_render"),
            missing=_needs_module("benchmarks.peers.bare_render", "Lockstep's imaging package"),
            version=_python_version("pillow", "cykooz-resizer"),
            is_limit=True,
        ),
        _sharp("sharp", "apart", "a pipeline per rendition, as documented"),
        _sharp("sharp-chained", "chained", "one decode, the smaller from the larger's raw pixels"),
        Peer(
            name="pyvips",
            does="Image.thumbnail, two processes",
            command=_python("pyvips_peer"),
            missing=_needs_module("pyvips", "--install-peers installs it"),
            version=_pyvips_version,
            env=_installed_packages,
        ),
        Peer(
            name="vipsthumbnail",
            does="xargs -P 2",
            command=_python("vipsthumbnail_peer"),
            missing=_vipsthumbnail_missing,
            version=lambda scratch: _ask(["vipsthumbnail", "--vips-version"], {}) or "?",
        ),
        Peer(
            name="plain-pillow",
            does="open, exif_transpose, resize Lanczos, save; two processes",
            command=_python("plain_pillow"),
            missing=_NEVER_MISSING,
            version=_python_version("pillow"),
        ),
        Peer(
            name="stock-datapipe",
            does="datapipe-core's example, one process",
            command=_python("stock_datapipe"),
            missing=_needs_module("datapipe", "pip install datapipe-core"),
            version=_python_version("datapipe-core"),
            only_formats=("jpeg",),
            only_jpeg_in=True,
        ),
    ]
}


def install(scratch: Path) -> None:
    """Install the peers that come from npm and PyPI below the scratch folder."""
    folder = scratch / PEERS_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--upgrade"]
    commands = [
        ["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", "sharp@latest"],
        [*pip, "--target", str(folder / "python"), "pyvips[binary]"],
    ]
    for command in commands:
        if shutil.which(command[0]) is None:
            print(f"left out: {command[0]} is not on the PATH", file=sys.stderr)
            continue
        if subprocess.run(command, check=False, stdout=sys.stderr).returncode != 0:
            print(f"failed: {' '.join(command)}", file=sys.stderr)
