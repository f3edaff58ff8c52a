"""Names of jobs and of their images."""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime

import pytest

from pipeline.jobs.names import MAX_NAME_BYTES, image_name, reference

REFERENCE = "202502230413203"
NASTY = [
    "", " ", ".", "..", "../../etc/passwd", "a/b", "a\\b", "a:b", "C:\\x", "con", "CON", "nul.txt",
    "COM1", "a.", "a ", " a", "a\0b", "a\nb", "a\tb", "\N{GRINNING FACE}",
    "\N{WOMAN}\u200d\N{WOMAN}\u200d\N{GIRL}", "a" * 300, "\xe9" * 300, "\u6f22" * 300,
    "\u202egpj.exe", "\u2066x\u2069", "\ufeffx", "e\u0301", "\xe9", "-rf", "--help", "~",
    "~root", "*?", "$(id)", "`id`", "<script>", "%2e%2e%2f", "a|b", '"', "'", "\ud800", "Straße",
    "_", "__a__", "\u0130",
]  # fmt: skip


@pytest.mark.parametrize("text", NASTY)
def test_a_name_is_safe_whatever_the_product_is_called(text: str) -> None:
    for name in (
        image_name(REFERENCE, "1", text, 0, ".jpg"),
        image_name(REFERENCE, text, "x", 0, ".jpg"),
    ):
        assert len(name.encode()) <= MAX_NAME_BYTES
        assert re.fullmatch(r"202502230413203_[\w~-]+_[\w~-]*_0\.jpg", name), name
        assert name.isprintable()
        assert unicodedata.normalize("NFC", name) == name
        assert not any(unicodedata.bidirectional(c) in ("RLO", "LRO", "RLE", "LRE") for c in name)


def test_plain_names_stay_as_people_know_them() -> None:
    assert image_name(REFERENCE, "1", "SKU1", 0, ".jpg") == "202502230413203_1_SKU1_0.jpg"
    assert image_name(REFERENCE, "A-7", "Chair_red-2", 12, ".webp") == (
        "202502230413203_A-7_Chair_red-2_12.webp"
    )


def test_names_that_sanitising_would_make_equal_stay_distinct() -> None:
    names = [image_name(REFERENCE, "1", text, 0, ".jpg") for text in NASTY]
    assert (
        len({name.casefold() for name in names}) == len(set(NASTY)) - 1
    )  # CON and con: a product may
    numbers = [image_name(REFERENCE, text, "x", 0, ".jpg") for text in NASTY]
    assert len({unicodedata.normalize("NFC", n).casefold() for n in numbers}) == len(set(NASTY))


def test_numbers_and_products_cannot_be_taken_for_one_another() -> None:
    pairs = [("1_2", "x"), ("1", "2_x"), ("1-2", "x"), ("a1", "x"), ("A1", "x"), ("1 2", "x")]
    names = {image_name(REFERENCE, n, p, s, ".jpg").casefold() for n, p in pairs for s in (0, 1)}
    assert len(names) == len(pairs) * 2


def test_a_long_product_keeps_its_beginning_and_its_suffix() -> None:
    name = image_name(REFERENCE, "1", "Chair " * 60, 3, ".jpeg")
    assert name.startswith("202502230413203_1_Chair-Chair-")
    assert name.endswith("_3.jpeg")
    assert len(name.encode()) <= MAX_NAME_BYTES


def test_a_name_is_the_same_every_time() -> None:
    assert image_name(REFERENCE, "1", "a b", 0, ".jpg") == image_name(
        REFERENCE, "1", "a b", 0, ".jpg"
    )


def test_a_reference_is_the_second_and_a_running_number() -> None:
    assert reference(datetime(2025, 2, 23, 4, 13, 20, 999_999), 3) == "202502230413203"
    assert reference(datetime(2025, 2, 23, 4, 13, 20), 0) == "202502230413200"


def test_fifty_references_of_one_second_are_distinct_and_none_is_of_another_second() -> None:
    seconds = [datetime(2025, 2, 23, 4, 13, second) for second in range(60)]
    references = {reference(second, n) for second in seconds for n in range(50)}
    assert len(references) == 60 * 50


def test_what_cannot_be_a_reference_is_refused() -> None:
    with pytest.raises(ValueError, match="running number -1"):
        reference(datetime(2025, 1, 1), -1)
    with pytest.raises(ValueError, match="year 999"):
        reference(datetime(999, 1, 1), 1)
