"""PDQ hashes are those of the reference implementation."""

from __future__ import annotations

import io
import json
import random

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from pipeline.imaging import Limits, Rendition, Values
from pipeline.imaging import pdq as module
from pipeline.imaging.render import render
from pipeline.transforms.features import pdq_feature
from pipeline.transforms.recipes import Recipe

# What the reference (pdqhash 0.2.8) makes of the pictures below: hash and quality by size and mode.
REFERENCE: dict[tuple[tuple[int, int], str], tuple[str, int]] = {
    ((512, 512), "RGB"): (
        "926d94189e1a3f2c5c9a096461e3c6a1ed71c257941e3956fc8f79c33bc547b2",
        100,
    ),
    ((512, 288), "RGB"): (
        "640c662c9fdcfa139bc27f19794f10bac06e81754c651fe21ff19593f023231d",
        100,
    ),
    ((256, 144), "RGB"): (
        "5855b4a6e6b695b55649d97d64b4a9b2aa2d0a4b134bf4aae8b6f96929712216",
        100,
    ),
    ((256, 144), "L"): (
        "5a55a4a6e6b695b75649d97d64b4a9b2a82d0a4b134bf4aae8b6f96929712216",
        100,
    ),
    ((97, 65), "RGB"): (
        "9e9d1ec350fadab81f83e1c7e1431d4e68bccae92f876a159959043c806ed1ea",
        100,
    ),
    ((64, 64), "RGB"): (
        "0dc470ca30d673a33956d2d238ad0dc14d3db68d31266869eb39d65b97d2ec2d",
        100,
    ),
    ((40, 60), "RGB"): (
        "ddb6728c67b08d26b688998a6d563ccc66349cc4524a6d2e95cf38ca59ba723b",
        100,
    ),
    ((63, 500), "RGB"): (
        "bc2653fef4011dcde530627a98e7e231cf881c8fe270731e1c46c4716f883b9e",
        100,
    ),
}


def pdq(image: Image.Image) -> tuple[str, int]:
    said = module.pdq(image)
    assert isinstance(said["quality"], int)
    return str(said["pdq"]), said["quality"]


def distance(one: str, other: str) -> int:
    """In how many bits two hashes differ."""
    return bin(int(one, 16) ^ int(other, 16)).count("1")


def scene(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    """Shapes in colours, the same on every machine."""
    chance = random.Random(str(size))
    image = Image.new("RGB", size, (90, 120, 160))
    draw = ImageDraw.Draw(image)
    for _ in range(40):
        x, y = chance.randrange(size[0]), chance.randrange(size[1])
        side = chance.randrange(2, 2 + max(size) // 4)
        colour = tuple(chance.randrange(256) for _ in range(3))
        draw.rectangle((x, y, x + side, y + side // 2), fill=colour)
    return image.convert(mode)


@pytest.mark.parametrize(("size", "mode"), REFERENCE)
def test_the_hash_is_that_of_the_reference(size: tuple[int, int], mode: str) -> None:
    want, quality = REFERENCE[size, mode]
    have, ours = pdq(scene(size, mode))
    assert distance(have, want) <= 4
    assert abs(quality - ours) <= 2


def test_the_hash_of_any_picture_is_that_of_the_reference_itself() -> None:
    reference = pytest.importorskip("pdqhash", reason="the reference implementation is not built")
    for number in range(40):
        chance = random.Random(number)
        image = scene((chance.randrange(16, 513), chance.randrange(16, 513)))
        bits, quality = reference.compute(np.asarray(image))
        have, ours = pdq(image)
        assert distance(have, f"{int(''.join(map(str, bits)), 2):064x}") <= 4
        assert abs(quality - ours) <= 2


def test_a_copy_that_was_changed_is_near_and_another_picture_is_far() -> None:
    image = scene((400, 300))
    have, quality = pdq(image)
    assert quality == 100
    for changed in (
        image.resize((200, 150)),
        image.convert("L"),
        image.filter(ImageFilter.GaussianBlur(1)),
        image.quantize(64),
    ):
        assert distance(pdq(changed)[0], have) <= 31
    assert distance(pdq(scene((401, 300)))[0], have) > 100


def test_what_is_transparent_is_white() -> None:
    image = scene((120, 90)).convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 60, 90))
    flat = Image.new("RGB", image.size, "white")
    flat.paste(image, mask=image.getchannel("A"))
    assert distance(pdq(image)[0], pdq(flat)[0]) <= 4


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (3, 2), (2000, 3)])
def test_a_tiny_or_flat_picture_has_no_quality(size: tuple[int, int]) -> None:
    digest, quality = pdq(Image.new("RGB", size, "red"))
    assert (len(digest), quality) == (64, 0)


def test_the_orientations_are_the_hashes_of_the_turned_pictures() -> None:
    image = scene((301, 200))
    said = module.orientations(image)
    assert (len(said["pdq"]), said["quality"]) == (8, 100)
    assert said["pdq"][0] == pdq(image)[0]
    for turn in Image.Transpose:
        assert pdq(image.transpose(turn))[0] in said["pdq"]


@pytest.mark.parametrize("form", ["gif", "webp"])
def test_an_animation_is_hashed_by_its_first_picture(form: str) -> None:
    frames = [scene((120, 90)), scene((120, 91)).resize((120, 90))]
    stream = io.BytesIO()
    options = {"lossless": True} if form == "webp" else {}
    frames[0].save(stream, form, save_all=True, append_images=frames[1:], **options)
    assert distance(pdq_of(stream.getvalue()), pdq(frames[0])[0]) <= 10


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "I;16"])
def test_a_picture_of_any_mode_is_hashed_as_people_see_it(mode: str) -> None:
    image, stream = scene((97, 64)), io.BytesIO()
    if mode == "I;16":
        grey = np.asarray(image.convert("L"), dtype=np.uint16) * 257
        Image.fromarray(grey).save(stream, "PNG")
    else:
        image.convert(mode).save(stream, "PNG")
    seen = image if mode == "I;16" else image.convert(mode).convert("RGB")
    assert distance(pdq_of(stream.getvalue()), pdq(seen)[0]) <= 10


def test_a_rendition_is_the_same_with_the_hash_and_without() -> None:
    """The hash takes what is decoded anyway: of a JPEG, a reduced picture."""
    stream = io.BytesIO()
    scene((400, 300)).save(stream, "JPEG")
    recipe = Recipe("tiny", fit=(64, 64))
    alone, beside = (
        render(stream.getvalue(), recipes, Limits())[0]
        for recipes in ([recipe], [recipe, pdq_feature()])
    )
    assert isinstance(alone, Rendition)
    assert isinstance(beside, Rendition)
    assert alone.data == beside.data


def pdq_of(data: bytes) -> str:
    """The hash that Lockstep makes of a file, with a rendition of it."""
    _, said = render(data, [Recipe("half", scale=0.5), pdq_feature()], Limits())
    assert isinstance(said, Values), said
    return str(json.loads(said.json)["pdq"])
