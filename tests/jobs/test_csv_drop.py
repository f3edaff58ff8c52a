"""A CSV among the photos that is no list of products is nobody's mistake."""

from __future__ import annotations

import pytest
from a_shop import HEADER, Shop

CUSTOMERS = "Name,Street,Town\nA,B,C\n"


def test_a_csv_that_is_no_list_of_products_is_told_once_and_makes_nothing(shop: Shop) -> None:
    shop.add("a.png")
    (shop.input / "customers.csv").write_text(CUSTOMERS)
    (shop.input / "empty.csv").touch()
    answer = shop.cli("run")
    assert answer.code == 0
    told = [line for line in answer.stderr.splitlines() if "no list of products" in line]
    assert len(told) == 2
    assert f"{shop.input / 'customers.csv'}: " in told[0]
    assert "'Name', 'Street', 'Town'" in told[0]
    assert "PIPELINE_CSV_DROP=strict" in told[0]
    assert "ignored     2 CSV that starts no job" in answer.stdout
    assert shop.cli("job", "list", "--json").json == []
    assert sorted(shop.outputs()) == ["half/a.png", "thumb/a.png.webp"]
    assert "no list of products" in shop.cli("explain", "customers.csv").stdout

    before = (shop.root / "db.sqlite").stat().st_mtime_ns
    again = shop.cli("run")
    assert (again.code, again.stderr) == (0, "")
    assert (shop.root / "db.sqlite").stat().st_mtime_ns == before


def test_it_becomes_a_job_once_it_is_a_list_of_products(shop: Shop) -> None:
    file = shop.input / "feed.csv"
    file.write_text(CUSTOMERS)
    shop.run()
    shop.csv([["1", "SKU1", shop.urls("/pic/1")]]).replace(file)
    assert shop.run()["jobs"]["completed"] == 1


def test_a_list_of_products_with_a_mistake_in_its_header_is_rejected(shop: Shop) -> None:
    (shop.input / "feed.csv").write_text(",".join([*HEADER[:2], "Image Urls"]) + "\n1,A,x\n")
    assert shop.run(code=1)["jobs"]["rejected"] == 1


def test_strict_rejects_it(shop: Shop) -> None:
    shop.env["PIPELINE_CSV_DROP"] = "strict"
    (shop.input / "customers.csv").write_text(CUSTOMERS)
    assert shop.run(code=1)["jobs"]["rejected"] == 1


def test_off_starts_no_job_and_keeps_those_that_are_there(shop: Shop) -> None:
    feed = shop.input / "feed.csv"
    shop.csv([["1", "SKU1", shop.urls("/pic/1")]]).replace(feed)
    assert shop.run()["jobs"]["completed"] == 1
    before = shop.outputs()
    shop.env["PIPELINE_CSV_DROP"] = "off"
    (shop.input / "second.csv").write_bytes(feed.read_bytes())
    answer = shop.cli("run")
    assert (answer.code, answer.stderr) == (0, "")
    assert len(shop.cli("job", "list", "--json").json) == 1
    assert shop.outputs() == before
    assert "PIPELINE_CSV_DROP=off" in shop.cli("explain", "second.csv").stdout


def test_a_dry_run_tells_of_it_and_remembers_nothing(shop: Shop) -> None:
    shop.run()
    (shop.input / "customers.csv").write_text(CUSTOMERS)
    for _ in range(2):
        answer = shop.cli("run", "--dry-run")
        assert (answer.code, "no list of products" in answer.stderr) == (0, True)
    assert "no list of products" in shop.cli("run").stderr


@pytest.mark.parametrize("word", ["lax", "on"])
def test_an_unknown_word_is_refused(shop: Shop, word: str) -> None:
    shop.env["PIPELINE_CSV_DROP"] = word
    answer = shop.cli("status")
    assert answer.code == 2
    assert "off, strict, lenient" in answer.stderr
