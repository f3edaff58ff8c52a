"""Renditions, jobs and changes of a bucket over HTTP."""

from __future__ import annotations

import a_shop
import pytest
from a_bucket_project import Make
from a_server import serving
from fetch_fixtures import authority, fetcher, server, tls_server, trusting
from loopback import Server

pytest.importorskip("obstore", reason="obstore is not installed (pip install 'lockstep[cloud]')")
pytestmark = pytest.mark.buckets
# The pictures that the server has are those of `a_shop`.
__all__ = ["a_shop", "authority", "fetcher", "server", "tls_server", "trusting"]


def test_renditions_are_passed_on_from_a_bucket_until_they_are_taken_down(make: Make) -> None:
    project = make()
    project.env["PIPELINE_RESCAN_S"] = "0.5"
    project.put("shoes/a b.png")
    project.put("other.png")
    project.run()
    body = project.outputs()["half/shoes/a b.png"]
    with serving(project) as page:
        first = page.get("/files/half/shoes/a b.png")
        assert (first.status_code, first.content) == (200, body)
        assert first.headers["cache-control"] == "public, no-cache"
        assert first.headers["content-type"] == "image/png"
        assert first.headers["content-length"] == str(len(body))
        tag = {"if-none-match": first.headers["etag"]}
        assert page.get("/files/half/shoes/a b.png", headers=tag).status_code == 304
        for asked, status, part in (
            ("bytes=2-5", 206, body[2:6]),
            ("bytes=-4", 206, body[-4:]),
            ("bytes=5-", 206, body[5:]),
        ):
            answer = page.get("/files/half/shoes/a b.png", headers={"range": asked})
            assert (answer.status_code, answer.content) == (status, part)
        beyond = {"range": f"bytes={len(body)}-"}
        assert page.get("/files/half/shoes/a b.png", headers=beyond).status_code == 416
        assert page.get("/originals/other.png").content == project.bucket.get("in/other.png")
        assert page.get("/files/half/none.png").status_code == 404
        # What comes into the bucket is seen by the next listing, without a notification.
        project.put("new.png")
        page.until(lambda: page.get("/files/half/new.png").status_code == 200)
        done = page.post("/takedowns", json={"path": "shoes/a b.png", "reason": "flagged"})
        assert done.status_code == 201, done.text
        assert page.get("/files/half/shoes/a b.png").status_code == 410
        number = done.json()["id"]
        kept = page.get(f"/takedowns/{number}/picture")
        assert kept.content == project.bucket.get("kept/shoes/a b.png")


def test_a_signed_address_is_given_where_that_is_wanted(make: Make) -> None:
    project = make()
    project.env["PIPELINE_PRESIGN"] = "30"
    project.put("a.png")
    project.run()
    with serving(project) as page:
        answer = page.get("/files/half/a.png")
        assert (answer.status_code, answer.headers["cache-control"]) == (307, "no-store")
        followed = page.get("/files/half/a.png", follow_redirects=True)
        assert followed.content == project.outputs()["half/a.png"]
        assert page.get("/files/half/b.png").status_code == 404


def test_a_csv_in_a_bucket_becomes_a_job_with_its_result_there(make: Make, server: Server) -> None:
    project = make()
    project.env |= {
        "PIPELINE_FETCH_ALLOW": "127.0.0.1",
        "PIPELINE_FETCH_PORTS": str(server.port),
    }
    url = server.url("/pic/1")
    text = f"S. No.,Product Name,Input Image Urls\n1,SKU1,{url}\n"
    project.bucket.put("in/feeds/products.csv", text.encode())
    project.run()
    (job,) = project.cli("job", "list", "--json").json
    assert job["state"] == "completed", job
    result = project.bucket.get(f"out/{job['answer']}").decode("utf-8-sig")
    assert "SKU1" in result
    assert len([name for name in project.outputs() if name.startswith("jobs/")]) == 1
    shown = project.cli("job", "output", job["reference"])
    assert "SKU1" in shown.stdout
    with serving(project) as page:
        assert "SKU1" in page.get(f"/jobs/{job['reference']}/output.csv").text
        archive = page.get(f"/jobs/{job['reference']}/renditions.zip").content
        assert archive.startswith(b"PK")
    project.bucket.delete("in/feeds/products.csv")
    project.put("a.png")
    project.run()
    assert not [name for name in project.outputs() if name.startswith("jobs/")]
