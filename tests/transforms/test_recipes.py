from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import RecipeError
from pipeline.transforms.recipes import LATER_KEYS, Recipe, load_recipes, recipe_of


def load(tmp_path: Path, text: str | bytes) -> dict[str, Recipe]:
    path = tmp_path / "recipes.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_recipes(path)


def fault(tmp_path: Path, text: str | bytes) -> str:
    with pytest.raises(RecipeError) as caught:
        load(tmp_path, text)
    message = str(caught.value)
    assert str(tmp_path / "recipes.toml") in message
    return message


def test_the_shipped_recipes_are_half_and_thumb() -> None:
    assert load_recipes(Path(__file__).parents[2] / "recipes.toml") == {
        "half": Recipe("half", scale=0.5),
        "thumb": Recipe("thumb", fit=(400, 400), format="webp", quality=80),
    }


def test_every_key_is_read(tmp_path: Path) -> None:
    text = """
    [square]
    cover = [300, 200]
    format = "jpeg"
    quality = 70
    background = "Navy"
    enlarge = true
    metadata = "copyright"
    position = "attention"
    progressive = true
    [wide]
    width = 1200
    [tall]
    height = 900
    background = "#AbC"
    [same]
    scale = 1
    """
    assert load(tmp_path, text) == {
        "square": Recipe(
            "square",
            cover=(300, 200),
            format="jpeg",
            quality=70,
            background="#000080",
            enlarge=True,
            metadata="copyright",
            position="attention",
            progressive=True,
        ),
        "wide": Recipe("wide", width=1200),
        "tall": Recipe("tall", height=900, background="#aabbcc"),
        "same": Recipe("same", scale=1.0),
    }


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "qualty = 3",
            "[a] qualty: is not a key of a recipe; did you mean quality? Allowed: scale",
        ),
        ("zzz = 3", "[a] zzz: is not a key of a recipe; Allowed: scale, fit, cover"),
        ("quality = 0", "[a] quality = 0: must be a whole number from 1 to 100"),
        ("quality = 101", "[a] quality = 101: must be"),
        ("quality = true", "[a] quality = true: must be"),
        ("quality = 80.0", "[a] quality = 80.0: must be"),
        ("quality = '80'", '[a] quality = "80": must be'),
        ("format = 'jpg'", '[a] format = "jpg": must be one of keep, jpeg, png, webp, avif, gif'),
        ("format = 3", "[a] format = 3: must be one of"),
        ("background = '#12345'", '[a] background = "#12345": must be a colour such as'),
        ("background = 'whitish'", '[a] background = "whitish": must be a colour such as'),
        ("enlarge = 1", "[a] enlarge = 1: must be true or false"),
        ("metadata = 'all'", '[a] metadata = "all": must be one of strip, keep, copyright'),
        ("progressive = 'yes'", '[a] progressive = "yes": must be true or false'),
        ("position = 'top'", "[a] position: only cover crops"),
        ("format = 'png'\nquality = 3", "[a] quality: png has no quality; leave the key out"),
        ("format = 'gif'\nquality = 3", "[a] quality: gif has no quality; leave the key out"),
        ("format = 'webp'\nprogressive = true", "[a] progressive: only jpeg can be progressive"),
        (
            "fit = [4, 4]",
            "[a] has scale and fit; give only one of scale, fit, cover, width, height or",
        ),
    ],
)
def test_a_fault_names_the_table_the_key_and_what_is_allowed(
    tmp_path: Path, line: str, expected: str
) -> None:
    assert expected in fault(tmp_path, f"[a]\nscale = 0.5\n{line}\n")


@pytest.mark.parametrize(
    "size",
    [
        "scale = 0",
        "scale = -0.5",
        "scale = nan",
        "scale = inf",
        "scale = 17",
        "scale = true",
        "scale = '50%'",
        "width = 0",
        "width = -3",
        "width = 65536",
        "width = 10.5",
        "height = false",
        "fit = 400",
        "fit = [400]",
        "fit = [400, 400, 400]",
        "fit = [400, 0]",
        "fit = [400, true]",
        "cover = [400, 99999]",
        "cover = '400x400'",
    ],
)
def test_a_size_that_cannot_work_is_refused(tmp_path: Path, size: str) -> None:
    key = size.split(" ")[0]
    assert f"[a] {key} = " in fault(tmp_path, f"[a]\n{size}\nenlarge = true\n")


