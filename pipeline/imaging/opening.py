"""Opening: from bytes to the pixels of an original, with every check before the decoding."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO

# All plug-ins that the allow-list needs, by name: where one is missing, Pillow imports every
# plug-in it has, which costs 100 ms in each worker.
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    Jpeg2KImagePlugin,  # noqa: F401
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    TiffImagePlugin,
    WebPImagePlugin,  # noqa: F401
)

from pipeline.errors import ImageError
from pipeline.imaging import formats, structure
from pipeline.imaging.geometry import Layout, Size
from pipeline.imaging.model import Limits
from pipeline.imaging.orientation import stored_orientation, swaps_sides
from pipeline.imaging.sniff import sniff
from pipeline.reasons import Code

# Every core has its worker; an AVIF decoder with threads of its own only takes turns with them.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1

# The scales at which libjpeg decodes, smallest picture first.
JPEG_SHRINKS = (8, 4, 2)
# Times the rendition's size: below it, what libjpeg's own reduction costs shows (docs/pixels.md).
_DECODE_AT_LEAST = 1.5


@dataclass(frozen=True, slots=True)
class OpenedOriginal:
    """An original that is opened, has a valid header, and is not decoded yet."""

    image: Image.Image
    data: bytes
    format: str
    frames: int
    orientation: int

    @property
    def size(self) -> Size:
        """Width and height of the upright picture."""
        width, height = self.image.size
        return (height, width) if swaps_sides(self.orientation) else (width, height)


@contextmanager
def pillow_limit(max_pixels: int | None) -> Iterator[None]:
    """Set Pillow's own limit, which is one for the process, and put it back."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def open_original(data: bytes, limits: Limits) -> OpenedOriginal:
    """Open bytes without decoding; raises ImageError with a reason that a person understands."""
    format_ = sniff(data)
    if format_ == "heif":
        for size in structure.heif_sizes(data):
            check_pixels(size, 1, limits)
        _register_heif()
    if format_ == "webp" and len(data) >= 30:
        check_pixels(structure.webp_size(data), 1, limits)
        # reported below, with how much of the picture was there
        with suppress(structure.CutOffError):
            _count_frames(data, format_, limits)
    if format_ == "tiff":
        _count_frames(data, format_, limits)
    try:
        # Pillow's refusal would not say how large the picture is; ours, below, does.
        with pillow_limit(None):
            image = Image.open(io.BytesIO(data), formats=[formats.PILLOW_FORMAT[format_]])
    except Exception as error:  # a decoder raises nearly anything on untrusted bytes
        _count_frames(data, format_, limits)
        raise ImageError(f"not a valid {_name(format_)}: {_words(error)}") from error
    check_pixels(image.size, 1, limits)
    try:
        frames = _count_frames(data, format_, limits)
    except structure.CutOffError as error:
        raise ImageError(f"{error}{_rows_there(image)}", error.code) from None
    check_pixels(image.size, frames, limits)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        _check_strips(image, data)
        _fix_plain_ycbcr(image)
    if format_ == "png" and "exif" not in image.info:
        # It may come after the pixels, and Pillow reads them to get there.
        decode(OpenedOriginal(image, data, format_, frames, 1), 1)
    return OpenedOriginal(image, data, format_, frames, stored_orientation(image))


def shrink_for(original: OpenedOriginal, layouts: Sequence[Layout]) -> int:
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


