"""A function of pixels in its place among the steps: it gets a picture, and must return one."""

from __future__ import annotations

from PIL import Image

from pipeline.errors import FunctionError
from pipeline.imaging.model import Limits
from pipeline.imaging.opening import check_pixels
from pipeline.transforms.functions import Function, call

_MODES = ("L", "RGB", "RGBA")


def apply(function: Function, image: Image.Image, limits: Limits) -> Image.Image:
    """The picture that ``function`` makes of ``image``, which is its own to change.

    Raises:
        FunctionError: it raised something, or returned something else.
        ImageError: the picture is larger than ``limits`` allow.
    """
    made = call(function, image)
    if not isinstance(made, Image.Image):
        what = type(made).__name__
        raise FunctionError(f"{function.name}: returned {what}, and must return a PIL.Image.Image")
    if made.mode not in _MODES:
        raise FunctionError(
            f"{function.name}: returned an image in mode {made.mode}, and must return L, RGB or "
            "RGBA: image.convert('RGB')"
        )
    check_pixels(made.size, 1, limits)
    try:
        made.load()  # of a file that it has only opened
    except Exception as error:
        raise FunctionError(f"{function.name}: the image it returned is broken: {error}") from error
    return made
