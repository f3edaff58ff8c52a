"""The project as a fresh machine meets it: lock files, make, README, start-up."""

from __future__ import annotations

import ast
import dataclasses
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest
from a_project import DATAPIPE, Project
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipeline.fetch.types import FetchLimits
from pipeline.settings.values import FETCH_VARIABLES, JobSettings, Settings, variables_of
from pipeline.transforms.recipes import _CHECKS, _OF_A_FUNCTION

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]


def locked_packages() -> list[dict]:
    return tomllib.loads((ROOT / "poetry.lock").read_text("utf-8"))["package"]


def is_of(package: dict, group: str) -> bool:
    """Whether a group has a package, and not only with an extra."""
    markers = package.get("markers", "")
    marker = markers.get(group, "") if isinstance(markers, dict) else markers
    return group in package["groups"] and "extra ==" not in marker


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
    "room", sorted(ROOT.glob("pipeline/*/**/__init__.py")), ids=lambda room: room.parent.name
)
def test_a_room_says_what_is_in_each_of_its_modules(room):
    inside = {path.stem for path in room.parent.glob("*.py")}
    inside |= {path.parent.name for path in room.parent.glob("*/__init__.py")}
    named = re.findall(r"^``(\w+)`` ", ast.get_docstring(ast.parse(room.read_text())) or "", re.M)
    assert sorted(named) == sorted(inside - {"__init__"})


@pytest.mark.parametrize(
    ("file", "groups"),
    [
        ("requirements.txt", ("main", "build")),
        ("requirements-dev.txt", ("main", "build", "dev")),
    ],
)
def test_the_exported_requirements_are_those_of_the_lock(file, groups):
    wanted = {
        (canonicalize_name(package["name"]), package["version"]): {
            entry["hash"] for entry in package["files"]
        }
        for package in locked_packages()
        if any(is_of(package, group) for group in groups)
    }
    assert exported(file) == wanted, f"run `make lock`: {file} and poetry.lock differ"


def test_the_lock_holds_what_pyproject_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    versions = {canonicalize_name(p["name"]): p["version"] for p in locked_packages()}
    asked = list(project["dependencies"])
    for extra in project.get("optional-dependencies", {}).values():
        asked += extra
    for requirement in map(Requirement, asked):
        version = versions.get(canonicalize_name(requirement.name))
        assert version, f"run `make lock`: {requirement.name} is not locked"
        assert version in requirement.specifier, f"run `make lock`: {requirement.name} differs"


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


# What neither a question nor a run with no change needs, by the milliseconds that it costs. What is
# imported inside a function for that reason has its test here.
HEAVY = ("PIL", "cykooz_resizer", "pillow_heif", "pebble", "rich.progress", "httpx", "httpcore")
HEAVY += ("h2", "anyio", "watchfiles", "fastapi", "starlette", "uvicorn", "jinja2")
HEAVY += ("prometheus_client", "sqlalchemy.dialects.postgresql", "sqlalchemy.dialects.mysql")


