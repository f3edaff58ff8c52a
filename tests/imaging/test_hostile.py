from __future__ import annotations

import random
import struct
import sys
import time
import zlib

import pytest
from PIL import Image, ImageFile
from samples import animated, declaring, encoded, every_format, heic, photo

from pipeline.errors import ImageError
from pipeline.imaging import Failure, Limits, Rendition, structure
from pipeline.imaging.render import render
from pipeline.reasons import Code
from pipeline.transforms.recipes import Recipe

SMALL = Recipe("small", width=48, format="png")
FORMATS = every_format()


def reason(data: bytes, limits: Limits | None = None) -> str:
    with pytest.raises(ImageError) as caught:
        render(data, [SMALL], limits or Limits())
    return str(caught.value)


@pytest.mark.parametrize("name", FORMATS)
def test_a_sound_file_is_rendered_without_a_note(name: str) -> None:
    (result,) = render(FORMATS[name], [SMALL], Limits())
    assert isinstance(result, Rendition), result
    assert result.notes == ()
    assert result.width_px == min(48, result.width_px)


@pytest.mark.parametrize("name", FORMATS)
def test_a_cut_file_is_never_half_grey_wherever_it_is_cut(name: str) -> None:
    data = FORMATS[name]
    cuts = {*range(16, len(data), max(1, len(data) // 60)), *range(len(data) - 12, len(data))}
    for cut in sorted(cuts):
        assert reason(data[:cut]).startswith("cut off: "), cut


@pytest.mark.parametrize("name", ["jpeg", "jpeg-grey", "png", "gif", "bmp"])
def test_a_cut_file_says_how_many_rows_were_there(name: str) -> None:
    data = FORMATS[name]
    said = reason(data[: len(data) * 2 // 3])
    assert f"after its {len(data) * 2 // 3:,} bytes; about " in said
    assert said.endswith("% of its rows were there")


@pytest.mark.parametrize("name", ["webp", "avif", "tiff", "jp2"])
def test_a_cut_file_says_how_many_bytes_are_missing(name: str) -> None:
    data = FORMATS[name]
    half = len(data) // 2
    assert reason(data[:half]) == f"cut off: {half:,} of its {len(data):,} bytes are there (50 %)"


def test_a_file_whose_end_was_never_written_is_cut_off() -> None:
    for name in ("jpeg", "png"):
        data = FORMATS[name]
        hole = data[: len(data) // 2] + bytes(len(data) - len(data) // 2)
        assert reason(hole).startswith(("cut off", "broken")), name


def test_a_thumbnails_end_is_not_taken_for_the_pictures_end() -> None:
    thumbnail = encoded(photo(16, 16), "JPEG")
    exif = Image.Exif()
    exif[0x010E] = "x"
    data = encoded(photo(), "JPEG", exif=exif.tobytes() + thumbnail)
    assert reason(data[:-400]).startswith("cut off")


def test_what_follows_the_end_of_a_picture_is_not_looked_at() -> None:
    for name in ("jpeg", "png", "gif", "webp"):
        (result,) = render(FORMATS[name] + b"\0" * 100 + b"trailer", [SMALL], Limits())
        assert isinstance(result, Rendition), name


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "empty file"),
        (b"Dear Sir,\nplease find attached\n", "not an image: the content is text"),
        ("Größe: 5 cm, Bücher".encode() * 90, "not an image: the content is text"),
        (b"<!DOCTYPE html><html></html>", "not an image: the content is a web page"),
        (
            b"<svg xmlns='x'></svg>",
            "not an image: the content is an SVG drawing; export it as PNG, and use that file",
        ),
        (
            b"%PDF-1.7\n",
            "not an image: the content is a PDF document; "
            "export its pages as PNG or JPEG, and use those",
        ),
        (
            b"II*\0\x10\0\0\0CR\2\0" + bytes(64),
            "not an image: the content is a RAW file of a camera (Canon CR2); "
            "export it as JPEG or TIFF, and use that file",
        ),
        (bytes(4096), "not an image: the content is nothing but zero bytes"),
        (b"\x00\x00\x00\x18ftypmp42" + bytes(32), "not an image: the content is a video or"),
        (b"\x93\x01\xfe\x88" * 9, "not an image: the content is in a format that is not known"),
    ],
)
def test_a_reason_says_what_the_file_is_instead(data: bytes, expected: str) -> None:
    assert reason(data).startswith(expected)


def test_formats_outside_the_allow_list_are_not_opened() -> None:
    for format in ("PPM", "TGA", "PCX", "ICO", "EPS", "PDF", "ICNS", "DDS"):
        try:
            data = encoded(photo(32, 32), format)
        except Exception:
            continue
        assert reason(data).startswith("not an image"), format


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", header), *chunks, (b"IEND", b"")):
        data += struct.pack(">I", len(body)) + kind + body
        data += struct.pack(">I", zlib.crc32(kind + body))
    return data


def bombs() -> dict[str, bytes]:
    side = struct.pack("<H", 60_000)
    jpeg = FORMATS["jpeg"]
    sof = jpeg.index(b"\xff\xc0")
    tiff = bytearray(FORMATS["tiff-deflate"])
    entry = struct.unpack("<I", tiff[4:8])[0] + 2
    while entry + 12 <= len(tiff):
        tag, kind = struct.unpack("<HH", tiff[entry : entry + 4])
        if tag in (256, 257):
            tiff[entry + 8 : entry + 12] = struct.pack("<HH" if kind == 3 else "<I", 60_000, 0)[:4]
        entry += 12
    gif, bmp = FORMATS["gif"], FORMATS["bmp"]
    webp = b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\xff\x3f" * 2 + b"    "
    return {
        "png": png(60_000, 60_000, (b"IDAT", zlib.compress(bytes(9999)))),
        "jpeg": jpeg[: sof + 5] + struct.pack(">HH", 65_500, 65_500) + jpeg[sof + 9 :],
        "gif": gif[:6] + side + side + gif[10:],
        "bmp": bmp[:18] + struct.pack("<ii", 60_000, 60_000) + bmp[26:],
        "tiff": bytes(tiff),
        "webp": webp,
        "heic": declaring(FORMATS["heic"], 0, (60_000, 60_000)),
        "heic-alpha": _with_more_alpha(),
    }


def _with_more_alpha() -> bytes:
    """A small HEIC whose alpha channel, which has a size of its own, is declared huge."""
    data = FORMATS["heic-alpha"]
    at = data.index(b"ispe") - 4
    box = data[at : at + 20]
    # A second size in the place of what says how many bits the alpha has.
    free = data.index(b"auxC") - 4
    assert len(box) <= int.from_bytes(data[free : free + 4], "big")
    rest = int.from_bytes(data[free : free + 4], "big") - len(box)
    large = declaring(b"\0\0\0\x14" + box[4:], 0, (60_000, 60_000))
    padding = rest.to_bytes(4, "big") + b"free" + bytes(rest - 8)
    return data[:free] + large + padding + data[free + len(box) + rest :]


@pytest.mark.parametrize("name", bombs())
def test_a_bomb_is_refused_from_its_header_in_no_time(name: str) -> None:
    data = bombs()[name]
    render(FORMATS["png"], [SMALL], Limits())  # what is imported on first use is not the bomb's
    start = time.perf_counter()
    said = reason(data)
    assert time.perf_counter() - start < 0.05
    assert "is over the limit of 200 million pixels" in said


def frame_bombs() -> dict[str, bytes]:
    frame = b",\0\0\0\0\1\0\1\0\0\x02\x02D\x01\0"
    dot = encoded(Image.new("RGB", (1, 1)), "WEBP")[12:]
    moving = b"ANMF" + struct.pack("<I", 16 + len(dot)) + bytes(16) + dot
    webp = b"VP8X\x0a\0\0\0\x02" + bytes(9) + b"ANIM\x06\0\0\0" + bytes(6) + moving * 300_000
    return {
        "gif": b"GIF89a\1\0\1\0\x80\0\0" + bytes(6) + frame * 500_000 + b";",
        "webp": b"RIFF" + struct.pack("<I", 4 + len(webp)) + b"WEBP" + webp,
        "apng": png(1, 1, (b"acTL", struct.pack(">II", 500_000, 0))),
    }


@pytest.mark.parametrize("name", ["gif", "webp", "apng"])
def test_a_million_frames_are_not_even_counted(name: str) -> None:
    data = frame_bombs()[name]
    render(FORMATS["png"], [SMALL], Limits())
    start = time.perf_counter()
    assert reason(data) == "more than 1,000 frames"
    assert time.perf_counter() - start < 0.05


def test_rubbish_between_the_blocks_of_a_gif_is_skipped_in_no_time() -> None:
    start = time.perf_counter()
    padded = FORMATS["gif"][:-1] + bytes(10_000_000) + b";"
    assert structure.count_frames(padded, "gif", most=1000) == 1
    assert time.perf_counter() - start < 0.5


def test_a_picture_at_the_pixel_limit_passes_and_one_over_it_does_not() -> None:
    data = FORMATS["png"]
    assert isinstance(render(data, [SMALL], Limits(max_pixels=96 * 64))[0], Rendition)
    assert reason(data, Limits(max_pixels=96 * 64 - 1)) == (
        "96 x 64 px is over the limit of 6,143 pixels"
    )


def test_text_and_profiles_that_inflate_to_much_are_refused() -> None:
    packed = zlib.compress(bytes(80_000_000), 9)
    rows = zlib.compress(b"\0" * (1 + 3 * 4) * 4)
    for chunk in ((b"zTXt", b"Comment\0\0" + packed), (b"iCCP", b"icc\0\0" + packed)):
        assert "too large" in reason(png(4, 4, chunk, (b"IDAT", rows)))


def test_a_png_whose_pixels_end_early_is_cut_off_or_broken() -> None:
    rows = zlib.compress(b"".join(b"\0" + random.Random(y).randbytes(120) for y in range(40)))
    assert reason(png(40, 40, (b"IDAT", rows[: len(rows) // 2]))).startswith("cut off")
    assert reason(png(40, 40, (b"IDAT", b"no deflate at all"))).startswith("broken PNG")


def test_an_orientation_behind_the_pixels_of_a_png_counts() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    rows = zlib.compress(bytes((1 + 3 * 30) * 20))
    (result,) = render(
        png(30, 20, (b"IDAT", rows), (b"eXIf", exif.tobytes()[6:])), [SMALL], Limits()
    )
    assert isinstance(result, Rendition)
    assert (result.width_px, result.height_px) == (20, 30)


def test_running_out_of_memory_is_a_reason_and_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(sys.modules["pipeline.imaging.render"], "upright", full)
    assert reason(FORMATS["jpeg"]) == "out of memory while it was rendered"


def test_a_damaged_png_is_refused_by_its_checksum() -> None:
    data = bytearray(FORMATS["png"])
    data[len(data) // 2] ^= 0x55
    assert "broken PNG: the IDAT data at byte" in reason(bytes(data))


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_bytes_raise_nothing_but_an_image_error(name: str) -> None:
    """A short look; `make fuzz` looks for minutes."""
    dice = random.Random(name)
    for _ in range(25):
        data = bytearray(FORMATS[name])
        for _ in range(dice.randrange(1, 6)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        try:
            (result,) = render(bytes(data), [SMALL], Limits(max_pixels=1_000_000))
            said = result.reason.text if isinstance(result, Failure) else ""
        except ImageError as caught:
            said = str(caught)
        assert "<" not in said, "the address of a Python object is no reason"


def test_one_recipe_that_cannot_be_made_leaves_the_others_alone() -> None:
    recipes = [
        Recipe("good", width=20),
        Recipe("huge", width=17_000, format="webp", enlarge=True),
        Recipe("also-good", width=30),
    ]
    results = render(encoded(photo(200, 2), "PNG"), recipes, Limits())
    assert [type(r) for r in results] == [Rendition, Failure, Rendition]
    assert isinstance(results[1], Failure)
    assert results[1].reason.text == "17,000 x 170 px is more than webp can hold (16,383 px a side)"


def test_a_rendition_larger_than_the_pixel_limit_is_refused() -> None:
    recipes = [Recipe("huge", scale=16.0, enlarge=True)]
    (result,) = render(FORMATS["png"], recipes, Limits(max_pixels=1_000_000))
    assert isinstance(result, Failure)
    assert result.reason.code is Code.RESULT_TOO_LARGE


def test_a_heic_that_declares_a_smaller_picture_than_it_holds_is_not_decoded_whole() -> None:
    large = heic(Image.new("RGB", (3_000, 2_000), "red"))
    said = reason(declaring(large, 0, (64, 64)))
    assert said.startswith("broken HEIF: ")
    assert "3000x2000 exceeds the maximum image size" in said


def test_pillows_leniency_stays_off() -> None:
    render(animated("GIF"), [SMALL], Limits())
    assert Image.MAX_IMAGE_PIXELS is not None
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def test_what_a_decoder_warns_of_becomes_a_note() -> None:
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x09\0\0\0\xff\xff\0\0"
    (result,) = render(encoded(photo(), "JPEG", exif=exif), [SMALL], Limits())
    assert isinstance(result, Rendition)
    assert result.notes
    assert result.notes[0].startswith("the decoder warns: ")
