from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from samples import BLUE, GREEN, RED, YELLOW, decoded, encoded, photo, pixels, psnr, quadrants

from pipeline.imaging import Limits, Rendition
from pipeline.imaging.geometry import lay_out
from pipeline.imaging.render import render
from pipeline.transforms.recipes import Recipe

ORIENTATIONS = range(1, 9)
# What each EXIF value says: where the upright picture's corners lie in the stored one,
# written by hand from the standard ("0th row is top, 0th column is left" and so on).
STORED_FROM_UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[::-1],
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: a.transpose(1, 0, 2)[:, ::-1],
}


def only(data: bytes, recipe: Recipe) -> Rendition:
    (result,) = render(data, [recipe], Limits())
    assert isinstance(result, Rendition), result
    return result


def stored(image: Image.Image, orientation: int, format: str) -> bytes:
    turned = Image.fromarray(
        np.ascontiguousarray(STORED_FROM_UPRIGHT[orientation](np.asarray(image)))
    )
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "AVIF": {"quality": 95, "speed": 9}}
    return encoded(turned, format, exif=exif, **options.get(format, {}))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_every_orientation_comes_out_upright_and_untagged(orientation: int, format: str) -> None:
    data = stored(quadrants(), orientation, format)
    for recipe in (
        Recipe("half", scale=0.5, format="png"),
        Recipe("whole", scale=1.0, format="png"),
        Recipe("tagged", scale=0.5, format="jpeg", quality=95, metadata="keep"),
    ):
        rendition = only(data, recipe)
        size = (64, 48) if recipe.name == "whole" else (32, 24)
        assert (rendition.width_px, rendition.height_px) == size
        out = pixels(rendition.data)
        height, width = out.shape[:2]
        for colour, (across, down) in (
            (RED, (0.25, 0.25)),
            (GREEN, (0.75, 0.25)),
            (BLUE, (0.25, 0.75)),
            (YELLOW, (0.75, 0.75)),
        ):
            seen = out[int(height * down), int(width * across)]
            assert np.abs(seen - colour).max() < 25, (recipe.name, colour)
        assert 0x0112 not in decoded(rendition.data).getexif()


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_reduced_decode_is_not_shifted_whatever_the_orientation(orientation: int) -> None:
    picture = photo(333, 251).resize((999, 753), Image.Resampling.BICUBIC)
    data = stored(picture, orientation, "JPEG")
    rendition = only(data, Recipe("small", width=101, format="png"))
    expected = pixels(picture.resize((101, 76), Image.Resampling.LANCZOS))
    assert pixels(rendition.data).shape == expected.shape
    assert psnr(pixels(rendition.data), expected) > 36


