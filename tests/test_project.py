"""The project as a fresh machine meets it: lock files, make, README, start-up."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipeline.fetch.types import FetchLimits
from pipeline.settings.values import FETCH_VARIABLES, JobSettings, Settings, variables_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]


def locked_packages() -> list[dict]:
    return tomllib.loads((ROOT / "poetry.lock").read_text("utf-8"))["package"]


def exported(file: str) -> dict[tuple[str, str], set[str]]:
    """(name, version) to the hashes that pip will accept."""
    text = (ROOT / file).read_text("utf-8").replace("\\\n", " ")
    found: dict[tuple[str, str], set[str]] = {}
    for line in text.splitlines():
        match = re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ ;]+)", line)
        if match:
            key = (canonicalize_name(match[1]), match[2])
            found[key] = set(re.findall(r"--hash=(sha256:[0-9a-f]{64})", line))
    return found


@pytest.mark.parametrize(
    ("file", "groups", "optional"),
    [
        ("requirements.txt", {"main", "build"}, False),
        ("requirements-dev.txt", {"main", "build", "dev"}, True),
    ],
)
def test_the_exported_requirements_are_those_of_the_lock(file, groups, optional):
    wanted = {
        (canonicalize_name(package["name"]), package["version"]): {
            entry["hash"] for entry in package["files"]
        }
        for package in locked_packages()
        if groups & set(package["groups"]) and (optional or not package["optional"])
    }
    assert exported(file) == wanted, f"run `make lock`: {file} and poetry.lock have parted"


def test_the_lock_holds_what_pyproject_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    versions = {canonicalize_name(p["name"]): p["version"] for p in locked_packages()}
    asked = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        asked += extra
    for requirement in map(Requirement, asked):
        version = versions.get(canonicalize_name(requirement.name))
        assert version, f"run `make lock`: {requirement.name} is not locked"
        assert version in requirement.specifier, f"run `make lock`: {requirement.name} has parted"


def test_the_lock_and_the_exports_hold_no_address():
    for file in ("poetry.lock", "requirements.txt", "requirements-dev.txt"):
        assert "://" not in (ROOT / file).read_text("utf-8"), file


def test_a_python_that_is_too_old_gets_one_clear_line(tmp_path):
    old = tmp_path / "python3"
    old.write_text(
        f"#!/bin/sh\nexec {sys.executable} -c 'import sys; sys.version_info = (3, 8, 1); "
        'sys.version = "3.8.1 (old)"; exec(sys.argv[1])\' "$2"\n'
    )
    old.chmod(0o755)
    for file in ("Makefile", "requirements.txt", "pyproject.toml"):
        (tmp_path / file).write_bytes((ROOT / file).read_bytes())
    done = subprocess.run(
        ["make", "run", f"PYTHON={old}"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode != 0
    first, *rest = done.stderr.splitlines()
    assert first == (
        "Lockstep needs Python 3.10 or newer; this is 3.8.1: "
        "name another with make PYTHON=python3.12"
    )
    assert all(line.startswith("make") for line in rest)


def test_starting_up_loads_no_optional_part_and_no_decoder(tmp_path):
    heavy = ("PIL", "cykooz_resizer", "pillow_heif", "httpx", "pebble", "filelock", "rich.progress")
    heavy += ("fastapi", "uvicorn", "jinja2", "prometheus_client", "pipeline.web.server")
    heavy += ("watchfiles", "sqlalchemy.dialects.postgresql")
    code = f"import sys, app; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PIPELINE_RECIPES": "recipes.toml"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_every_setting_is_documented_with_its_default():
    readme, jobs = ((ROOT / name).read_text("utf-8") for name in ("README.md", "docs/jobs.md"))
    tables = (variables_of(Settings), variables_of(JobSettings), FETCH_VARIABLES)
    names = {variable.name for table in tables for variable in table.values()}
    # What bounds the fetch has its place beside the threat model.
    missing = [
        name
        for name in sorted(names)
        if f"`PIPELINE_{name}`" not in (jobs if name.startswith("FETCH_") else readme)
    ]
    assert missing == []
    defaults = {field.name: field.default for field in dataclasses.fields(FetchLimits)}
    for field, variable in FETCH_VARIABLES.items():
        row = re.search(rf"\| `PIPELINE_{variable.name}` \|.*\| ([^|]*) \|\n", jobs)
        assert row is not None, variable.name
        shown = row[1].strip().strip("`")
        if shown != "none" and isinstance(defaults[field], (int, float)):
            assert float(shown) == defaults[field], variable.name


def test_the_map_of_rooms_has_every_room_that_there_is():
    text = (ROOT / "docs/contributing.md").read_text("utf-8")
    map_of_rooms = text[text.index("## Map of rooms") : text.index("## Floors")]
    for marker in (ROOT / "pipeline").glob("*/**/__init__.py"):
        room = marker.parent.relative_to(ROOT).as_posix()
        assert f"| `{room}/` |" in map_of_rooms, room


def test_the_samples_are_few_small_and_of_many_kinds():
    files = [path for path in (ROOT / "input").rglob("*") if path.is_file()]
    assert 8 <= len(files) <= 12
    assert sum(path.stat().st_size for path in files) < 1_000_000
    assert len({path.suffix.lower() for path in files}) >= 6


def test_nothing_in_the_project_leads_to_a_path_of_one_machine():
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False
    ).stdout.split(b"\0")
    for name in filter(None, listed):
        path = ROOT / os.fsdecode(name)
        if path.suffix in (".py", ".md", ".toml", ".txt", ".mjs") and path.exists():
            text = path.read_text("utf-8")
            assert not re.search(r"/home/[a-z]+/|/root/|/tmp/venv|/work/", text) or (
                path == Path(__file__)
            ), path
