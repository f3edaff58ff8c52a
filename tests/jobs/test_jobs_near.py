"""An image of a job that looks like a blocked picture is held, and its result says so."""

from __future__ import annotations

import io

from a_project import picture
from a_shop import Shop
from PIL import Image


def block_what_looks_like(shop: Shop, path: str) -> None:
    """Take down a copy of what the server has at ``path``, saved again, and what looks like it."""
    shop.input.mkdir(exist_ok=True)
    there = Image.open(io.BytesIO(picture(".jpg", (path, None))))
    there.save(shop.input / "copy.jpg", quality=90)
    answer = shop.cli("takedown", "copy.jpg", "--near", "--reason", "flagged")
    assert answer.code == 0, answer


def test_a_held_image_of_a_job_says_so_and_is_delivered_once_published(shop: Shop) -> None:
    block_what_looks_like(shop, "/pic/1")
    shop.csv({"1": shop.urls("/pic/1"), "2": shop.urls("/pic/2")}, "input/feed.csv")
    shop.run(code=1)
    states = "SELECT state FROM renditions WHERE source = 'jobs' ORDER BY path"
    assert shop.query(states) == [("held",), ("ok",)]
    assert len([file for file in shop.outputs() if file.endswith(".jpg")]) == 1
    errors = [row[-2] for row in shop.answer()[1:]]
    assert "held for review: it looks like blocked content (takedown 1;" in errors[0]
    assert errors[1] == ""
    # Reinstated, the question is gone, and the job gets its image.
    assert shop.cli("takedown", "reinstate", "1").code == 0
    shop.run()
    assert shop.query(states) == [("ok",), ("ok",)]
    assert [row[-2:] for row in shop.answer()[1:]] == [["", ""]] * 2


def test_hashes_of_images_that_were_there_before_answer_no_job_again(shop: Shop) -> None:
    shop.env["PIPELINE_NEAR"] = "off"
    shop.csv({"1": shop.urls("/pic/1")}, "input/feed.csv")
    shop.run()
    ended = shop.query("SELECT ended_ts FROM jobs")
    del shop.env["PIPELINE_NEAR"]
    report = shop.run()
    assert shop.query("SELECT state FROM features WHERE source = 'jobs'") == [("ok",)]
    assert report["jobs"]["completed"] == 0
    assert shop.query("SELECT ended_ts FROM jobs") == ended
