"""From a CSV to its answer: submitted or dropped, with faults or without, and what commands say."""

from __future__ import annotations

import re

from a_shop import ANSWER_HEADER, HEADER, Shop


def test_a_submitted_csv_comes_back_with_the_addresses_of_its_images(shop: Shop) -> None:
    file = shop.csv(
        [
            ["1", "SKU1", shop.urls("/pic/1", "/pic/2")],
            ["2", "SKU2", shop.urls("/pic/3", "/html", "/pic/4")],
        ]
    )
    reference = shop.submit(file)
    assert re.fullmatch(r"\d{15}", reference)
    assert shop.job(reference)["state"] == "received"

    report = shop.run(code=1)
    assert report["jobs"]["completed_with_errors"] == 1
    assert report["jobs"]["images"] == {"asked": 5, "fetched": 4, "not_modified": 0, "failed": 1}
    assert report["jobs"]["renditions"] == {"rendered": 4, "reused": 0, "deleted": 0}

    def path(number: int, sequence: int) -> str:
        return f"jobs/half/{reference}/{reference}_{number}_SKU{number}_{sequence}.jpg"

    refused = f"{shop.urls('/html')}: not an image (text/html)"
    assert shop.answer(reference) == [
        ANSWER_HEADER,
        ["1", "SKU1", shop.urls("/pic/1", "/pic/2"), f"{path(1, 0)},{path(1, 1)}", "", ""],
        [
            "2",
            "SKU2",
            shop.urls("/pic/3", "/html", "/pic/4"),
            f"{path(2, 0)},,{path(2, 2)}",
            refused,
            "not_an_image",
        ],
    ]
    assert sorted(shop.outputs()) == sorted(
        [f"{reference}.csv", path(1, 0), path(1, 1), path(2, 0), path(2, 2)]
    )
    job = shop.job(reference)
    assert (job["state"], job["rows"], job["answer"]) == (
        "completed_with_errors",
        2,
        f"{reference}.csv",
    )
    assert job["images"] == {"total": 5, "fetched": 4, "done": 4, "failed": 1, "withdrawn": 0}
    assert job["created"] <= job["started"] <= job["ended"]
    failed = shop.cli("job", "errors", reference, "--json").json
    assert failed["images"] == [
        {
            "number": "2",
            "product": "SKU2",
            "sequence": 1,
            "url": shop.urls("/html"),
            "reason": "not an image (text/html)",
            "code": "not_an_image",
        }
    ]


def test_what_failed_is_told_by_one_run_and_asked_for_by_no_other(shop: Shop) -> None:
    shop.csv({"1": shop.urls("/pic/1", "/not-there")}, "input/feed.csv")
    shop.run(code=1)
    hits, before = shop.hits(), shop.stamps()
    report = shop.run(code=0)
    assert report["jobs"]["images"]["asked"] == 0
    assert (shop.hits(), shop.stamps()) == (hits, before)


def test_a_new_failure_is_told_although_an_old_one_is_gone(shop: Shop) -> None:
    shop.csv({"1": shop.urls("/pic/1"), "2": shop.urls("/html/2")}, "input/feed.csv")
    shop.run(code=1)
    shop.csv({"1": shop.urls("/pic/1"), "3": shop.urls("/html/3")}, "input/feed.csv")
    assert shop.run(code=1)["jobs"]["images"]["failed"] == 1
    # The old failure beside a good new row is no news.
    rows = {"1": shop.urls("/pic/1"), "3": shop.urls("/html/3"), "4": shop.urls("/pic/4")}
    shop.csv(rows, "input/feed.csv")
    report = shop.run(code=0)
    assert (report["jobs"]["completed_with_errors"], report["jobs"]["images"]["failed"]) == (1, 0)


