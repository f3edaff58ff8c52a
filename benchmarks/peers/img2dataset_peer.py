"""img2dataset: the list of URLs fetched, hashed and stored, in an environment of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

from benchmarks.measure import Measured, measure

NAME = "img2dataset"
# As many connections in all as Lockstep has, on as many processes as there are cores here.
PROCESSES, THREADS_EACH = 2, 16
_SHARD = 1000


def folder(scratch: Path) -> Path:
    return scratch / "peers" / NAME


def missing(scratch: Path) -> str | None:
    """Why it can't be run here, or None."""
    program = folder(scratch) / "bin" / NAME
    return None if program.exists() else f"no {program} (--install-peers installs it)"


def install(scratch: Path) -> None:
    """Install it into an environment of its own: it wants other versions than Lockstep."""
    target = folder(scratch)
    for command in (
        [sys.executable, "-m", "venv", str(target)],
        [str(target / "bin" / "pip"), "install", "--quiet", NAME],
    ):
        if subprocess.run(command, check=False, stdout=sys.stderr).returncode != 0:
            print(f"failed: {' '.join(command)}", file=sys.stderr)
            return


def version(scratch: Path) -> str:
    code = f"import importlib.metadata as m; print('{NAME}', m.version('{NAME}'))"
    python = folder(scratch) / "bin" / "python"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "?"


def fetch(
    scratch: Path, url_list: Path, output: Path, threads_each: int, beside: Collection[int]
) -> Measured:
    """One whole process that fetches the list: no resizing and no re-encoding, SHA-256 kept."""
    options = {
        "url_list": url_list,
        "output_folder": output,
        "input_format": "txt",
        "output_format": "files",
        "resize_mode": "no",
        "disable_all_reencoding": True,
        "compute_hash": "sha256",
        "extract_exif": False,
        "processes_count": PROCESSES,
        "thread_count": threads_each,
        "number_sample_per_shard": _SHARD,
        "enable_wandb": False,
    }
    command = [folder(scratch) / "bin" / NAME]
    # Both ask the internet for newer versions of themselves unless told not to.
    quiet = {"NO_ALBUMENTATIONS_UPDATE": "1", "WANDB_MODE": "disabled"}
    arguments = [f"--{name}={value}" for name, value in options.items()]
    return measure([*command, *arguments], cwd=scratch, env=quiet, beside=beside)


def fetched(output: Path) -> int:
    return sum(1 for _ in output.glob("*/*.jpg"))