def decode(original: OpenedOriginal, shrink: int) -> Image.Image:
    """Decode the first frame; a JPEG at 1/``shrink`` of its size, its sides rounded upwards.

    Raises ImageError where the pixels are cut off or broken.
    """
    image = original.image
    try:
        if shrink > 1:
            width, height = image.size
            image.draft(None, (width // shrink, height // shrink))
        if original.format == "tiff":
            _load_tiff(image)
        else:
            image.load()
    except Exception as error:
        raise broken(original, error) from error
    return image


def _load_tiff(image: Image.Image) -> None:
    """Load a TIFF; libtiff prints what is wrong to the terminal, which no reason would show."""
    try:
        kept = os.dup(2)
    except OSError:  # there is no terminal, as in some services
        image.load()
        return
    with _scratch_file() as printed:
        os.dup2(printed.fileno(), 2)
        try:
            image.load()
        except Exception as error:
            printed.seek(0)
            lines = printed.read(1000).decode("utf-8", "replace").splitlines()
            said = lines[0].removeprefix("tempfile.tif: ").rstrip(".") if lines else error
            raise OSError(said) from error
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _scratch_file() -> IO[bytes]:
    # In memory where that can be: a worker in its sandbox has no folder for temporary files.
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("libtiff"), "w+b")
    return tempfile.TemporaryFile()


def broken(original: OpenedOriginal, error: Exception) -> ImageError:
    """Turn what a decoder raised into the reason that people read."""
    text = str(error).lower()
    if "truncated" in text or "not enough" in text or isinstance(error, EOFError):
        cut = structure.cut_off(len(original.data))
        return ImageError(f"{cut}{_rows_there(original.image)}", cut.code)
    if isinstance(error, MemoryError):
        return ImageError("out of memory while it was decoded", Code.OUT_OF_MEMORY)
    return ImageError(f"broken {_name(original.format)}: {_words(error)}")


def _count_frames(data: bytes, format_: str, limits: Limits) -> int:
    """Walk the container and return its frames; raises ImageError where they are too many."""
    frames = structure.count_frames(data, format_, most=limits.max_frames)
    if frames > limits.max_frames:
        raise ImageError(f"more than {limits.max_frames:,} frames", Code.TOO_MANY_FRAMES)
    return frames


def check_pixels(size: Size, frames: int, limits: Limits) -> None:
    """Raise ImageError where so many frames of this size are more than the limit allows."""
    width, height = size
    if width < 1 or height < 1:
        raise ImageError(f"the picture has no pixels ({width} x {height})")
    if width * height * frames > limits.max_pixels:
        times = f"{frames:,} frames of " if frames > 1 else ""
        verb = "are" if frames > 1 else "is"
        raise ImageError(
            f"{times}{width:,} x {height:,} px {verb} over the limit of "
            f"{_millions(limits.max_pixels)} pixels",
            Code.TOO_LARGE,
        )


def _millions(number: int) -> str:
    return f"{number // 10**6:,} million" if number % 10**6 == 0 else f"{number:,}"


def _check_strips(image: TiffImagePlugin.TiffImageFile, data: bytes) -> None:
    """Compare where a TIFF's first page says its pixels lie with where the file ends."""
    tags = image.tag_v2
    for offsets, counts in ((273, 279), (324, 325)):
        parts = zip(tags.get(offsets, ()), tags.get(counts, ()), strict=False)
        ends = [start + length for start, length in parts]
        if ends and max(ends) > len(data):
            raise structure.cut_off(len(data), max(ends))


def _fix_plain_ycbcr(image: TiffImagePlugin.TiffImageFile) -> None:
    """Read uncompressed YCbCr as the three bytes a pixel that it is; Pillow 11 reads four."""
    if image.tag_v2.get(262) == 6 and all(tile.codec_name == "raw" for tile in image.tile):
        image._mode = "YCbCr"
        image.tile = [tile._replace(args=("YCbCr", 0, 1)) for tile in image.tile]


def _rows_there(image: Image.Image) -> str:
    """Decode what is there of a cut picture, to say how much of it that is; "" if unknown."""
    with suppress(Exception):
        _load_tiff(image) if image.format == "TIFF" else image.load()
    try:
        box = image.im.getbbox()
    except Exception:
        return ""
    if box is None:
        return ""
    share = round(100 * (box[3] - box[1]) / image.height)
    return f"; {f'about {share} %' if share < 99 else 'almost all'} of its rows were there"


def _register_heif() -> None:
    """Load the HEIF decoder on first need."""
    if "HEIF" in Image.OPEN:
        return
    # Imported here: only HEIF originals need it, and it costs 3 ms.
    import pillow_heif

    pillow_heif.register_heif_opener(
        thumbnails=False, depth_images=False, aux_images=False, decode_threads=1
    )


def _name(format_: str) -> str:
    return {"webp": "WebP", "jpeg2000": "JPEG 2000"}.get(format_, format_.upper())


def _words(error: Exception) -> str:
    """Take a decoder's own words, without the addresses of Python objects in them."""
    text = str(error).split("<_io.")[0].strip() or type(error).__name__
    return "the header cannot be read" if text.startswith("cannot identify") else text
