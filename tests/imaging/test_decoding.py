from __future__ import annotations

import functools

import numpy as np
import pytest
from PIL import Image
from samples import decoded, encoded, photo, pixels, psnr

from pipeline.imaging import Limits, Rendition
from pipeline.imaging import opening as opening_module
from pipeline.imaging.render import render
from pipeline.transforms.recipes import Recipe

HALF = Recipe("half", scale=0.5, quality=85)
SMALL = Recipe("small", fit=(400, 400), quality=85)


@functools.cache
def large() -> bytes:
    """Detail down to two pixels, on odd sides, which a reduced decode has to round."""
    picture = photo(900, 600).resize((1801, 1201), Image.Resampling.BICUBIC)
    for at in range(0, 1700, 97):
        picture.paste((250, 250, 240), (at, at * 2 // 3, at + 40, at * 2 // 3 + 3))
    return encoded(picture, "JPEG", quality=92)


@functools.cache
def blank(width: int, height: int) -> bytes:
    return encoded(Image.new("RGB", (width, height), (9, 9, 9)), "JPEG", quality=50)


@pytest.fixture
def shrinks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The scales at which originals are decoded, in order."""
    import sys

    seen: list[int] = []

    def decode(original: opening_module.OpenedOriginal, shrink: int) -> Image.Image:
        seen.append(shrink)
        return opening_module.decode(original, shrink)

    monkeypatch.setattr(sys.modules["pipeline.imaging.render"], "decode", decode)
    return seen


@pytest.mark.parametrize(
    ("recipes", "shrink"),
    [
        ([HALF], 2),
        ([SMALL], 2),
        ([HALF, SMALL], 2),
        ([Recipe("tiny", fit=(100, 100))], 8),
        ([Recipe("quarter", scale=0.25)], 2),  # at least 1.5 times what is wanted
        ([Recipe("most", scale=0.6), SMALL], 1),
        ([Recipe("whole", scale=1.0)], 1),
        ([Recipe("square", cover=(201, 201))], 2),
        ([Recipe("square", cover=(200, 200))], 4),
    ],
)
def test_a_jpeg_is_decoded_once_at_the_smallest_scale_that_serves_all(
    shrinks: list[int], recipes: list[Recipe], shrink: int
) -> None:
    results = render(blank(1800, 1200), recipes, Limits())
    assert all(isinstance(result, Rendition) for result in results)
    assert shrinks == [shrink]


def test_other_formats_are_decoded_once_too(shrinks: list[int]) -> None:
    for format in ("PNG", "WEBP", "TIFF"):
        render(encoded(photo(), format), [HALF, SMALL, Recipe("w", width=9)], Limits())
    assert shrinks == [1, 1, 1]


def whole_decode(recipe: Recipe, size: tuple[int, int]) -> tuple[np.ndarray, float]:
    """What Lanczos makes of all pixels, and how near to it a JPEG of it comes."""
    resized = decoded(large()).resize(size, Image.Resampling.LANCZOS)
    reference = pixels(resized)
    return reference, psnr(pixels(encoded(resized, "JPEG", quality=recipe.quality)), reference)


@pytest.mark.parametrize(
    ("recipes", "recipe", "within_db"),
    [([SMALL], SMALL, 0.2), ([HALF, SMALL], SMALL, 0.2), ([HALF], HALF, 1.0)],
)
def test_a_smaller_decode_costs_no_quality_that_counts(
    recipes: list[Recipe], recipe: Recipe, within_db: float
) -> None:
    made = {result.recipe: result for result in render(large(), recipes, Limits())}[recipe.name]
    assert isinstance(made, Rendition)
    reference, best = whole_decode(recipe, (made.width_px, made.height_px))
    assert psnr(pixels(made.data), reference) > best - within_db


def test_a_photo_in_grey_or_cmyk_is_decoded_smaller_too(shrinks: list[int]) -> None:
    for mode in ("L", "CMYK"):
        image = photo(1800, 1200).convert(mode)
        (result,) = render(encoded(image, "JPEG", quality=95), [HALF], Limits())
        assert isinstance(result, Rendition)
        expected = pixels(image.convert("RGB").resize((900, 600), Image.Resampling.LANCZOS))
        assert psnr(pixels(result.data), expected) > 30, mode
    assert shrinks == [2, 2]


def test_a_second_picture_behind_the_first_is_not_looked_at() -> None:
    small = photo(50, 40)
    data = encoded(photo(), "MPO", save_all=True, append_images=[small])
    (result,) = render(data, [Recipe("k", scale=1.0)], Limits())
    assert isinstance(result, Rendition)
    assert (result.format, result.width_px, result.height_px) == ("jpeg", 96, 64)
