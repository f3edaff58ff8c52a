"""Colour: an embedded ICC profile is converted to sRGB, so that no rendition needs one."""

from __future__ import annotations

import functools
import io

from PIL import Image, ImageCms

# One profile serves a whole shoot; CMYK profiles weigh up to 2 MB, so few are kept.
_CACHED_PROFILES = 16
# An sRGB profile of any maker moves no colour by more than this; such a conversion is left out.
_UNSEEN = 1

_SPACE_OF_MODE = {"L": "GRAY", "RGB": "RGB", "RGBA": "RGB", "CMYK": "CMYK", "LAB": "LAB"}


def to_srgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, tuple[str, ...]]:
    """Return L, RGB or RGBA in sRGB, and notes about a profile that could not be used.

    Takes what ``to_eight_bit`` gives. Without a usable profile RGB and grey are taken for sRGB.
    """
    notes: tuple[str, ...] = ()
    if profile:
        mode = "RGB" if image.mode == "RGBA" else image.mode
        try:
            space = _space(profile)
            if space == "RGB" and mode == "L":
                image, mode = image.convert("RGB"), "RGB"
            if space != _SPACE_OF_MODE[mode]:
                raise ValueError(f"it is for {space}, the pixels are {_SPACE_OF_MODE[mode]}")
            if mode == "L":
                table = _grey_table(profile)
                return (image.point(table) if table else image), ()
            transform = _transform(profile, image.mode)
            if transform is None:
                return image, ()
            return transform.apply(image), ()
        except Exception as error:  # LittleCMS, on bytes that anybody may have written
            notes = (f"the colour profile is broken and was ignored ({error})",)
    if image.mode == "CMYK":
        return image.convert("RGB"), notes
    if image.mode == "LAB":
        return _lab_transform().apply(image), notes
    return image, notes


@functools.lru_cache(maxsize=_CACHED_PROFILES)
def _space(profile: bytes) -> str:
    return _open(profile).profile.xcolor_space.strip().upper()


@functools.lru_cache(maxsize=_CACHED_PROFILES)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Build the conversion to sRGB; None where it would change nothing that can be seen."""
    out_mode = "RGBA" if mode == "RGBA" else "RGB"
    transform = ImageCms.buildTransform(
        _open(profile),
        ImageCms.createProfile("sRGB"),
        mode,
        out_mode,
        renderingIntent=ImageCms.Intent.PERCEPTUAL,
    )
    if mode in ("RGB", "RGBA") and _is_idle(transform, mode):
        return None
    return transform


def _is_idle(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Try a cube of 4,913 colours: what a profile does says more than what it is called."""
    levels = [min(step * 16, 255) for step in range(17)]
    cube = bytes(value for r in levels for g in levels for b in levels for value in (r, g, b))
    before = Image.frombytes("RGB", (17 * 17, 17), cube).convert(mode)
    after = transform.apply(before).convert("RGB").tobytes()
    return all(abs(a - b) <= _UNSEEN for a, b in zip(after, cube, strict=True))


@functools.lru_cache(maxsize=_CACHED_PROFILES)
def _grey_table(profile: bytes) -> list[int] | None:
    """Return the 256 sRGB levels of a grey profile; None where they are the same."""
    transform = ImageCms.buildTransform(_open(profile), ImageCms.createProfile("sRGB"), "L", "RGB")
    ramp = Image.frombytes("L", (256, 1), bytes(range(256)))
    table = list(transform.apply(ramp).getchannel("G").tobytes())
    return None if all(abs(a - b) <= _UNSEEN for a, b in enumerate(table)) else table


@functools.lru_cache(maxsize=1)
def _lab_transform() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(
        ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB"
    )


def _open(profile: bytes) -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(io.BytesIO(profile))


def flatten(image: Image.Image, background: str) -> Image.Image:
    """Lay a picture with alpha on a colour; anything else is handed back as it is."""
    if image.mode != "RGBA":
        return image
    ground = Image.new("RGB", image.size, background)
    ground.paste(image, mask=image)
    return ground
