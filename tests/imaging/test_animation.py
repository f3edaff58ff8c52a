from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from samples import animated, decoded, encoded, mean_error, moving, pixels

from pipeline.errors import ImageError
from pipeline.imaging import Limits, Rendition
from pipeline.imaging.render import render
from pipeline.transforms.recipes import Recipe


def only(data: bytes, recipe: Recipe) -> Rendition:
    (result,) = render(data, [recipe], Limits())
    assert isinstance(result, Rendition), result
    return result


def timeline(data: bytes) -> list[tuple[Image.Image, float]]:
    image = decoded(data)
    frames = []
    for index in range(getattr(image, "n_frames", 1)):
        image.seek(index)
        image.load()
        frames.append((image.convert("RGBA"), float(image.info.get("duration", 0))))
    return frames


SOURCES = ["GIF", "PNG", "WEBP"]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("target", ["keep", "webp", "gif"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_an_animation_stays_animated_frame_by_frame(source: str, target: str, mode: str) -> None:
    recipe = Recipe("half", scale=0.5, format=target, quality=90 if target == "webp" else None)
    data = animated(source, mode=mode)
    out = timeline(only(data, recipe).data)
    assert [duration for _, duration in out] == [100, 200, 300, 400]
    for (seen, _), (frame, _) in zip(out, timeline(data), strict=True):
        assert seen.size == (20, 15)
        expected = frame.resize((20, 15), Image.Resampling.LANCZOS).convert("RGBA")
        opaque = pixels(expected, "RGBA")[..., 3] == 255
        difference = np.abs(pixels(seen, "RGBA") - pixels(expected, "RGBA"))
        assert difference[opaque].mean() < (12 if "webp" in (target, source.lower()) else 8)
        clear = pixels(expected, "RGBA")[..., 3] == 0
        assert pixels(seen, "RGBA")[clear][:, 3].max(initial=0) < 40, "nothing of a frame before"


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("target", ["jpeg", "png", "avif"])
def test_still_formats_get_the_first_frame(source: str, target: str) -> None:
    # An APNG moves as `keep`; where `png` is asked for by name, it is a still.
    recipe = Recipe("still", scale=1.0, format=target, quality=None if target == "png" else 95)
    rendition = only(animated(source), recipe)
    assert getattr(decoded(rendition.data), "n_frames", 1) == 1
    assert mean_error(pixels(rendition.data), pixels(moving()[0])) < 6


@pytest.mark.parametrize(
    ("source", "loop", "plays"),
    [
        ("GIF", 0, 0),
        ("GIF", 2, 3),  # a GIF counts its repeats
        ("GIF", None, 1),
        ("PNG", 0, 0),
        ("PNG", 3, 3),
        ("WEBP", 0, 0),
        ("WEBP", 3, 3),
        ("WEBP", 1, 1),
    ],
)
def test_an_animation_plays_as_often_as_before(source: str, loop: int | None, plays: int) -> None:
    data = (
        animated(source, loop=loop)
        if loop is not None
        else encoded(moving()[0], source, save_all=True, append_images=moving()[1:], duration=100)
    )
    webp = decoded(only(data, Recipe("w", scale=0.5, format="webp")).data)
    assert webp.info["loop"] == plays
    gif = decoded(only(data, Recipe("g", scale=0.5, format="gif")).data)
    assert gif.info.get("loop") == {0: 0, 1: None}.get(plays, plays - 1)
    kept = decoded(only(data, Recipe("k", scale=0.5)).data)
    assert kept.info.get("loop") == loop


def test_gif_frames_that_cover_only_a_part_are_whole_after_resizing() -> None:
    base = Image.new("RGB", (40, 40), (10, 200, 10))
    patch = base.copy()
    patch.paste((250, 0, 0), (20, 20, 30, 30))
    data = encoded(base, "GIF", save_all=True, append_images=[patch], duration=50, loop=0)
    out = timeline(only(data, Recipe("h", scale=0.5)).data)
    assert np.abs(pixels(out[1][0])[2, 2] - (10, 200, 10)).max() < 12
    assert np.abs(pixels(out[1][0])[12, 12] - (250, 0, 0)).max() < 12


def test_the_still_picture_of_an_apng_is_no_frame_of_it() -> None:
    still = Image.new("RGB", (40, 30), (1, 2, 3))
    data = encoded(
        still, "PNG", save_all=True, append_images=moving(), default_image=True, duration=100
    )
    assert len(timeline(only(data, Recipe("w", scale=1.0, format="webp")).data)) == 4
    first = pixels(only(data, Recipe("j", scale=1.0, format="jpeg")).data)
    assert np.abs(first - (1, 2, 3)).max() < 4


def test_still_and_moving_renditions_of_one_original_come_in_order() -> None:
    recipes = [
        Recipe("a", scale=0.5),
        Recipe("b", scale=0.5, format="jpeg"),
        Recipe("c", scale=0.25, format="webp"),
        Recipe("d", scale=0.5, format="png"),
    ]
    results = render(animated("GIF"), recipes, Limits())
    frames = [getattr(decoded(r.data), "n_frames", 1) for r in results if isinstance(r, Rendition)]
    assert frames == [4, 1, 4, 1]


@pytest.mark.parametrize("source", SOURCES)
def test_too_many_frames_are_refused_whatever_is_asked_for(source: str) -> None:
    data = animated(source, count=4)
    with pytest.raises(ImageError, match=r"more than 3 frames"):
        render(data, [Recipe("x", scale=0.5, format="jpeg")], Limits(max_frames=3))
    with pytest.raises(ImageError, match="4 frames of 40 x 30 px are over the limit of 4,799 pix"):
        render(data, [Recipe("x", scale=0.5, format="jpeg")], Limits(max_pixels=4799))
    assert render(data, [Recipe("x", scale=0.5)], Limits(max_pixels=4800, max_frames=4))


def test_every_frame_shows_the_same_part_even_by_attention() -> None:
    frames = []
    for left in (10, 150, 280):
        scene = Image.new("RGB", (320, 40), (90, 92, 95))
        scene.paste((0, 90, 200), (158, 0, 162, 40))
        scene.paste((228, 170, 130), (left, 5, left + 30, 35))
        frames.append(scene)
    data = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:], duration=100)
    recipe = Recipe("c", cover=(200, 40), position="attention")
    shown = [pixels(frame) for frame, _ in timeline(only(data, recipe).data)]
    posts = {int(np.abs(frame[20] - (0, 90, 200)).sum(axis=1).argmin()) for frame in shown[::2]}
    assert len(posts) == 1


@pytest.mark.parametrize("target", ["gif", "webp", "keep"])
def test_opaque_grey_and_transparent_frames_live_together(target: str) -> None:
    white = Image.new("RGBA", (40, 30), (255, 255, 255, 255))
    holed = Image.new("RGBA", (40, 30), (200, 30, 30, 255))
    holed.paste((0, 0, 0, 0), (0, 0, 20, 30))
    data = encoded(white, "PNG", save_all=True, append_images=[holed, white], duration=100, loop=0)
    out = [
        pixels(frame, "RGBA")
        for frame, _ in timeline(only(data, Recipe("x", scale=0.5, format=target)).data)
    ]
    assert out[0][..., 3].min() == 255
    assert out[0][..., :3].min() > 250
    assert out[1][7, 4, 3] < 30
    assert np.abs(out[1][7, 15] - (200, 30, 30, 255)).max() < 12
    assert out[2][..., 3].min() == 255
