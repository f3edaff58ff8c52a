"""The watermark: what it covers, and how much."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageFont
from samples import encoded

from pipeline.errors import RecipeError
from pipeline.imaging import Limits, Rendition
from pipeline.imaging.render import render
from pipeline.imaging.watermark import watermark
from pipeline.transforms.recipes import load_recipes

BLACK = (0, 0, 0)
LOGO = encoded(Image.new("RGBA", (20, 10), (255, 0, 0, 255)), "PNG")


def marked(mode: str = "RGB", size: tuple[int, int] = (400, 200), **options: Any) -> Image.Image:
    ground = Image.new(mode, size)
    return watermark(ground.copy(), **options)


def covered(image: Image.Image) -> tuple[int, int, int, int]:
    black = Image.new(image.mode, image.size)
    box = ImageChops.difference(image, black).convert("RGB").getbbox()
    assert box is not None
    return box


@pytest.mark.parametrize(
    ("position", "box"),
    [
        ("top-left", (10, 10, 110, 60)),
        ("top", (150, 10, 250, 60)),
        ("top-right", (290, 10, 390, 60)),
        ("left", (10, 75, 110, 125)),
        ("center", (150, 75, 250, 125)),
        ("right", (290, 75, 390, 125)),
        ("bottom-left", (10, 140, 110, 190)),
        ("bottom", (150, 140, 250, 190)),
        ("bottom-right", (290, 140, 390, 190)),
    ],
)
def test_it_lies_at_one_of_nine_places(position: str, box: tuple[int, ...]) -> None:
    assert covered(marked(picture=LOGO, position=position, margin=0.05)) == box


@pytest.mark.parametrize(
    ("size", "box"), [((400, 400), (100, 50)), ((400, 40), (20, 10)), ((2, 2), (1, 1))]
)
def test_it_fits_in_its_share_of_width_and_height(
    size: tuple[int, int], box: tuple[int, int]
) -> None:
    left, top, right, bottom = covered(marked(size=size, picture=LOGO, opacity=1))
    assert (right - left, bottom - top) == box


@pytest.mark.parametrize("opacity", [0.25, 1.0])
def test_the_picture_shows_through_it(opacity: float) -> None:
    assert marked(picture=LOGO, position="center", opacity=opacity).getpixel((200, 100)) == (
        round(255 * opacity),
        0,
        0,
    )


def test_a_text_fills_its_box_in_its_colour() -> None:
    image = marked(text="ACME", colour="#00ff00", opacity=1, position="top-left", margin=0)
    left, top, right, bottom = covered(image)
    assert left <= 1
    assert top <= 1
    assert 95 <= right <= 102
    assert bottom < 50
    assert image.getextrema() == ((0, 0), (0, 255), (0, 0))


def test_a_text_is_drawn_in_another_font() -> None:
    default = ImageFont.load_default(10)
    assert isinstance(default, ImageFont.FreeTypeFont)
    default.path.seek(0)
    boxes = (covered(marked(text="ACME", font=font)) for font in (None, default.path.read()))
    # They may be spaced a little differently.
    assert all(abs(a - b) <= 3 for a, b in zip(*boxes, strict=True))
    with pytest.raises(ValueError, match="the font of the watermark cannot be read"):
        marked(text="ACME", font=b"none")
    with pytest.raises(ValueError, match="has no letters for 'ÄÖ': name a file in `font`"):
        marked(text="ÄÖ")


@pytest.mark.parametrize(("mode", "becomes"), [("L", "RGB"), ("RGB", "RGB"), ("RGBA", "RGBA")])
def test_it_lies_on_pictures_of_every_mode(mode: str, becomes: str) -> None:
    image = marked(mode, picture=LOGO, position="center", opacity=1)
    assert image.mode == becomes
    assert image.getpixel((200, 100)) == (255, 0, 0, 255)[: len(becomes)]
    assert image.getpixel((0, 0)) == (0, 0, 0, 0)[: len(becomes)]


def test_a_picture_that_is_none_is_named() -> None:
    with pytest.raises(ValueError, match="the picture of the watermark cannot be read"):
        marked(picture=b"none")


def test_a_recipe_lays_it_over_its_renditions(tmp_path: Path) -> None:
    (tmp_path / "logo.png").write_bytes(LOGO)
    text = "[a]\nscale = 1\nformat = 'png'\nfunction = 'watermark'\n"
    (tmp_path / "recipes.toml").write_text(f"{text}[a.options]\npicture = 'logo.png'\n")
    recipe = load_recipes(tmp_path / "recipes.toml")["a"]
    data = encoded(Image.new("RGB", (400, 200), "blue"), "JPEG")
    (made,) = render(data, [recipe], Limits())
    assert isinstance(made, Rendition)
    (tmp_path / "logo.png").write_bytes(LOGO + b"\0")
    again = load_recipes(tmp_path / "recipes.toml")["a"]
    assert again.fingerprint != recipe.fingerprint


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", "[a] options: watermark needs one of text, picture"),
        ("text = 'a'\npicture = 'logo.png'", "[a] options: watermark needs one of text, picture"),
        ("text = ''", 'options.text = "": must be text of at most 200 characters'),
        ("text = 'a'\nposition = 'attention'", 'options.position = "attention": must be one of'),
        ("text = 'a'\nopacity = 0", "options.opacity = 0: must be a number above 0 and at most 1"),
        ("text = 'a'\nmargin = 0.6", "options.margin = 0.6: must be a number from 0 to 0.5"),
        ("text = 'a'\nscale = 2", "options.scale = 2: must be a number above 0 and at most 1"),
        ("text = 'a'\ncolor = 'red'", "options.color: is not an option of watermark; did you mean"),
        ("text = 'a'\ncolour = 'rot'", 'options.colour = "rot": must be a colour such as'),
        ("picture = 'none.png'", "none.png cannot be read (No such file or directory)"),
    ],
)
def test_options_that_cannot_be_are_refused(tmp_path: Path, options: str, expected: str) -> None:
    text = f"[a]\nscale = 1\nfunction = 'watermark'\n[a.options]\n{options}\n"
    (tmp_path / "recipes.toml").write_text(text)
    (tmp_path / "logo.png").write_bytes(LOGO)
    with pytest.raises(RecipeError) as caught:
        load_recipes(tmp_path / "recipes.toml")
    assert expected in str(caught.value)
