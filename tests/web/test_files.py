"""Renditions over HTTP: whole, in parts, not at all where they have not changed, and 410."""

import getpass
import hashlib
import time

from a_project import Project
from a_server import HTML, Server, serving

RED = "/files/half/shoes/red.png"


def test_the_tag_is_the_hash_of_the_content(server: Server) -> None:
    body = (server.project.output / "half/shoes/red.png").read_bytes()
    for _ in range(2):
        answer = server.get(RED)
        assert answer.content == body
        assert answer.headers["etag"] == f'"{hashlib.sha256(body).hexdigest()}"'
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-length"] == str(len(body))
    assert answer.headers["cache-control"] == "public, no-cache"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["last-modified"].endswith("GMT")
    head = server.client.head(RED)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(body))
    assert head.headers["etag"] == answer.headers["etag"]


def test_what_has_not_changed_is_not_sent_again(server: Server) -> None:
    first = server.get(RED).headers
    for headers in (
        {"if-none-match": first["etag"]},
        {"if-none-match": f'"other", W/{first["etag"]}'},
        {"if-none-match": "*"},
        {"if-modified-since": first["last-modified"]},
    ):
        answer = server.get(RED, headers=headers)
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == first["etag"]
    for headers in (
        {"if-none-match": '"other"', "if-modified-since": first["last-modified"]},
        {"if-modified-since": "Thu, 01 Jan 1970 00:00:00 GMT"},
        {"if-modified-since": "yesterday"},
    ):
        assert server.get(RED, headers=headers).status_code == 200


def test_a_part_is_sent_alone(server: Server) -> None:
    whole = server.get(RED).content
    answer = server.get(RED, headers={"range": "bytes=2-5"})
    assert (answer.status_code, answer.content) == (206, whole[2:6])
    assert answer.headers["content-range"] == f"bytes 2-5/{len(whole)}"
    assert server.get(RED, headers={"range": "bytes=-4"}).content == whole[-4:]
    answer = server.get(RED, headers={"range": f"bytes={len(whole)}-"})
    assert answer.status_code == 416
    answer = server.get(RED, headers={"range": "bytes=2-5", "if-range": '"other"'})
    assert (answer.status_code, answer.content) == (200, whole)


def test_formats_have_their_type_and_originals_that_no_browser_shows_are_downloaded(
    project: Project,
) -> None:
    project.add("a.tif")
    project.add("b.jpg")
    project.run()
    with serving(project, "--no-watch") as server:
        assert server.get("/files/thumb/a.tif.webp").headers["content-type"] == "image/webp"
        assert server.get("/files/half/b.jpg").headers["content-type"] == "image/jpeg"
        shown = server.get("/originals/b.jpg")
        assert shown.headers["content-type"] == "image/jpeg"
        assert shown.headers["content-disposition"].startswith("inline")
        assert shown.content == (project.input / "b.jpg").read_bytes()
        kept = server.get("/originals/a.tif")
        assert kept.headers["content-type"] == "application/octet-stream"
        assert kept.headers["content-disposition"].startswith("attachment")
        assert server.get("/originals/c.jpg").status_code == 404


def test_a_rendition_that_is_made_anew_has_a_new_tag(project: Project) -> None:
    project.add("a.png", seed=1)
    project.run()
    with serving(project, "--no-watch") as server:
        before = server.get("/files/half/a.png")
        project.add("a.png", seed=2)
        project.run()
        after = server.get("/files/half/a.png", headers={"if-none-match": before.headers["etag"]})
        assert after.status_code == 200
        assert after.content == (project.output / "half/a.png").read_bytes()
        assert after.headers["etag"] != before.headers["etag"]


def test_a_large_rendition_is_streamed_with_the_same_headers(project: Project) -> None:
    project.recipes("[whole]\nscale = 1.0\nformat = 'png'\n")
    project.add("a.png", size=(900, 900))
    project.run()
    body = (project.output / "whole/a.png").read_bytes()
    assert len(body) > 1 << 18
    with serving(project, "--no-watch") as server:
        for _ in range(2):
            answer = server.get("/files/whole/a.png")
            assert answer.content == body
            assert answer.headers["etag"] == f'"{hashlib.sha256(body).hexdigest()}"'


def test_a_takedown_is_gone_from_the_server_within_a_second(project: Project) -> None:
    project.add("a.png", seed=1)
    project.add("twin.png", seed=1)
    project.add("b.png")
    project.run()
    with serving(project, "--no-watch") as server:
        url = "/files/half/a.png"
        tag = server.get(url).headers["etag"]
        began = time.monotonic()
        answer = server.post("/takedowns", json={"path": "a.png", "reason": "flagged"})
        assert server.get(url, headers={"if-none-match": tag}).status_code == 410
        assert time.monotonic() - began < 10  # a busy machine; the benchmark measures the second
        assert answer.status_code == 201
        assert answer.json()["originals"] == ["a.png", "twin.png"]
        assert answer.json()["renditions"] == 4
        for gone in (url, "/files/thumb/a.png.webp", "/files/half/twin.png"):
            assert server.get(gone).status_code == 410
            shown = server.get(gone, headers=HTML)
            assert shown.status_code == 410
            assert "Taken down" in shown.text
        assert server.get("/files/half/b.png").status_code == 200
        assert sorted(project.outputs()) == ["half/b.png", "thumb/b.png.webp"]
        assert not (project.input / "a.png").exists()

        act = server.get("/takedowns").json()["takedowns"][0]
        assert (act["reason"], act["who"], act["state"]) == (
            "flagged",
            getpass.getuser(),
            "in_force",
        )
        assert "flagged" in server.get("/takedowns", headers=HTML).text
        server.until(lambda: server.get("/images/a.png").status_code == 410)

        lifted = server.post(f"/takedowns/{act['id']}/lift", json={})
        assert sorted(lifted.json()["originals"]) == ["a.png", "twin.png"]
        server.until(lambda: server.get(url).status_code == 200)
        assert server.post(f"/takedowns/{act['id']}/lift", json={}).status_code == 409


def test_a_takedown_that_names_nothing_is_refused(server: Server) -> None:
    for body, status in (
        ({"path": "nothing.png", "reason": "x"}, 404),
        ({"path": "../recipes.toml", "reason": "x"}, 404),
        ({"path": "/etc/passwd", "reason": "x"}, 404),
        ({"path": "shoes/red.png"}, 422),
        ({"path": "shoes/red.png", "reason": " "}, 422),
        ({"reason": "x"}, 422),
        ({"sha256": "abc", "reason": "x"}, 422),
        ({"path": "shoes/red.png", "sha256": "0" * 64, "reason": "x"}, 422),
        ({"path": "shoes/red.png", "reason": "x", "pruge": True}, 422),
    ):
        answer = server.post("/takedowns", json=body)
        assert answer.status_code == status, body
        assert str(server.project.root) not in answer.text
    assert server.get("/takedowns").json() == {"takedowns": [], "next": None}
