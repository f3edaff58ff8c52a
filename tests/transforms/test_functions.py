"""Functions: found without running them, known by what they are made of, called in a worker."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import FunctionError
from pipeline.transforms import functions, parsing
from pipeline.transforms.checks import whole
from pipeline.transforms.functions import Function, call, load
from pipeline.transforms.parsing import Shipped, parse_function

STAMP = """
import os
PROCESS = os.getpid()


def stamp(image, *, text, size=10):
    return f"{image} {text} {size}"
"""


@pytest.fixture(autouse=True)
def _as_a_new_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions, "_loaded", {})
    monkeypatch.setattr(functions, "_sent", functions._Sent())
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.setattr(sys, "modules", sys.modules.copy())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "functions.py", STAMP)
    return tmp_path


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, "utf-8")


def parsed(folder: Path, target: object = "functions:stamp", **options: Any) -> Function:
    table = {"function": target, "options": options}
    function, problems = parse_function(table, folder, "rendition")
    assert problems == []
    assert function is not None
    return function


def problem(folder: Path, target: object = "functions:stamp", **options: Any) -> str:
    table = {"function": target, "options": options}
    function, problems = parse_function(table, folder, "rendition")
    assert function is None
    return "\n".join(problems)


def test_a_table_without_a_function_has_none(folder: Path) -> None:
    assert parse_function({"fit": [4, 4]}, folder, "rendition") == (None, [])
    assert parse_function({"options": {}}, folder, "rendition") == (
        None,
        ["options: are those of a function, and it has none"],
    )


def test_a_function_gets_an_image_and_its_options(folder: Path) -> None:
    function = pickle.loads(pickle.dumps(parsed(folder, text="ACME")))
    assert call(function, "image") == "image ACME 10"
    assert load(function) is load(function)


def test_naming_a_function_runs_no_module(folder: Path) -> None:
    write(folder, "functions.py", "raise SystemExit('it was run')\ndef stamp(image): ...")
    function = parsed(folder)
    assert "functions" not in sys.modules
    with pytest.raises(FunctionError, match=r"^functions:stamp: SystemExit: it was run$"):
        call(function, "image")


def test_the_fingerprint_follows_the_source_and_the_options(folder: Path) -> None:
    first = parsed(folder, text="ACME", size=3)
    assert first.fingerprint == parsed(folder, size=3, text="ACME").fingerprint
    assert first.fingerprint != parsed(folder, size=3, text="EMCA").fingerprint
    write(folder, "functions.py", STAMP + "VERSION = 2\n")
    assert first.fingerprint != parsed(folder, text="ACME", size=3).fingerprint
    write(folder, "functions.py", STAMP)
    assert first.fingerprint == parsed(folder, text="ACME", size=3).fingerprint


def test_the_fingerprint_is_the_same_in_every_folder_and_release(folder: Path) -> None:
    """A change here would render again what every function has made."""
    assert parsed(folder, text="ACME").fingerprint == "a3039ebfa787539e"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (3, 'function = 3: must be "module:name", such as "functions:stamp"'),
        ("stamp", 'function = "stamp": must be "module:name"'),
        ("functions:stamp()", "must be"),
        ("../functions:stamp", "must be"),
        ("functoins:stamp", "there is no module functoins; create {folder}/functoins.py, or insta"),
        ("functions.more:stamp", "no module functions.more; create {folder}/functions/more.py"),
        ("functions:stmp", "{folder}/functions.py has no stmp; did you mean stamp?"),
    ],
)
def test_a_function_that_is_not_there_is_named(folder: Path, target: object, expected: str) -> None:
    assert expected.format(folder=folder) in problem(folder, target)


def test_a_module_that_is_not_python_is_named_with_its_line(folder: Path) -> None:
    write(folder, "functions.py", "def stamp(image):\n    return (\n")
    assert f'"functions:stamp": {folder}/functions.py, line 2: ' in problem(folder)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "options: functions:stamp needs text"),
        (
            {"text": "", "txet": ""},
            "options.txet: is not an option of functions:stamp; did you mean text? "
            "Allowed: text, size",
        ),
        ({"text": float("nan")}, "options.text = NaN: must be text, a finite number, true or"),
        ({"text": {"at": [Path()]}}, "options.text = "),
    ],
)
def test_options_that_cannot_be_given_are_named(
    folder: Path, options: dict[str, Any], expected: str
) -> None:
    assert expected in problem(folder, **options)


def test_options_have_to_be_a_table(folder: Path) -> None:
    table = {"function": "functions:stamp", "options": 3}
    _, problems = parse_function(table, folder, "rendition")
    assert problems == ["options = 3: must be a table, such as { text = 'ACME' }"]


@pytest.mark.parametrize(
    "source",
    [
        "stamp = lambda image: image",
        "from os.path import basename as stamp",
        "from os.path import *",
        "import functools\n@functools.cache\ndef stamp(image): ...",
        "def stamp(image, **options): ...",
        "if True:\n    def stamp(image): ...",
    ],
)
def test_a_function_may_be_made_in_any_way(folder: Path, source: str) -> None:
    write(folder, "functions.py", source)
    options = {"text": "ACME"} if "options" in source else {}
    assert parsed(folder, **options)


def test_what_a_module_imports_beside_itself_goes_with_it(folder: Path) -> None:
    write(folder, "functions.py", "from shop.logos import logo as stamp\nimport json")
    write(folder, "shop/__init__.py", "NAME = 'ACME'")
    write(
        folder,
        "shop/logos.py",
        "from . import NAME\nfrom plain.inner import tail\n"
        "def logo(image): return f'{NAME} {tail(image)}'",
    )
    write(folder, "plain/inner.py", "def tail(image): return image[-1]")
    function = parsed(folder)
    for name in ("functions.py", "shop/__init__.py", "shop/logos.py", "plain/inner.py"):
        (folder / name).unlink()
    assert call(function, "image") == "ACME e"


def test_an_installed_module_needs_nothing_beside_it(folder: Path) -> None:
    function = parsed(folder, "PIL.ImageOps:invert")
    assert [module.name for module in function.modules] == ["PIL.ImageOps"]
    assert load(function).func.__module__ == "PIL.ImageOps"


def test_a_worker_that_stays_calls_what_was_sent_and_not_what_it_has_loaded(folder: Path) -> None:
    write(folder, "functions.py", "import helper\ndef stamp(image): return helper.text()")
    write(folder, "helper.py", "def text(): return 'one'")
    first = parsed(folder)
    assert call(first, None) == "one"
    # The same size in the same second, which compiled files do not tell apart.
    write(folder, "helper.py", "def text(): return 'two'")
    assert call(first, None) == "one"
    second = parsed(folder)
    assert call(second, None) == "two"
    assert call(first, None) == "one"


def test_what_a_function_raises_is_said_in_a_line_and_logged_whole(folder: Path) -> None:
    write(folder, "functions.py", "def stamp(image):\n    raise ValueError('no\\nsuch logo')")
    function = parsed(folder)
    (folder / "functions.py").unlink()
    with pytest.raises(FunctionError, match=r"^functions:stamp: such logo$") as caught:
        call(function, None)
    assert "ValueError: no\nsuch logo" in caught.value.log_text
    assert "raise ValueError('no\\nsuch logo')" in caught.value.log_text
    assert f'File "{folder}/functions.py", line 2' in caught.value.log_text


def test_a_function_that_may_not_read_a_file_says_what_allows_it(folder: Path) -> None:
    write(folder, "functions.py", "def stamp(image):\n    raise PermissionError(13, 'denied', 'f')")
    with pytest.raises(FunctionError, match="read no other files than those it was allowed"):
        call(parsed(folder), None)


def test_what_a_function_prints_is_no_answer_of_a_command(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder, "functions.py", "def stamp(image):\n    print('seen')")
    call(parsed(folder), None)
    assert capsys.readouterr() == ("", "seen\n")


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch) -> Shipped:
    options = {
        "size": ("a whole number", whole(1, 3)),
        "picture": ("a file", str),
        "text": ("", str),
    }
    entry = Shipped("a.module:a", "rendition", 3, options, ("picture", "text"), ("picture",))
    monkeypatch.setattr(parsing, "SHIPPED", {"mark": entry})
    return entry


def test_one_that_comes_with_lockstep_is_known_by_its_version_and_files(
    tmp_path: Path, shipped: Shipped, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "logo.png").write_bytes(b"1")
    first = parsed(tmp_path, "mark", picture="logo.png")
    assert first.files == (("picture", f"{tmp_path}/logo.png", b"1"),)
    assert first.sources == [f"{tmp_path}/logo.png"]
    assert (first.target, first.modules) == ("a.module:a", ())
    (tmp_path / "logo.png").write_bytes(b"2")
    second = parsed(tmp_path, "mark", picture="logo.png")
    newer = shipped._replace(version=4)
    monkeypatch.setattr(parsing, "SHIPPED", {"mark": newer})
    third = parsed(tmp_path, "mark", picture="logo.png")
    assert len({first.fingerprint, second.fingerprint, third.fingerprint}) == 3


@pytest.mark.usefixtures("shipped")
def test_problems_of_one_that_comes_with_lockstep_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "large.png").write_bytes(bytes(1_000_001))
    said = problem(tmp_path, "mark", size=4, sise=1, picture="none.png")
    assert "options.size = 4: must be a whole number" in said
    assert "options.sise: is not an option of mark; did you mean size? Allowed: size, pi" in said
    assert f"options.picture: {tmp_path}/none.png cannot be read (No such file" in said
    assert "has 1,000,001 bytes; give a smaller file" in problem(
        tmp_path, "mark", picture="large.png"
    )
    assert "options: mark needs one of picture, text" in problem(tmp_path, "mark")
    assert "options: mark needs one of" in problem(tmp_path, "mark", picture="large.png", text="a")
    assert "of those that come with Lockstep, these do: mark" in problem(tmp_path, "murk")
    table = {"function": "mark", "options": {"text": "a"}}
    assert parse_function(table, tmp_path, "values")[1] == [
        'function = "mark": makes a picture, not values'
    ]
