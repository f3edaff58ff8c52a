"""Many originals at once: recorded first, done beside everything else, stopped, and resumed."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from a_project import Project
from a_server import HTML, Server, serving
from a_takedown import audit, kept, originals

from pipeline.text import login_name

REASON = {"reason": "withdrawn"}


@pytest.fixture
def shop(project: Project) -> Iterator[Server]:
    """Six originals below `shoes`, two of them identical; and one elsewhere; one is broken."""
    for number in range(5):
        project.add(f"shoes/{number}.png", size=(24, 16))
    project.add("shoes/twin.png", seed="shoes/0.png", size=(24, 16))
    project.add("hats/hat.png", size=(24, 16))
    (project.input / "shoes/bad.png").write_bytes(b"no picture")
    project.run(code=1)
    with serving(project, "--no-watch") as server:
        yield server


def ended(server: Server, number: int) -> dict[str, Any]:
    def is_over() -> dict[str, Any] | None:
        bulk: dict[str, Any] = server.get(f"/bulks/{number}").json()
        return None if bulk["state"] == "running" else bulk

    found: dict[str, Any] = server.until(is_over)
    return found


def begin(server: Server, **asked: Any) -> httpx.Response:
    return server.post("/bulks", json=asked)


def test_a_whole_folder_goes_as_one_entry_and_comes_back_as_one(shop: Server) -> None:
    asked = begin(shop, what="take_down", all=True, folder="shoes", **REASON)
    assert asked.status_code == 202
    assert asked.json()["total"] == 7
    bulk = ended(shop, asked.json()["id"])
    assert (bulk["state"], bulk["done"], bulk["failed"]) == ("done", 7, 0)
    assert (bulk["chosen"], bulk["who"]) == ("all with folder shoes", login_name())
    assert originals(shop.project) == ["hats/hat.png"]
    assert len(kept(shop.project)) == 7
    # The twin went with the original that it is identical to.
    by_path = {item["path"]: item["takedown"] for item in bulk["items"]}
    assert by_path["shoes/twin.png"] == by_path["shoes/0.png"]
    assert len(audit(shop.project)) == len(set(by_path.values())) == 6

    page = shop.get("/takedowns", headers=HTML).text
    assert page.count('<section class="card act"') == 1
    assert 'href="/bulks/1">bulk 1</a>' in page

    back = shop.post("/bulks/1/reinstate", json={})
    assert back.status_code == 202
    assert ended(shop, back.json()["id"])["done"] == 6
    assert len(originals(shop.project)) == 8
    assert {act["lifted_by"] for act in audit(shop.project)} == {login_name()}


def test_what_is_selected_is_retried(shop: Server) -> None:
    (shop.project.input / "shoes/bad.png").write_bytes(
        (shop.project.input / "hats/hat.png").read_bytes()
    )
    asked = begin(shop, what="retry", paths=["shoes/bad.png", "hats/hat.png"])
    assert ended(shop, asked.json()["id"])["done"] == 2
    shop.until(lambda: shop.get("/files/half/shoes/bad.png").status_code == 200)


def test_nothing_that_nobody_saw_is_taken_down(shop: Server) -> None:
    page = shop.get("/images?folder=hats", headers=HTML).text
    seen = re.search(r'name="seen" value="([^"]+)"', page)
    assert seen is not None
    shop.project.add("hats/new.png", size=(24, 16))
    shop.project.run(code=None)
    fields = {"what": "take_down", "all": "true", "folder": "hats", "seen": seen[1], **REASON}
    done = shop.post("/bulks", data=fields, headers=HTML)
    assert done.status_code == 303
    assert ended(shop, 1)["total"] == 1
    assert "hats/new.png" in originals(shop.project)


def test_another_file_of_the_name_is_not_taken_down_for_it(shop: Server) -> None:
    shop.project.add("hats/hat.png", seed="another", size=(24, 16))
    asked = begin(shop, what="take_down", paths=["hats/hat.png"], **REASON)
    assert ended(shop, asked.json()["id"])["done"] == 1
    assert "hats/hat.png" in originals(shop.project)
    assert shop.get("/files/half/hats/hat.png").status_code == 410


def test_many_are_downloaded_as_one_archive(shop: Server) -> None:
    answer = shop.post("/downloads", data={"all": "true", "folder": "shoes", "reason": ""})
    assert answer.headers["content-type"] == "application/zip"
    names = zipfile.ZipFile(io.BytesIO(answer.content)).namelist()
    assert names == sorted(name for name in originals(shop.project) if name.startswith("shoes/"))
    one = shop.post("/downloads", json={"paths": ["hats/hat.png", "hats/gone.png"]})
    assert zipfile.ZipFile(io.BytesIO(one.content)).namelist() == ["hats/hat.png"]


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"what": "take_down", "all": True}, 422),
        ({"what": "take_down", "paths": ["nothing.png"], **REASON}, 404),
        ({"what": "retry", "all": True, "folder": "nowhere"}, 404),
        ({"what": "retry", "paths": ["../x"]}, 404),
        ({"what": "reinstate", "all": True}, 422),
        ({"what": "retry", "all": True, "since": "yesterday"}, 422),
        ({"what": "destroy", "all": True}, 422),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_recorded(
    server: Server, asked: dict[str, Any], code: int
) -> None:
    assert begin(server, **asked).status_code == code
    assert server.get("/bulks").json() == {"bulks": [], "next": None}
    assert server.get("/bulks/1").status_code == 404
    assert server.post("/bulks/1/stop").status_code == 404