@pytest.mark.parametrize(
    ("src", "box", "expected"),
    [
        # What sharp 0.3x gives for resize({width, height, fit: 'inside', withoutEnlargement}).
        ((1000, 667), (400, 400), (400, 267)),
        ((667, 1000), (400, 400), (267, 400)),
        ((4000, 3000), (400, 400), (400, 300)),
        ((4032, 3024), (400, 400), (400, 300)),
        ((1920, 1080), (400, 400), (400, 225)),
        ((3000, 2001), (400, 400), (400, 267)),
        ((800, 3), (400, 400), (400, 2)),  # 1.5 is rounded upwards
        ((800, 5), (400, 400), (400, 3)),  # 2.5 too, not to the even 2
        ((10000, 3), (100, 100), (100, 1)),  # never 0
        ((1, 30000), (100, 100), (1, 100)),
        ((300, 200), (400, 400), (300, 200)),  # never enlarged
        ((400, 400), (400, 400), (400, 400)),
        ((401, 400), (400, 400), (400, 399)),
    ],
)
def test_fit_is_exact_to_the_pixel(
    src: tuple[int, int], box: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert lay_out(Recipe("fit", fit=box), src).size == expected


def test_a_scale_is_taken_as_it_is_written_and_halves_round_upwards() -> None:
    assert lay_out(Recipe("half", scale=0.5), (1001, 667)).size == (501, 334)
    assert lay_out(Recipe("x", scale=0.29), (50, 150)).size == (15, 44)  # 14.5 and 43.5
    assert lay_out(Recipe("x", scale=0.001), (40, 3000)).size == (1, 3)


def test_width_and_height_set_one_side_and_keep_the_shape() -> None:
    assert lay_out(Recipe("w", width=300), (1000, 667)).size == (300, 200)
    assert lay_out(Recipe("h", height=300), (1000, 667)).size == (450, 300)
    assert lay_out(Recipe("w", width=3000), (1000, 667)).size == (1000, 667)
    assert lay_out(Recipe("w", width=3000, enlarge=True), (1000, 667)).size == (3000, 2001)
    assert lay_out(Recipe("s", scale=2.0, enlarge=True), (10, 7)).size == (20, 14)


def test_cover_fills_the_box_and_never_enlarges_unasked() -> None:
    assert lay_out(Recipe("c", cover=(400, 400)), (1000, 667)).size == (400, 400)
    # As sharp does: what is too small on one side is cropped on the other.
    assert lay_out(Recipe("c", cover=(400, 400)), (500, 300)).size == (400, 300)
    assert lay_out(Recipe("c", cover=(400, 400), enlarge=True), (500, 300)).size == (400, 400)


@pytest.mark.parametrize("size", [(1001, 667), (1000, 665), (999, 666), (17, 9), (3, 1), (1, 1)])
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_half_of_any_size_is_exact_and_like_a_whole_decode(
    size: tuple[int, int], format: str
) -> None:
    picture = photo(*size)
    data = encoded(picture, format, **({"quality": 95} if format == "JPEG" else {}))
    rendition = only(data, Recipe("half", scale=0.5, format="png"))
    expected = ((size[0] + 1) // 2, (size[1] + 1) // 2)
    assert (rendition.width_px, rendition.height_px) == expected
    reference = pixels(decoded(data).resize(expected, Image.Resampling.LANCZOS))
    assert psnr(pixels(rendition.data), reference) > (30 if min(size) > 100 else 15)


def test_a_picture_that_needs_no_change_of_size_keeps_every_pixel() -> None:
    data = encoded(photo(), "PNG")
    for recipe in (
        Recipe("whole", scale=1.0),
        Recipe("fit", fit=(4000, 4000)),
        Recipe("same", cover=(96, 64)),
    ):
        assert np.array_equal(pixels(only(data, recipe).data), pixels(photo())), recipe.name


@pytest.mark.parametrize(
    ("position", "left", "top"),
    [
        ("center", 10, 0),
        ("left", 0, 0),
        ("right", 20, 0),
        ("top", 10, 0),
        ("top-right", 20, 0),
        ("bottom-left", 0, 0),
    ],
)
def test_an_anchor_decides_which_part_is_shown(position: str, left: int, top: int) -> None:
    picture = photo(60, 40)
    recipe = Recipe("c", cover=(40, 40), position=position)
    out = pixels(only(encoded(picture, "PNG"), recipe).data)
    assert np.array_equal(out, pixels(picture)[top : top + 40, left : left + 40])


def test_vertical_anchors_work_alike() -> None:
    picture = photo(40, 61)
    for position, top in (("top", 0), ("center", 11), ("bottom-right", 21), ("bottom", 21)):
        recipe = Recipe("c", cover=(40, 40), position=position)
        out = pixels(only(encoded(picture, "PNG"), recipe).data)
        assert np.array_equal(out, pixels(picture)[top : top + 40]), position


def test_cover_shows_what_resizing_all_and_then_cropping_shows() -> None:
    picture = photo(301, 200)
    recipe = Recipe("c", cover=(75, 75), position="center", format="png")
    whole = picture.resize((113, 75), Image.Resampling.LANCZOS)
    out = pixels(only(encoded(picture, "PNG"), recipe).data)
    assert psnr(out, pixels(whole)[:, 19:94]) > 45


def test_attention_finds_the_one_thing_in_an_empty_scene() -> None:
    for at in (20, 150, 330):
        scene = Image.new("RGB", (400, 100), (90, 92, 95))
        scene.paste((228, 170, 130), (at, 30, at + 40, 80))  # the colour of skin
        recipe = Recipe("c", cover=(100, 100), position="attention", format="png")
        out = pixels(only(encoded(scene, "PNG"), recipe).data)
        skin = np.abs(out - (228, 170, 130)).max(axis=2) < 12
        assert skin.sum() > 0.95 * 40 * 50, at


def test_attention_on_a_flat_picture_stays_inside_it() -> None:
    scene = Image.new("RGB", (300, 50), (128, 128, 128))
    recipe = Recipe("c", cover=(50, 50), position="attention")
    rendition = only(encoded(scene, "PNG"), recipe)
    assert (rendition.width_px, rendition.height_px) == (50, 50)


def test_several_recipes_come_back_in_their_order_from_one_decode() -> None:
    recipes = [
        Recipe("small", fit=(20, 20)),
        Recipe("large", scale=0.5),
        Recipe("square", cover=(30, 30), format="webp"),
    ]
    results = render(encoded(photo(), "JPEG"), recipes, Limits())
    assert [r.recipe for r in results] == ["small", "large", "square"]
    assert [(r.width_px, r.height_px) for r in results if isinstance(r, Rendition)] == [
        (20, 13),
        (48, 32),
        (30, 30),
    ]
