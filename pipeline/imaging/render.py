"""Render: one original, all its recipes, one decode.

The pixel steps, in their order:

1. sniff the bytes, open them by the allow-list, check limits and completeness   (opening)
2. lay out every rendition; decode once, at the smallest scale that serves all    (geometry)
3. 8 bits a channel, grey or RGB or RGBA                                          (modes)
4. sRGB                                                                           (colour)
5. the right way up                                                               (orientation)
   then for each recipe:
6. crop and resize in one step, alpha premultiplied                               (resize)
7. flatten on the background where the format has no transparency                 (colour)
8. encode, with the metadata that the recipe allows                               (encode)
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from pipeline.errors import ImageError
from pipeline.imaging.animation import Timing, encode_frames, frames_of, plays_of
from pipeline.imaging.attention import attention_offset
from pipeline.imaging.colour import flatten, to_srgb
from pipeline.imaging.encode import encode
from pipeline.imaging.formats import output_format
from pipeline.imaging.geometry import Box, Frame, frame
from pipeline.imaging.metadata import tags_for
from pipeline.imaging.model import Failure, Limits, Rendition
from pipeline.imaging.modes import to_eight_bit
from pipeline.imaging.opening import (
    JPEG_SHRINKS,
    Original,
    check_pixels,
    decode,
    open_original,
    pillow_limit,
)
from pipeline.imaging.orientation import (
    RIGHT_OR_BOTTOM_EDGE_AT_LEFT,
    RIGHT_OR_BOTTOM_EDGE_AT_TOP,
    swaps_sides,
    upright,
)
from pipeline.imaging.resize import resize
from pipeline.recipes import Recipe

# An APNG moves as `keep`; asked for by name, a PNG is a still.
_MOVING_FORMATS = frozenset(["keep", "webp", "gif"])
# Times the rendition's size: below it, what libjpeg's own reduction costs shows (docs/pixels.md).
_DECODE_AT_LEAST = 1.5


@dataclass(frozen=True, slots=True)
class Picture:
    """Upright sRGB pixels, and where in them the original's edges lie."""

    image: Image.Image
    edges: Box


def render(data: bytes, recipes: Sequence[Recipe], limits: Limits) -> list[Rendition | Failure]:
    """Make one rendition for each recipe, in their order, from the bytes of one original.

    Raises ImageError where the original itself is no good; what only one recipe cannot do is a
    Failure in its place.
    """
    with pillow_limit(limits.max_pixels), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # Those are meant for us who call Pillow, not for the owner of a picture.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            original = open_original(data, limits)
            results = _render_all(original, recipes, limits)
        except ImageError as error:
            said = _said(caught)
            raise ImageError("; ".join([str(error), *said])) if said else error from None
        except Exception as error:  # one bad file must cost one file, whatever Pillow raises on it
            raise ImageError(_reason(error)) from error
    said = _said(caught)
    return [_with_notes(result, said) for result in results] if said else results


def _render_all(
    original: Original, recipes: Sequence[Recipe], limits: Limits
) -> list[Rendition | Failure]:
    frames = [frame(recipe, original.size) for recipe in recipes]
    results: dict[int, Rendition | Failure] = {}
    still: list[int] = []
    moving: list[int] = []
    for at, (recipe, layout) in enumerate(zip(recipes, frames, strict=True)):
        moves = original.frames > 1 and recipe.format in _MOVING_FORMATS
        count = original.frames if moves else 1
        try:
            check_pixels(layout.size, count, limits)
        except ImageError as error:
            results[at] = Failure(recipe.name, f"the rendition would be too large: {error}")
        else:
            (moving if moves else still).append(at)
    if still:
        picture, notes = _picture(original, [frames[at] for at in still])
        for at in still:
            results[at] = _still(original, picture, recipes[at], frames[at], notes)
    if moving:
        made = _animations(original, [(recipes[at], frames[at]) for at in moving])
        results.update(zip(moving, made, strict=True))
    return [results[at] for at in range(len(recipes))]


def _picture(original: Original, frames: Sequence[Frame]) -> tuple[Picture, tuple[str, ...]]:
    shrink = _shrink(original, frames)
    stored_width, stored_height = original.image.size
    image = decode(original, shrink)
    image, notes = _working_pixels(image, original)
    if shrink == 1:
        return Picture(image, (0, 0, *image.size)), notes
    # libjpeg rounds the sides of a reduced picture up; the last column is only partly picture. To
    # take it for a whole one stretches the picture, which costs an odd-sided half 3 dB.
    width, height = stored_width / shrink, stored_height / shrink
    if swaps_sides(original.orientation):
        width, height = height, width
    left = image.width - width if original.orientation in RIGHT_OR_BOTTOM_EDGE_AT_LEFT else 0
    top = image.height - height if original.orientation in RIGHT_OR_BOTTOM_EDGE_AT_TOP else 0
    return Picture(image, (left, top, width, height)), notes


