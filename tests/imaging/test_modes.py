from __future__ import annotations

import io

import numpy as np
import pillow_heif
import pytest
from PIL import Image
from samples import animated, decoded, encoded, heic, mean_error, moving, photo, pixels

from pipeline.imaging import Limits, Rendition
from pipeline.imaging.modes import to_eight_bit
from pipeline.imaging.render import render
from pipeline.transforms.recipes import Recipe

WHOLE = Recipe("whole", scale=1.0, format="png")


def only(data: bytes, recipe: Recipe = WHOLE) -> Rendition:
    (result,) = render(data, [recipe], Limits())
    assert isinstance(result, Rendition), result
    return result


def ramp(count: int = 256) -> np.ndarray:
    return np.tile(np.linspace(0, 1, count), (8, 1))


def test_sixteen_bit_grey_is_scaled_and_not_clipped() -> None:
    image = Image.fromarray((ramp() * 65535).round().astype(np.uint16))
    assert image.mode == "I;16"
    for format in ("PNG", "TIFF"):
        out = pixels(only(encoded(image, format)).data, "L")
        assert np.abs(out - ramp() * 255).max() <= 1, format


def test_sixteen_bit_colour_is_scaled_and_not_clipped() -> None:
    import struct
    import zlib

    values = (np.stack([ramp(), 1 - ramp(), ramp() / 2], axis=-1) * 65535).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", 256, 8, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows))
    out = pixels(only(data + chunk(b"IEND", b"")).data)
    assert np.abs(out - values.astype(float) / 257).max() <= 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (ramp() * 65535, ramp() * 255),
        (ramp() * 255, ramp() * 255),
        (ramp() * 2e9, ramp() * 255),
        (ramp() * 2000 - 1000, ramp() * 255),
    ],
)
def test_32_bit_integers_are_brought_to_eight_bits(
    values: np.ndarray, expected: np.ndarray
) -> None:
    data = encoded(Image.fromarray(values.round().astype(np.int32)), "TIFF")
    assert np.abs(pixels(only(data).data, "L") - expected).max() <= 1


@pytest.mark.parametrize("top", [1.0, 255.0, 65535.0, 1e9])
def test_floats_are_brought_to_eight_bits(top: float) -> None:
    data = encoded(Image.fromarray((ramp() * top).astype(np.float32)), "TIFF")
    assert np.abs(pixels(only(data).data, "L") - ramp() * 255).max() <= 1


def test_floats_that_are_no_numbers_do_no_harm() -> None:
    values = (ramp() * 255).astype(np.float32)
    values[0, 0] = np.nan
    out = pixels(only(encoded(Image.fromarray(values), "TIFF")).data, "L")
    assert np.abs(out[1:] - ramp()[1:] * 255).max() <= 1


def test_black_and_white_becomes_grey_and_can_be_resized() -> None:
    image = Image.new("1", (64, 64))
    image.paste(1, (32, 0, 64, 64))
    for format in ("PNG", "TIFF", "BMP", "GIF"):
        out = pixels(only(encoded(image, format), Recipe("h", width=32, format="png")).data, "L")
        assert out[:, :12].max() < 3, format
        assert out[:, 20:].min() > 252, format


def test_grey_stays_grey() -> None:
    for format in ("JPEG", "PNG", "TIFF", "BMP"):
        data = encoded(photo().convert("L"), format)
        assert decoded(only(data).data).mode == "L", format
        assert decoded(only(data, Recipe("j", scale=0.5, format="jpeg")).data).mode == "L"


