"""Animation: frames in and out, with their durations, their loop count and their disposal.

Pillow composes every frame onto the canvas, so each is a whole picture and can be resized by
itself. What the eye sees at each moment is kept; how the frames are stored may change.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from PIL import Image

from pipeline.imaging.encode import Tags, check_size, encode_options, to_palette
from pipeline.imaging.opening import OpenedOriginal, broken
from pipeline.transforms.recipes import Recipe


@dataclass(frozen=True, slots=True)
class Timing:
    """How an animation runs: milliseconds a frame, and how often in all (0 is forever)."""

    durations_ms: tuple[float, ...]
    plays: int


def frame_numbers(original: OpenedOriginal) -> range:
    """Return the numbers of the frames that are shown, for ``decode_frame``."""
    # An APNG may open with a picture for viewers that cannot animate; it is no frame.
    first = 1 if original.image.info.get("default_image") else 0
    return range(first, getattr(original.image, "n_frames", 1))


def decode_frame(original: OpenedOriginal, number: int) -> tuple[Image.Image, float]:
    """Return a frame, composed, and its duration in milliseconds; call it for one after the other.

    Raises ImageError where the frame is cut off or broken.
    """
    image = original.image
    try:
        image.seek(number)
        image.load()
    except Exception as error:
        raise broken(original, error) from error
    return image.copy(), float(image.info.get("duration") or 0)


def plays_of(original: OpenedOriginal) -> int:
    """Return how often an animation is played; a GIF counts its repeats, and none means once."""
    loop = original.image.info.get("loop")
    if original.format == "gif":
        return 1 if loop is None else 0 if loop == 0 else int(loop) + 1
    return int(loop or 0)


def encode_frames(
    frames: list[Image.Image], timing: Timing, format: str, recipe: Recipe, tags: Tags
) -> bytes:
    """Write frames of one size as an animated GIF, WebP or APNG."""
    check_size(frames[0].size, format)
    options: dict[str, Any] = encode_options(format, recipe, tags)
    durations = [round(duration) for duration in timing.durations_ms]
    options |= {"save_all": True, "duration": durations}
    frames = _of_one_mode(frames)
    if format == "gif":
        if timing.plays != 1:
            options["loop"] = 0 if timing.plays == 0 else timing.plays - 1
        reduced = [to_palette(frame) for frame in frames]
        frames = [frame for frame, _ in reduced]
        options |= {key: value for _, extra in reduced for key, value in extra.items()}
    else:
        options["loop"] = timing.plays
        if format == "png":
            # Each frame is whole: it replaces what was there, and nothing is laid over anything.
            options |= {"disposal": 1, "blend": 0}
    for frame in frames:
        frame.info = {}  # Pillow's writers add what they find in here unasked
    file = io.BytesIO()
    frames[0].save(file, format, append_images=frames[1:], **options)
    data = file.getvalue()
    if format == "webp" and frames[0].mode == "RGBA":
        return _with_alpha_flag(data)
    return data


def _of_one_mode(frames: list[Image.Image]) -> list[Image.Image]:
    """Give all frames the widest mode among them; a GIF has one transparent colour for all."""
    modes = {frame.mode for frame in frames}
    if len(modes) == 1:
        return frames
    mode = "RGBA" if "RGBA" in modes else "RGB"
    return [frame if frame.mode == mode else frame.convert(mode) for frame in frames]


def _with_alpha_flag(webp: bytes) -> bytes:
    """Say in the header that there is transparency.

    libwebp trims each frame to what is seen; where all that is left is opaque, it calls the whole
    animation opaque, and viewers paint the rest of the canvas black.
    """
    if webp[12:16] != b"VP8X":
        return webp
    return webp[:20] + bytes([webp[20] | 0x10]) + webp[21:]