def _working_pixels(image: Image.Image, original: Original) -> tuple[Image.Image, tuple[str, ...]]:
    profile = image.info.get("icc_profile")
    image = to_eight_bit(image)
    image, notes = to_srgb(image, profile)
    return upright(image, original.orientation), notes


def _shrink(original: Original, frames: Sequence[Frame]) -> int:
    """Return the scale 1/n to decode at: the smallest at which every rendition is at its best.

    That is one and a half times the largest rendition, or exactly its size where it is half of the
    original: libjpeg's own halving costs a third of a decibel (docs/pixels.md).
    """
    if original.format != "jpeg":
        return 1
    width, height = original.size
    needed = (max(f.scaled[0] for f in frames), max(f.scaled[1] for f in frames))
    for shrink in JPEG_SHRINKS:
        if min(width, height) < shrink:
            continue  # libjpeg is asked by size, and cannot be asked for less than a pixel
        reduced = -(-width // shrink), -(-height // shrink)
        if shrink == 2 and needed == reduced:
            return 2
        if all(have >= _DECODE_AT_LEAST * need for have, need in zip(reduced, needed, strict=True)):
            return shrink
    return 1


def _still(
    original: Original, picture: Picture, recipe: Recipe, layout: Frame, notes: tuple[str, ...]
) -> Rendition | Failure:
    try:
        image = _place(picture, layout, _offset(picture, recipe, layout))
        format_ = output_format(
            recipe.format, original.format, has_alpha=picture.image.mode == "RGBA"
        )
        if format_ == "jpeg":
            image = flatten(image, recipe.background)
        tags, lost = tags_for(original.image, recipe.metadata)
        data = encode(image, format_, recipe, tags)
    except Exception as error:
        return Failure(recipe.name, _reason(error))
    return Rendition(recipe.name, data, format_, image.width, image.height, (*notes, *lost))


def _offset(picture: Picture, recipe: Recipe, layout: Frame) -> tuple[int, int]:
    """Return left and top of what a recipe shows, in pixels of the scaled picture."""
    if recipe.position != "attention" or not layout.is_cropped:
        return layout.offset(recipe.position)
    # As sharp does: what is of interest is judged at the final scale.
    return attention_offset(resize(picture.image, picture.edges, layout.scaled), layout.size)


def _place(picture: Picture, layout: Frame, offset: tuple[int, int]) -> Image.Image:
    """Crop and resize in one step: the crop is a box of the decoded pixels, fractions and all."""
    left, top, width, height = picture.edges
    if layout.is_cropped:
        across, down = width / layout.scaled[0], height / layout.scaled[1]
        left, top = left + offset[0] * across, top + offset[1] * down
        width, height = layout.size[0] * across, layout.size[1] * down
    return resize(picture.image, (left, top, width, height), layout.size)


def _animations(
    original: Original, jobs: Sequence[tuple[Recipe, Frame]]
) -> list[Rendition | Failure]:
    sequences: list[list[Image.Image]] = [[] for _ in jobs]
    offsets: list[tuple[int, int]] = []
    durations: list[float] = []
    notes: tuple[str, ...] = ()
    for image, duration in frames_of(original):
        image, notes = _working_pixels(image, original)
        picture = Picture(image, (0, 0, *image.size))
        durations.append(duration)
        # What the first frame shows, all show: a crop that follows the scene would jump about.
        offsets = offsets or [_offset(picture, *job) for job in jobs]
        for sequence, (_, layout), offset in zip(sequences, jobs, offsets, strict=True):
            sequence.append(_place(picture, layout, offset))
    timing = Timing(tuple(durations), plays_of(original))
    results: list[Rendition | Failure] = []
    for sequence, (recipe, layout) in zip(sequences, jobs, strict=True):
        format_ = output_format(recipe.format, original.format, has_alpha=True)
        try:
            tags, lost = tags_for(original.image, recipe.metadata)
            data = encode_frames(sequence, timing, format_, recipe, tags)
        except Exception as error:
            results.append(Failure(recipe.name, _reason(error)))
            continue
        results.append(Rendition(recipe.name, data, format_, *layout.size, (*notes, *lost)))
    return results


def _reason(error: Exception) -> str:
    if isinstance(error, ImageError):
        return str(error)
    if isinstance(error, MemoryError):
        return "out of memory while it was rendered"
    return f"could not be rendered: {error or type(error).__name__}"


def _said(caught: list[warnings.WarningMessage]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(f"the decoder warns: {w.message}".strip() for w in caught))


def _with_notes(result: Rendition | Failure, said: tuple[str, ...]) -> Rendition | Failure:
    if isinstance(result, Failure):
        return Failure(result.recipe, "; ".join([result.reason, *said]))
    return Rendition(
        result.recipe,
        result.data,
        result.format,
        result.width_px,
        result.height_px,
        (*result.notes, *said),
    )
