"""Takedowns reach the images of jobs, and the watcher works on dropped CSVs."""

from __future__ import annotations

from a_shop import Shop
from a_watcher import Watching, wait_until


def states(shop: Shop) -> list[str]:
    return [
        state
        for (state,) in shop.query(
            "SELECT state FROM renditions WHERE source = 'jobs' ORDER BY path"
        )
    ]


def test_an_image_of_a_job_is_taken_down_and_its_answer_says_so(shop: Shop) -> None:
    shop.csv({"1": shop.urls("/pic/1"), "2": shop.urls("/pic/2")}, "input/feed.csv")
    shop.run()
    ((path, digest),) = shop.query("SELECT file, sha256 FROM renditions WHERE path LIKE '%SKU1%'")
    done = shop.cli("takedown", digest, "--reason", "not for customers' eyes", "--json").json
    assert (done["originals"], done["renditions"]) == ([], 1)
    assert not (shop.output / path).exists()
    assert sorted(states(shop)) == ["ok", "taken_down"]

    # The job is answered again; why it was taken down is told to nobody, and it is no failure.
    shop.run()
    assert [row[-1] for row in shop.answer()[1:]] == ["withdrawn", ""]
    assert shop.answer()[1][-2] == f"{shop.urls('/pic/1')}: withdrawn"
    job = shop.job()
    assert job["state"] == "completed"
    assert job["images"] == {"total": 2, "fetched": 2, "done": 1, "failed": 0, "withdrawn": 1}
    assert shop.cli("job", "errors", job["reference"], "--json").json["images"] == []
    assert "1 withdrawn" in shop.cli("job", "status", job["reference"]).stdout

    # Another job that names an image of the same bytes gets none either.
    shop.csv({"9": shop.urls("/pic/1")}, "input/other.csv")
    shop.run()
    assert sorted(states(shop)) == ["ok", "taken_down", "taken_down"]

    assert shop.cli("takedown", "lift", "1").code == 0
    shop.run()
    assert states(shop) == ["ok", "ok", "ok"]
    assert (shop.output / path).exists()
    assert {job["state"] for job in shop.cli("job", "list", "--json").json} == {"completed"}


def test_a_csv_that_is_dropped_is_worked_on_by_the_watcher(shop: Shop) -> None:
    shop.add("a.jpg")
    watching = Watching(shop)
    try:
        watching.wait_for_start()
        shop.csv({"1": shop.urls("/pic/1")}, "input/new folder/feed.csv")
        wait_until(
            lambda: shop.query("SELECT 1 FROM jobs WHERE state = 'completed'"),
            lambda: (watching.said, watching.runs),
        )
        assert watching.stop() == 0
    finally:
        watching.kill()
    assert len(shop.outputs()) == 4
