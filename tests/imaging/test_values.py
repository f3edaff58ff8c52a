"""Values: what a feature gets, and what may become of what it returns."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline.imaging import Failure, Limits, Rendition, Values
from pipeline.imaging import render as rendering
from pipeline.imaging.render import render
from pipeline.transforms import functions
from pipeline.transforms.features import Feature, parse_features
from pipeline.transforms.recipes import Recipe, Transform

HALF = Recipe("half", scale=0.5)


@pytest.fixture(autouse=True)
def _as_a_new_worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(functions, "_loaded", {})
    monkeypatch.setattr(functions, "_sent", sent := functions._Sent())
    yield
    sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not sent]
    sys.modules.pop("functions", None)


def picture(size: tuple[int, int] = (800, 400), **options: Any) -> bytes:
    stream = io.BytesIO()
    image = Image.linear_gradient("L").resize(size).convert("RGB")
    image.save(stream, options.pop("format", "JPEG"), **options)
    return stream.getvalue()


def feature(folder: Path, body: str, name: str = "mine", **keys: Any) -> Feature:
    """A feature whose function has this body; it is given ``image``."""
    (folder / "functions.py").write_text(f"def mine(image):\n    {body}\n", "utf-8")
    table = {name: {"function": "functions:mine", **keys}}
    found, problems = parse_features(table, folder)
    assert problems == []
    return found[f"features.{name}"]


def said(data: bytes, wanted: Transform) -> Any:
    (result,) = render(data, [wanted], Limits())
    return json.loads(result.json) if isinstance(result, Values) else result


def reason(data: bytes, wanted: Transform) -> str:
    (result,) = render(data, [wanted], Limits())
    assert isinstance(result, Failure)
    assert result.recipe == wanted.name
    return result.reason.text


def test_it_gets_the_upright_picture_reduced_to_its_longer_side(tmp_path: Path) -> None:
    mine = feature(tmp_path, "return {'size': image.size, 'mode': image.mode}", max_side=100)
    assert said(picture(), mine) == {"size": [100, 50], "mode": "RGB"}
    turned = Image.Exif()
    turned[0x0112] = 6
    assert said(picture(exif=turned), mine) == {"size": [50, 100], "mode": "RGB"}


def test_a_small_picture_is_not_enlarged(tmp_path: Path) -> None:
    mine = feature(tmp_path, "return {'size': image.size}")
    assert said(picture((30, 20)), mine) == {"size": [30, 20]}


def test_an_original_is_decoded_once_for_all_recipes_and_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    decode = rendering.decode
    monkeypatch.setattr(
        rendering, "decode", lambda original, n: decoded.append(n) or decode(original, n)
    )
    mine = feature(tmp_path, "return {}")
    palette, size = (Feature(n, _shipped(n)) for n in ("palette", "size"))
    results = render(picture(), [HALF, mine, palette, Recipe("w", width=9), size], Limits())
    assert [type(result) for result in results] == [Rendition, Values, Values, Rendition, Values]
    assert decoded == [2]


def test_a_function_of_the_header_costs_no_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "decode", None)
    data = picture()
    size = Feature("features.size", _shipped("size"))
    assert said(data, size) == {
        "width": 800,
        "height": 400,
        "format": "jpeg",
        "bytes": len(data),
    }


def _shipped(name: str) -> functions.Function:
    found, problems = parse_features({name: {"function": name}}, Path())
    assert problems == []
    return found[f"features.{name}"].function


def test_what_it_draws_in_the_picture_is_in_no_rendition(tmp_path: Path) -> None:
    data = picture((40, 40), format="PNG")
    mine = feature(tmp_path, "image.paste(0, (0, 0, 40, 40)); return {}")
    whole = Recipe("whole", scale=1)
    alone = render(data, [whole], Limits())
    assert render(data, [mine, whole], Limits())[1:] == alone


def test_what_it_raises_is_the_last_line_of_the_traceback(tmp_path: Path) -> None:
    mine = feature(tmp_path, "raise KeyError('no such colour')")
    failed, rendition = render(picture(), [mine, HALF], Limits())
    assert isinstance(failed, Failure)
    assert isinstance(rendition, Rendition)
    assert failed.reason.text == "functions:mine: KeyError: 'no such colour'"
    assert 'functions.py", line 2, in mine' in failed.log_text


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("return None", "returned None; it must return a dict"),
        ("return [1]", "returned list; it must return a dict"),
        ("return image", "returned PIL.Image.Image; it must return a dict"),
        ("return {1: 2}", "returned a dict with a key of int; its keys must be text"),
        (
            "return {'a': {}}",
            "returned a = dict; values must be text, numbers, true, false or None",
        ),
        ("return {'a': [[]]}", "returned a = list; values must be"),
        ("return {'a': image}", "returned a = PIL.Image.Image; values must be"),
        ("return {'a': float('nan')}", "returned a number that is infinite, or not a number (NaN)"),
        ("return {'a': [float('inf')]}", "returned a number that is infinite"),
        ("return {'a': '\\ud800'}", "returned text that is not valid Unicode"),
        ("return {'a': 'x' * 64_000}", "returned 64,009 bytes of JSON; at most 64,000 are kept"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_the_reason(
    tmp_path: Path, body: str, why: str
) -> None:
    assert reason(picture(), feature(tmp_path, body)).startswith(f"functions:mine: {why}")


def test_what_can_be_kept_comes_back_as_it_was(tmp_path: Path) -> None:
    value = {"text": "grün\n", "one": 1, "half": 0.5, "yes": True, "none": None, "many": [1, "a"]}
    assert said(picture(), feature(tmp_path, f"return {value!r}")) == value


def test_a_module_that_cannot_be_imported_is_the_reason(tmp_path: Path) -> None:
    mine = feature(tmp_path, "return {}\nimport no_such_module")
    assert "No module named 'no_such_module'" in reason(picture(), mine)
