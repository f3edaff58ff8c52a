"""Paths of a result become whole URLs while it is sent, and nothing else in it changes."""

from __future__ import annotations

import io

import pytest

from pipeline.web.addresses import PIECE_CHARACTERS, with_whole_urls

HERE = "https://img.example/files"
REFERENCE = "202502230413203"
ONE = f"jobs/half/{REFERENCE}/{REFERENCE}_1_B\u00fcste~1f_1.jpg"
WHOLE = f"{HERE}/jobs/half/{REFERENCE}/{REFERENCE}_1_B%C3%BCste~1f_1.jpg"


def sent(text: str) -> str:
    return "".join(with_whole_urls(io.StringIO(text, newline=""), REFERENCE, HERE))


@pytest.mark.parametrize(
    "cell",
    ["{}", '"{}"', '"{},,{}"', "x;{};y", "1\t{}", '"[""{}"", ""{}""]"', '"a\r\n{}"', "{}|{}"],
)
def test_a_path_becomes_a_url_wherever_it_stands_in_a_cell(cell: str) -> None:
    assert sent(f"S. No.\r\n{cell.format(ONE, ONE)}\r\n") == (
        f"S. No.\r\n{cell.format(WHOLE, WHOLE)}\r\n"
    )


@pytest.mark.parametrize(
    "cell",
    [
        f"https://other.example/{ONE}",
        "jobs/half/202502230413204/a.jpg",
        f"jobs/{REFERENCE}/a.jpg",
        "jobs/half",
        "myjobs/half/" + REFERENCE + "/a.jpg",
        "\udce9t\udce9",
    ],
)
def test_what_is_no_path_of_this_job_stays_as_it_is(cell: str) -> None:
    assert sent(f"{cell},x\r") == f"{cell},x\r"


def test_a_long_result_is_sent_in_pieces() -> None:
    text = f"{ONE},x\n" * (3 * PIECE_CHARACTERS // len(ONE))
    pieces = list(with_whole_urls(io.StringIO(text, newline=""), REFERENCE, HERE))
    assert len(pieces) >= 3
    assert "".join(pieces) == text.replace(ONE, WHOLE)
