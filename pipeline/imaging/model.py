"""What goes into and comes out of a render: limits, renditions, values and failures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

from pipeline.errors import ImageError
from pipeline.reasons import Code, Reason

RENDERER_VERSION = 2


@dataclass(frozen=True, slots=True)
class Limits:
    """What an original may ask for; both are checked before any pixel is decoded."""

    max_pixels: int = 200_000_000
    max_frames: int = 1000


@dataclass(frozen=True, slots=True)
class Rendition:
    """The bytes that one recipe made of one original; ``notes`` are for the person, not failures.

    ``format`` is one of jpeg, png, webp, avif, gif.
    """

    recipe: str
    data: bytes
    format: str
    width_px: int
    height_px: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Header:
    """What an original says of itself before its pixels; sides of the upright picture.

    ``format`` is one of avif, bmp, gif, heif, jpeg, jpeg2000, png, tiff, webp.
    """

    width_px: int
    height_px: int
    format: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Values:
    """What one feature says of one original: an object, as JSON."""

    feature: str
    json: str


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one recipe, or feature, could not be made of an original that is itself fine.

    ``log_text`` is more than people want to read: the traceback of a function.
    """

    recipe: str
    reason: Reason
    log_text: str = ""


@dataclass(frozen=True, slots=True)
class Unneeded:
    """Nothing is made, because a smaller one of the same widths shows all that there is."""

    recipe: str


Result: TypeAlias = Rendition | Values | Failure | Unneeded


def reason_of(error: Exception) -> Reason:
    """What people read of an error that a step of the pixels raised."""
    if isinstance(error, ImageError):
        return Reason(error.code, str(error))
    if isinstance(error, MemoryError):
        return Reason(Code.OUT_OF_MEMORY, "out of memory while it was rendered")
    text = f"could not be rendered: {error or type(error).__name__}"
    return Reason(Code.RENDERER_FAILED, text)


def with_notes(result: Result, said: tuple[str, ...]) -> Result:
    """A result with what the decoder warned of, ``said``."""
    if isinstance(result, Values | Unneeded):
        return result
    if isinstance(result, Failure):
        code, text = result.reason
        return replace(result, reason=Reason(code, "; ".join([text, *said])))
    return replace(result, notes=(*result.notes, *said))
