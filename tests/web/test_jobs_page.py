"""A CSV over HTTP: its problems, its reference, its result, its ZIP, its end."""

import csv
import io
import re
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import openpyxl
import pytest
from a_project import Project
from a_server import HTML, Server, serving

HEADER = "S. No.,Product Name,Input Image Urls\n"
ENDED = ("completed", "completed_with_errors", "rejected", "failed", "deleted")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, pictures: str) -> Iterator[Server]:
    project = Project(tmp_path_factory.mktemp("jobs") / "shop")
    project.env["PIPELINE_FETCH_ALLOW"] = "127.0.0.1"
    project.env["PIPELINE_FETCH_PORTS"] = pictures.rpartition(":")[2]
    project.env["PIPELINE_FETCH_RETRIES"] = "0"
    with serving(project, "--no-watch") as server:
        yield server


def hand_in(server: Server, rows: str, name: str = "products.csv") -> str:
    answer = server.post("/jobs", files={"file": (name, HEADER + rows)})
    assert answer.status_code == 202, answer.text
    told = answer.json()
    assert told["status_url"] == f"/jobs/{told['reference']}"
    reference: str = told["reference"]
    return reference


def ended(server: Server, reference: str) -> dict:
    def done() -> dict | None:
        job = server.get(f"/jobs/{reference}").json()
        return job if job["state"] in ENDED else None

    return server.until(done)


def test_a_csv_goes_in_and_comes_back_answered(shop: Server, pictures: str) -> None:
    rows = f'1,SKU1,"{pictures}/0.png,{pictures}/1.png"\n2,<b>SKU2</b>,{pictures}/none.png\n'
    reference = hand_in(shop, rows)
    job = ended(shop, reference)
    assert job["state"] == "completed_with_errors"
    assert job["images"] == {"total": 3, "fetched": 2, "done": 2, "failed": 1, "withdrawn": 0}
    assert job["failures"][0]["number"] == "2"
    assert "404" in job["failures"][0]["reason"]
    command = shop.project.cli("job", "status", reference, "--json").json
    address = f"{shop.url}/jobs/{reference}/output.csv"
    assert {name: job[name] for name in command} == command | {"answer_url": address}

    answer = shop.get(job["output_url"])
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert f'filename="{reference}.csv"' in answer.headers["content-disposition"]
    assert_it_leads_to_the_renditions(shop, reference)
    failed = shop.get(f"/jobs/{reference}/failed.csv").text
    assert failed.splitlines() == [HEADER.strip(), f"2,<b>SKU2</b>,{pictures}/none.png"]

    archive = zipfile.ZipFile(io.BytesIO(shop.get(f"/jobs/{reference}/renditions.zip").content))
    assert archive.testzip() is None
    folder = shop.project.output / "jobs"
    assert sorted(archive.read(name) for name in archive.namelist()) == sorted(
        file.read_bytes() for file in folder.rglob(f"{reference}_*")
    )

    images = shop.get(f"/images?job={reference}").json()["images"]
    assert len(images) == 2
    for image in images:
        for item in image["renditions"]:
            assert shop.get(item["url"]).status_code == 200
        assert shop.get(f"/originals/{image['path']}").status_code == 200
        shown = shop.get(f"/images/{image['path']}", headers=HTML)
        assert shown.status_code == 200
        assert f'<a href="/images?job={reference}">Job {reference}</a>' in shown.text

    shown = shop.get(f"/jobs/{reference}", headers=HTML).text
    assert "Completed, but some images failed" in shown
    assert "&lt;b&gt;SKU2&lt;/b&gt;" in shown
    assert "<b>SKU2" not in shown
    assert reference in shop.get("/jobs", headers=HTML).text
    assert reference in [job["reference"] for job in shop.get("/jobs").json()["jobs"]]


def assert_it_leads_to_the_renditions(shop: Server, reference: str) -> None:
    """The stored result has paths; what is sent is the same, with addresses that work."""
    stored = (shop.project.output / f"{reference}.csv").read_bytes()
    sent = shop.get(f"/jobs/{reference}/output.csv").content
    assert sent.replace(f"{shop.url}/files/jobs/".encode(), b"jobs/") == stored
    rows = csv.DictReader(io.StringIO(sent.decode("utf-8-sig")))
    addresses = [url for row in rows for url in row["Output Image Urls"].split(",") if url]
    assert len(addresses) == 2
    for url in addresses:
        assert url.startswith(f"{shop.url}/files/jobs/half/{reference}/")
        assert httpx.get(url).headers["content-type"] == "image/png"