def imported_by(project: Project, *command: str) -> set[str]:
    """The modules that a command of datapipe imports, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", str(DATAPIPE), *command],
        cwd=project.root,
        env={**os.environ, **project.env},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}


def test_help_loads_no_engine(project: Project) -> None:
    found = imported_by(project, "--help")
    assert "pipeline.cli.commands" in found
    assert found.isdisjoint((*HEAVY, "filelock", "pipeline.app", "pipeline.tables"))


def test_a_question_loads_nothing_that_only_a_run_or_the_page_needs(project: Project) -> None:
    project.add("a.png")
    project.run()
    found = imported_by(project, "status")
    assert "pipeline.operations.status" in found
    only_a_run = ("filelock", "pipeline.operations.preview", "pipeline.fetch.client")
    assert found.isdisjoint((*HEAVY, *only_a_run, "pipeline.live", "pipeline.web"))


def test_a_run_with_no_change_loads_neither_decoders_nor_the_page(project: Project) -> None:
    project.add("a.png")
    project.run()
    found = imported_by(project, "run")
    assert "pipeline.engine.run" in found
    without = ("pipeline.imaging.render", "pipeline.fetch.client", "pipeline.live", "pipeline.web")
    assert found.isdisjoint((*HEAVY, *without))


LONGEST = {"module": 400, "class": 250, "function": 60}


def too_long(file: Path) -> Iterator[str]:
    """What is longer than it may be; a function says why with "Long because" in its docstring."""
    name, text = file.relative_to(ROOT), file.read_text("utf-8")
    tree = ast.parse(text)
    if len(text.splitlines()) > LONGEST["module"]:
        yield f"{name}: {len(text.splitlines())} lines"
    for node in ast.walk(tree):
        if not isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        is_class = isinstance(node, ast.ClassDef)
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        if lines <= LONGEST["class" if is_class else "function"]:
            continue
        if is_class or "Long because" not in (ast.get_docstring(node) or ""):
            yield f"{name}:{node.lineno}: {node.name} has {lines} lines"


def test_no_module_class_or_function_is_too_long_to_read() -> None:
    files = [ROOT / "app.py", *(ROOT / "pipeline").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    assert [line for file in files for line in too_long(file)] == []


def deferred_without_a_reason(file: Path) -> Iterator[str]:
    """Imports inside functions whose block has no comment above that says what they cost."""
    lines = file.read_text("utf-8").splitlines()
    for function in ast.walk(ast.parse("\n".join(lines))):
        if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        for node in ast.walk(function):
            if not isinstance(node, (ast.Import, ast.ImportFrom)):
                continue
            # Also the second import of a block, and a comment of two lines.
            above = "\n".join(lines[max(0, node.lineno - 5) : node.lineno - 1])
            if not re.search(r"# Imported here: [^\0]*\b[0-9]+ ms", above):
                yield f"{file.relative_to(ROOT)}:{node.lineno}"


ROOMS = ("cli", "web", "live", "operations", "workers", "imaging", "fetch", "csvs", "settings")
ROOMS += ("database", "storage", "transforms", "engine", "jobs", "takedowns")


def test_no_circle_ties_the_modules_of_a_room() -> None:
    # The contract of import-linter is about rooms; this looks inside them.
    graph = grimp.build_graph("pipeline", cache_dir=None)
    inside = {module for module in graph.modules if module.split(".")[1:2] in [[r] for r in ROOMS]}
    imports = {module: graph.find_modules_directly_imported_by(module) for module in inside}
    TopologicalSorter({module: found & inside for module, found in imports.items()}).prepare()


def test_an_import_inside_a_function_says_what_it_saves() -> None:
    files = [file for room in ROOMS for file in sorted((ROOT / "pipeline" / room).rglob("*.py"))]
    assert [line for file in files for line in deferred_without_a_reason(file)] == []


def test_starting_up_loads_no_optional_part_and_no_decoder(tmp_path):
    heavy = ("PIL", "cykooz_resizer", "pillow_heif", "httpx", "pebble", "filelock", "rich.progress")
    heavy += ("fastapi", "uvicorn", "jinja2", "prometheus_client", "pipeline.web.server")
    heavy += ("watchfiles", "sqlalchemy.dialects.postgresql", "sqlalchemy.dialects.mysql")
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
    for variable in [each for table in tables[:2] for each in table.values()]:
        row = re.search(rf"\| .*`PIPELINE_{variable.name}`.* \| ([^|]*) \|\n", readme)
        if isinstance(variable.default, str) and variable.default and row is not None:
            assert f"`{variable.default}`" in row[1], variable.name
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


def test_the_documented_floors_are_those_that_lint_enforces():
    text = (ROOT / "docs/contributing.md").read_text("utf-8")
    lines = re.findall(r"^ ?\d+  ([a-z_, ]+)$", text, re.M)
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    (contract,) = settings["tool"]["importlinter"]["contracts"]
    floors = [layer.split(" | ") for layer in reversed(contract["layers"])]
    assert [line.split(", ") for line in lines] == floors


def test_every_key_of_a_recipe_is_in_the_readme():
    readme = (ROOT / "README.md").read_text("utf-8")
    keys = sorted({*_CHECKS, *_OF_A_FUNCTION})
    assert [key for key in keys if not re.search(rf"^\|.*`{key}`.*\|.*\|", readme, re.M)] == []


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
