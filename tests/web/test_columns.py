"""An upload whose headers are not known: somebody says on a page which column is which."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from a_project import Project
from a_server import HTML, Server, serving

TEXT = "List of today;;;;\nCode;Was;Foto 1;;Foto 2\n"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, pictures: str) -> Iterator[Server]:
    project = Project(tmp_path_factory.mktemp("columns") / "shop")
    project.env["PIPELINE_FETCH_ALLOW"] = "127.0.0.1"
    project.env["PIPELINE_FETCH_PORTS"] = pictures.rpartition(":")[2]
    with serving(project, "--no-watch") as server:
        yield server


def uploaded(server: Server, text: str, name: str = "<i>.csv") -> str:
    answer = server.post("/jobs", files={"file": (name, text)}, headers=HTML)
    assert answer.status_code == 303, answer.text
    address: str = answer.headers["location"]
    assert re.fullmatch(r"/uploads/[0-9a-f]{32}", address)
    return address


def test_columns_are_chosen_looked_at_remembered_and_known_the_next_time(
    shop: Server, pictures: str
) -> None:
    text = f"{TEXT}A;<b>Mug</b>;{pictures}/0.png;;{pictures}/1.png\nB;Tile;;;\n"
    address = uploaded(shop, text)
    shown = shop.get(address, headers=HTML)
    assert shown.status_code == 200
    assert "&lt;i&gt;.csv" in shown.text
    assert "&lt;b&gt;Mug&lt;/b&gt;" in shown.text
    assert shown.text.count('<select name="role"') == 4
    # Columns with URLs are proposed; the other roles have to be chosen.
    assert shown.text.count('value="images" selected') == 2

    missing = shop.post(address, data={"role": ["", "", "images", "", ""]}, headers=HTML)
    assert missing.status_code == 422
    assert "Choose a column for number and for name." in missing.text
    roles = ["number", "name", "images", "", "images"]
    look = shop.post(address, data={"role": roles, "act": "look"}, headers=HTML)
    assert look.status_code == 200
    assert "2 products with 2 images" in look.text
    assert "1 product without an image; its rows" in look.text
    assert f"{pictures}/0.png" in look.text
    start = {"role": roles, "act": "start", "remember": "a b"}
    refused = shop.post(address, data=start, headers=HTML)
    assert refused.status_code == 422
    assert "cannot be a name" in refused.text
    assert shop.get("/jobs").json()["jobs"] == []

    begun = shop.post(address, data=start | {"remember": "supplier"}, headers=HTML)
    assert begun.status_code == 303
    job = shop.get(begun.headers["location"]).json()
    assert (job["rows"], job["columns"]["mapping"]) == (2, "supplier")
    assert shop.get(address, headers=HTML).status_code == 404
    assert list((shop.project.root / ".lockstep/uploads").iterdir()) == []
    file = (shop.project.root / "mappings.toml").read_text("utf-8")
    assert file.startswith('[supplier]\nnumber = ["Code"]\nname = ["Was"]\nimages = ["Foto 1", ')

    again = shop.post("/jobs", files={"file": ("b.csv", text)}, headers=HTML)
    assert again.headers["location"].startswith("/jobs/")
    taken = uploaded(shop, "Nr;What;Foto\n1;x;\n2;y;http://a.example/\n")
    other = {"role": ["number", "name", "images"], "act": "start", "remember": "supplier"}
    assert "choose another name" in shop.post(taken, data=other, headers=HTML).text


def test_problems_of_the_chosen_columns_are_listed_and_nothing_starts(shop: Server) -> None:
    before = len(shop.get("/jobs").json()["jobs"])
    address = uploaded(shop, "Code,What,Photo,Foto\n1,Mug,here,\n1,,,http://a.example/\n")
    for act in ("look", "start"):
        data = {"role": ["number", "name", "images", ""], "act": act}
        shown = shop.post(address, data=data, headers=HTML).text
        assert "here is not an http or https address" in shown
        assert "Create the job" not in shown
    assert len(shop.get("/jobs").json()["jobs"]) == before


def test_programs_get_the_problem_and_nothing_is_kept(shop: Server) -> None:
    folder = shop.project.root / ".lockstep/uploads"
    before = sorted(folder.glob("*"))
    answer = shop.post("/jobs", files={"file": ("a.csv", "a,b\n1,2\n")})
    assert answer.status_code == 422
    assert "the header has 'a', 'b'" in answer.json()["errors"][0]["message"]
    assert sorted(folder.glob("*")) == before


def test_a_wrong_file_of_mappings_is_not_the_fault_of_the_upload(shop: Server) -> None:
    file = shop.project.root / "mappings.toml"
    before = file.read_text("utf-8") if file.exists() else ""
    file.write_text("[x", "utf-8")
    answer = shop.post("/jobs", files={"file": ("a.csv", "a,b\n1,2\n")})
    file.write_text(before, "utf-8")
    assert answer.status_code == 503
    assert "the log says" in answer.json()["error"]


def test_more_columns_than_anybody_can_choose_from_are_a_problem(shop: Server) -> None:
    text = ",".join(f"c{n}" for n in range(1_001)) + "\n"
    answer = shop.post("/jobs", files={"file": ("a.csv", text * 2)}, headers=HTML)
    assert answer.status_code == 422
    assert "and 989 more" in answer.text


@pytest.mark.parametrize("token", ["x", "0" * 32, "..%2f..%2fdb.sqlite", "%00"])
def test_an_upload_that_is_not_there_is_not_found(shop: Server, token: str) -> None:
    for answer in (
        shop.get(f"/uploads/{token}", headers=HTML),
        shop.post(f"/uploads/{token}", data={"role": "name"}, headers=HTML),
    ):
        assert answer.status_code == 404