def test_addresses_begin_with_the_host_that_was_asked(shop: Server, pictures: str) -> None:
    reference = hand_in(shop, f"1,SKU1,{pictures}/0.png\n")
    ended(shop, reference)
    port = shop.url.rpartition(":")[2]
    # A proxy on this machine tells how it was reached; the name of the host is never forwarded.
    behind = {
        "host": f"localhost:{port}",
        "x-forwarded-proto": "https",
        "x-forwarded-host": "evil.example",
    }
    files = f"https://localhost:{port}/files/jobs/half/{reference}/"
    assert files in shop.get(f"/jobs/{reference}/output.csv", headers=behind).text
    (image,) = shop.get(f"/images?job={reference}", headers=behind).json()["images"]
    assert image["renditions"][0]["url"].startswith(files)
    job = shop.get(f"/jobs/{reference}", headers=behind).json()
    assert job["answer_url"] == f"https://localhost:{port}/jobs/{reference}/output.csv"


def test_a_workbook_goes_in_and_comes_back_as_one(shop: Server, pictures: str) -> None:
    book, file = openpyxl.Workbook(), io.BytesIO()
    for row in (HEADER.strip().split(","), [1, "SKU1", f"{pictures}/0.png"]):
        book.active.append(row)
    book.save(file)
    files = {"file": ("products.xlsx", file.getvalue())}
    for result, said in (("sideways", "must be add or replace"), ("replace", "whole addresses")):
        refused = shop.post("/jobs", files=files, data={"result": result})
        assert refused.status_code == 422
        assert said in refused.text
    answer = shop.post("/jobs", files=files, data={"result": "add"})
    job = ended(shop, answer.json()["reference"])
    assert job["state"] == "completed"
    result = shop.get(job["output_url"])
    assert "spreadsheetml" in result.headers["content-type"]
    assert f'filename="{job["reference"]}.xlsx"' in result.headers["content-disposition"]
    cells = openpyxl.load_workbook(io.BytesIO(result.content)).active
    name = f"{job['reference']}_1_SKU1_0.png"
    assert (cells["D1"].value, cells["D2"].value) == (
        "Output Image Urls",
        f"{shop.url}/files/jobs/half/{job['reference']}/{name}",
    )


def test_a_program_names_the_columns_of_headers_that_nobody_knows(
    shop: Server, pictures: str
) -> None:
    csv = f"SKU,Was,Foto\nA,Shoe,{pictures}/0.png\nA,,{pictures}/1.png\n"
    files = {"file": ("foreign.csv", csv)}
    assert shop.post("/jobs", files=files).status_code == 422
    columns = ["number=SKU", "name=Was", "images=Foto"]
    answer = shop.post("/jobs", files=files, data={"map": columns, "grouped": "true"})
    assert answer.status_code == 202, answer.text
    job = ended(shop, answer.json()["reference"])
    # Ungrouped, the second row would be a product without a name.
    assert (job["state"], job["images"]["done"]) == ("completed", 2)
    for data, said in (
        ({"map": columns[:2]}, "map: says nothing about images"),
        ({"map": ["SKU"]}, "map SKU: is not a role and the header"),
        ({"grouped": "true"}, "grouped: belongs to map"),
    ):
        refused = shop.post("/jobs", files=files, data=data)
        assert refused.status_code == 422
        assert said in refused.text
        assert "--" not in refused.json()["errors"][0]["message"]


def test_every_fault_of_a_csv_is_told_with_its_line(shop: Server) -> None:
    before = shop.get("/jobs").json()
    csv = HEADER + "1,SKU1,no address\n1,,https://www.example.com/a.jpg\n"
    answer = shop.post("/jobs", files={"file": ("<i>.csv", csv)})
    assert answer.status_code == 422
    faults = answer.json()["errors"]
    assert [(fault["line"], fault["column"]) for fault in faults] == [
        (2, "Input Image Urls"),
        (3, "Product Name"),
        (3, "S. No."),
    ]
    assert all(fault["message"] for fault in faults)
    shown = shop.post("/jobs", files={"file": ("<i>.csv", csv)}, headers=HTML)
    assert shown.status_code == 422
    assert "&lt;i&gt;.csv has 3 problems" in shown.text
    assert '<td class="num">3</td>' in shown.text
    for files in ({"file": ("a.csv", b"\x00\x01")}, {"file": ("a.csv", b"")}):
        assert shop.post("/jobs", files=files).status_code == 422
    assert shop.post("/jobs", files={"other": ("a.csv", csv)}).status_code == 422
    assert shop.post("/jobs", data={"file": "a.csv"}).status_code == 415
    answer = shop.post("/jobs", files={"file": ("a.csv", csv)}, data={"webhook": "ftp://x"})
    assert answer.status_code == 422
    assert shop.get("/jobs").json() == before


