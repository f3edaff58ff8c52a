"""Recipes: named ways to derive an image, read from ``recipes.toml``.

A recipe is plain data. It knows no tables and no pixels; it can be pickled and sent to a worker.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeAlias

from pipeline.errors import RecipeError
from pipeline.transforms.checks import (
    COLOURS,
    Checks,
    NotAllowedError,
    colour,
    flag,
    number,
    one_of,
    toml,
    unknown_key,
    whole,
)
from pipeline.transforms.features import TABLE as FEATURES
from pipeline.transforms.features import Feature, parse_features

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FORMATS = ("keep", "jpeg", "png", "webp", "avif", "gif")
METADATA = ("strip", "keep", "copyright")
POSITIONS = (
    "center",
    "top",
    "top-right",
    "right",
    "bottom-right",
    "bottom",
    "bottom-left",
    "left",
    "top-left",
    "attention",
)
SIZINGS = ("scale", "fit", "cover", "width", "height")

MAX_SIDE_PX = 65_535  # the most that a JPEG header can say
MAX_SCALE = 16.0
MAX_NAME_LENGTH = 64
# The renditions of jobs are in this folder of `output/`, beside those of each recipe.
JOBS_FOLDER = "jobs"

# Windows opens a device, not a folder, under these names.
_WINDOWS_DEVICES = frozenset(
    ["con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))]
)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one rendition is made; exactly one of the five sizing keys is set.

    Sizes are in pixels of the upright picture. ``quality`` None means the format's default.
    """

    name: str
    scale: float | None = None
    fit: tuple[int, int] | None = None
    cover: tuple[int, int] | None = None
    width: int | None = None
    height: int | None = None
    format: str = "keep"
    quality: int | None = None
    background: str = "#ffffff"
    enlarge: bool = False
    metadata: str = "strip"
    position: str = "center"
    progressive: bool = False

    @property
    def fingerprint(self) -> str:
        """16 hex characters that change when the bytes of a rendition could; the name is not in."""
        said = asdict(self)
        del said["name"]
        canonical = json.dumps(said, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    @property
    def spec(self) -> str:
        """All of it as JSON, for the table of recipes; see :func:`recipe_of`."""
        return json.dumps(asdict(self), sort_keys=True)


def recipe_of(spec: str) -> Recipe:
    """The recipe that a row of the table of recipes describes; keys of other releases are
    ignored."""
    known = {field.name for field in fields(Recipe)}
    said: dict[str, Any] = {}
    for name, value in json.loads(spec).items():
        if name in known:
            said[name] = tuple(value) if isinstance(value, list) else value  # JSON has no tuples
    return Recipe(**said)


# What can be made of an original: a rendition, or values.
Transform: TypeAlias = Recipe | Feature


def load_recipes(path: Path) -> dict[str, Transform]:
    """Read the recipes of a TOML file, in its order, and then its features.

    Raises RecipeError with every problem of the file at once: file, table, key, and what is
    allowed.
    """
    document = _read_toml(path)
    features, problems = parse_features(document.pop(FEATURES, {}), path.parent)
    recipes: dict[str, Recipe] = {}
    seen: dict[str, str] = {}
    for name, table in document.items():
        if not isinstance(table, dict):
            problems.append(f"{name}: is outside a recipe; put it below a [name] line")
            continue
        problems += _name_problems(name)
        duplicate = seen.setdefault(name.lower(), name)
        if duplicate != name:
            problems.append(
                f"[{name}]: would write the same files as [{duplicate}] where a file "
                f"system ignores "
                "case; give it another name"
            )
        recipe, table_problems = _parse_table(name, table)
        problems += table_problems
        if recipe is not None:
            recipes[name] = recipe
    if problems:
        count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise RecipeError(f"{path} has {count}:", problems)
    if not recipes and not features:
        raise RecipeError(f"{path} has no recipe; add one, such as [thumb] with fit = [400, 400]")
    return {**recipes, **features}


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        # utf-8-sig: editors on Windows put a byte order mark first, which TOML refuses.
        document: dict[str, Any] = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise RecipeError(
            f"{path} does not exist; create it, or name another file in PIPELINE_RECIPES"
        ) from None
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise RecipeError(f"{path} is not UTF-8 text (line {line}); save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path} is not valid TOML: {error}") from error
    except RecursionError:
        raise RecipeError(f"{path} is not valid TOML: it is nested too deep") from None
    return document


def _name_problems(name: str) -> list[str]:
    """Why a name cannot be the name of a folder on every system; empty if it can."""
    if len(name) > MAX_NAME_LENGTH:
        return [f"[{name[:20]}...]: the name is longer than {MAX_NAME_LENGTH} characters"]
    if not _NAME.fullmatch(name):
        return [
            f"[{name}]: a recipe names a folder, so only the letters a-z, digits, '-' and '_' are "
            "allowed, and no leading '-'"
        ]
    if name.lower() == JOBS_FOLDER:
        return [
            f"[{name}]: output/{JOBS_FOLDER}/ holds the images of CSV jobs; choose another name"
        ]
    if name.lower() in _WINDOWS_DEVICES:
        return [f"[{name}]: Windows reserves this name for a device; choose another"]
    return []


def _parse_table(name: str, table: Mapping[str, Any]) -> tuple[Recipe | None, list[str]]:
    problems: list[str] = []
    values: dict[str, Any] = {}
    for key, given in table.items():
        if key not in _CHECKS:
            problems.append(f"[{name}] {key}: {unknown_key(key, _CHECKS)}")
            continue
        allowed, check = _CHECKS[key]
        try:
            values[key] = check(given)
        except NotAllowedError:
            problems.append(f"[{name}] {key} = {toml(given)}: must be {allowed}")
    problems += [f"[{name}] {problem}" for problem in _combination_problems(table, values)]
    return (None, problems) if problems else (Recipe(name=name, **values), [])


def _combination_problems(table: Mapping[str, Any], values: Mapping[str, Any]) -> list[str]:
    """Validate the keys together; a key with a problem of its own is not reported twice."""
    problems = []
    sizings = [key for key in SIZINGS if key in table]
    choices = "scale, fit, cover, width or height"
    if not sizings:
        problems.append(f"has no size; give one of {choices}")
    elif len(sizings) > 1:
        problems.append(f"has {' and '.join(sizings)}; give only one of {choices}")
    if values.get("scale", 0) > 1 and not values.get("enlarge", False):
        problems.append(f"scale = {values['scale']:g}: enlarges; give at most 1, or enlarge = true")
    format_ = values.get("format", "keep")
    if "quality" in values and format_ in ("png", "gif"):
        problems.append(f"quality: {format_} has no quality; leave the key out")
    if values.get("progressive") and format_ not in ("keep", "jpeg"):
        problems.append(f"progressive: only jpeg can be progressive, not {format_}; leave it out")
    if "position" in values and "cover" not in table:
        problems.append("position: only cover crops; leave the key out, or size with cover")
    return problems


def _box(given: object) -> tuple[int, int]:
    if not isinstance(given, list) or len(given) != 2:
        raise NotAllowedError
    return _side(given[0]), _side(given[1])


_side = whole(1, MAX_SIDE_PX)
_a_side = f"a whole number of pixels from 1 to {MAX_SIDE_PX}"
_a_box = f"[width, height], two whole numbers from 1 to {MAX_SIDE_PX}"

_CHECKS: Checks = {
    "scale": (f"a number above 0 and at most {MAX_SCALE:g}, such as 0.5", number(MAX_SCALE)),
    "fit": (_a_box, _box),
    "cover": (_a_box, _box),
    "width": (_a_side, _side),
    "height": (_a_side, _side),
    "format": (f"one of {', '.join(FORMATS)}", one_of(FORMATS)),
    "quality": ("a whole number from 1 to 100", whole(1, 100)),
    "background": (
        f"a colour such as '#ffffff' or '#fff', or one of {', '.join(COLOURS)}",
        colour,
    ),
    "enlarge": ("true or false", flag),
    "metadata": (f"one of {', '.join(METADATA)}", one_of(METADATA)),
    "position": (f"one of {', '.join(POSITIONS)}", one_of(POSITIONS)),
    "progressive": ("true or false", flag),
}
