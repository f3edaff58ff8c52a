"""A CSV in the input folder that is changed, renamed or removed, and what each costs."""

from __future__ import annotations

from a_shop import Shop


def test_a_row_added_changed_or_removed_costs_only_itself(shop: Shop) -> None:
    rows = {str(n): shop.urls(f"/pic/{n}") for n in range(1, 9)}
    shop.csv(rows, "input/feed.csv")
    shop.run()
    before, reference = shop.stamps(), shop.job()["reference"]
    answer = f"feed-{reference}.csv"

    del rows["3"]
    rows["5"] = shop.urls("/pic/five")
    shop.csv({"0": shop.urls("/pic/0"), **rows}, "input/feed.csv")
    report = shop.run()
    assert report["jobs"]["images"]["asked"] == 2
    assert report["jobs"]["renditions"] == {"rendered": 2, "reused": 0, "deleted": 1}
    after = shop.stamps()
    name = f"jobs/half/{reference}/{reference}_%s_SKU%s_0.jpg"
    assert {key for key in after if after[key] != before.get(key)} == {
        answer,
        name % (0, 0),
        name % (5, 5),
    }
    assert set(before) - set(after) == {name % (3, 3)}
    assert [row[0] for row in shop.answer()] == ["S. No.", "0", "1", "2", "4", "5", "6", "7", "8"]
    assert [count for count in shop.hits().values() if count != 1] == []
    # The bytes that nobody names any more are gone as well.
    assert len([name for name in shop.stored() if name.startswith("fetched/")]) == 8
    assert shop.query("SELECT COUNT(*) FROM fetches") == [(8,)]


def test_another_order_other_lines_and_other_columns_fetch_nothing(shop: Shop) -> None:
    rows = [["1", "A", shop.urls("/pic/1")], ["2", "B", shop.urls("/pic/2")]]
    file = shop.csv(rows, "input/feed.csv")
    shop.run()
    hits = shop.hits()
    lines = file.read_text("utf-8").splitlines()
    file.write_text(f"{lines[0]},Price\n\n{lines[2]},9\n{lines[1]},8\n", "utf-8")
    report = shop.run()
    assert (report["jobs"]["completed"], report["jobs"]["images"]["asked"]) == (1, 0)
    assert report["jobs"]["renditions"]["rendered"] == 0
    assert shop.hits() == hits
    assert [row[3] for row in shop.answer()] == ["Price", "9", "8"]


def test_a_product_with_another_name_has_its_image_renamed_not_fetched(shop: Shop) -> None:
    shop.csv([["1", "old", shop.urls("/pic/1")]], "input/feed.csv")
    shop.run()
    shop.csv([["1", "new", shop.urls("/pic/1")]], "input/feed.csv")
    report = shop.run()
    assert report["jobs"]["images"]["asked"] == 0
    assert report["jobs"]["renditions"] == {"rendered": 0, "reused": 1, "deleted": 1}
    (name,) = shop.pictures()
    assert name.endswith("_1_new_0.jpg")


def test_removing_the_csv_removes_all_that_came_of_it(shop: Shop) -> None:
    file = shop.csv({"1": shop.urls("/pic/1", "/html")}, "input/feed.csv")
    shop.add("a.jpg")
    shop.run(code=1)
    originals = {name for name in shop.outputs() if "a.jpg" in name}
    file.unlink()
    report = shop.run()
    assert report["jobs"]["deleted"] == 1
    assert report["jobs"]["renditions"]["deleted"] == 1
    assert set(shop.outputs()) == originals
    assert shop.stored() == []
    job = shop.job()
    assert (job["state"], job["answer"]) == ("deleted", None)
    for table in ("csv_rows", "csv_urls", "fetches"):
        assert shop.query(f"SELECT COUNT(*) FROM {table}") == [(0,)], table
    for table in ("originals", "renditions"):
        assert shop.query(f"SELECT DISTINCT source FROM {table}") == [("input",)], table
    assert shop.run()["jobs"]["deleted"] == 0

    # The very same CSV, dropped in once more, is another job.
    shop.csv({"1": shop.urls("/pic/1", "/html")}, "input/feed.csv")
    shop.run(code=1)
    states = [job["state"] for job in shop.cli("job", "list", "--json").json]
    assert states == ["completed_with_errors", "deleted"]


def test_a_csv_that_was_only_touched_or_renamed_asks_for_nothing(shop: Shop) -> None:
    file = shop.csv({"1": shop.urls("/pic/1")}, "input/feed.csv")
    shop.run()
    hits = shop.hits()
    file.touch()
    report = shop.run()
    assert (report["jobs"]["received"], report["jobs"]["completed"]) == (0, 0)
    file.rename(shop.input / "other.csv")
    report = shop.run()
    assert (report["jobs"]["received"], report["jobs"]["deleted"]) == (1, 1)
    assert report["jobs"]["renditions"] == {"rendered": 0, "reused": 1, "deleted": 1}
    assert shop.hits() == hits


def test_a_half_copied_csv_is_noticed_by_the_next_run(shop: Shop) -> None:
    rows = {str(n): shop.urls(f"/pic/{n}") for n in range(4)}
    file = shop.csv(rows, "input/feed.csv")
    whole = file.read_text("utf-8")
    lines = whole.splitlines(keepends=True)
    # Cut at the end of a line it looks whole; cut inside one it has a problem.
    file.write_text("".join(lines[:3]), "utf-8")
    shop.run()
    assert shop.job()["rows"] == 2
    file.write_text("".join(lines[:4]) + lines[4][:4], "utf-8")
    report = shop.run(code=1)
    assert report["jobs"]["rejected"] == 1
    # A slip in a feed says nothing of the products in it.
    assert len(shop.pictures()) == 2
    file.write_text(whole, "utf-8")
    shop.run()
    job = shop.job()
    assert (job["state"], job["rows"], job["errors"]) == ("completed", 4, [])
    assert [count for count in shop.hits().values() if count != 1] == []
    assert [name for name in shop.outputs() if "errors" in name] == []
