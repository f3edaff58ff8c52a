"""Features as ``recipes.toml`` has them: what identifies one, and what it is read from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.transforms.features import Feature
from pipeline.transforms.recipes import files_of, load_recipes

RECIPES = """
[half]
scale = 0.5

[features.mine]
function = "functions:mine"
options = { a = 1 }
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "functions.py").write_text("def mine(image, *, a, b=2): return {}\n", "utf-8")
    return tmp_path / "recipes.toml"


def feature(file: Path, text: str = RECIPES) -> Feature:
    file.write_text(text, "utf-8")
    found = load_recipes(file)["features.mine"]
    assert isinstance(found, Feature)
    return found


def test_features_come_after_the_recipes_by_a_name_that_none_of_these_can_have(file: Path) -> None:
    mine = feature(file)
    assert list(load_recipes(file)) == ["half", "features.mine"]
    assert (mine.name, mine.max_side, mine.function.name) == (
        "features.mine",
        256,
        "functions:mine",
    )
    assert json.loads(mine.spec)["function"] == {"name": "functions:mine", "options": '{"a":1}'}


@pytest.mark.parametrize(
    ("before", "after", "is_other"),
    [
        ("features.mine", "features.mine", False),
        ("[features.mine]", "# only words\n[features.mine]", False),
        ("scale = 0.5", "scale = 0.6", False),
        ("options", "max_side = 256\noptions", False),
        ("options", "max_side = 255\noptions", True),
        ("a = 1", "a = 2", True),
        ("a = 1", "a = 1, b = 3", True),
    ],
)
def test_its_fingerprint_is_its_function_its_options_and_its_size(
    file: Path, before: str, after: str, is_other: bool
) -> None:
    first = feature(file).fingerprint
    assert (feature(file, RECIPES.replace(before, after)).fingerprint != first) is is_other


def test_a_changed_module_is_another_fingerprint(file: Path) -> None:
    first = feature(file).fingerprint
    with (file.parent / "functions.py").open("a") as module:
        module.write("VERSION = 2\n")
    assert feature(file).fingerprint != first


def test_its_module_is_among_the_files_that_a_watcher_looks_at(file: Path) -> None:
    (file.parent / "functions.py").rename(file.parent / "others.py")
    mine = feature(file, RECIPES.replace("functions:", "others:"))
    assert str(file.parent / "others.py") in files_of(file, [mine])
