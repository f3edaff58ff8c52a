from __future__ import annotations

import numpy as np
import pytest
from icc_profiles import (
    ADOBE_XY,
    D50_XY,
    D65_XY,
    P3_XY,
    PROPHOTO_XY,
    SRGB_XY,
    cmyk_profile,
    gamma,
    grey_profile,
    lab_to_srgb,
    matrix_to_d50,
    prophoto_decode,
    rgb_profile,
    srgb_decode,
    to_srgb,
)
from PIL import Image
from samples import decoded, encoded, mean_error, photo, pixels

from pipeline.imaging import Limits, Rendition
from pipeline.imaging.render import render
from pipeline.transforms.recipes import Recipe

WHOLE = Recipe("whole", scale=1.0, format="png")

MATRIX_PROFILES = {
    "Adobe RGB": (matrix_to_d50(ADOBE_XY, D65_XY), gamma(563 / 256)),
    "Display P3": (matrix_to_d50(P3_XY, D65_XY), srgb_decode),
    "ProPhoto": (matrix_to_d50(PROPHOTO_XY, D50_XY), prophoto_decode),
}


def only(data: bytes, recipe: Recipe = WHOLE) -> Rendition:
    (result,) = render(data, [recipe], Limits())
    assert isinstance(result, Rendition), result
    return result


@pytest.mark.parametrize("name", MATRIX_PROFILES)
@pytest.mark.parametrize("format", ["PNG", "TIFF", "JPEG", "WEBP"])
def test_an_embedded_rgb_profile_is_converted_to_srgb(name: str, format: str) -> None:
    matrix, decode = MATRIX_PROFILES[name]
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}
    data = encoded(
        photo(), format, icc_profile=rgb_profile(matrix, decode), **options.get(format, {})
    )
    expected = to_srgb(pixels(data), matrix, decode)
    rendition = only(data)
    assert mean_error(pixels(rendition.data), expected) < 1
    assert mean_error(pixels(rendition.data), pixels(data)) > 2, "the profile does move colours"
    assert b"iCCP" not in rendition.data


def test_an_avif_with_a_profile_is_converted_too() -> None:
    matrix, decode = MATRIX_PROFILES["Display P3"]
    data = encoded(photo(), "AVIF", quality=100, icc_profile=rgb_profile(matrix, decode))
    assert mean_error(pixels(only(data).data), to_srgb(pixels(data), matrix, decode)) < 1


def test_transparency_survives_a_colour_conversion() -> None:
    matrix, decode = MATRIX_PROFILES["Display P3"]
    image = photo().convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    out = only(encoded(image, "PNG", icc_profile=rgb_profile(matrix, decode)))
    result = pixels(out.data, "RGBA")
    assert np.array_equal(result[..., 3], pixels(image, "RGBA")[..., 3])
    assert mean_error(result[..., :3], to_srgb(pixels(image), matrix, decode)) < 1


def test_a_palette_picture_with_a_profile_is_converted() -> None:
    matrix, decode = MATRIX_PROFILES["Adobe RGB"]
    data = encoded(photo().quantize(128), "PNG", icc_profile=rgb_profile(matrix, decode))
    assert mean_error(pixels(only(data).data), to_srgb(pixels(data), matrix, decode)) < 1


def test_a_grey_profile_is_converted_and_the_picture_stays_grey() -> None:
    image = photo().convert("L")
    data = encoded(image, "PNG", icc_profile=grey_profile(gamma(1.0)))
    linear = pixels(image, "L") / 255
    expected = 255 * np.where(
        linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055
    )
    rendition = only(data)
    assert mean_error(pixels(rendition.data, "L"), expected) < 1
    assert decoded(rendition.data).mode == "L"


def test_a_cmyk_profile_decides_what_the_inks_look_like() -> None:
    def inks_to_lab(inks: np.ndarray) -> np.ndarray:
        c, m, y, k = inks.T
        light = (1 - k) * (1 - 0.3 * c - 0.4 * m - 0.08 * y)
        left = (1 - k) * np.stack([60 * m - 30 * c, 70 * y - 40 * c - 5 * m])
        return np.stack([100 * light, left[0], left[1]], axis=1)

    profile = cmyk_profile(inks_to_lab)
    # Little ink, so that every colour lies within sRGB and no gamut has to be mapped.
    inks = (pixels(photo(), "CMYK") * 0.35).astype(np.uint8)
    image = Image.frombytes("CMYK", (inks.shape[1], inks.shape[0]), inks.tobytes())
    expected = lab_to_srgb(inks_to_lab(inks.reshape(-1, 4) / 255)).reshape(*inks.shape[:2], 3)
    for format, options in (("TIFF", {}), ("JPEG", {"quality": 100, "subsampling": 0})):
        rendition = only(encoded(image, format, icc_profile=profile, **options))
        assert mean_error(pixels(rendition.data), expected) < 2.0, format


def test_cmyk_without_a_profile_keeps_white_white_and_inks_in_their_hue() -> None:
    swatches = {
        (0, 0, 0, 0): (255, 255, 255),
        (0, 0, 0, 255): (0, 0, 0),
        (255, 0, 0, 0): (0, 255, 255),
        (0, 255, 255, 0): (255, 0, 0),
    }
    for inks, expected in swatches.items():
        image = Image.new("CMYK", (16, 16), inks)
        for format in ("JPEG", "TIFF"):
            out = only(encoded(image, format))
            assert mean_error(pixels(out.data), np.array(expected, float)) < 3, (inks, format)


def test_a_cmyk_jpeg_without_adobes_marker_is_not_taken_for_an_inverted_one() -> None:
    adobe = encoded(Image.new("CMYK", (16, 16), (0, 0, 0, 0)), "JPEG")
    at = adobe.index(b"\xff\xee\x00\x0eAdobe")
    plain = adobe[:at] + adobe[at + 16 :]
    assert mean_error(pixels(only(adobe).data), np.full(3, 255.0)) < 3
    assert mean_error(pixels(only(plain).data), np.zeros(3)) < 3


def test_a_broken_profile_is_ignored_and_noted() -> None:
    matrix, decode = MATRIX_PROFILES["Adobe RGB"]
    good = rgb_profile(matrix, decode)
    for profile in (b"not a profile", good[:200], b"\0" * 300):
        rendition = only(encoded(photo(), "PNG", icc_profile=profile))
        assert np.array_equal(pixels(rendition.data), pixels(photo()))
        assert any("profile is broken" in note for note in rendition.notes)


def test_a_profile_for_another_kind_of_pixels_is_ignored_and_noted() -> None:
    rendition = only(encoded(photo(), "PNG", icc_profile=grey_profile(gamma(1.0))))
    assert np.array_equal(pixels(rendition.data), pixels(photo()))
    assert "it is for GRAY, the pixels are RGB" in rendition.notes[0]


def test_an_srgb_profile_of_any_maker_changes_no_pixel() -> None:
    profile = rgb_profile(matrix_to_d50(SRGB_XY, D65_XY), srgb_decode)
    rendition = only(encoded(photo(), "PNG", icc_profile=profile))
    assert np.array_equal(pixels(rendition.data), pixels(photo()))
    assert rendition.notes == ()
