"""Taking originals down in a test, and what is left of them."""

import hashlib
import json
from pathlib import Path
from typing import Any

from a_project import Project

# Two originals with the same bytes, in the order of their names.
RED = ["folder/twin.png", "red.png"]


def take_down(project: Project, *args: str) -> Any:
    answer = project.cli("takedown", *args, "--reason", "flagged", "--who", "mod", "--json")
    assert answer.code == 0, answer
    return answer.json


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def kept(project: Project) -> list[str]:
    """The files in the quarantine, without the journal."""
    folder = project.root / "quarantine"
    files = sorted(f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file())
    return [file for file in files if file != "journal.jsonl"]


def originals(project: Project) -> list[str]:
    return sorted(
        f.relative_to(project.input).as_posix() for f in project.input.rglob("*") if f.is_file()
    )


def journal(project: Project) -> Path:
    return project.root / "quarantine/journal.jsonl"


def lines(project: Project) -> list[dict[str, Any]]:
    return [json.loads(line) for line in journal(project).read_text("utf-8").splitlines()]


def lose_database(project: Project) -> None:
    for file in project.root.glob("db.sqlite*"):
        file.unlink()


def audit(project: Project) -> Any:
    return project.cli("takedown", "list", "--json").json
