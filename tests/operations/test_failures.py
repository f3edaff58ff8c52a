"""What failed, by the code of its reason: one count for all pages and commands, and one retry."""

from __future__ import annotations

from pathlib import Path

import pytest
from a_project import Project, picture
from a_server import HTML, serving
from a_shop import Shop
from fetch_fixtures import server
from loopback import Server

from pipeline.operations.verdict import verdict
from pipeline.reasons import NO_FAILURE, Code
from pipeline.settings.values import FETCH_VARIABLES, JobSettings, Settings, variables_of

__all__ = ["server"]

CUT = 30


@pytest.fixture
def cut(project: Project) -> Project:
    """Many pictures, each cut off at another byte, and one file that is none."""
    project.recipes("[half]\nscale = 0.5\n")
    whole = picture(".jpg", 1, (120, 90))
    for number in range(CUT):
        (project.input / f"{number:02}.jpg").write_bytes(whole[: len(whole) // 2 + number])
    (project.input / "notes.jpg").write_bytes(b"Remember the milk.")
    project.run(code=1)
    return project


def test_files_cut_off_at_different_bytes_are_one_group(cut: Project) -> None:
    rows = cut.cli("errors", "--json").json
    assert {row["code"] for row in rows} == {"cut_off", "not_an_image"}
    assert len({row["reason"] for row in rows}) == CUT + 1
    said = cut.cli("errors").stdout
    assert f"cut_off: {CUT} (The file is cut off)" in said
    assert len(cut.cli("errors", "--reason", "not_an_image", "--json").json) == 1
    assert cut.cli("status", "--json").json["reasons"] == {"cut_off": CUT, "not_an_image": 1}
    assert cut.cli("errors", "--reason", "no_such_code").code == 2

    with serving(cut, "--no-watch") as service:
        first, second = service.get("/failed").json()["reasons"]
        assert (first["code"], first["count"], len(first["items"])) == ("cut_off", CUT, 20)
        assert first["paths"][:2] == ["00.jpg", "01.jpg"]
        assert "bytes" in first["items"][0]["reason"]
        assert second["code"] == "not_an_image"
        page = service.get("/failed", headers=HTML).text
        assert f"{CUT} pictures" in page
        assert "/originals/00.jpg?source=input" in page
        assert "/originals/notes.jpg" not in page
        service.until_counted(failed=CUT + 1)
        metrics = service.get("/metrics").text
        assert f'lockstep_failures{{code="cut_off"}} {CUT}.0' in metrics
        assert 'lockstep_failures{code="timed_out"} 0.0' in metrics
        answer = service.post("/retries", json={"code": "cut_off"})
        assert answer.json() == {"retried": CUT}
        assert service.post("/retries", json={"code": "no_such_code"}).status_code == 422


def test_a_group_is_retried_and_the_others_are_not(cut: Project) -> None:
    assert cut.cli("retry", "--reason", "cut_off", "--json").json == {"retried": CUT}
    report = cut.run(code=1)
    assert (report["renditions"]["failed"], report["renditions"]["failed_before"]) == (CUT, 1)
    assert cut.cli("retry", "--reason", "cut_off", "00.jpg").code == 2


@pytest.fixture
def shop(tmp_path: Path, server: Server) -> Shop:
    shop = Shop(tmp_path / "shop", server)
    shop.env["PIPELINE_FETCH_RETRIES"] = "0"
    return shop


def test_images_of_jobs_count_everywhere_and_are_retried_with_all_else(shop: Shop) -> None:
    shop.env["PIPELINE_FETCH_MAX_PIXELS"] = "2000"
    reference = shop.submit(
        shop.csv({"1": shop.urls("/broken", "/pic/1"), "2": shop.urls("/html")})
    )
    (shop.input / "bad.jpg").write_bytes(b"no picture")
    shop.run(code=1)
    codes = {"not_an_image": 3, "server_error": 1, "too_large": 1}
    words = "In step, except for 5 that failed"
    status = shop.cli("status", "--json").json
    assert (status["reasons"], status["verdict"]["words"]) == (codes, words)
    assert shop.cli("status", "--check").code == 1
    assert {row["code"] for row in shop.cli("errors", "--json").json} == set(codes)
    with serving(shop, "--no-watch") as service:
        service.until(lambda: service.get("/healthz?verbose").json()["counts"])
        health = service.get("/healthz?verbose").json()
        assert (health["in_step"], health["verdict"]["words"]) == (False, words)
        assert service.get("/healthz").json() == {"status": "ok"}
        assert words in service.get("/", headers=HTML).text
        failed = service.get("/failed").json()
        assert (failed["failed"], {g["code"]: g["count"] for g in failed["reasons"]}) == (5, codes)
        page = service.get(f"/jobs/{reference}", headers=HTML).text
        assert 'aria-label="Fetched: 1 of 3, 2 failed"' in page
        assert 'aria-label="Rendered: 0 of 1, 1 failed"' in page
        page = service.get("/failed", headers=HTML).text
        assert f'<a class="small" href="/jobs/{reference}">' in page
        assert shop.urls("/broken") in page

    # Fetched again, or rendered again, whichever failed; what was fetched is not fetched again.
    hits = shop.hits()
    del shop.env["PIPELINE_FETCH_MAX_PIXELS"]
    assert shop.cli("retry", "--json").json == {"retried": 5}
    assert shop.job(reference)["state"] == "fetching"
    shop.run(code=1)
    assert {path: count - hits[path] for path, count in shop.hits().items()} == {
        "/broken": 1,
        "/pic/1": 0,
        "/html": 1,
    }
    job = shop.job(reference)
    assert job["images"] == {"total": 3, "fetched": 1, "done": 1, "failed": 2, "withdrawn": 0}
    assert shop.answer(reference)[1][-1] == "server_error"


def test_a_rejected_csv_is_on_the_page_of_what_failed(shop: Shop) -> None:
    shop.csv({"1": "no address"}, "input/feed.csv")
    shop.run(code=1)
    assert shop.cli("status", "--json").json["verdict"] == {
        "state": "failed",
        "words": "In step, except for 1 job",
    }
    with serving(shop, "--no-watch") as service:
        (job,) = service.get("/failed").json()["jobs"]
        assert (job["state"], job["filename"]) == ("rejected", "feed.csv")
        assert f'href="/jobs/{job["reference"]}"' in service.get("/failed", headers=HTML).text


def test_what_a_customer_reads_names_no_setting(shop: Shop) -> None:
    shop.env["PIPELINE_FETCH_MAX_BYTES"] = "100"
    urls = shop.urls("/pic/1"), "http://10.1.2.3/a.jpg", "http://127.0.0.1:1/a.jpg"
    reference = shop.submit(shop.csv({"1": ", ".join(urls)}))
    shop.run(code=1)
    _, row = shop.answer(reference)
    assert row[-1] == "too_large; refused_address; bad_url"
    assert "PIPELINE" not in str(shop.answer(reference))
    shop.env["PIPELINE_JOB_MAX_IMAGES"] = "1"
    refused = shop.cli("job", "submit", str(shop.root / "feed.csv"), "--json")
    assert refused.code == 2
    assert "PIPELINE" not in refused.stdout
    # Whoever runs the commands reads which setting it is.
    said = shop.cli("job", "submit", str(shop.root / "feed.csv"))
    assert "PIPELINE_JOB_MAX_IMAGES" in said.stderr
    assert "PIPELINE_FETCH_ALLOW" in shop.cli("errors").stdout


@pytest.mark.parametrize(
    ("changed", "stopped_by", "state", "words"),
    [
        ({}, None, "in_step", "All in step"),
        ({"originals": 0}, None, "empty", "Ready for the first originals"),
        ({"unverified": {}}, None, "unverified", "The output folder is not verified"),
        ({"jobs": {"rejected": 2}}, None, "failed", "In step, except for 2 jobs"),
        (
            {"reasons": {"cut_off": 3}, "jobs": {"completed_with_errors": 1, "failed": 1}},
            None,
            "failed",
            "In step, except for 3 that failed and 1 job",
        ),
        ({"pending": 1, "jobs": {"fetching": 1}}, None, "pending",
         "1 rendition pending, 1 job unfinished"),
        ({"pending": 1}, "the disk is full", "stopped", "The last run was stopped"),
    ],
)  # fmt: skip
def test_the_verdict_is_in_step_only_where_nothing_is_left(
    changed: dict[str, object], stopped_by: str | None, state: str, words: str
) -> None:
    whole = {"originals": 1, "pending": 0, "features": {}, "steps": {}, "jobs": {"completed": 1},
             "reasons": {}, "unverified": None}  # fmt: skip
    if state == "empty":
        whole["jobs"] = {"deleted": 1}
    said = verdict(whole | changed, stopped_by)
    assert (said.state.value, said.words) == (state, words)
    assert said.is_in_step is (state in ("in_step", "empty"))


def test_the_page_of_the_docs_lists_every_code_with_its_words() -> None:
    page = (Path(__file__).parents[2] / "docs/reasons.md").read_text("utf-8")
    rows = [line.split(" | ")[:2] for line in page.splitlines() if line.startswith("| `")]
    codes = {code.value for code in Code}
    listed = [row for row in rows if row[0].strip("|` ") in codes]
    assert listed == [[f"| `{code.value}`", code.words] for code in Code]


def test_every_code_has_words_and_every_hint_names_settings_that_exist() -> None:
    tables = (variables_of(Settings), variables_of(JobSettings), FETCH_VARIABLES)
    known = {f"PIPELINE_{each.name}" for table in tables for each in table.values()}
    for code in Code:
        assert code.words
        named = [word.strip(",.;") for word in code.hint.split() if word.startswith("PIPELINE_")]
        assert set(named) <= known, code
    assert set(NO_FAILURE) < set(Code)
