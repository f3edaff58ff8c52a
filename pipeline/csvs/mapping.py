"""Which columns of a CSV hold the number, the name and the images of a product.

Every shop system has headers of its own: they are found by the known sets below, by mappings that
were given names, or by one that was given with the CSV.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace

from pipeline.errors import SettingsError

NUMBER, NAME, URLS = "S. No.", "Product Name", "Input Image Urls"
# The mapping of our own three columns.
OURS = "lockstep"
# The mapping that was given with one CSV, without a name.
GIVEN = "given"
ROLES = ("number", "name", "images")


@dataclass(frozen=True)
class Mapping:
    """The headers of the columns that hold number, name and images; each list in order.

    Number and name of a row are the first of their columns that are not empty there. ``grouped``:
    rows below each other with the same number are one product, as where each image has a row.
    ``base`` is the address that images without a host are below, as Magento exports them.
    """

    label: str
    number: tuple[str, ...]
    name: tuple[str, ...]
    images: tuple[str, ...]
    grouped: bool = False
    base: str = ""

    def as_json(self) -> str:
        """The mapping as text, for :func:`mapping_of`."""
        return json.dumps(asdict(self), ensure_ascii=False)

    def headers(self) -> tuple[str, ...]:
        return (*self.number, *self.name, *self.images)

    def missing(self, header: Sequence[str]) -> list[str]:
        """The headers of this mapping that are not in ``header``."""
        there = {same_header(cell) for cell in header}
        return [wanted for wanted in self.headers() if same_header(wanted) not in there]


@dataclass(frozen=True)
class Columns:
    """Where number, name and images are in a row; several columns of images may share a header."""

    number: tuple[int, ...] = ()
    name: tuple[int, ...] = ()
    images: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Known:
    """A set of headers of which a file may lack some; it needs one of each role, and all ``marks``.

    ``mapping`` lists every header that is known for each role.
    """

    mapping: Mapping
    marks: tuple[str, ...] = ()


def _known(
    label: str,
    number: str,
    name: str,
    images: str,
    *,
    grouped: bool = False,
    marks: tuple[str, ...] = (),
) -> _Known:
    number_, name_, images_ = (tuple(text.split("|")) for text in (number, name, images))
    return _Known(Mapping(label, number_, name_, images_, grouped), marks)


# The first that matches is taken: Matrixify's headers contain those of Shopify, whose exports it
# extends. Sources: the import and export formats that the systems document, also in German.
KNOWN = (
    _known(OURS, NUMBER, NAME, URLS),
    _known("matrixify", "Handle|ID", "Title", "Image Src", grouped=True, marks=("Command",)),
    _known("matrixify", "Handle|ID", "Title", "Image Src", grouped=True, marks=("Top Row",)),
    _known("matrixify", "ID", "Title", "Image Src", grouped=True),
    _known("shopify", "Handle|URL handle", "Title", "Image Src|Product image URL", grouped=True),
    _known("woocommerce", "SKU|ID", "Name", "Images"),
    _known("woocommerce", "Artikelnummer|ID", "Name", "Bilder"),
    _known("magento", "sku", "name", "base_image|additional_images", grouped=True),
    _known(
        "prestashop",
        "Product ID|ID|Reference #|Reference",
        "Name *|Name*|Name",
        "Image URLs (x,y,z...)|Image URLs (x,y,z…)",
    ),
    _known(
        "google",
        "id",
        "title|titel",
        "image_link|image link|bildlink|additional_image_link|additional image link"
        "|zusätzlicher bildlink|zusätzlicher_bildlink",
    ),
    _known(
        "table",
        "SKU|Artikelnummer|Artikel-Nr.|Artikelnr.|Art.-Nr.|Product ID|Item Number|Nr.|ID",
        "Product Name|Name|Title|Artikelname|Artikelbezeichnung|Bezeichnung|Produktname|Titel",
        "Image URLs|Image URL|Images|Image|Image Link|Picture URL"
        "|Bild-URLs|Bild-URL|Bilder|Bild|Bildlink|Bildadresse",
    ),
)

_OURS = KNOWN[0].mapping


def same_header(cell: str) -> str:
    """A header cell, normalized for case and spaces."""
    return re.sub(r"\s+", "", cell).casefold()


def matched(header: Sequence[str], mappings: Iterable[Mapping] = ()) -> Mapping | None:
    """The mapping of a header row: the first of ``mappings`` that is there whole, else a known one.

    Of a known one only those headers are kept that the row has.
    """
    there = {same_header(cell) for cell in header}
    for mapping in mappings:
        if all(same_header(wanted) in there for wanted in mapping.headers()):
            return mapping
    for known in KNOWN:
        if all(same_header(mark) in there for mark in known.marks):
            number, name, images = (
                tuple(wanted for wanted in wanted_all if same_header(wanted) in there)
                for wanted_all in (known.mapping.number, known.mapping.name, known.mapping.images)
            )
            if number and name and images:
                return replace(known.mapping, number=number, name=name, images=images)
    return None


def columns_of(header: Sequence[str], mapping: Mapping) -> Columns:
    """Where the columns of ``mapping`` are; those that are missing are left out."""
    cells = [same_header(cell) for cell in header]

    def at(wanted: tuple[str, ...]) -> tuple[int, ...]:
        return tuple(cells.index(same_header(w)) for w in wanted if same_header(w) in cells)

    images = {
        same_header(wanted): order for order, wanted in reversed([*enumerate(mapping.images)])
    }
    places = sorted((images[cell], at) for at, cell in enumerate(cells) if cell in images)
    return Columns(at(mapping.number), at(mapping.name), tuple(place for _, place in places))


def header_problems(
    header: Sequence[str], mapping: Mapping | None
) -> tuple[Mapping | None, list[tuple[str, str]]]:
    """The mapping to read a header with, and what is wrong with it: columns with messages.

    A header with a column of ours alone is read as ours. None where nothing fits.
    """
    cells = [same_header(cell) for cell in header]
    if mapping is None and {same_header(NUMBER), same_header(URLS)} & set(cells):
        mapping = _OURS
    if mapping is None:
        return None, [("", _unknown(header))]
    problems = []
    for wanted in mapping.headers():
        count = cells.count(same_header(wanted))
        if not count:
            remedy = (
                f"add it (the header has {listed(header)})"
                if mapping.label == OURS
                else f"the header has {listed(header)}; correct the mapping {mapping.label!r}"
            )
            problems.append((wanted, f"there is no column {wanted!r}; {remedy}"))
        # Several columns of images are read in their order.
        elif count > 1 and wanted not in (() if mapping.label == OURS else mapping.images):
            problems.append((wanted, f"{count} columns are called {wanted!r}; keep one of them"))
    return mapping, problems


def _unknown(header: Sequence[str]) -> str:
    """Which headers there are, which are known, and how to say what they are."""
    known: dict[str, str] = {}
    for each in KNOWN:
        mapping = each.mapping
        first = f"{mapping.number[0]}, {mapping.name[0]}, {mapping.images[0]}"
        known.setdefault(mapping.label, f"{mapping.label} ({first})")
    return (
        f"the columns of number, name and images are not known: the header has {listed(header)}. "
        f"Known are {'; '.join(known.values())}. For other files name the columns: "
        '--map number="…" --map name="…" --map images="…"'
    )


def listed(names: Sequence[str]) -> str:
    """Some header cells, for a message."""
    shown = ", ".join(repr(name[:40]) for name in names[:12])
    return shown + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def given_mapping(
    pairs: Sequence[str], grouped: bool = False, option: str = "--"
) -> Mapping | None:
    """The mapping that was given as ``number=SKU``, ``name=Title``, ``images=Image Src``; None
    where there is none.

    A role may be given again: of numbers and names the first that a row has is taken, images are
    taken of all. ``option`` is what stands before the names ``map`` and ``grouped``.

    Raises:
        SettingsError: one is not of that form, or a role is missing.
    """
    if not pairs:
        if grouped:
            raise SettingsError(
                f"{option}grouped: belongs to {option}map; name the columns, or leave it out"
            )
        return None
    found: dict[str, list[str]] = {role: [] for role in ROLES}
    for pair in pairs:
        role, _, header = pair.partition("=")
        role = role.strip().lower()
        if role not in found or not header.strip():
            raise SettingsError(
                f"{option}map {pair}: is not a role and the header of its column; "
                'write number="…", name="…" or images="…"'
            )
        found[role].append(header.strip())
    if missing := [role for role in ROLES if not found[role]]:
        raise SettingsError(
            f"{option}map: says nothing about {' and '.join(missing)}; "
            f'add {option}map {missing[0]}="the header of its column"'
        )
    number, name, images = (tuple(dict.fromkeys(found[role])) for role in ROLES)
    return Mapping(GIVEN, number, name, images, grouped)


def mapping_of(text: str) -> Mapping:
    """The mapping that :meth:`Mapping.as_json` gave."""
    values = json.loads(text)
    lists = {role: tuple(values[role]) for role in ROLES}
    return Mapping(values["label"], **lists, grouped=values["grouped"], base=values["base"])
