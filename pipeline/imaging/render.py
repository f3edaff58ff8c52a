"""Render: one original, all its recipes, one decode.

The bytes are opened and checked, every rendition is laid out (``geometry``), and then come the
pixel steps, in the order of ``PICTURE_STEPS``, ``FRAME_STEPS`` and ``FILE_STEPS``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias, TypeVar

from PIL import Image

from pipeline.errors import FunctionError, ImageError
from pipeline.imaging.animation import Timing, decode_frame, encode_frames, frame_numbers, plays_of
from pipeline.imaging.attention import attention_offset
from pipeline.imaging.colour import flatten, to_srgb
from pipeline.imaging.encode import Tags, encode
from pipeline.imaging.formats import output_format
from pipeline.imaging.geometry import Box, Layout, lay_out
from pipeline.imaging.metadata import tags_for
from pipeline.imaging.model import Failure, Header, Limits, Rendition, Values
from pipeline.imaging.modes import to_eight_bit
from pipeline.imaging.opening import (
    JPEG_SHRINKS,
    OpenedOriginal,
    check_pixels,
    decode,
    open_original,
    pillow_limit,
)
from pipeline.imaging.orientation import (
    RIGHT_OR_BOTTOM_EDGE_AT_LEFT,
    RIGHT_OR_BOTTOM_EDGE_AT_TOP,
    upright,
)
from pipeline.imaging.resize import TRIANGLE, resize
from pipeline.imaging.values import values_of, wants_header
from pipeline.transforms.features import Feature
from pipeline.transforms.recipes import Recipe, Transform

T = TypeVar("T")
Result: TypeAlias = Rendition | Values | Failure

# An APNG moves as `keep`; asked for by name, a PNG is a still.
_MOVING_FORMATS = frozenset(["keep", "webp", "gif"])
# Times the rendition's size: below it, what libjpeg's own reduction costs shows (docs/pixels.md).
_DECODE_AT_LEAST = 1.5


@dataclass(slots=True)
class Picture:
    """One picture of an original, on its way to upright sRGB: a still, or a frame."""

    original: OpenedOriginal
    image: Image.Image
    shrink: int = 1
    frame_number: int | None = None
    profile: bytes | None = None
    duration_ms: float = 0
    exact_size: tuple[float, float] = (0, 0)  # of the original at this scale
    edges: Box = (0, 0, 0, 0)  # where in the pixels the original's edges lie
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class Draft:
    """One rendition on its way from a picture, or from the frames one by one, to its file."""

    recipe: Recipe
    layout: Layout
    picture: Picture
    offset: tuple[int, int] | None = None  # of what is shown, in pixels of the scaled picture
    images: list[Image.Image] = field(default_factory=list)
    timing: Timing | None = None
    format: str = ""
    tags: Tags = field(default_factory=Tags)
    data: bytes = b""
    notes: tuple[str, ...] = ()


def _decode(picture: Picture) -> None:
    original = picture.original
    width, height = original.size  # now: Pillow says the reduced size once it decoded a JPEG
    if picture.frame_number is None:
        picture.image = decode(original, picture.shrink)
    else:
        picture.image, picture.duration_ms = decode_frame(original, picture.frame_number)
    picture.exact_size = width / picture.shrink, height / picture.shrink
    picture.profile = picture.image.info.get("icc_profile")


def _to_eight_bit(picture: Picture) -> None:
    picture.image = to_eight_bit(picture.image)


def _to_srgb(picture: Picture) -> None:
    picture.image, picture.notes = to_srgb(picture.image, picture.profile)


def _turn_upright(picture: Picture) -> None:
    orientation = picture.original.orientation
    image = picture.image = upright(picture.image, orientation)
    if picture.shrink == 1:
        picture.edges = (0, 0, *image.size)
        return
    # libjpeg rounds the sides of a reduced picture up; the last column is only partly picture. To
    # take it for a whole one stretches the picture, which costs an odd-sided half 3 dB.
    width, height = picture.exact_size
    left = image.width - width if orientation in RIGHT_OR_BOTTOM_EDGE_AT_LEFT else 0
    top = image.height - height if orientation in RIGHT_OR_BOTTOM_EDGE_AT_TOP else 0
    picture.edges = (left, top, width, height)


def _choose_part(draft: Draft) -> None:
    # What the first frame shows, all show: a crop that follows the scene would jump about.
    if draft.offset is not None:
        return
    picture, layout, position = draft.picture, draft.layout, draft.recipe.position
    if position == "attention" and layout.is_cropped:
        # Like sharp: what is of interest is decided at the final scale.
        scaled = resize(picture.image, picture.edges, layout.scaled)
        draft.offset = attention_offset(scaled, layout.size)
    else:
        draft.offset = layout.offset(position)


def _crop_and_resize(draft: Draft) -> None:
    """In one step: the crop is a box of the decoded pixels, fractions and all."""
    layout = draft.layout
    left, top, width, height = draft.picture.edges
    if layout.is_cropped and draft.offset:
        across, down = width / layout.scaled[0], height / layout.scaled[1]
        left, top = left + draft.offset[0] * across, top + draft.offset[1] * down
        width, height = layout.size[0] * across, layout.size[1] * down
    draft.images.append(resize(draft.picture.image, (left, top, width, height), layout.size))


def _choose_format(draft: Draft) -> None:
    has_alpha = draft.images[0].mode == "RGBA"
    draft.format = output_format(
        draft.recipe.format, draft.picture.original.format, has_alpha=has_alpha
    )


def _flatten(draft: Draft) -> None:
    if draft.format == "jpeg":
        draft.images = [flatten(image, draft.recipe.background) for image in draft.images]


def _choose_tags(draft: Draft) -> None:
    draft.tags, lost = tags_for(draft.picture.original.image, draft.recipe.metadata)
    draft.notes = (*draft.picture.notes, *lost)


def _encode(draft: Draft) -> None:
    format_, recipe, tags = draft.format, draft.recipe, draft.tags
    if draft.timing is None:
        draft.data = encode(draft.images[0], format_, recipe, tags)
    else:
        draft.data = encode_frames(draft.images, draft.timing, format_, recipe, tags)


# The order of the pixel steps: these once for each picture of an original, whatever is made of it,
PICTURE_STEPS: tuple[Callable[[Picture], None], ...] = (
    _decode,  # at the smallest scale that serves every recipe
    _to_eight_bit,  # 8 bits a channel: grey, RGB, RGBA
    _to_srgb,
    _turn_upright,
)
# then these for each recipe and picture,
FRAME_STEPS: tuple[Callable[[Draft], None], ...] = (
    _choose_part,
    _crop_and_resize,  # alpha premultiplied
)
# and these for each recipe.
FILE_STEPS: tuple[Callable[[Draft], None], ...] = (
    _choose_format,
    _flatten,  # on the background, where the format has no transparency
    _choose_tags,
    _encode,
)


def render(data: bytes, recipes: Sequence[Transform], limits: Limits) -> list[Result]:
    """Make one rendition for each recipe, and the values of each feature, in their order, from the
    bytes of one original.

    Raises ImageError where the original itself is broken; what only one recipe cannot do is a
    Failure in its place.
    """
    with pillow_limit(limits.max_pixels), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # Those are for programmers who call Pillow, not for the owner of a picture.
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
    original: OpenedOriginal, wanted: Sequence[Transform], limits: Limits
) -> list[Result]:
    recipes = [_reduced(each) if isinstance(each, Feature) else each for each in wanted]
    features = {at: each for at, each in enumerate(wanted) if isinstance(each, Feature)}
    layouts = [lay_out(recipe, original.size) for recipe in recipes]
    results: dict[int, Result] = {}
    still: list[int] = []
    moving: list[int] = []
    for at, (recipe, layout) in enumerate(zip(recipes, layouts, strict=True)):
        if at in features and wants_header(features[at]):
            results[at] = _values(features[at], _header(original))
            continue
        moves = original.frames > 1 and recipe.format in _MOVING_FORMATS
        count = original.frames if moves else 1
        try:
            check_pixels(layout.size, count, limits)
        except ImageError as error:
            results[at] = Failure(recipe.name, f"the rendition would be too large: {error}")
        else:
            (moving if moves else still).append(at)
    if still:
        picture = Picture(
            original, original.image, _shrink(original, [layouts[at] for at in still])
        )
        _take(PICTURE_STEPS, picture)
        for at in still:
            if at in features:
                given = resize(picture.image, picture.edges, layouts[at].size, TRIANGLE)
                # A copy: a function may draw in it, and the picture is others' as well.
                results[at] = _values(features[at], given.copy())
                continue
            draft = Draft(recipes[at], layouts[at], picture)
            results[at] = _rendition(draft, FRAME_STEPS + FILE_STEPS)
    if moving:
        made = _animations(original, [(recipes[at], layouts[at]) for at in moving])
        results.update(zip(moving, made, strict=True))
    return [results[at] for at in range(len(recipes))]


def _animations(
    original: OpenedOriginal, jobs: Sequence[tuple[Recipe, Layout]]
) -> list[Rendition | Failure]:
    drafts: list[Draft] = []
    durations: list[float] = []
    for number in frame_numbers(original):
        picture = Picture(original, original.image, frame_number=number)
        _take(PICTURE_STEPS, picture)
        durations.append(picture.duration_ms)
        drafts = drafts or [Draft(recipe, layout, picture) for recipe, layout in jobs]
        for draft in drafts:
            draft.picture = picture
            _take(FRAME_STEPS, draft)
    for draft in drafts:
        draft.timing = Timing(tuple(durations), plays_of(original))
    return [_rendition(draft, FILE_STEPS) for draft in drafts]


def _rendition(draft: Draft, steps: Iterable[Callable[[Draft], None]]) -> Rendition | Failure:
    try:
        _take(steps, draft)
    except Exception as error:
        return Failure(draft.recipe.name, _reason(error))
    width_px, height_px = draft.layout.size
    return Rendition(draft.recipe.name, draft.data, draft.format, width_px, height_px, draft.notes)


def _reduced(feature: Feature) -> Recipe:
    """The recipe of the picture that a feature gets: a still, never enlarged."""
    return Recipe(feature.name, fit=(feature.max_side, feature.max_side), format="png")


def _header(original: OpenedOriginal) -> Header:
    return Header(*original.size, original.format, len(original.data))


def _values(feature: Feature, of: Image.Image | Header) -> Values | Failure:
    try:
        return values_of(feature, of)
    except FunctionError as error:
        return Failure(feature.name, str(error), error.log_text)
    except MemoryError as error:
        return Failure(feature.name, _reason(error))


def _take(steps: Iterable[Callable[[T], None]], subject: T) -> None:
    for step in steps:
        step(subject)


def _shrink(original: OpenedOriginal, layouts: Sequence[Layout]) -> int:
    """Return the scale 1/n to decode at: the smallest at which every rendition is at its best.

    That is one and a half times the largest rendition, or exactly its size where it is half of the
    original: libjpeg's own halving costs a third of a decibel (docs/pixels.md).
    """
    if original.format != "jpeg":
        return 1
    width, height = original.size
    needed = (max(at.scaled[0] for at in layouts), max(at.scaled[1] for at in layouts))
    for shrink in JPEG_SHRINKS:
        if min(width, height) < shrink:
            continue  # libjpeg is asked by size, and cannot be asked for less than a pixel
        reduced = -(-width // shrink), -(-height // shrink)
        if shrink == 2 and needed == reduced:
            return 2
        if all(have >= _DECODE_AT_LEAST * need for have, need in zip(reduced, needed, strict=True)):
            return shrink
    return 1


def _reason(error: Exception) -> str:
    if isinstance(error, ImageError):
        return str(error)
    if isinstance(error, MemoryError):
        return "out of memory while it was rendered"
    return f"could not be rendered: {error or type(error).__name__}"


def _said(caught: list[warnings.WarningMessage]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(f"the decoder warns: {w.message}".strip() for w in caught))


def _with_notes(result: Result, said: tuple[str, ...]) -> Result:
    if isinstance(result, Values):
        return result
    if isinstance(result, Failure):
        return replace(result, reason="; ".join([result.reason, *said]))
    return replace(result, notes=(*result.notes, *said))
