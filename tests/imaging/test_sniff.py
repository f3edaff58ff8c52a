"""What bytes are, by the one list of first bytes that a render and a fetch go by."""

from __future__ import annotations

import io
import struct

import pytest
from PIL import Image

from pipeline.errors import ImageError
from pipeline.imaging.sniff import content_of, image_problem, sniff


@pytest.mark.parametrize(
    "format", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000"]
)
def test_images_are_images(format: str) -> None:
    out = io.BytesIO()
    try:
        Image.new("RGB", (8, 8), "red").save(out, format)
    except (OSError, KeyError):
        pytest.skip(f"this Pillow cannot write {format}")
    assert image_problem(out.getvalue()[:64]) is None
    assert sniff(out.getvalue()[:64]) == format.lower()


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"<!DOCTYPE html><html>", "text/html"),
        (b"\n  <HTML><body>", "text/html"),
        (b"\xef\xbb\xbf<!-- x --><html>", "text/html"),
        (b'<?xml version="1.0"?><rss>', "application/xml"),
        (b'{"error": "gone"}', "application/json"),
        (b"Not found", "text/plain"),
        (b"%PDF-1.7", "application/pdf"),
        (b"PK\x03\x04", "application/zip"),
        (b"\0\0\0\x18ftypmp42", "video/mp4"),
        (b"\x1aE\xdf\xa3", "video/webm"),
        (b"\0\1\2\3", "application/octet-stream"),
    ],
)
def test_other_content_is_named(head: bytes, kind: str) -> None:
    assert content_of(head).media_type == kind
    assert (image_problem(head) or "").startswith(f"not an image ({kind})")


@pytest.mark.parametrize(
    "head", [b'<svg xmlns="x">', b'<?xml version="1.0"?>\n<svg>', b"<!-- by me --><svg>"]
)
def test_drawings_are_no_images_of_pixels(head: bytes) -> None:
    assert image_problem(head) == (
        "not an image of pixels (image/svg+xml); export it as PNG, and use that file"
    )


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"<!DOCTYPE html><html><body><svg viewBox='0 0 1 1'></svg>", "not an image (text/html)"),
        (b"<!-- x --><html><svg>", "not an image (text/html)"),
        (b"<?xml version='1.0'?><html><svg>", "not an image (text/html)"),
        (b"BMW is a maker of cars", "not an image (text/plain)"),
        (b"<!DOCTYPE svg PUBLIC 'x' [<!ENTITY a 'b'>] ><svg>", "of pixels (image/svg+xml)"),
        (b"<?xml version='1.0'?>\n<!-- a -->\n<!-- b --><svg:svg>", "of pixels (image/svg+xml)"),
        (b"<!---->" * 580, "not an image (text/plain)"),
    ],
)
def test_pages_with_drawings_are_pages(head: bytes, reason: str) -> None:
    assert reason in (image_problem(head) or "")


def test_a_brand_box_as_long_as_an_icons_first_bytes_is_no_icon() -> None:
    head = b"\0\0\1\0ftypavif" + bytes(244)
    assert sniff(head) == "avif"
    assert image_problem(head) is None


def test_an_avif_with_a_brand_of_its_makers_own_is_fetched_as_it_is_rendered() -> None:
    head = b"\0\0\0\x18ftypMA1B\0\0\0\0avifmif1"
    assert sniff(head) == "avif"
    assert image_problem(head) is None


def test_a_text_that_begins_as_a_bmp_does_is_called_a_text() -> None:
    with pytest.raises(ImageError, match="the content is text"):
        sniff(b"BMW is a maker of cars")


def test_a_page_with_a_drawing_in_it_is_called_a_page() -> None:
    with pytest.raises(ImageError, match="the content is a web page"):
        sniff(b"<!DOCTYPE html><html><body><svg viewBox='0 0 1 1'></svg>")


def tiff(*tags: tuple[int, int, int], order: str = "<", make: bytes = b"") -> bytes:
    """The first bytes of a TIFF, with its directory in front, as cameras write it."""
    entries = [(tag, kind, 1, value) for tag, kind, value in tags]
    if make:
        entries.append((271, 2, len(make), 8 + 2 + 12 * (len(tags) + 1) + 4))
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(entries))
    for tag, kind, count, value in sorted(entries):
        head += struct.pack(order + "HHI", tag, kind, count)
        head += struct.pack(
            order + ("HH" if kind == 3 else "I"), *(value, 0)[: (kind == 3 and 2) or 1]
        )
    return head + bytes(4) + make + bytes(64)


PREVIEW = ((254, 4, 1), (330, 4, 400))


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"II*\0\x10\0\0\0CR\2\0", "Canon CR2"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "Canon CR3"),
        (b"FUJIFILMCCD-RAW 0201", "Fujifilm RAF"),
        (b"IIRO\x08\0\0\0", "Olympus ORF"),
        (b"IIU\0\x18\0\0\0", "Panasonic RW2"),
        (tiff(*PREVIEW, order=">", make=b"NIKON CORPORATION\0"), "Nikon NEF"),
        (tiff(*PREVIEW, make=b"SONY\0"), "Sony ARW"),
        (tiff((262, 3, 32803), make=b"PENTAX\0"), "Pentax PEF"),
        (tiff((50706, 1, 0x0401)), "DNG"),
    ],
)
def test_a_raw_file_says_what_to_do_and_is_not_read_as_the_small_tiff_in_it(
    head: bytes, kind: str
) -> None:
    with pytest.raises(ImageError) as caught:
        sniff(head)
    assert str(caught.value) == (
        f"not an image: the content is a RAW file of a camera ({kind}); "
        "export it as JPEG or TIFF, and use that file"
    )


def test_a_tiff_of_a_cameras_photo_is_a_tiff() -> None:
    assert sniff(tiff((254, 4, 0), make=b"NIKON CORPORATION\0")) == "tiff"
    assert sniff(tiff((262, 3, 2), make=b"SONY\0")) == "tiff"
    assert sniff(b"II*\0\xff\xff\xff\xff" + bytes(64)) == "tiff"
