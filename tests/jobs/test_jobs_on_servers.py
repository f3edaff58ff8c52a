"""Jobs on servers: the same statements, other rules for keys, locks and tables."""

from __future__ import annotations

import pytest
from a_shop import Shop, submit_at_once


@pytest.fixture
def server_shop(shop: Shop, server_url: str) -> Shop:
    shop.env["PIPELINE_DB"] = server_url
    return shop


def test_on_a_server_jobs_go_from_csv_to_answer_and_away(server_shop: Shop) -> None:
    shop = server_shop
    long = "/pic/" + "ü" * 1_500
    rows = {str(n): shop.urls(f"/pic/{n}", "/pic/same") for n in range(4)}
    file = shop.csv({**rows, "9" * 500: shop.urls("/html"), "L": shop.urls(long)}, "input/feed.csv")
    report = shop.run(code=1)
    assert report["jobs"]["images"]["failed"] == 1
    assert shop.job()["images"] == {
        "total": 10,
        "fetched": 9,
        "done": 9,
        "failed": 1,
        "withdrawn": 0,
    }
    hits = shop.hits()
    assert shop.run()["jobs"]["images"]["asked"] == 0
    assert shop.hits() == hits

    rows["2"] = shop.urls("/pic/two")
    del rows["3"]
    shop.csv(rows, "input/feed.csv")
    said = shop.run("--dry-run")["jobs"]
    assert (said["received"], said["images"]["asked"]) == (1, 1)
    report = shop.run()
    assert report["jobs"]["images"]["asked"] == 1
    reference = shop.job()["reference"]
    assert shop.job()["images"] == {
        "total": 5,
        "fetched": 5,
        "done": 5,
        "failed": 0,
        "withdrawn": 0,
    }
    shop.server.changed["/pic/two"] = 1  # type: ignore[attr-defined]
    answer = shop.cli("job", "refresh", reference, "--wait", "--json")
    assert (answer.code, answer.json["state"]) == (0, "completed")
    bad = shop.submit(shop.csv({"2": shop.urls("/html"), "10": shop.urls("/html")}))
    shop.run(code=1)
    failed = shop.cli("job", "errors", bad, "--json").json["images"]
    assert [row["number"] for row in failed] == ["2", "10"]
    assert len(shop.cli("job", "failed-rows", bad).stdout.splitlines()) == 3
    assert [job["reference"] for job in shop.cli("job", "list", "--json").json] == [bad, reference]
    assert shop.cli("verify", "--deep").code == 0
    assert shop.cli("lint").code == 0
    for name in (bad, reference):
        assert shop.cli("job", "delete", name).code == 0
    assert (shop.outputs(), shop.stored()) == ({}, [])
    file.unlink()
    shop.run()


def test_on_a_server_many_submit_to_a_new_database_at_once(server_shop: Shop) -> None:
    file = server_shop.csv({"1": server_shop.urls("/pic/1")})
    references = submit_at_once(server_shop, file, processes=3, times=8)
    assert len(set(references)) == 24
    assert server_shop.cli("status", "--json").json["jobs"] == {"received": 24}
