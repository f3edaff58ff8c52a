"""The cell of a file that goes back into the shop."""

from __future__ import annotations

import pytest

from pipeline.csvs.cells import urls_of
from pipeline.csvs.products import ImageCell
from pipeline.csvs.returning import new_cell


@pytest.mark.parametrize(
    ("cell", "addresses", "expected"),
    [
        (" http://a/1 ", ["N1"], " N1 "),
        ("http://a/1, http://a/2;", ["N1", "N2"], "N1, N2;"),
        ("//cdn.a/1 | //cdn.a/2", ["N1", "N2"], "N1 | N2"),
        ('[\n "http:\\/\\/a\\/1" ,"http://a/2"]', ["N1", "N2"], '[\n "N1" ,"N2"]'),
        ('[{"src":"http://a/1","alt":"x"}]', ["N1"], '[{"src":"N1","alt":"x"}]'),
        # What failed stays.
        ("http://a/1;http://a/2", [None, "N2"], "http://a/1;N2"),
        ("//cdn.a/1,//cdn.a/2", [None, "N2"], "//cdn.a/1,N2"),
        # What was withdrawn goes, with the separator before it.
        ("http://a/1, http://a/2; http://a/3", ["N1", "", "N3"], "N1; N3"),
        ("http://a/1, http://a/2; http://a/3", ["", "N2", ""], "N2"),
        ("http://a/1", [""], ""),
        ('["http://a/1", "http://a/2"]', ["", "N2"], '["", "N2"]'),
    ],
)
def test_a_cell_keeps_its_form(cell: str, addresses: list[str | None], expected: str) -> None:
    images = [ImageCell(found.url, 0, 0, found.start, found.end) for found in urls_of(cell)]
    assert new_cell(cell, images, addresses) == expected