def test_the_secret_of_its_webhook_is_shown_once(shop: Server, pictures: str) -> None:
    csv = HEADER + f"1,SKU1,{pictures}/0.png\n"
    own = {"webhook": f"{pictures}/hook"}
    told = shop.post("/jobs", files={"file": ("a.csv", csv)}, data=own).json()
    assert told["webhook_secret"].startswith("whsec_")
    shown = shop.post("/jobs", files={"file": ("a.csv", csv)}, data=own, headers=HTML)
    assert shown.status_code == 202
    assert shown.headers["cache-control"] == "no-store"
    (secret,) = set(re.findall(r"whsec_[A-Za-z0-9+/=]+", shown.text))
    (reference,) = set(re.findall(r'href="/jobs/(\d+)"', shown.text))
    assert secret != told["webhook_secret"]
    for path in ("/jobs", f"/jobs/{reference}", told["status_url"]):
        for headers in ({}, HTML):
            assert "whsec_" not in shop.get(path, headers=headers).text
    without = shop.post("/jobs", files={"file": ("a.csv", csv)}).json()
    assert "webhook_secret" not in without


def test_a_job_is_found_by_its_number_and_by_nothing_else(shop: Server, pictures: str) -> None:
    reference = hand_in(shop, f"1,SKU1,{pictures}/2.png\n")
    found = shop.get("/jobs", params={"reference": f" {reference} "}, headers=HTML)
    assert (found.status_code, found.headers["location"]) == (303, f"/jobs/{reference}")
    lost = shop.get("/jobs", params={"reference": "<s>12"}, headers=HTML)
    assert lost.status_code == 404
    assert "no job with the number &lt;s&gt;12" in lost.text
    for wrong in ("12", "x", "%00", f"{reference}0", "..%2f..", "９"):
        for path in (
            f"/jobs/{wrong}",
            f"/jobs/{wrong}/output.csv",
            f"/jobs/{wrong}/renditions.zip",
        ):
            assert shop.get(path).status_code == 404
        assert shop.client.delete(f"/jobs/{wrong}").status_code == 404
    assert ended(shop, reference)["state"] == "completed"


def test_a_deleted_job_is_gone_with_all_that_came_of_it(shop: Server, pictures: str) -> None:
    reference = hand_in(shop, f"1,SKU1,{pictures}/3.png\n")
    url = (
        ended(shop, reference)
        and shop.get(f"/images?job={reference}").json()["images"][0]["renditions"][0]["url"]
    )
    assert shop.get(url).status_code == 200
    answer = shop.client.delete(f"/jobs/{reference}")
    assert answer.status_code in (200, 202)
    shop.until(lambda: shop.get(url).status_code == 404)
    assert shop.get(f"/jobs/{reference}").json()["state"] == "deleted"
    assert shop.get(f"/jobs/{reference}/output.csv").status_code == 409
    by_form = shop.post(f"/jobs/{reference}/delete", headers=HTML)
    assert (by_form.status_code, by_form.headers["location"]) == (303, "/jobs")


def test_images_are_asked_for_again_when_a_person_wants_it(shop: Server, pictures: str) -> None:
    reference = hand_in(shop, f"1,SKU1,{pictures}/0.png\n")
    ended(shop, reference)
    assert shop.post(f"/jobs/{reference}/refresh").json() == {"asked": 1}
    assert ended(shop, reference)["state"] == "completed"


def test_of_many_at_a_time_none_is_lost(shop: Server, pictures: str) -> None:
    with ThreadPoolExecutor(16) as pool:
        references = list(
            pool.map(lambda n: hand_in(shop, f"{n},SKU,{pictures}/{n % 4}.png\n"), range(32))
        )
    assert len(set(references)) == 32
    for reference in references:
        assert ended(shop, reference)["state"] == "completed"
