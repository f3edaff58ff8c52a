"""Imaging: pure functions of bytes and a recipe; they know no tables and no files."""

from typing import TYPE_CHECKING, Any

from pipeline.imaging.formats import ORIGINAL_SUFFIXES, format_of_suffix, suffix_for
from pipeline.imaging.model import RENDERER_VERSION, Failure, Limits, Rendition

if TYPE_CHECKING:
    from pipeline.imaging.render import render

__all__ = [
    "ORIGINAL_SUFFIXES",
    "RENDERER_VERSION",
    "Failure",
    "Limits",
    "Rendition",
    "format_of_suffix",
    "render",
    "suffix_for",
]


def __getattr__(name: str) -> Any:
    # Only workers render: a run with no change must not pay 100 ms for loading the decoders.
    if name == "render":
        from pipeline.imaging.render import render

        globals()["render"] = render
        return render
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
