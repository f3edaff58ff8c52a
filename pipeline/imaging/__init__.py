"""Imaging: pure functions of bytes and a recipe; they know no tables and no files."""

from pipeline.imaging.formats import ORIGINAL_SUFFIXES, format_of_suffix, suffix_for
from pipeline.imaging.model import (
    RENDERER_VERSION,
    Failure,
    Limits,
    Rendition,
    Unneeded,
    Values,
)

__all__ = [
    "ORIGINAL_SUFFIXES",
    "RENDERER_VERSION",
    "Failure",
    "Limits",
    "Rendition",
    "Unneeded",
    "Values",
    "format_of_suffix",
    "suffix_for",
]
