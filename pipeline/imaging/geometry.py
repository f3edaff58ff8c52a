"""Geometry: how large a rendition is and which part of the original it shows.

Sizes follow sharp and libvips: the tighter side sets the scale, the other side is rounded to the
nearest pixel, halves upwards (``VIPS_ROUND_UINT`` in ``vips_resize``), and no side goes below 1.
All arithmetic is exact, so a size does not hang on the last bit of a float.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from pipeline.transforms.recipes import Recipe

Size = tuple[int, int]
Box = tuple[float, float, float, float]  # left, top, width, height


@dataclass(frozen=True, slots=True)
class Layout:
    """The picture scaled to ``scaled`` px, of which ``size`` px are shown."""

    scaled: Size
    size: Size

    @property
    def is_cropped(self) -> bool:
        return self.scaled != self.size

    def offset(self, position: str) -> tuple[int, int]:
        """Return left and top of the shown part, in scaled pixels, for a named anchor."""
        spare_x, spare_y = self.scaled[0] - self.size[0], self.scaled[1] - self.size[1]
        # sharp's CalculateCrop: an odd pixel to spare is taken from the left and the top.
        left, top = (spare_x + 1) // 2, (spare_y + 1) // 2
        if "left" in position:
            left = 0
        if "right" in position:
            left = spare_x
        if "top" in position:
            top = 0
        if "bottom" in position:
            top = spare_y
        return left, top


def lay_out(recipe: Recipe, src: Size) -> Layout:
    """Lay a recipe over an upright picture of ``src`` px."""
    factor = _factor(recipe, src)
    scaled = _scale(src[0], factor), _scale(src[1], factor)
    if recipe.cover is None:
        return Layout(scaled, scaled)
    return Layout(scaled, (min(scaled[0], recipe.cover[0]), min(scaled[1], recipe.cover[1])))


def _factor(recipe: Recipe, src: Size) -> Fraction:
    if recipe.scale is not None:
        # By way of its decimal text: 0.29 means 29/100, not the nearest binary fraction below it.
        factor = Fraction(str(recipe.scale))
    elif recipe.fit is not None:
        factor = min(Fraction(recipe.fit[0], src[0]), Fraction(recipe.fit[1], src[1]))
    elif recipe.cover is not None:
        factor = max(Fraction(recipe.cover[0], src[0]), Fraction(recipe.cover[1], src[1]))
    elif recipe.width is not None:
        factor = Fraction(recipe.width, src[0])
    elif recipe.height is not None:
        factor = Fraction(recipe.height, src[1])
    else:
        raise ValueError(f"recipe {recipe.name} has no size")
    return factor if recipe.enlarge else min(factor, Fraction(1))


def _scale(side: int, factor: Fraction) -> int:
    return max(1, int(side * factor + Fraction(1, 2)))