def test_grey_with_alpha_keeps_both() -> None:
    image = photo().convert("L").convert("LA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    assert np.array_equal(pixels(only(encoded(image, "PNG")).data, "RGBA"), pixels(image, "RGBA"))


def test_a_palette_without_transparency_becomes_colour() -> None:
    image = photo().quantize(64)
    for format in ("PNG", "GIF", "BMP", "TIFF"):
        out = only(encoded(image, format))
        assert decoded(out.data).mode == "RGB", format
        assert np.array_equal(pixels(out.data), pixels(image)), format


def test_a_palette_with_partial_alpha_keeps_each_entrys_alpha() -> None:
    image = Image.new("P", (6, 4))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 0, 1, 1, 2, 2] * 4)
    out = pixels(only(encoded(image, "PNG", transparency=bytes([0, 128, 255]))).data, "RGBA")
    assert out[0, ::2].tolist() == [[255, 0, 0, 0], [0, 255, 0, 128], [0, 0, 255, 255]]


def test_a_key_colour_becomes_transparent() -> None:
    image = Image.new("RGB", (4, 4), (10, 20, 30))
    image.paste((200, 0, 0), (0, 0, 2, 4))
    out = pixels(only(encoded(image, "PNG", transparency=(10, 20, 30))).data, "RGBA")
    assert out[0, 0].tolist() == [200, 0, 0, 255]
    assert out[0, 3, 3] == 0
    grey = Image.new("L", (4, 4), 77)
    out = pixels(only(encoded(grey, "PNG", transparency=77)).data, "RGBA")
    assert out[..., 3].max() == 0


def test_ycbcr_and_lab_tiffs_are_turned_into_colours() -> None:
    image = photo()
    for mode in ("YCbCr", "LAB"):
        if mode == "LAB":
            from PIL import ImageCms

            transform = ImageCms.buildTransform(
                ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
            )
            wide = ImageCms.applyTransform(image, transform)
            assert wide is not None
            wide.info = {}
        else:
            wide = image.convert(mode)
        for compression in (None, "tiff_lzw"):
            out = pixels(only(encoded(wide, "TIFF", compression=compression)).data)
            assert mean_error(out, pixels(image)) < 3, (mode, compression)


def test_a_multi_page_tiff_gives_its_first_page() -> None:
    first, second = Image.new("RGB", (20, 10), "red"), Image.new("RGB", (30, 30), "blue")
    data = encoded(first, "TIFF", save_all=True, append_images=[second])
    rendition = only(data)
    assert (rendition.width_px, rendition.height_px) == (20, 10)
    assert pixels(rendition.data)[0, 0].tolist() == [255, 0, 0]


def disc(size: int = 256) -> Image.Image:
    """A red disc on transparency whose hidden colour is bright green, to show any leak of it."""
    y, x = np.mgrid[0:size, 0:size]
    inside = (x - size / 2) ** 2 + (y - size / 2) ** 2 < (size * 0.4) ** 2
    rgba = np.where(inside[..., None], (255, 0, 0, 255), (0, 255, 0, 0)).astype(np.uint8)
    return Image.fromarray(rgba)


@pytest.mark.parametrize("format", ["png", "webp", "avif"])
def test_a_red_disc_on_transparent_gets_no_fringe(format: str) -> None:
    recipe = Recipe("small", width=61, format=format, quality=None if format == "png" else 100)
    out = pixels(only(encoded(disc(), "PNG"), recipe).data, "RGBA")
    seen = out[out[..., 3] > (16 if format == "png" else 64)]
    assert seen[:, 0].min() > 235
    assert seen[:, 1].max() < 25
    assert 0 < out[..., 3].mean() < 255
    assert out[0, 0, 3] == 0


def test_transparency_is_flattened_on_the_background_in_jpeg() -> None:
    for background, expected in (("#ffffff", (255, 255, 255)), ("#203040", (32, 48, 64))):
        recipe = Recipe("j", width=64, format="jpeg", quality=100, background=background)
        out = pixels(only(encoded(disc(), "PNG"), recipe).data)
        assert np.abs(out[0, 0] - expected).max() <= 3
        assert np.abs(out[32, 32] - (255, 0, 0)).max() <= 6
        # The rim is a mixture of the two, so no channel leaves the range between them.
        assert out[..., 1].max() <= max(expected[1], 0) + 12


