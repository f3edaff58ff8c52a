from __future__ import annotations

import struct

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from samples import decoded, encoded, photo

from pipeline.imaging import Limits, Rendition
from pipeline.imaging.render import render
from pipeline.transforms.recipes import Recipe

XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"> <rdf:Description rdf:about=""
xmlns:dc="http://purl.org/dc/elements/1.1/"
  xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" xmlns:exif="http://ns.adobe.com/exif/1.0/"
  xmlns:cc="http://creativecommons.org/ns#" xmlns:xmpRights="http://ns.adobe.com/xap/1.0/rights/"
  photoshop:Credit="CREDIT-LINE" photoshop:City="SECRET-CITY" exif:GPSLatitude="SECRET-LAT">
  <dc:creator><rdf:Seq><rdf:li>XMP-CREATOR</rdf:li></rdf:Seq></dc:creator>
  <dc:subject><rdf:Bag><rdf:li>SECRET-KEYWORD</rdf:li></rdf:Bag></dc:subject>
  <cc:license>LICENCE-URL</cc:license>
  <xmpRights:WebStatement>WEB-STATEMENT</xmpRights:WebStatement>
</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>"""

KEPT_BY_COPYRIGHT = (b"EXIF-ARTIST", b"EXIF-COPYRIGHT")
IN_XMP = (b"CREDIT-LINE", b"XMP-CREATOR", b"LICENCE-URL", b"WEB-STATEMENT")
SECRETS = (
    b"SECRET-CITY",
    b"SECRET-LAT",
    b"SECRET-KEYWORD",
    b"SECRET-CAMERA",
    b"SECRET-COMMENT",
    b"SECRET-IPTC-CITY",
    b"SECRET-LENS",
)
TARGETS = ["jpeg", "png", "webp", "avif"]


def exif() -> Image.Exif:
    tags = Image.Exif()
    tags[0x010F] = "SECRET-CAMERA"
    tags[0x0112] = 6
    tags[0x013B] = "EXIF-ARTIST"
    tags[0x8298] = "EXIF-COPYRIGHT"
    tags[0x8769] = {0xA434: "SECRET-LENS", 0xA002: 96, 0xA003: 64}
    tags[0x8825] = {1: "N", 2: (48.0, 51.0, 29.0), 29: "2026:01:01"}
    return tags


def exif_with_thumbnail() -> bytes:
    """EXIF whose second directory points at a small JPEG, as cameras write it."""
    thumbnail = encoded(Image.new("RGB", (32, 24), "red"), "JPEG", comment=b"SECRET-THUMBNAIL")
    body = bytearray(exif().tobytes()[6:])
    order = "<" if body[:2] == b"II" else ">"
    first = struct.unpack(order + "I", body[4:8])[0]
    count = struct.unpack(order + "H", body[first : first + 2])[0]
    struct.pack_into(order + "I", body, first + 2 + 12 * count, len(body))
    start = len(body) + 2 + 2 * 12 + 4
    body += struct.pack(order + "H", 2)
    body += struct.pack(order + "HHII", 0x0201, 4, 1, start)
    body += struct.pack(order + "HHII", 0x0202, 4, 1, len(thumbnail)) + bytes(4)
    return b"Exif\0\0" + bytes(body) + thumbnail


def iptc() -> bytes:
    def field(number: int, text: bytes) -> bytes:
        return b"\x1c\x02" + bytes([number]) + struct.pack(">H", len(text)) + text

    body = field(90, b"SECRET-IPTC-CITY") + field(110, b"IPTC-CREDIT") + field(116, b"IPTC-RIGHTS")
    block = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(body)) + body + b"\0" * (len(body) & 1)
    segment = b"Photoshop 3.0\0" + block
    return b"\xff\xed" + struct.pack(">H", 2 + len(segment)) + segment


def originals(*, xmp: bool = True) -> dict[str, bytes]:
    text = PngInfo()
    text.add_text("Comment", "SECRET-COMMENT")
    text.add_itxt("XML:com.adobe.xmp", XMP)
    packet = {"xmp": XMP.encode()} if xmp else {}
    jpeg = encoded(
        photo(),
        "JPEG",
        exif=exif_with_thumbnail(),
        comment=b"SECRET-COMMENT",
        dpi=(300, 300),
        **packet,
    )
    return {
        "jpeg": jpeg[:2] + iptc() + jpeg[2:],
        "png": encoded(photo(), "PNG", exif=exif(), pnginfo=text),
        "webp": encoded(photo(), "WEBP", exif=exif(), **packet),
        "avif": encoded(photo(), "AVIF", exif=exif(), **packet),
        "tiff": encoded(photo(), "TIFF", exif=exif().tobytes()),
    }


def only(data: bytes, metadata: str, target: str) -> Rendition:
    (result,) = render(data, [Recipe("m", scale=0.5, format=target, metadata=metadata)], Limits())
    assert isinstance(result, Rendition), result
    return result


@pytest.mark.parametrize("source", originals())
@pytest.mark.parametrize("target", [*TARGETS, "gif"])
def test_strip_leaves_nothing_at_all(source: str, target: str) -> None:
    data = only(originals()[source], "strip", target).data
    for marker in (*SECRETS, *KEPT_BY_COPYRIGHT, *IN_XMP, b"IPTC", b"SECRET-THUMBNAIL"):
        assert marker not in data
    for marker in (b"Exif", b"EXIF", b"eXIf", b"xmp", b"XMP", b"8BIM", b"ICC", b"pHYs", b"tEXt"):
        assert marker not in data
    image = decoded(data)
    assert not dict(image.getexif())
    # The size of the same pixels saved with nothing at all: not one byte more is carried.
    assert set(image.info) <= {
        "jfif",
        "jfif_version",
        "jfif_unit",
        "jfif_density",
        "background",
        "version",
        "duration",
        "loop",
        "timestamp",
        "extension",
        "progression",
    }


@pytest.mark.parametrize("source", originals())
@pytest.mark.parametrize("target", TARGETS)
def test_keep_keeps_exif_without_orientation_thumbnail_and_old_size(
    source: str, target: str
) -> None:
    data = only(originals()[source], "keep", target).data
    kept = decoded(data).getexif()
    assert kept[0x013B] == "EXIF-ARTIST"
    assert kept[0x010F] == "SECRET-CAMERA"
    assert kept.get_ifd(0x8769)[0xA434] == "SECRET-LENS"
    assert kept.get_ifd(0x8825)[1] == "N"
    assert kept.get_ifd(0x8825)[2][0] == 48
    assert 0x0112 not in kept
    assert 0xA002 not in kept.get_ifd(0x8769)
    assert b"SECRET-THUMBNAIL" not in data
    assert not kept.get_ifd(1)


@pytest.mark.parametrize("source", originals())
@pytest.mark.parametrize("target", TARGETS)
def test_copyright_keeps_who_made_it_and_who_may_use_it_alone(source: str, target: str) -> None:
    data = only(originals()[source], "copyright", target).data
    for marker in SECRETS:
        assert marker not in data, marker
    kept = decoded(data).getexif()
    assert dict(kept) == {0x013B: "EXIF-ARTIST", 0x8298: "EXIF-COPYRIGHT"}
    if source != "tiff":
        for marker in IN_XMP:
            assert marker in data, marker
        assert decoded(data).info.get("xmp") or b"XML:com.adobe.xmp" in data


def test_letters_beyond_ascii_come_through_as_they_were_stored() -> None:
    tags = Image.Exif()
    tags[0x013B] = "Jürgen".encode()
    tags[0x8298] = "© Łukasz 2026".encode()
    tags[0x8769] = {0xA434: "Größe".encode()}
    data = encoded(photo(), "JPEG", exif=tags)
    for metadata in ("copyright", "keep"):
        out = only(data, metadata, "webp").data
        assert "Jürgen".encode() in out
        assert "© Łukasz 2026".encode() in out
        assert ("Größe".encode() in out) is (metadata == "keep")


def test_iptc_credit_and_rights_are_carried_over_as_xmp() -> None:
    data = only(originals(xmp=False)["jpeg"], "copyright", "jpeg").data
    assert b"IPTC-CREDIT" in data
    assert b"IPTC-RIGHTS" in data
    assert b"SECRET" not in data


def test_an_animation_obeys_the_same_rules() -> None:
    frames = [photo(40, 30), photo(40, 30).transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    data = encoded(
        frames[0], "WEBP", save_all=True, append_images=frames[1:], exif=exif(), duration=50
    )
    assert b"EXIF" not in only(data, "strip", "keep").data
    assert b"EXIF-ARTIST" in only(data, "copyright", "keep").data
    assert b"SECRET" not in only(data, "copyright", "keep").data
    gif = encoded(
        frames[0], "GIF", save_all=True, append_images=frames[1:], comment=b"SECRET-COMMENT"
    )
    assert b"SECRET" not in only(gif, "strip", "keep").data


def test_broken_exif_and_hostile_xmp_are_left_out_and_noted() -> None:
    bad = encoded(photo(), "JPEG", exif=b"Exif\0\0garbage and more garbage")
    rendition = only(bad, "keep", "jpeg")
    assert not dict(decoded(rendition.data).getexif())
    laughs = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa">]>' + XMP
    rendition = only(encoded(photo(), "JPEG", xmp=laughs.encode()), "copyright", "jpeg")
    assert "XMP or IPTC data is broken" in rendition.notes[0]
    assert b"CREDIT-LINE" not in rendition.data


def test_nothing_is_added_where_there_was_nothing() -> None:
    plain = encoded(photo(), "JPEG")
    stripped = only(plain, "strip", "jpeg").data
    assert only(plain, "keep", "jpeg").data == stripped
    assert only(plain, "copyright", "jpeg").data == stripped
