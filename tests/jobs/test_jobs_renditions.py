"""The renditions of jobs: of which recipes, under which names, and each made once."""

from __future__ import annotations

import pytest
from a_shop import ANSWER_HEADER, HEADER, Shop


def test_the_same_url_is_fetched_once_and_equal_bytes_are_stored_once(shop: Shop) -> None:
    rows = {str(n): shop.urls("/pic/same", f"/one/{n}") for n in range(5)}
    shop.submit(shop.csv(rows))
    shop.submit(shop.csv(rows, "again.csv"))
    report = shop.run()
    assert report["jobs"]["completed"] == 2
    assert shop.hits() == {"/pic/same": 1} | {f"/one/{n}": 1 for n in range(5)}
    assert len([name for name in shop.stored() if name.startswith("fetched/")]) == 2
    # Two pictures are decoded; all others take their renditions.
    assert report["jobs"]["renditions"] == {"rendered": 2, "reused": 18, "deleted": 0}
    assert len(shop.pictures()) == 20


def test_one_column_for_each_recipe_of_jobs(shop: Shop) -> None:
    shop.env["PIPELINE_JOB_RECIPES"] = "thumb, half"
    shop.env["PIPELINE_PUBLIC_URL"] = "https://img.example/shop/"
    shop.csv({"1": shop.urls("/pic/1")}, "input/feed.csv")
    shop.run()
    reference = shop.job()["reference"]
    header, row = shop.answer()
    assert header == [*HEADER, "Output Image Urls", "Output Image Urls (half)", *ANSWER_HEADER[4:]]
    base = f"https://img.example/shop/jobs/%s/{reference}/{reference}_1_SKU1_0.jpg"
    assert row[3:] == [base % "thumb" + ".webp", base % "half", "", ""]
    assert shop.job()["answer_url"] == f"https://img.example/shop/feed-{reference}.csv"

    # Other settings, other answers: nothing is fetched, and what is there is not made again.
    before = shop.stamps()
    shop.env["PIPELINE_PUBLIC_URL"] = ""
    shop.env["PIPELINE_JOB_RECIPES"] = "thumb"
    report = shop.run()
    assert report["jobs"]["renditions"] == {"rendered": 0, "reused": 0, "deleted": 1}
    header, row = shop.answer()
    assert header == ANSWER_HEADER
    assert row[3] == f"jobs/thumb/{reference}/{reference}_1_SKU1_0.jpg.webp"
    (kept,) = shop.pictures()
    assert shop.stamps()[f"jobs/{kept}"] == before[f"jobs/{kept}"]
    assert shop.hits() == {"/pic/1": 1}


def test_a_changed_recipe_renders_the_images_of_jobs_anew(shop: Shop) -> None:
    shop.csv({"1": shop.urls("/pic/1")}, "input/feed.csv")
    shop.run()
    shop.recipes('[half]\nscale = 0.5\nformat = "png"\n')
    report = shop.run()
    assert report["jobs"]["renditions"]["rendered"] == 1
    assert report["jobs"]["completed"] == 1
    assert shop.answer()[1][3].endswith("_0.jpg.png")
    assert shop.pictures() == [shop.answer()[1][3].removeprefix("jobs/")]
    assert shop.hits() == {"/pic/1": 1}


def test_without_a_recipe_named_half_the_first_one_serves(shop: Shop) -> None:
    shop.recipes("[small]\nscale = 0.25\n[big]\nscale = 0.9\n")
    shop.csv({"1": shop.urls("/pic/1")}, "input/feed.csv")
    shop.run()
    assert shop.pictures()[0].startswith("small/")
    shop.env["PIPELINE_JOB_RECIPES"] = "half"
    answer = shop.cli("run")
    assert answer.code == 2
    assert "PIPELINE_JOB_RECIPES=half" in answer.stderr
    assert "small, big" in answer.stderr


def test_a_recipe_cannot_be_called_jobs(shop: Shop) -> None:
    shop.recipes("[Jobs]\nscale = 0.5\n")
    answer = shop.cli("run")
    assert answer.code == 2
    assert "output/jobs/ holds the images of CSV jobs" in answer.stderr


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "CON",
        "a/b\\c",
        "😀 “mug”",
        "x" * 300,
        ".hidden",
        "nul.txt",
        "-rf *",
        "=",
    ],
)
def test_whatever_a_product_is_called_its_files_stay_in_their_folder(shop: Shop, name: str) -> None:
    shop.csv([["1", name, shop.urls("/pic/1")]], "input/feed.csv")
    shop.run()
    reference = shop.job()["reference"]
    (picture,) = shop.pictures()
    folder, _, file = picture.rpartition("/")
    assert folder == f"half/{reference}"
    assert file.startswith(f"{reference}_1_")
    assert len(file.encode()) < 255
    assert not set(file) & set('/\\:*?"<>|\0')
    assert shop.answer()[1][3] == f"jobs/{picture}"


def test_an_image_with_too_many_pixels_fails_alone(shop: Shop) -> None:
    shop.env["PIPELINE_FETCH_MAX_PIXELS"] = "2000"
    shop.add("same-size.jpg")
    shop.csv({"1": shop.urls("/pic/1")}, "input/feed.csv")
    report = shop.run(code=1)
    assert (report["renditions"]["failed"], report["jobs"]["images"]["failed"]) == (0, 1)
    assert "pixels" in shop.answer()[1][4]
    assert shop.answer()[1][5] == "too_large"
    assert shop.job()["state"] == "completed_with_errors"


def test_a_recipe_with_widths_has_a_column_for_each(shop: Shop) -> None:
    shop.recipes("[hero]\nwidths = [9999, 10, 20, 5000]\n")
    shop.env["PIPELINE_JOB_RECIPES"] = "hero"
    shop.csv({"1": shop.urls("/pic/1")}, "input/feed.csv")
    report = shop.run()
    assert report["jobs"]["completed"] == 1
    header, row = shop.answer()
    assert header[3:] == [
        "Output Image Urls",
        *(f"Output Image Urls (hero@{width})" for width in (20, 5000, 9999)),
        *ANSWER_HEADER[4:],
    ]
    top = "jobs/hero/{0}/{0}_1_SKU1_0.jpg@".format(shop.job()["reference"])
    assert row[3:] == [f"{top}10.jpg", f"{top}20.jpg", f"{top}5000.jpg", "", "", ""]
    assert [f"jobs/{name}" for name in shop.pictures()] == sorted(row[3:6])
    shop.recipes("[hero]\nwidths = [10]\n")
    shop.run()
    assert shop.answer()[1][3:] == [f"{top}10.jpg", "", ""]
    (shop.root / "input/feed.csv").unlink()
    shop.run("--allow-removed")
    assert not shop.pictures()
