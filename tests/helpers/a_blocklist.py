"""Lists of hashes in a test."""

from __future__ import annotations

from typing import Any

from a_project import Answer, Project


def listed(project: Project, *args: str, of: str, name: str = "list.txt") -> Answer:
    (project.root / name).write_text(of, "utf-8")
    return project.cli("blocklist", "import", name, *args)


def block(project: Project, *args: str, of: str, name: str = "list.txt") -> Any:
    answer = listed(project, *args, "--json", of=of, name=name)
    assert answer.code == 0, answer
    return answer.json
