"""Imaging: pure functions of bytes and a recipe; they know no tables and no files.

``animation``    frames in and out, with their durations, loops and disposal
``attention``    where the most interesting part of a picture is
``colour``       embedded profiles to sRGB, and transparency onto a background
``encode``       pixels to bytes: quality, options and largest side of each format
``formats``      suffixes of each format, Pillow's name for it, and what ``keep`` gives
``function``     a function of the user's, called with a picture
``geometry``     how large a rendition is, and which part of the original it shows
``metadata``     what a rendition may carry of EXIF, IPTC and XMP
``model``        what goes into and comes out of a render: limits, renditions, failures
``modes``        every kind of pixel becomes 8-bit grey, RGB or RGBA
``opening``      the decoders that may be used, and every check before decoding
``orientation``  the eight ways in which a camera may have stored a picture
``palette``      the dominant colours of a picture
``pdq``          a hash that stays nearly the same when a picture is resized or compressed
``render``       one original, all its recipes, one decode: the order of the steps
``resize``       Lanczos in SIMD, with alpha premultiplied
``size``         what the header of an original says
``sniff``        what a file is, by its first bytes
``structure``    truncated files and numbers of frames, without decoding
``thumbhash``    a placeholder of some 25 bytes
``values``       what the function of a feature says, and whether that can be kept
``watermark``    a picture or a text laid over a rendition
"""

from pipeline.imaging.formats import (
    ORIGINAL_SUFFIXES,
    WEB_FORMATS,
    advice_of_suffix,
    format_of_suffix,
    suffix_for,
)
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
    "WEB_FORMATS",
    "Failure",
    "Limits",
    "Rendition",
    "Unneeded",
    "Values",
    "advice_of_suffix",
    "format_of_suffix",
    "suffix_for",
]
