"""Metadata: what a rendition may carry of its original's EXIF, IPTC and XMP.

``strip`` carries nothing. ``keep`` carries EXIF without the orientation (it was applied), the
embedded thumbnail (it shows the old picture) and the old size. ``copyright`` carries who made it
and who may use it, and nothing else: no place, no time, no camera.
"""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

from PIL import Image, ImageFile
from PIL.IptcImagePlugin import getiptcinfo

from pipeline.imaging.encode import Tags
from pipeline.imaging.orientation import ORIENTATION_TAG

_ARTIST, _COPYRIGHT = 0x013B, 0x8298
_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
# The original's own size, which the rendition does not have.
_SIZE_TAGS = (0xA002, 0xA003)
# How a TIFF lays out its pixels, and the blocks of other metadata that it carries: tags of the
# file, not of the picture. In EXIF the same numbers say where the thumbnail is.
_FILE_TAGS = frozenset(
    [
        *range(0x00FE, 0x010B),  # subfile, size, bits, compression, photometric, fill order
        *(0x0111, 0x0115, 0x0116, 0x0117, 0x0118, 0x0119, 0x011C, 0x013D),  # strips, predictor
        *range(0x0140, 0x015C),  # palette, tiles, inks, sample format, JPEG tables
        *range(0x0200, 0x0215),  # old JPEG, YCbCr
        *(0x02BC, 0x83BB, 0x8649, 0x8773),  # XMP, IPTC, Photoshop, ICC
    ]
)

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_DC = "http://purl.org/dc/elements/1.1/"
_RIGHTS = "http://ns.adobe.com/xap/1.0/rights/"
_PHOTOSHOP = "http://ns.adobe.com/photoshop/1.0/"
_CC = "http://creativecommons.org/ns#"
_PLUS = "http://ns.useplus.org/ldf/xmp/1.0/"
_PREFIXES = {
    "rdf": _RDF,
    "dc": _DC,
    "xmpRights": _RIGHTS,
    "photoshop": _PHOTOSHOP,
    "cc": _CC,
    "plus": _PLUS,
}
_KEPT_FIELDS = frozenset(
    [
        f"{{{_DC}}}creator",
        f"{{{_DC}}}rights",
        f"{{{_PHOTOSHOP}}}Credit",
        f"{{{_PHOTOSHOP}}}Source",
        f"{{{_PLUS}}}ImageCreator",
        f"{{{_PLUS}}}CopyrightOwner",
        f"{{{_PLUS}}}Licensor",
    ]
)
_KEPT_NAMESPACES = tuple(f"{{{namespace}}}" for namespace in (_RIGHTS, _CC))
# IPTC fields and the XMP fields that took their place.
_IPTC_FIELDS = {
    (2, 80): f"{{{_DC}}}creator",
    (2, 110): f"{{{_PHOTOSHOP}}}Credit",
    (2, 115): f"{{{_PHOTOSHOP}}}Source",
    (2, 116): f"{{{_DC}}}rights",
}
_PACKET = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">{}</x:xmpmeta><?xpacket end="r"?>'
)


def tags_for(image: Image.Image, metadata: str) -> tuple[Tags, tuple[str, ...]]:
    """Return the tags of an opened original for one ``metadata`` value, and notes on lost ones."""
    if metadata == "strip":
        return Tags(), ()
    notes = []
    exif = b""
    try:
        exif = _exif(image, keep_all=metadata == "keep")
    except Exception:  # broken EXIF raises nearly anything; the picture itself may be fine
        notes.append("the EXIF data is broken and was left out")
    xmp = b""
    if metadata == "copyright":
        try:
            xmp = _copyright_xmp(image)
        except Exception:
            notes.append("the XMP or IPTC data is broken and was left out")
    return Tags(exif, xmp), tuple(notes)


def _exif(image: Image.Image, *, keep_all: bool) -> bytes:
    old = image.getexif()
    new = Image.Exif()
    wanted = set(old) - _FILE_TAGS - {ORIENTATION_TAG} if keep_all else {_ARTIST, _COPYRIGHT}
    for tag in sorted(wanted & set(old)):
        if tag in (_EXIF_IFD, _GPS_IFD):
            inner = old.get_ifd(tag)
            new[tag] = {
                key: _as_stored(value) for key, value in inner.items() if key not in _SIZE_TAGS
            }
        else:
            new[tag] = _as_stored(old[tag])
    return new.tobytes() if len(new) else b""


def _as_stored(value: Any) -> Any:
    """Give text its own bytes back: Pillow reads it as Latin-1 and writes "?" for every "©"."""
    if isinstance(value, str) and not value.isascii():
        return value.encode("latin-1", "replace")
    return value


def _copyright_xmp(image: Image.Image) -> bytes:
    root = ElementTree.Element(f"{{{_RDF}}}RDF")
    kept = ElementTree.SubElement(root, f"{{{_RDF}}}Description", {f"{{{_RDF}}}about": ""})
    for description in _descriptions(image.info.get("xmp")):
        for name, value in description.attrib.items():
            if _is_kept(name):
                kept.set(name, value)
        kept.extend(child for child in description if _is_kept(child.tag))
    present = {child.tag for child in kept} | set(kept.attrib)
    for field, values in _iptc(image).items():
        if field not in present:
            _add_list(kept, field, values)
    if not len(kept) and len(kept.attrib) == 1:
        return b""
    for prefix, namespace in _PREFIXES.items():
        ElementTree.register_namespace(prefix, namespace)
    return _PACKET.format(ElementTree.tostring(root, encoding="unicode")).encode()


def _is_kept(name: str) -> bool:
    return name in _KEPT_FIELDS or name.startswith(_KEPT_NAMESPACES)


def _descriptions(packet: bytes | str | None) -> list[ElementTree.Element]:
    if not packet:
        return []
    text = packet if isinstance(packet, str) else packet.decode("utf-8", "replace")
    # Entities are of no use in XMP, and the usual way to make a parser eat all memory.
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("XMP with a document type")
    # The packet's wrapper and its padding are no XML of their own.
    found = re.search(r"<(x:xmpmeta|rdf:RDF)\b.*</\1>", text, re.DOTALL)
    if found is None:
        return []
    return list(ElementTree.fromstring(found.group()).iter(f"{{{_RDF}}}Description"))


def _iptc(image: Image.Image) -> dict[str, list[str]]:
    fields: dict[str, list[str]] = {}
    if not isinstance(image, ImageFile.ImageFile):
        return fields
    for key, raw in (getiptcinfo(image) or {}).items():
        if key in _IPTC_FIELDS:
            values = raw if isinstance(raw, list) else [raw]
            fields[_IPTC_FIELDS[key]] = [value.decode("utf-8", "replace") for value in values]
    return fields


def _add_list(parent: ElementTree.Element, field: str, values: list[str]) -> None:
    """Write a field as XMP wants it: names in a Seq, rights by language, the rest as plain text."""
    item = ElementTree.SubElement(parent, field)
    if not field.startswith(f"{{{_DC}}}"):
        item.text = ", ".join(values)
        return
    kind = "Seq" if field.endswith("creator") else "Alt"
    holder = ElementTree.SubElement(item, f"{{{_RDF}}}{kind}")
    for value in values:
        entry = ElementTree.SubElement(holder, f"{{{_RDF}}}li")
        entry.text = value
        if kind == "Alt":
            entry.set("{http://www.w3.org/XML/1998/namespace}lang", "x-default")
