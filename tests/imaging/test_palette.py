"""The shipped palette: the dominant colours of a picture, and the share of each."""

from __future__ import annotations

import pytest
from PIL import Image

from pipeline.imaging.palette import palette


def test_the_colours_come_with_their_shares_the_most_frequent_first() -> None:
    image = Image.new("RGB", (100, 100), "#ff0000")
    image.paste("#0000ff", (0, 0, 30, 100))
    image.paste("#00ff00", (0, 0, 10, 100))
    assert palette(image) == {
        "colors": ["#ff0000", "#0000ff", "#00ff00"],
        "shares": [0.7, 0.2, 0.1],
    }


def test_no_more_colours_are_given_than_asked_for() -> None:
    image = Image.linear_gradient("L")
    assert len(palette(image, count=3)["colors"]) == 3
    assert sum(palette(image, count=3)["shares"]) == pytest.approx(1, abs=0.001)  # type: ignore[arg-type]


def test_the_same_pixels_give_the_same_colours() -> None:
    across, around = Image.linear_gradient("L"), Image.radial_gradient("L")
    image = Image.merge("RGB", [across, around, across.rotate(90)])
    assert palette(image) == palette(image.copy())


def test_what_is_transparent_does_not_count() -> None:
    image = Image.new("RGBA", (10, 10), "#ff000000")
    assert palette(image) == {"colors": [], "shares": []}
    image.paste("#0000ff", (0, 0, 10, 1))
    assert palette(image) == {"colors": ["#0000ff"], "shares": [1.0]}


def test_a_count_that_is_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="count = 0: must be from 1 to 256"):
        palette(Image.new("L", (1, 1)), count=0)
