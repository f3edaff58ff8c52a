"""Named mappings in a file, and mappings given with a CSV."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.csvs.mapping import Mapping, given_mapping, mapping_of, matched
from pipeline.csvs.mapping_file import add_mapping, read_mappings
from pipeline.errors import MappingsError, SettingsError

SUPPLIER = """\ufeff# Our suppliers
[supplier]
number = "Code"
name = "Was"
images = ["Foto 1", "Foto 2"]

[flat-file]
number = ["parent", "sku"]
name = "title"
images = "image"
grouped = true
"""


def test_a_file_of_mappings_is_read_in_its_order(tmp_path: Path) -> None:
    file = tmp_path / "mappings.toml"
    file.write_text(SUPPLIER, "utf-8")
    supplier, flat = read_mappings(file)
    assert supplier == Mapping("supplier", ("Code",), ("Was",), ("Foto 1", "Foto 2"))
    assert flat == Mapping("flat-file", ("parent", "sku"), ("title",), ("image",), grouped=True)
    assert mapping_of(flat.as_json()) == flat


def test_a_named_mapping_goes_before_the_known_ones_where_all_its_columns_are_there() -> None:
    mine = Mapping("mine", ("Variant SKU",), ("Title",), ("Variant Image",))
    header = ["Handle", "Title", "Variant SKU", "Image Src", "variant  image"]
    assert matched(header, [mine]) == mine
    known = matched(header[:-1], [mine])
    assert known is not None
    assert (known.label, known.grouped) == ("shopify", True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[x", "is not TOML"),
        ("number = 'a'", "[number]: must be a table with columns, for example number ="),
        ("[a b]\n", "is not TOML"),
        ("['a b']\n", "'a b' cannot be a name; use at most 64 letters"),
        ("[shopify]\n", "'shopify' is the name of headers that are known already; choose another"),
        ("[x]\nname = 'a'\nimages = 'b'", "[x] number: must be the header of a column, or a list"),
        ("[x]\nnumber = 1\nname = 'a'\nimages = 'b'", "[x] number: must be the header"),
        ("[x]\nnumber = 'n'\nname = 'a'\nimages = []", "[x] images: must be the header"),
        ("[x]\nimage = 'n'", "[x] image: is not a key of a mapping; use number, name, images"),
        ("[x]\nnumber='n'\nname='a'\nimages='b'\ngrouped=1", "grouped: must be true or false"),
        ("[x]\nnumber='n'\nname='a'\nimages='b'\nbase='/m'", "base: must be an address, such as"),
    ],
)
def test_a_wrong_file_is_refused_with_its_place_and_the_remedy(
    tmp_path: Path, text: str, message: str
) -> None:
    file = tmp_path / "mappings.toml"
    file.write_text(text)
    with pytest.raises(MappingsError) as caught:
        read_mappings(file)
    assert str(caught.value).startswith(f"PIPELINE_CSV_MAPPINGS='{file}': ")
    assert message in str(caught.value)


def test_a_missing_file_is_none_only_where_nobody_named_it(tmp_path: Path) -> None:
    assert read_mappings(tmp_path / "mappings.toml", is_given=False) == ()
    with pytest.raises(SettingsError, match="there is no such file; create it"):
        read_mappings(tmp_path / "mappings.toml")


def test_what_is_remembered_is_read_again_and_what_was_there_stays(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "mappings.toml"
    odd = Mapping(
        "odd", ('a "b" \\c',), ("Größe\t€",), ("x\ny", "\x7f"), True, "https://a.example/m"
    )
    add_mapping(file, odd)
    file.write_text("# mine\n" + file.read_text("utf-8").rstrip(), "utf-8")
    other = Mapping("other", ("n",), ("a",), ("b",))
    add_mapping(file, other)
    add_mapping(file, other)
    assert read_mappings(file) == (odd, other)
    assert file.read_text("utf-8").startswith("# mine\n[odd]\n")
    with pytest.raises(SettingsError, match="there is a mapping 'odd' already; choose another"):
        add_mapping(file, Mapping("odd", ("n",), ("a",), ("b",)))
    with pytest.raises(SettingsError, match="choose another"):
        add_mapping(file, Mapping("google", ("n",), ("a",), ("b",)))
    assert read_mappings(file) == (odd, other)


def test_a_given_mapping_names_each_role() -> None:
    pairs = ["number=SKU", "Name = Title ", "images=A=1", "images=B"]
    assert given_mapping(pairs) == Mapping("given", ("SKU",), ("Title",), ("A=1", "B"))
    with pytest.raises(SettingsError, match="--map: says nothing about name and images; add --map"):
        given_mapping(["number=SKU"])
    for wrong in ("SKU", "nr=SKU", "number="):
        with pytest.raises(SettingsError, match="is not a role and the header of its column"):
            given_mapping([wrong])
