"""A project with two features of functions of its own, and what their rows say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from a_project import Project

# Two calls never say the same: what has not changed was not called again.
FUNCTIONS = """
import time


def mine(image, *, times=1):
    return {"width": image.width * times, "called": time.time_ns()}


def other(image):
    return {"called": time.time_ns()}
"""
RECIPES = """
[half]
scale = 0.5

[features.mine]
function = "functions:mine"
max_side = 32

[features.other]
function = "others:other"
"""
# Not the hash that every original has.
OWN = "name <> 'lockstep:pdq'"


def a_project_with_features(root: Path) -> Project:
    project = Project(root, RECIPES)
    write(project, FUNCTIONS)
    (project.root / "others.py").write_text(FUNCTIONS, "utf-8")
    return project


def write(project: Project, functions: str) -> None:
    (project.root / "functions.py").write_text(functions, "utf-8")


def values(project: Project) -> dict[tuple[str, str], Any]:
    """What each feature says of each original, from its rows."""
    rows = project.query(f"SELECT path, name, value FROM features WHERE state = 'ok' AND {OWN}")
    return {(path, name): json.loads(value) for path, name, value in rows}


def states(project: Project) -> dict[tuple[str, str], tuple[str, str | None]]:
    rows = project.query(f"SELECT path, name, state, reason FROM features WHERE {OWN}")
    return {(path, name): (state, reason) for path, name, state, reason in rows}


def differing(before: dict[Any, Any], after: dict[Any, Any]) -> set[Any]:
    return {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
