"""Features: values that a function makes of an original, as ``[features.NAME]`` in
``recipes.toml``.

A feature is a transform like a recipe, and a row of the same table; its name there begins with
``features.``, which no recipe can be called.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from pipeline.transforms.checks import Checks, NotAllowedError, toml, unknown_key, whole
from pipeline.transforms.functions import Function
from pipeline.transforms.parsing import parse_function

TABLE = "features"
PREFIX = f"{TABLE}."
# Made of every original, to find near duplicates. It is not for people: no feature in recipes.toml
# can have this name, and no count or list has it.
PDQ = f"{PREFIX}lockstep:pdq"
# What a function gets: enough for colours, hashes and most models, and soon made.
MAX_SIDE_PX = 256

_CHECKS: Checks = {
    "max_side": ("a whole number of pixels from 1 to 65535", whole(1, 65_535)),
}
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")
_KEYS = ("function", "options", *_CHECKS)


@dataclass(frozen=True, slots=True)
class Feature:
    """What a function says of a picture reduced to at most ``max_side`` pixels a side."""

    name: str
    function: Function
    max_side: int = MAX_SIDE_PX
    # As of a recipe.
    above: ClassVar[None] = None
    calls_functions: ClassVar[bool] = True

    @property
    def functions(self) -> tuple[Function, ...]:
        """Those that are called for it."""
        return (self.function,)

    @property
    def fingerprint(self) -> str:
        """16 hex characters that change when the values could; the name is not in."""
        said = f"{self.function.fingerprint} {self.max_side}"
        return hashlib.sha256(said.encode()).hexdigest()[:16]

    @property
    def spec(self) -> str:
        """All of it as JSON, for people."""
        function = {"name": self.function.name, "options": self.function.options}
        said = {"name": self.name, "function": function, "max_side": self.max_side}
        return json.dumps(said, sort_keys=True)


def is_feature(recipe: str) -> bool:
    """Whether a name among those of recipes is a feature's."""
    return recipe.startswith(PREFIX)


def is_listed(recipe: str) -> bool:
    """Whether a person asked for it: a recipe, or a feature in ``recipes.toml``."""
    return recipe != PDQ


def listed_features(recipes: Iterable[str]) -> list[str]:
    """The features among recipes that a person asked for, by their own names."""
    return [own_name(name) for name in recipes if is_feature(name) and is_listed(name)]


@cache
def pdq_feature() -> Feature:
    """The feature that every original has without being in ``recipes.toml``."""
    function, _ = parse_function({"function": "pdq"}, Path(), "values")
    assert function is not None
    return Feature(PDQ, function)


def own_name(recipe: str) -> str:
    """The name of a feature, as a person gave it; that of a recipe stays as it is."""
    return recipe.removeprefix(PREFIX)


def parse_features(tables: object, folder: Path) -> tuple[dict[str, Feature], list[str]]:
    """The features of ``[features.NAME]``, by full name, and every problem of them.

    Modules of functions are looked for in ``folder`` first.
    """
    features: dict[str, Feature] = {}
    problems: list[str] = []
    for own, table in tables.items() if isinstance(tables, dict) else [("", tables)]:
        name = f"{PREFIX}{own}"
        if not isinstance(table, dict):
            problems.append(
                f"[{TABLE}]: holds features, such as [{PREFIX}palette], and {own or 'this'} is "
                "none; no recipe can have this name"
            )
        elif not _NAME.fullmatch(own):
            problems.append(
                f"[{name[:80]}]: the name of a feature has 1 to 64 letters a-z, digits, '-' and "
                "'_', and no leading '-'"
            )
        else:
            feature, problems_here = _parse(name, table, folder)
            problems += problems_here
            if feature is not None:
                features[name] = feature
    return features, problems


def _parse(name: str, table: Mapping[str, Any], folder: Path) -> tuple[Feature | None, list[str]]:
    function, problems = parse_function(table, folder, "values")
    if "function" not in table:
        problems.append('has no function; give one, such as function = "functions:palette"')
    values: dict[str, Any] = {}
    for key in table:
        if key not in _KEYS:
            problems.append(f"{key}: {unknown_key(key, _KEYS, 'a key of a feature')}")
        elif key in _CHECKS:
            allowed, check = _CHECKS[key]
            try:
                values[key] = check(table[key])
            except NotAllowedError:
                problems.append(f"{key} = {toml(table[key])}: must be {allowed}")
    if function is None or problems:
        return None, [f"[{name}] {problem}" for problem in problems]
    return Feature(name, function, **values), []
