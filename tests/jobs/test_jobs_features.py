"""Features of the images of jobs: columns of the result CSV that stay in step as well."""

from __future__ import annotations

import base64
import json

import pytest
from a_feature import OWN
from a_shop import ANSWER_HEADER, HEADER, Shop

RECIPES = """
[half]
scale = 0.5

[features.size]
function = "size"

[features.thumbhash]
function = "thumbhash"

[features.moody]
function = "functions:moody"
"""
# Fails for half of the pictures, by their pixels.
MOODY = """
def moody(image):
    if image.getpixel((0, 0))[0] % 2:
        raise ValueError("odd")
    return {"moody": None}
"""


@pytest.fixture
def shop(shop: Shop) -> Shop:
    shop.recipes(RECIPES)
    (shop.root / "functions.py").write_text(MOODY, "utf-8")
    shop.env["PIPELINE_JOB_FEATURES"] = "thumbhash,size"
    return shop


def test_each_feature_is_a_column_before_the_errors(shop: Shop) -> None:
    shop.submit(shop.csv({"1": shop.urls("/pic/1"), "2": shop.urls("/pic/2", "/html", "/pic/3")}))
    shop.run(code=1)
    header, one, several = shop.answer()
    assert header == [
        *HEADER,
        "Output Image Urls",
        "Feature (thumbhash)",
        "Feature (size)",
        "Errors",
        "Error Codes",
    ]
    # A single value as it is, otherwise JSON; of several images a list.
    assert len(base64.b64decode(one[4])) > 16
    assert json.loads(one[5])["width"] == 60
    hashes, sizes = json.loads(several[4]), json.loads(several[5])
    assert (len(hashes), hashes[1], sizes[1]) == (3, None, None)
    assert len({one[4], hashes[0], hashes[2]}) == 3
    assert "html" in several[6]


def test_only_the_features_of_the_setting_are_made_for_jobs(shop: Shop) -> None:
    shop.submit(shop.csv({"1": shop.urls("/pic/1")}))
    report = shop.run()
    assert report["jobs"]["features"]["made"] == 2
    assert shop.query(f"SELECT DISTINCT name FROM features WHERE {OWN} ORDER BY name") == [
        ("size",),
        ("thumbhash",),
    ]


def test_without_the_setting_a_result_has_no_such_column(shop: Shop) -> None:
    del shop.env["PIPELINE_JOB_FEATURES"]
    shop.submit(shop.csv({"1": shop.urls("/pic/1")}))
    shop.run()
    assert shop.answer()[0] == ANSWER_HEADER
    assert shop.query(f"SELECT * FROM features WHERE {OWN}") == []
    # Set later: the result is written again, and no rendition made again.
    stamps = {name: stamp for name, stamp in shop.stamps().items() if name.startswith("jobs/")}
    shop.env["PIPELINE_JOB_FEATURES"] = "thumbhash"
    shop.run()
    assert shop.answer()[0][4] == "Feature (thumbhash)"
    assert shop.answer()[1][4]
    assert {n: s for n, s in shop.stamps().items() if n.startswith("jobs/")} == stamps


def test_a_changed_function_writes_the_result_again(shop: Shop) -> None:
    shop.env["PIPELINE_JOB_FEATURES"] = "moody"
    file = shop.root / "functions.py"
    file.write_text("def moody(image): return {'moody': 1}\n", "utf-8")
    shop.submit(shop.csv({"1": shop.urls("/pic/1")}))
    shop.run()
    assert shop.answer()[1][4] == "1"
    file.write_text("def moody(image): return {'moody': '=2'}\n", "utf-8")
    report = shop.run()
    assert (report["jobs"]["features"]["made"], report["jobs"]["renditions"]["rendered"]) == (1, 0)
    # No spreadsheet runs it.
    assert shop.answer()[1][4] == "'=2"


def test_a_feature_that_fails_is_an_error_of_its_image_which_keeps_its_rendition(
    shop: Shop,
) -> None:
    shop.env["PIPELINE_JOB_FEATURES"] = "moody"
    rows = {str(number): shop.urls(f"/pic/{number}") for number in range(8)}
    reference = shop.submit(shop.csv(rows))
    shop.run(code=1)
    answer = shop.answer()[1:]
    failed = [row for row in answer if row[5]]
    assert 0 < len(failed) < len(answer)
    for row in answer:
        assert row[3].startswith("jobs/half/")
        assert ("functions:moody: ValueError: odd" in row[5]) == (row in failed)
    job = shop.job(reference)
    assert (job["state"], job["images"]["failed"]) == ("completed_with_errors", len(failed))
    listed = shop.cli("job", "errors", reference, "--json").json["images"]
    assert [(of["number"], of["reason"]) for of in listed] == [
        (row[0], "functions:moody: ValueError: odd") for row in failed
    ]
    assert shop.run()["jobs"]["images"]["failed"] == 0


def test_a_feature_that_is_not_in_the_file_is_refused_by_its_name(shop: Shop) -> None:
    shop.env["PIPELINE_JOB_FEATURES"] = "size,colour"
    answer = shop.cli("run")
    assert answer.code == 2
    assert "PIPELINE_JOB_FEATURES=size,colour" in answer.stderr
    assert "has no [features.colour]; it has size, thumbhash, moody" in answer.stderr
