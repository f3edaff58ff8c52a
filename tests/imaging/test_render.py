"""The order of the pixel steps is the order of their lists."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image
from samples import animated, encoded, photo

from pipeline.imaging import Limits, Rendition, Unneeded
from pipeline.imaging.render import render
from pipeline.transforms.recipes import Recipe

LISTS = ("PICTURE_STEPS", "FRAME_STEPS", "FILE_STEPS")
RECIPES = [Recipe("half", scale=0.5), Recipe("web", scale=0.3, format="webp")]


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the lists whose steps were taken, in the order of the steps."""
    module = sys.modules["pipeline.imaging.render"]
    names: list[str] = []

    def noted(name: str, step: Callable[[Any], None]) -> Callable[[Any], None]:
        def take(subject: Any) -> None:
            names.append(name)
            step(subject)

        return take

    for name in LISTS:
        steps = getattr(module, name)
        monkeypatch.setattr(module, name, tuple(noted(name, step) for step in steps))
    return names


def steps_of(name: str) -> list[str]:
    return [name] * len(getattr(sys.modules["pipeline.imaging.render"], name))


def test_a_still_is_decoded_once_and_each_recipe_goes_its_own_way_from_there(
    taken: list[str],
) -> None:
    render(encoded(photo(), "JPEG"), RECIPES, Limits())
    picture, frame, file = map(steps_of, LISTS)
    assert taken == picture + (frame + file) * len(RECIPES)


def test_each_frame_of_an_animation_is_decoded_once_for_all_recipes(taken: list[str]) -> None:
    render(animated("WEBP", count=3), [RECIPES[1], RECIPES[0]], Limits())
    picture, frame, file = map(steps_of, LISTS)
    assert taken == (picture + frame * len(RECIPES)) * 3 + file * len(RECIPES)


def test_what_is_made_from_a_rendition_costs_no_decode_of_its_own(taken: list[str]) -> None:
    half = Recipe("half", scale=0.5)
    small = Recipe("small", scale=0.5, parent=half)
    data = encoded(photo(), "JPEG")
    picture, frame, file = map(steps_of, LISTS)
    both = render(data, [small, half], Limits())
    assert taken == picture + (frame + file) * 2
    taken.clear()
    (alone,) = render(data, [small], Limits())
    assert taken == picture + frame + frame + file
    assert alone == both[0]
    assert isinstance(alone, Rendition)
    assert (alone.width_px, alone.height_px) == (24, 16)


def test_what_is_made_from_a_moving_rendition_moves_and_from_a_still_does_not() -> None:
    moving = Recipe("moving", scale=0.5, format="webp")
    still = Recipe("still", scale=0.5, format="jpeg")
    recipes = [
        Recipe(f"{parent.name}-{format}", scale=1, format=format, parent=parent)
        for parent in (moving, still)
        for format in ("gif", "png")
    ]
    frames = {}
    for made in render(animated("WEBP", count=3), recipes, Limits()):
        assert isinstance(made, Rendition)
        with Image.open(io.BytesIO(made.data)) as image:
            frames[made.recipe] = getattr(image, "n_frames", 1)
    assert frames == {"moving-gif": 3, "moving-png": 1, "still-gif": 1, "still-png": 1}


def test_a_width_is_made_only_of_what_is_wider_than_the_width_before() -> None:
    widths = [
        Recipe("w@40", width=40),
        Recipe("w@60", width=60, above=40),
        Recipe("w@80", width=80, above=60),
        Recipe("w@90", width=90, above=80),
    ]
    made = render(encoded(photo(70, 50), "JPEG"), widths, Limits())
    assert [getattr(result, "width_px", None) for result in made] == [40, 60, 70, None]
    assert made[-1] == Unneeded("w@90")
