"""The page of an image shows what looks like it, and takes that down with it."""

from __future__ import annotations

import io

from a_project import Project, picture
from a_server import HTML, Server, serving
from PIL import Image


def test_similar_originals_are_shown_with_their_thumbnails(server: Server) -> None:
    found = server.get("/similar", params={"path": "hats/green.webp"}).json()
    assert (found["path"], len(found["pdq"])) == ("hats/green.webp", 64)
    (twin,) = found["similar"]
    assert (twin["path"], twin["distance"]) == ("hats/twin-of-green.webp", 0)
    page = server.get("/similar", params={"path": "hats/green.webp"}, headers=HTML).text
    assert 'src="/files/half/hats/twin-of-green.webp"' in page
    assert "0 of 256 bits differ" in page
    assert "No other original" in server.get("/similar?path=shoes/red.png", headers=HTML).text
    assert server.get("/similar?path=bad.png").status_code == 404
    assert server.get("/similar?path=none.png").status_code == 404
    assert server.get("/similar?path=bad.png&distance=129").status_code == 422


def test_what_looks_like_an_image_is_taken_down_with_it_from_the_page(project: Project) -> None:
    project.add("a.png", size=(200, 160))
    again = Image.open(io.BytesIO(picture(".png", "a.png", (200, 160))))
    again.save(project.input / "again.jpg", quality=84)
    project.add("other.png", size=(200, 160))
    with serving(project) as server:
        server.until_counted(originals=3, renditions=6, pending=0)
        assert 'hx-get="/similar?path=a.png' in server.get("/images/a.png", headers=HTML).text
        form = {"path": "a.png", "reason": "flagged", "near": "31", "near_originals": "true"}
        answer = server.post("/takedowns", data=form)
        assert answer.status_code == 201, answer.text
        assert [near["originals"] for near in answer.json()["near"]] == [["again.jpg"]]
        Image.new("RGB", (60, 40), "red").save(project.input / "flat.png")
        server.until_counted(originals=2, renditions=4, pending=0)
        flat = server.post("/takedowns", json={"path": "flat.png", "reason": "x", "near": 31})
        assert (flat.status_code, "nearly flat" in flat.text) == (409, True)
        refused = {"path": "other.png", "reason": "flagged", "near": 300}
        assert server.post("/takedowns", json=refused).status_code == 422
    assert {file.name for file in project.input.iterdir()} == {"flat.png", "other.png"}
