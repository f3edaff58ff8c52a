"""A link planted in `output/` is not followed for the renditions and result CSVs of jobs."""

from __future__ import annotations

import shutil

import pytest
from a_shop import Shop


@pytest.mark.parametrize("place", ["jobs", "jobs/half"])
def test_renditions_of_a_job_are_written_and_deleted_behind_no_link(shop: Shop, place: str) -> None:
    shop.recipes("[half]\nscale = 0.5\n")
    feed = shop.csv({"1": shop.urls("/pic/1")}, "input/feed.csv")
    shop.run()
    victim = shop.root / "victim"
    shutil.copytree(shop.output / place, victim)
    before = {path: path.read_bytes() for path in victim.rglob("*") if path.is_file()}
    assert len(before) == 1
    shutil.rmtree(shop.output / place)
    (shop.output / place).symlink_to(victim)

    shop.csv({"2": shop.urls("/pic/2")}, "input/more.csv")
    assert shop.cli("run").code == 1
    reasons = shop.query("SELECT reason FROM renditions WHERE state = 'failed'")
    assert [f"stands where its folder should be: output/{place};" in r for (r,) in reasons] == [
        True
    ]
    feed.unlink()
    shop.cli("run", "--allow-empty")
    shop.cli("verify", "--fix")
    assert {path: path.read_bytes() for path in victim.rglob("*") if path.is_file()} == before


def test_a_link_at_the_name_of_a_result_csv_is_replaced(shop: Shop) -> None:
    shop.csv({"1": shop.urls("/pic/1")}, "input/feed.csv")
    shop.run()
    result = shop.output / shop.job()["answer"]
    victim = shop.root / "victim.csv"
    shutil.copy(result, victim)
    before = victim.read_bytes()
    result.unlink()
    result.symlink_to(victim)
    shop.csv({"1": shop.urls("/pic/2")}, "input/feed.csv")
    shop.run()
    assert victim.read_bytes() == before
    for name in shop.output.iterdir():
        assert not name.is_symlink() or name == result