def test_a_scale_above_one_has_to_be_meant(tmp_path: Path) -> None:
    assert "[a] scale = 2: enlarges; give at most 1, or enlarge = true" in fault(
        tmp_path, "[a]\nscale = 2\n"
    )
    assert load(tmp_path, "[a]\nscale = 2\nenlarge = true\n")["a"].scale == 2.0


def test_a_recipe_without_a_size_is_refused(tmp_path: Path) -> None:
    assert "[a] has no size; give one of scale, fit, cover, width, height or widths" in fault(
        tmp_path, "[a]\nformat = 'webp'\n"
    )


@pytest.mark.parametrize(
    "name", ["a/b", "a b", ".a", "a.b", "..", "-a", "ä", "a\\\\b", "", "con", "LPT1", "x" * 65]
)
def test_a_name_that_is_no_safe_folder_is_refused(tmp_path: Path, name: str) -> None:
    fault(tmp_path, f'["{name}"]\nscale = 0.5\n')


@pytest.mark.parametrize("name", ["a", "A-1_b", "_x", "400", "x" * 64, "console"])
def test_a_name_that_is_a_safe_folder_is_taken(tmp_path: Path, name: str) -> None:
    assert list(load(tmp_path, f"[{name}]\nscale = 0.5\n")) == [name]


def test_two_names_that_differ_in_case_alone_are_refused(tmp_path: Path) -> None:
    message = fault(tmp_path, "[Thumb]\nscale = 0.5\n[thumb]\nscale = 0.2\n")
    assert "[thumb]: would write the same files as [Thumb]" in message


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    message = fault(tmp_path, "stray = 1\n[a]\nscal = 1\n[b]\nfit = 3\nquality = 0\n")
    assert "has 5 problems:" in message
    for part in ("stray: is outside", "[a] scal: ", "[a] has no size", "[b] fit = 3", "= 0"):
        assert part in message


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="does not exist; create it, or name another"):
        load_recipes(tmp_path / "none.toml")
    with pytest.raises(RecipeError, match="cannot be read: Is a directory"):
        load_recipes(tmp_path)
    assert "has no recipe; add one" in fault(tmp_path, "")
    assert "has no recipe; add one" in fault(tmp_path, "# nothing yet\n")
    assert "at line 2" in fault(tmp_path, "[a]\nscale 0.5\n")
    assert "is not UTF-8 text (line 2)" in fault(tmp_path, b"[a]\n# gr\xfc\xdfe\nscale = 0.5\n")
    assert "nested too deep" in fault(tmp_path, "a = " + "[" * 10_000)


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    assert load(tmp_path, b"\xef\xbb\xbf[a]\r\nscale = 0.5\r\n") == {"a": Recipe("a", scale=0.5)}


def test_the_fingerprint_follows_what_makes_the_bytes_and_nothing_else(tmp_path: Path) -> None:
    plain = Recipe("a", fit=(400, 300))
    assert len(plain.fingerprint) == 16
    assert int(plain.fingerprint, 16) >= 0
    assert replace(plain, name="b").fingerprint == plain.fingerprint
    changes = [
        {"fit": (300, 400)},
        {"fit": None, "cover": (400, 300)},
        {"fit": None, "scale": 0.5},
        {"format": "webp"},
        {"quality": 80},
        {"background": "#000000"},
        {"enlarge": True},
        {"metadata": "keep"},
        {"progressive": True},
    ]
    prints = {replace(plain, **change).fingerprint for change in changes}  # type: ignore[arg-type]
    assert len(prints) == len(changes)
    assert plain.fingerprint not in prints
    spelt = load(tmp_path, "[a]\nscale = 1\nbackground = 'white'\n[b]\nscale = 1.0\n")
    assert spelt["a"].fingerprint == spelt["b"].fingerprint


def test_the_fingerprint_is_the_same_in_every_release() -> None:
    """A change here would render every image again after an upgrade."""
    assert Recipe("half", scale=0.5).fingerprint == "85206cc88fba108b"


def test_a_recipe_can_be_sent_to_a_worker() -> None:
    recipe = Recipe("a", cover=(400, 300), position="top-left")
    assert pickle.loads(pickle.dumps(recipe)) == recipe