def test_a_rejected_change_keeps_the_answer_before_it_in_step(shop: Shop) -> None:
    shop.csv({"1": shop.urls("/pic/1")}, "input/feed.csv")
    shop.run()
    reference = shop.job()["reference"]
    shop.csv([["1", "", shop.urls("/pic/1")]], "input/feed.csv")
    shop.run(code=1)
    shop.recipes('[half]\nscale = 0.5\nformat = "png"\n')
    shop.run()
    assert shop.job()["state"] == "rejected"
    assert shop.answer()[1][3] == f"jobs/{shop.pictures()[0]}"
    assert shop.answer()[1][3].endswith(".jpg.png")
    assert shop.cli("job", "output", reference).stdout.splitlines()[1].endswith(".jpg.png,,")
    assert "no name" in shop.cli("job", "errors", reference).stdout


def test_originals_and_jobs_go_in_one_run_and_one_report(shop: Shop) -> None:
    shop.add("a.jpg")
    shop.csv({"1": shop.urls("/pic/1")}, "input/deep/feed.CSV")
    report = shop.run()
    assert (report["originals"]["new"], report["renditions"]["rendered"]) == (1, 2)
    assert (report["jobs"]["received"], report["jobs"]["completed"]) == (1, 1)
    assert report["ignored"] == {}
    job = shop.job()
    assert job["answer"] == f"feed-{job['reference']}.csv"
    assert (shop.output / job["answer"]).is_file()
    text = shop.cli("run").stdout
    assert "jobs" not in text


def test_faults_of_a_dropped_csv_are_answered_once_each_with_its_line(shop: Shop) -> None:
    file = shop.csv([["1", "", shop.urls("/pic/1")], ["1", "B", "ftp://x.example/a"]])
    file.rename(shop.input / "feed.csv")
    report = shop.run(code=1)
    assert (report["jobs"]["rejected"], report["jobs"]["images"]["asked"]) == (1, 0)
    assert shop.run(code=0)["jobs"]["rejected"] == 0
    job = shop.job()
    assert (job["state"], job["answer"]) == ("rejected", None)
    assert [(fault["line"], fault["column"]) for fault in job["errors"]] == [
        (2, "Product Name"),
        (3, "Input Image Urls"),
        (3, "S. No."),
    ]
    assert list(shop.outputs()) == [f"feed-{job['reference']}.errors.csv"]
    told = shop.cli("job", "output", job["reference"]).stdout
    assert told.lstrip("\ufeff").splitlines()[0] == "Line,Column,Message,Code"
    assert len(told.splitlines()) == 4
    (shop.input / "feed.csv").unlink()
    shop.run()
    assert shop.outputs() == {}


def test_a_submitted_csv_with_faults_leaves_nothing_behind(shop: Shop) -> None:
    file = shop.csv([["1", "A", "nothing"], ["", "B", shop.urls("/pic/1")]])
    answer = shop.cli("job", "submit", str(file), "--json")
    assert answer.code == 2
    assert [(fault["line"], fault["column"]) for fault in answer.json["errors"]] == [
        (2, "Input Image Urls"),
        (3, "S. No."),
    ]
    assert all(fault["message"] for fault in answer.json["errors"])
    plain = shop.cli("job", "submit", str(file))
    assert (plain.code, plain.stdout) == (2, "")
    assert "line 2, Input Image Urls: nothing is not an http or https address" in plain.stderr
    assert shop.cli("job", "list", "--json").json == []
    assert shop.stored() == []
    assert shop.run()["jobs"]["received"] == 0


def test_a_number_that_no_table_takes_is_a_fault(shop: Shop) -> None:
    file = shop.csv({"9" * 500: shop.urls("/pic/1"), "9" * 501: shop.urls("/pic/1")})
    answer = shop.cli("job", "submit", str(file), "--json")
    assert answer.code == 2
    (fault,) = answer.json["errors"]
    assert (fault["line"], fault["column"]) == (3, "S. No.")
    assert fault["message"].startswith("501 characters, at most 500 are allowed")


