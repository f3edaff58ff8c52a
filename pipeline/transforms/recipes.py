"""Recipes: named ways to derive an image, read from ``recipes.toml``.

A recipe is plain data. It knows no tables and no pixels; it can be pickled and sent to a worker.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeAlias

from pipeline.errors import RecipeError
from pipeline.names import WIDTH_SIGN
from pipeline.transforms.checks import (
    A_COLOUR,
    ANCHORS,
    Checks,
    NotAllowedError,
    colour,
    flag,
    number,
    one_of,
    toml,
    unknown_key,
    whole,
    words,
)
from pipeline.transforms.features import TABLE as FEATURES
from pipeline.transforms.features import Feature, parse_features
from pipeline.transforms.functions import Function
from pipeline.transforms.parsing import parse_function

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FORMATS = ("keep", "jpeg", "png", "webp", "avif", "gif")
METADATA = ("strip", "keep", "copyright")
POSITIONS = (*ANCHORS, "attention")
SIZINGS = ("scale", "fit", "cover", "width", "height", "widths")
MAX_WIDTHS = 20

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

# Recipes without one of them keep the fingerprints of releases that had none.
LATER_KEYS = ("function", "parent", "above")


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one rendition is made; exactly one of the five sizing keys is set.

    Sizes are in pixels of the upright picture. ``quality`` None means the format's default. With
    a ``parent`` it is made from that one's rendition, and not from the original; where ``above`` is
    set, only of a picture that is wider. A recipe with ``widths`` is several: ``name@width``.
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
    function: Function | None = None
    parent: Recipe | None = None
    above: int | None = None

    @property
    def fingerprint(self) -> str:
        """16 hex characters that change when the bytes of a rendition could; the name is not in."""
        said = self._said()
        del said["name"]
        for name in ("function", "parent"):
            if name in said:
                said[name] = getattr(self, name).fingerprint
        canonical = json.dumps(said, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    @property
    def spec(self) -> str:
        """All of it as JSON but for the text of a function, for the table of recipes; see
        :func:`recipe_of`."""
        return json.dumps(self._said(), sort_keys=True)

    @property
    def line(self) -> tuple[Recipe, ...]:
        """What it is made from, the recipe that takes the original first, and itself last."""
        return (*(self.parent.line if self.parent else ()), self)

    @property
    def calls_functions(self) -> bool:
        """Whether a function has any part in it."""
        return bool(self.functions)

    @property
    def functions(self) -> tuple[Function, ...]:
        """Those that are called for it, the one of a recipe that it is made from first."""
        return tuple(each.function for each in self.line if each.function is not None)

    def _said(self) -> dict[str, Any]:
        said = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in LATER_KEYS:
            if said[name] is None:
                del said[name]
        if self.function is not None:
            names = ("name", "target", "options", "content")
            said["function"] = {name: getattr(self.function, name) for name in names}
        if self.parent is not None:
            said["parent"] = self.parent._said()
        return said


def recipe_of(spec: str) -> Recipe:
    """The recipe that a row of the table of recipes describes; keys of other releases are
    ignored."""
    return _recipe_of(json.loads(spec))


def _recipe_of(spec: dict[str, Any]) -> Recipe:
    known = {field.name for field in fields(Recipe)}
    said: dict[str, Any] = {}
    for name, value in spec.items():
        if name in known:
            said[name] = tuple(value) if isinstance(value, list) else value  # JSON has no tuples
    if said.get("function"):
        said["function"] = Function(**said["function"])
    if said.get("parent"):
        said["parent"] = _recipe_of(said["parent"])
    return Recipe(**said)


# What can be made of an original: a rendition, or values.
Transform: TypeAlias = Recipe | Feature


def load_recipes(path: Path) -> dict[str, Transform]:
    """Read the recipes of a TOML file, in its order, and then its features. A recipe with
    ``widths`` is as many recipes.

    Raises RecipeError with every problem of the file at once: file, table, key, and what is
    allowed.
    """
    document = _read_toml(path)
    features, problems = parse_features(document.pop(FEATURES, {}), path.parent)
    parsed: dict[str, dict[str, Any]] = {}
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
        parsed[name], table_problems = _parse_table(table, path.parent)
        problems += [f"[{name}] {problem}" for problem in table_problems]
    problems += _parent_problems(parsed)
    if problems:
        count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise RecipeError(f"{path} has {count}:", problems)
    if not parsed and not features:
        raise RecipeError(f"{path} has no recipe; add one, such as [thumb] with fit = [400, 400]")
    recipes = [each for name in parsed for each in _recipes(name, parsed)]
    return {recipe.name: recipe for recipe in recipes} | features


def files_of(path: Path, recipes: Iterable[Transform]) -> set[str]:
    """The files that decide what recipes make: that of the recipes, and those of functions."""
    functions = [function for recipe in recipes for function in recipe.functions]
    # Also while it cannot be read: once it can be, the recipes can be used again.
    found = {str(path), str(path.parent / "functions.py")}
    return found.union(*(function.sources for function in functions))


def _recipes(name: str, parsed: Mapping[str, dict[str, Any]]) -> list[Recipe]:
    """The recipe of one table, or those of its widths."""
    values = dict(parsed[name])
    parent, widths = values.pop("from", None), values.pop("widths", None)
    recipe = Recipe(name=name, **values, parent=_recipes(parent, parsed)[0] if parent else None)
    if widths is None:
        return [recipe]
    return [
        replace(recipe, name=f"{name}{WIDTH_SIGN}{width}", width=width, above=smaller)
        for smaller, width in zip((None, *widths), widths, strict=False)
    ]


def _parent_problems(parsed: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Why a recipe cannot be made from the one that its ``from`` names."""
    problems = []
    for name, values in parsed.items():
        line, parent = [name], values.get("from", "")
        if not parent:
            continue
        at = f"[{name}] from = {toml(parent)}"
        if parent not in parsed:
            near = difflib.get_close_matches(parent, parsed, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            problems.append(f"{at}: there is no recipe of that name{hint}")
        elif "widths" in parsed[parent]:
            problems.append(f"{at}: that has widths; name a recipe that makes one rendition")
        while parent in parsed and parent not in line:
            line.append(parent)
            parent = parsed[parent].get("from", "")
        if parent == name:
            circle = " from ".join(f"[{each}]" for each in (*line, name))
            problems.append(f"{at}: goes in a circle: {circle}")
    return problems


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


def _parse_table(table: Mapping[str, Any], folder: Path) -> tuple[dict[str, Any], list[str]]:
    """The values of a table, ``from`` and ``widths`` included, and its problems."""
    problems: list[str] = []
    values: dict[str, Any] = {}
    for key, given in table.items():
        if key in _OF_A_FUNCTION:
            continue
        if key not in _CHECKS:
            problems.append(f"{key}: {unknown_key(key, (*_CHECKS, *_OF_A_FUNCTION))}")
            continue
        allowed, check = _CHECKS[key]
        try:
            values[key] = check(given)
        except NotAllowedError:
            problems.append(f"{key} = {toml(given)}: must be {allowed}")
    values["function"], of_function = parse_function(table, folder, "rendition")
    return values, [*problems, *of_function, *_combination_problems(table, values)]


def _combination_problems(table: Mapping[str, Any], values: Mapping[str, Any]) -> list[str]:
    """Validate the keys together; a key with a problem of its own is not reported twice."""
    problems = []
    sizings = [key for key in SIZINGS if key in table]
    choices = "scale, fit, cover, width, height or widths"
    if not sizings:
        problems.append(f"has no size; give one of {choices}")
    elif len(sizings) > 1:
        problems.append(f"has {' and '.join(sizings)}; give only one of {choices}")
    if "widths" in table and values.get("enlarge"):
        problems.append("enlarge: none of widths is above the picture's own; leave the key out")
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


def _widths(given: object) -> tuple[int, ...]:
    if not isinstance(given, list) or not 1 <= len(given) <= MAX_WIDTHS:
        raise NotAllowedError
    return tuple(sorted({_side(width) for width in given}))


_side = whole(1, MAX_SIDE_PX)
_a_side = f"a whole number of pixels from 1 to {MAX_SIDE_PX}"
_a_box = f"[width, height], two whole numbers from 1 to {MAX_SIDE_PX}"

_CHECKS: Checks = {
    "scale": (f"a number above 0 and at most {MAX_SCALE:g}, such as 0.5", number(MAX_SCALE)),
    "fit": (_a_box, _box),
    "cover": (_a_box, _box),
    "width": (_a_side, _side),
    "height": (_a_side, _side),
    "widths": (
        f"a list of at most {MAX_WIDTHS} widths from 1 to {MAX_SIDE_PX}, such as [400, 800]",
        _widths,
    ),
    "format": (f"one of {', '.join(FORMATS)}", one_of(FORMATS)),
    "quality": ("a whole number from 1 to 100", whole(1, 100)),
    "background": (A_COLOUR, colour),
    "enlarge": ("true or false", flag),
    "metadata": (f"one of {', '.join(METADATA)}", one_of(METADATA)),
    "position": (f"one of {', '.join(POSITIONS)}", one_of(POSITIONS)),
    "progressive": ("true or false", flag),
    "from": ("the name of another recipe", words(MAX_NAME_LENGTH)),
}
_OF_A_FUNCTION = ("function", "options")