TODAY = {
    "half": (Recipe("half", scale=0.5), "85206cc88fba108b"),
    "every key": (
        Recipe(
            "square",
            cover=(300, 200),
            format="jpeg",
            quality=70,
            background="#000080",
            enlarge=True,
            metadata="copyright",
            position="attention",
            progressive=True,
        ),
        "281f8dc91920cac5",
    ),
    "thumb": (Recipe("thumb", fit=(400, 400), format="webp", quality=80), "91995bec02d63088"),
}


@pytest.mark.parametrize("which", TODAY)
def test_recipes_without_later_keys_keep_the_fingerprints_that_they_had(which: str) -> None:
    recipe, fingerprint = TODAY[which]
    assert recipe.fingerprint == fingerprint
    assert not set(LATER_KEYS) & set(json.loads(recipe.spec))


def test_widths_are_a_recipe_each_of_what_is_wider_than_the_one_before(tmp_path: Path) -> None:
    found = load(tmp_path, "[a]\nwidths = [800, 400, 800]\nformat = 'webp'\n")
    assert found == {
        "a@400": Recipe("a@400", width=400, format="webp"),
        "a@800": Recipe("a@800", width=800, format="webp", above=400),
    }
    more = load(tmp_path, "[a]\nwidths = [400, 800, 1600]\nformat = 'webp'\n")
    assert {name: more[name] for name in found} == found


@pytest.mark.parametrize("widths", ["[]", "400", "[0]", "[400, '800']", str([*range(1, 22)])])
def test_widths_that_cannot_work_are_refused(tmp_path: Path, widths: str) -> None:
    assert f"[a] widths = {widths[:5]}"[:14] in fault(tmp_path, f"[a]\nwidths = {widths}\n")
    assert "a list of at most 20 widths" in fault(tmp_path, f"[a]\nwidths = {widths}\n")


def test_widths_and_other_sizes_exclude_each_other(tmp_path: Path) -> None:
    text = "[a]\nwidths = [400]\nenlarge = true\nfit = [3, 3]\n"
    message = fault(tmp_path, text)
    assert "[a] has fit and widths; give only one" in message
    assert "[a] enlarge: none of widths is above the picture's own" in message


def test_a_recipe_may_be_made_from_the_rendition_of_another(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        "[a]\nfrom = 'b'\nscale = 0.5\n[b]\nfrom = 'c'\nfit = [9, 9]\n[c]\nscale = 0.25\n"
        "[w]\nfrom = 'c'\nwidths = [4, 8]\n",
    )
    assert [recipe.name for recipe in found["a"].line] == ["c", "b", "a"]
    assert found["w@8"].parent == found["c"]
    assert found["a"].fingerprint != replace(found["a"], parent=None).fingerprint
    sharper = replace(found["a"], parent=replace(found["b"], quality=90))
    assert found["a"].fingerprint != sharper.fingerprint


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from = 'bb'", '[a] from = "bb": there is no recipe of that name; did you mean b?'),
        ("from = 'w'", '[a] from = "w": that has widths; name a recipe that makes one'),
        ("from = 'a'", '[a] from = "a": goes in a circle: [a] from [a]'),
        ("from = 'd'", '[a] from = "d": goes in a circle: [a] from [d] from [a]'),
        ("from = 3", "[a] from = 3: must be the name of another recipe"),
    ],
)
def test_a_parent_that_cannot_be_is_refused_by_name(
    tmp_path: Path, text: str, expected: str
) -> None:
    rest = "[b]\nscale = 1\n[w]\nwidths = [3]\n[d]\nscale = 1\nfrom = 'a'\n"
    assert expected in fault(tmp_path, f"[a]\nscale = 1\n{text}\n{rest}")


def test_a_recipe_comes_back_from_its_table_with_its_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "functions.py").write_text("def stamp(image): return image\n")
    text = "[a]\nscale = 1\nfunction = 'functions:stamp'\n[b]\nfrom = 'a'\nwidths = [3, 5]\n"
    for recipe in load(tmp_path, text).values():
        assert recipe_of(recipe.spec) == recipe
        assert recipe_of(recipe.spec).fingerprint == recipe.fingerprint
        assert "def stamp" not in recipe.spec


def test_problems_of_functions_are_told_with_the_others(tmp_path: Path) -> None:
    message = fault(tmp_path, "[a]\nscale = 2\nfunction = 'functions:stamp'\n[b]\nfrom = 'x'\n")
    assert "has 4 problems" in message
    assert '[a] function = "functions:stamp": there is no module functions' in message
    assert "[a] scale = 2: enlarges" in message