def test_wait_works_one_job_to_its_end(shop: Shop) -> None:
    shop.add("a.jpg")
    other = shop.submit(shop.csv({"1": shop.urls("/pic/other")}, "other.csv"))
    good = shop.csv({"1": shop.urls("/pic/1")})
    answer = shop.cli("job", "submit", str(good), "--wait", "--json")
    assert (answer.code, answer.json["state"]) == (0, "completed")
    # This one alone: what else is to be done waits for a run.
    assert shop.job(other)["state"] == "received"
    assert not any("a.jpg" in name for name in shop.outputs())
    bad = shop.csv({"1": shop.urls("/pic/1", "/not-there")}, "bad.csv")
    answer = shop.cli("job", "submit", str(bad), "--wait", "--json")
    assert (answer.code, answer.json["state"]) == (1, "completed_with_errors")
    assert answer.json["images"] == {
        "total": 2,
        "fetched": 1,
        "done": 1,
        "failed": 1,
        "withdrawn": 0,
    }
    assert shop.hits() == {"/pic/1": 1, "/not-there": 1}
    assert shop.run()["jobs"]["completed"] == 1


def test_failed_rows_come_back_as_a_csv_to_mend_and_submit_again(shop: Shop) -> None:
    rows = [["1", "A", shop.urls("/pic/1")], ["2", "=B", shop.urls("/html", "/pic/2")]]
    reference = shop.submit(shop.csv(rows))
    shop.run(code=1)
    mend = shop.root / "mend.csv"
    answer = shop.cli("job", "failed-rows", reference, "-o", str(mend), "--json")
    assert answer.json == {"reference": reference, "rows": 1}
    text = mend.read_text("utf-8")
    assert text.splitlines() == [",".join(HEADER), f'2,\'=B,"{shop.urls("/html", "/pic/2")}"']
    mend.write_text(text.replace("/html", "/pic/mended"), "utf-8")
    answer = shop.cli("job", "submit", str(mend), "--wait", "--json")
    assert answer.json["state"] == "completed"
    assert shop.hits()["/pic/2"] == 1
    assert shop.cli("job", "failed-rows", answer.json["reference"], "--json").json["rows"] == 0


def test_output_gives_the_very_bytes_of_the_answer(shop: Shop) -> None:
    reference = shop.submit(shop.csv({"1": shop.urls("/pic/1")}))
    none_yet = shop.cli("job", "output", reference)
    assert none_yet.code == 2
    assert "has no result: it is received" in none_yet.stderr
    shop.run()
    target = shop.root / "answer.csv"
    assert shop.cli("job", "output", reference, "-o", str(target)).code == 0
    assert target.read_bytes() == shop.outputs()[f"{reference}.csv"]
    assert shop.cli("job", "output", reference).stdout == target.read_text("utf-8")
    found = shop.cli("job", "output", reference, "--json").json
    assert (found["file"], found["bytes"]) == (
        str(shop.output / f"{reference}.csv"),
        target.stat().st_size,
    )


def test_an_unknown_job_is_a_clear_error_of_every_command(shop: Shop) -> None:
    for command in ("status", "errors", "output", "failed-rows", "delete", "refresh"):
        answer = shop.cli("job", command, "20250223041320999")
        assert (answer.code, answer.stdout) == (2, ""), command
        assert "there is no job 20250223041320999" in answer.stderr


def test_jobs_of_one_second_have_numbers_of_their_own_and_are_listed_newest_first(
    shop: Shop,
) -> None:
    file = shop.csv({"1": shop.urls("/pic/1")})
    references = [shop.submit(file) for _ in range(3)]
    assert len(set(references)) == 3
    listed = [job["reference"] for job in shop.cli("job", "list", "--json").json]
    assert listed == references[::-1]
    page = shop.cli("job", "list", "--json", "--limit", "1", "--before", references[2]).json
    assert [job["reference"] for job in page] == [references[1]]