def test_transparency_becomes_all_or_nothing_in_gif() -> None:
    recipe = Recipe("g", width=64, format="gif")
    out = pixels(only(encoded(disc(), "PNG"), recipe).data, "RGBA")
    assert set(np.unique(out[..., 3])) == {0.0, 255.0}
    assert out[0, 0, 3] == 0
    assert np.abs(out[32, 32] - (255, 0, 0, 255)).max() < 10


def test_an_alpha_channel_that_hides_nothing_is_dropped() -> None:
    assert decoded(only(encoded(photo().convert("RGBA"), "PNG")).data).mode == "RGB"


@pytest.mark.parametrize("source", ["PNG", "TIFF", "WEBP", "JPEG2000", "AVIF"])
@pytest.mark.parametrize("target", ["png", "webp", "avif"])
def test_transparency_passes_between_all_formats_that_have_it(source: str, target: str) -> None:
    image = photo().convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    data = encoded(image, source, **({"lossless": True} if source == "WEBP" else {}))
    out = pixels(only(data, Recipe("x", scale=1.0, format=target)).data, "RGBA")
    assert mean_error(out[..., 3], pixels(image, "RGBA")[..., 3]) < 4


def test_keep_is_the_own_format_or_one_that_the_web_can_show() -> None:
    image, keep = photo(), Recipe("k", scale=0.5)
    alpha = image.convert("RGBA")
    alpha.putalpha(128)
    expected = {"JPEG": "jpeg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "AVIF": "avif"}
    expected |= {"BMP": "png", "TIFF": "png", "JPEG2000": "jpeg"}
    for source, target in expected.items():
        rendition = only(encoded(image, source), keep)
        assert rendition.format == target, source
        assert decoded(rendition.data).format == target.upper(), source
    assert only(encoded(alpha, "JPEG2000"), keep).format == "png"


def test_a_heic_is_read_with_its_alpha_and_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    rendition = only(heic(photo(), exif=exif.tobytes()), Recipe("k", scale=1.0))
    assert rendition.format == "jpeg"
    upright = photo().transpose(Image.Transpose.ROTATE_270)
    assert mean_error(pixels(rendition.data), pixels(upright)) < 6
    alpha = photo().convert("RGBA")
    alpha.putalpha(Image.linear_gradient("L").resize(alpha.size))
    kept = only(heic(alpha), Recipe("k", scale=1.0))
    assert kept.format == "png"
    assert mean_error(pixels(kept.data, "RGBA")[..., 3], pixels(alpha, "RGBA")[..., 3]) < 4


def test_a_heic_of_several_pictures_gives_the_one_that_is_its_first() -> None:
    file = io.BytesIO()
    many = pillow_heif.from_pillow(photo())
    many.add_from_pillow(Image.new("RGB", (200, 100), "red"))
    many.save(file, quality=90, primary_index=0)
    rendition = only(file.getvalue(), Recipe("k", scale=1.0))
    assert mean_error(pixels(rendition.data), pixels(photo())) < 6


def test_an_avif_sequence_gives_its_first_frame() -> None:
    rendition = only(animated("AVIF"), Recipe("k", scale=1.0))
    assert rendition.format == "avif"
    assert getattr(decoded(rendition.data), "n_frames", 1) == 1
    assert mean_error(pixels(rendition.data), pixels(moving()[0])) < 6


def test_progressive_is_written_on_request_only() -> None:
    for progressive in (False, True):
        recipe = Recipe("p", scale=1.0, format="jpeg", progressive=progressive)
        out = decoded(only(encoded(photo(), "PNG"), recipe).data)
        assert bool(out.info.get("progressive")) is progressive


def test_the_rare_modes_with_alpha_come_out_with_their_alpha() -> None:
    palette = Image.new("PA", (4, 4))
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.putalpha(100)
    assert to_eight_bit(palette).getpixel((0, 0)) == (255, 0, 0, 100)
    for premultiplied in (
        Image.new("La", (2, 2), (50, 100)),
        Image.new("RGBa", (2, 2), (50, 50, 50, 100)),
    ):
        assert to_eight_bit(premultiplied).getpixel((0, 0)) == (127, 127, 127, 100)
