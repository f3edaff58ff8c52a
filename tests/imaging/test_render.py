"""The order of the pixel steps is the order of their lists."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from samples import animated, encoded, photo

from pipeline.imaging import Limits
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
