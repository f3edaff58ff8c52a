"""Jobs from files of shop systems, and from files whose columns somebody named."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from a_shop import Shop


def write(shop: Shop, name: str, text: str) -> Path:
    file = shop.root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8", newline="")
    return file


def test_an_export_with_a_row_for_each_image_is_one_product_and_keeps_its_rows(shop: Shop) -> None:
    url = shop.server.url
    text = (
        "Handle,Title,Variant SKU,Image Src,Image Position\n"
        f"mug,Blue mug,M-S,{url('/pic/1')},1\n"
        f"mug,,M-L,{url('/gone/2')},2\n"
        "mug,,M-XL,,\n"
        "card,Gift card,C,,\n"
    )
    reference = shop.submit(write(shop, "products_export.csv", text))
    shop.run(code=1)
    job = shop.job(reference)
    assert (job["state"], job["rows"], job["without_images"]) == ("completed_with_errors", 4, 1)
    assert job["columns"] == {
        "mapping": "shopify",
        "number": ["Handle"],
        "name": ["Title"],
        "images": ["Image Src"],
        "grouped": True,
    }
    header, *rows = shop.answer(reference)
    assert header[5:] == ["Output Image Urls", "Errors", "Error Codes"]
    assert [row[:5] for row in rows] == [line.split(",") for line in text.splitlines()[1:]]
    image = f"jobs/half/{reference}/{reference}_mug~"
    assert rows[0][5].startswith(image)
    assert rows[0][5].endswith("_0.jpg")
    assert [row[5] for row in rows[1:]] == ["", "", ""]
    assert [bool(row[6]) for row in rows] == [False, True, False, False]

    said = shop.cli("job", "status", reference).stdout
    assert "1 product without an image, copied" in said
    assert "columns: shopify (number Handle; name Title; images Image Src)" in said
    # All rows of the product, so that they can be submitted again.
    failed = shop.cli("job", "failed-rows", reference).stdout
    assert list(csv.reader(io.StringIO(failed))) == [row[:5] for row in [header, *rows[:3]]]


def test_columns_that_were_named_are_those_of_the_job_for_good(shop: Shop) -> None:
    url = shop.server.url
    text = f"Code;Was;Foto 1;Foto 2\nA;Mug;{url('/pic/1')};{url('/pic/2')}\nB;Tile;;{url('/no')}\n"
    file = write(shop, "list.csv", text)
    refused = shop.cli("job", "submit", str(file))
    assert refused.code == 2
    assert "the header has 'Code', 'Was', 'Foto 1', 'Foto 2'" in refused.stderr
    assert "--map" in refused.stderr
    roles = ["--map", "number=Code", "--map", "name=was", "--map", "images=Foto 1"]
    reference = shop.submit(file, *roles, "--map", "images=Foto 2")
    expected = shop.run("--dry-run")["jobs"]
    assert (expected["rejected"], expected["images"]["asked"]) == (0, 3)
    shop.run(code=1)
    assert shop.job(reference)["images"]["total"] == 3
    output = (shop.output / shop.job(reference)["answer"]).read_text("utf-8")
    rows = list(csv.reader(io.StringIO(output), delimiter=";"))
    assert rows[1][4].count(",") == 1
    assert rows[2][4] == ""
    assert shop.cli("job", "failed-rows", reference).stdout.splitlines() == [
        "Code;Was;Foto 1;Foto 2",
        f"B;Tile;;{url('/no')}",
    ]
    wrong = shop.cli("job", "submit", str(file), *roles, "--map", "images=Photo")
    assert wrong.code == 2
    assert "there is no column 'Photo'; the header has 'Code'" in wrong.stderr
    assert shop.cli("job", "submit", str(file), "--grouped").code == 2


def test_images_without_a_host_are_fetched_from_below_the_base(shop: Shop) -> None:
    file = write(shop, "catalog.csv", 'sku,name,base_image,additional_images\nA,Mug,/1,"/2,/3"\n')
    reference = shop.submit(file, "--base", shop.server.url("/pic"))
    shop.run()
    assert shop.job(reference)["images"]["done"] == 3
    assert [row[4].count(",") for row in shop.answer(reference)[1:]] == [2]
    assert shop.cli("job", "submit", str(file), "--base", "media").code == 2


def test_a_dropped_csv_is_read_by_the_named_mappings_and_read_again_when_it_changed(
    shop: Shop,
) -> None:
    url = shop.server.url
    shop.env["PIPELINE_CSV_MAPPINGS"] = "ours.toml"
    feed = f"Kunde: Meier;;\nCode;Was;Foto\nA;Mug;{url('/pic/1')}\n"
    write(shop, "input/feed.csv", feed)
    assert shop.cli("run").code == 2
    mapping = '[supplier]\nnumber = "Code"\nname = "Was"\nimages = "Foto"\n'
    write(shop, "ours.toml", mapping)
    assert shop.run()["jobs"]["completed"] == 1
    assert shop.job()["columns"]["mapping"] == "supplier"

    write(shop, "input/feed.csv", feed + f"B;Tile;{url('/pic/2')}\nC;Plate;\n")
    report = shop.run()
    assert (report["jobs"]["completed"], report["jobs"]["images"]["asked"]) == (1, 1)
    assert shop.job()["without_images"] == 1
    # What it was accepted with counts for its result, whatever the file of mappings says later.
    write(shop, "ours.toml", mapping.replace("Foto", "Photo"))
    before = shop.answer()
    (shop.output / shop.job()["answer"]).unlink()
    shop.cli("verify", "--fix")
    shop.run()
    assert shop.answer() == before


def test_products_without_an_image_are_a_problem_only_where_they_must_have_one(shop: Shop) -> None:
    file = shop.csv({"1": shop.urls("/pic/1"), "2": ""})
    refused = shop.cli("job", "submit", str(file), "--require-images")
    assert refused.code == 2
    assert "line 3, Input Image Urls: no URL" in refused.stderr
    assert shop.cli("job", "submit", str(file)).code == 0
    shop.env["PIPELINE_JOB_REQUIRE_IMAGES"] = "on"
    assert shop.cli("job", "submit", str(file)).code == 2
    shop.csv({"1": shop.urls("/pic/1"), "2": ""}, "input/feed.csv")
    assert shop.run(code=1)["jobs"]["rejected"] == 1


def test_a_feed_that_loses_an_image_loses_its_rendition_and_keeps_its_row(shop: Shop) -> None:
    shop.csv({"1": shop.urls("/pic/1"), "2": shop.urls("/pic/2")}, "input/feed.csv")
    shop.run()
    assert len(shop.pictures()) == 2
    shop.csv({"1": shop.urls("/pic/1"), "2": ""}, "input/feed.csv")
    report = shop.run()
    assert report["jobs"]["renditions"] == {"rendered": 0, "reused": 0, "deleted": 1}
    assert [row[0] for row in shop.answer()] == ["S. No.", "1", "2"]
    assert len(shop.pictures()) == 1
