"""The page on servers: other locks, other rules for text, the same answers."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from a_project import Project
from a_server import HTML, NASTY, serving


def test_on_a_server_the_page_gives_the_same_answers(
    project: Project, server_url: str, pictures: str, tmp_path: Path
) -> None:
    project.env |= {
        "PIPELINE_DB": server_url,
        "PIPELINE_FETCH_ALLOW": "127.0.0.1",
        "PIPELINE_FETCH_PORTS": pictures.rpartition(":")[2],
    }
    for path in ("shoes/red.png", "shoes/blue.png", NASTY):
        project.add(path)
    (project.input / "bad.png").write_bytes(b"no picture")
    with serving(project) as server:
        server.until_counted(originals=4, renditions=6, failed=2)
        for query, count in (("", 4), ("?state=ok", 3), ("?state=failed", 1), ("?text=RED", 1)):
            assert len(server.get(f"/images{query}").json()["images"]) == count, query
        assert server.get("/images?text=%00").status_code == 422
        assert server.get("/images/%00").status_code == 404
        assert server.get(f"/images/{quote(NASTY)}", headers=HTML).status_code == 200
        assert server.get("/files/half/shoes/red.png").status_code == 200
        assert server.get("/files/half/shoes/red.png%00").status_code == 404

        csv = f"S. No.,Product Name,Input Image Urls\n1,SKU1,{pictures}/0.png\n"
        answer = server.post("/jobs", files={"file": ("a.csv", csv)})
        assert answer.status_code == 202, answer.text
        address = answer.json()["status_url"]
        server.until(lambda: server.get(address).json()["state"] == "completed")
        assert server.get(f"{address}/output.csv").status_code == 200

        taken = server.post("/takedowns", json={"path": "shoes/red.png", "reason": "flagged"})
        assert taken.status_code == 201, taken.text
        assert server.get("/files/half/shoes/red.png").status_code == 410
        assert server.post("/retries", json={}).json() == {"retried": 2}
        assert "lockstep_originals" in server.get("/metrics").text
        assert [line for line in server.log if "Traceback" in line] == [], "".join(server.log)
