"""Render: one original, all its recipes, one decode.

The bytes are opened and checked, every rendition is laid out (``geometry``), and then come the
pixel steps, in the order of ``PICTURE_STEPS``, ``FRAME_STEPS`` and ``FILE_STEPS``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from PIL import Image

from pipeline.errors import FunctionError, ImageError
from pipeline.imaging.animation import Timing, decode_frame, encode_frames, frame_numbers, plays_of
from pipeline.imaging.attention import attention_offset
from pipeline.imaging.colour import flatten, to_srgb
from pipeline.imaging.encode import Tags, encode
from pipeline.imaging.formats import output_format
from pipeline.imaging.function import apply
from pipeline.imaging.geometry import Box, Layout, Size, lay_out
from pipeline.imaging.metadata import tags_for
from pipeline.imaging.model import (
    Failure,
    Header,
    Limits,
    Rendition,
    Result,
    Unneeded,
    reason_of,
    with_notes,
)
from pipeline.imaging.modes import to_eight_bit
from pipeline.imaging.opening import (
    OpenedOriginal,
    check_pixels,
    decode,
    open_original,
    pillow_limit,
    shrink_for,
)
from pipeline.imaging.orientation import (
    RIGHT_OR_BOTTOM_EDGE_AT_LEFT,
    RIGHT_OR_BOTTOM_EDGE_AT_TOP,
    upright,
)
from pipeline.imaging.resize import TRIANGLE, resize
from pipeline.imaging.values import values_of, wants_header
from pipeline.reasons import Code
from pipeline.transforms.features import Feature, is_listed
from pipeline.transforms.recipes import Recipe, Transform

T = TypeVar("T")

# An APNG stays animated as `keep`; requested by name, a PNG is a still.
_MOVING_FORMATS = frozenset(["keep", "webp", "gif"])


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
    limits: Limits
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


def _call_function(draft: Draft) -> None:
    function = draft.recipe.function
    if function is None:
        return
    image = draft.images[-1]
    if image is draft.picture.image:  # where nothing was resampled, others are made of it, too
        image = image.copy()
        image.info = {}
    draft.images[-1] = made = apply(function, image, draft.limits)
    if made.size != draft.images[0].size:
        raise FunctionError(f"{function.name}: the frames it returned are not of one size")


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
    _call_function,  # the user's own
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
            raise ImageError("; ".join([str(error), *said]), error.code) from None
        except Exception as error:  # one bad file must cost one file, whatever Pillow raises on it
            code, text = reason_of(error)
            raise ImageError(text, code) from error
    said = _said(caught)
    return [with_notes(result, said) for result in results] if said else results


def _render_all(
    original: OpenedOriginal, wanted: Sequence[Transform], limits: Limits
) -> list[Result]:
    made: dict[Transform, Result] = {}
    looking: list[Feature] = []
    for feature in (each for each in wanted if isinstance(each, Feature)):
        if wants_header(feature):
            header = Header(*original.size, original.format, len(original.data))
            made[feature] = values_of(feature, header)
        else:
            looking.append(feature)
    for moves, features in (False, looking), (True, []):
        recipes = [r for r in wanted if isinstance(r, Recipe) and _moves(r, original) is moves]
        if recipes or features:
            made |= _Renderings(original, recipes, limits, moves, features).made()
    return [made[each] for each in wanted]


def _moves(recipe: Recipe, original: OpenedOriginal) -> bool:
    if recipe.parent is not None and not _moves(recipe.parent, original):
        return False
    return original.frames > 1 and recipe.format in _MOVING_FORMATS


class _UnneededError(Exception):
    """Not to be made, as :class:`Unneeded` says."""


class _Renderings:
    """What is made of one original by recipes that all move, or all stand still.

    ``features`` get the same picture: the first, of one that moves.
    """

    def __init__(
        self,
        original: OpenedOriginal,
        recipes: Sequence[Recipe],
        limits: Limits,
        moves: bool,
        features: Sequence[Feature],
    ) -> None:
        self.original, self.wanted, self.limits, self.moves = original, recipes, limits, moves
        # Those that they are made from as well, each before what is made from it.
        self.recipes = dict.fromkeys(each for recipe in recipes for each in recipe.line)
        self.parents = {recipe.parent for recipe in self.recipes}
        self.drafts: dict[Recipe, Draft] = {}
        # Of parents: pixels before encoding, which nothing has been lost of.
        self.pixels: dict[Recipe, Image.Image] = {}
        self.errors: dict[Recipe, Exception] = {}
        self.results: dict[Transform, Result] = {}
        # Now: Pillow says the reduced size once it decoded a JPEG.
        self.layouts = {
            recipe: layout
            for recipe in self.recipes
            if recipe.parent is None and (layout := self._lay_out(recipe, original.size))
        }
        self.features = {feature: lay_out(_given(feature), original.size) for feature in features}

    def made(self) -> dict[Transform, Result]:
        """One result for each recipe and feature that is wanted, whatever became of the others."""
        if self.layouts or self.features:
            self._draw()
        files = {each: self._file(each) for each in self.wanted if each not in self.results}
        return self.results | files

    def _draw(self) -> None:
        original, durations = self.original, []
        # Renditions are the same with what only finds near duplicates, and without.
        asked = [layout for feature, layout in self.features.items() if is_listed(feature.name)]
        layouts = [*self.layouts.values(), *asked] or list(self.features.values())
        shrink = 1 if self.moves else shrink_for(original, layouts)
        for number in frame_numbers(original) if self.moves else [None]:
            picture = Picture(original, original.image, shrink, number)
            _take(PICTURE_STEPS, picture)
            durations.append(picture.duration_ms)
            for recipe in self.recipes:
                self._draw_frame(recipe, picture)
                if not self.moves and recipe in self.wanted:
                    # Now, so that only one is in memory, with those that others are made from.
                    self.results[recipe] = self._file(recipe)
            for feature, layout in self.features.items():
                seen = picture
                if layout.size[0] > picture.image.width:  # a small JPEG, decoded smaller still
                    again = open_original(original.data, self.limits)
                    seen = Picture(again, again.image, shrink_for(again, [layout]))
                    _take(PICTURE_STEPS, seen)
                image = resize(seen.image, seen.edges, layout.size, TRIANGLE)
                # A copy: a function may draw in it, and the picture is others' as well.
                self.results[feature] = values_of(feature, image.copy())
        if self.moves:
            for draft in self.drafts.values():
                draft.timing = Timing(tuple(durations), plays_of(original))

    def _draw_frame(self, recipe: Recipe, picture: Picture) -> None:
        if recipe in self.errors:
            return
        if recipe.parent is not None:
            if recipe.parent in self.errors:
                code, text = reason_of(self.errors[recipe.parent])
                why = f"[{recipe.parent.name}], which it is made from, failed: {text}"
                self.errors[recipe] = ImageError(why, code)
                return
            image = self.pixels[recipe.parent]
            picture = replace(picture, image=image, edges=(0, 0, *image.size))
        if recipe not in self.drafts:
            layout = self.layouts.get(recipe) or self._lay_out(recipe, picture.image.size)
            if layout is None:
                return
            self.drafts[recipe] = Draft(recipe, layout, picture, self.limits)
        draft = self.drafts[recipe]
        draft.picture = picture
        try:
            _take(FRAME_STEPS, draft)
        except Exception as error:
            self.errors[recipe] = error
        if recipe in self.parents:
            self.pixels[recipe] = draft.images[-1]

    def _lay_out(self, recipe: Recipe, size: Size) -> Layout | None:
        """Where a recipe is laid over a picture of this size; ``None`` if it cannot be."""
        layout = lay_out(recipe, size)
        if recipe.above is not None and size[0] <= recipe.above:
            self.errors[recipe] = _UnneededError()
            return None
        try:
            check_pixels(layout.size, self.original.frames if self.moves else 1, self.limits)
        except ImageError as error:
            why = f"the rendition would be too large: {error}"
            self.errors[recipe] = ImageError(why, Code.RESULT_TOO_LARGE)
            return None
        return layout

    def _file(self, recipe: Recipe) -> Result:
        error = self.errors.get(recipe)
        if isinstance(error, _UnneededError):
            return Unneeded(recipe.name)
        try:
            if error is not None:
                raise error
            draft = self.drafts.pop(recipe)
            _take(FILE_STEPS, draft)
        except Exception as error:
            text = error.log_text if isinstance(error, FunctionError) else ""
            return Failure(recipe.name, reason_of(error), text)
        return Rendition(recipe.name, draft.data, draft.format, *draft.images[0].size, draft.notes)


def _given(feature: Feature) -> Recipe:
    """The recipe of the picture that a feature gets; it is never enlarged."""
    return Recipe(feature.name, fit=(feature.max_side, feature.max_side))


def _take(steps: Iterable[Callable[[T], None]], subject: T) -> None:
    for step in steps:
        step(subject)


def _said(caught: list[warnings.WarningMessage]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(f"the decoder warns: {w.message}".strip() for w in caught))
