"""Pages and their JSON: one route each, the same counts as the commands give."""

import re

import pytest
from a_project import Project
from a_server import HTML, NASTY, Server, serving

PAGES = ("/", "/jobs", "/images", "/failed", "/takedowns", "/recipes")


def test_the_status_is_that_of_the_command(server: Server) -> None:
    status = server.get("/status").json()
    command = server.project.cli("status", "--json").json
    assert {name: status["counts"][name] for name in command} == command
    assert status["counts"]["originals"] == 6
    assert status["counts"]["failed"] == 2
    assert status["in_step"] is False
    assert status["now"]["state"] == "resting"
    assert status["runs"][0]["report"]["renditions"]["rendered"] == 8
    assert server.get("/").json()["counts"] == status["counts"]
    shown = server.get("/", headers=HTML).text
    assert "In step, except for 2 that failed" in shown
    assert server.get("/status", headers=HTML).headers["location"] == "/"


@pytest.mark.parametrize("page", PAGES)
def test_every_page_is_json_for_programs(server: Server, page: str) -> None:
    for answer in (
        server.get(page, headers={"accept": "application/json"}),
        server.get(page, headers={"accept": "*/*"}),
        *([server.get(f"{page}.json", headers=HTML)] if page != "/" else []),
    ):
        assert answer.headers["content-type"] == "application/json"
        assert isinstance(answer.json(), dict)
    browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
    shown = server.get(page, headers={"accept": browser})
    assert shown.headers["content-type"] == "text/html; charset=utf-8"
    assert shown.text.startswith("<!doctype html>")
    assert f'<a href="{page}" aria-current="page">' in shown.text
    head = server.client.head(page, headers={"accept": browser})
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == shown.headers["content-type"]


def paths(server: Server, query: str) -> list[str]:
    found: list[str] = []
    after = ""
    while True:
        page = server.get(f"/images?limit=2&{query}", params={"after": after} if after else None)
        if after:
            page = server.get("/images", params=dict(_pairs(query)) | {"limit": 2, "after": after})
        answer = page.json()
        found += [image["path"] for image in answer["images"]]
        if answer["next"] is None:
            return found
        after = answer["next"]


def _pairs(query: str) -> list[tuple[str, str]]:
    return [tuple(pair.split("=", 1)) for pair in query.split("&") if pair]  # type: ignore[misc]


def test_the_gallery_is_paged_and_narrowed_down(server: Server) -> None:
    everything = [
        NASTY,
        "bad.png",
        "hats/green.webp",
        "hats/twin-of-green.webp",
        "shoes/red.png",
        "shoes/summer/blue.jpg",
    ]
    assert paths(server, "") == sorted(everything)
    assert paths(server, "state=failed") == ["bad.png"]
    assert paths(server, "state=ok") == sorted(set(everything) - {"bad.png"})
    assert paths(server, "state=pending") == []
    assert paths(server, "state=taken_down") == []
    assert paths(server, "folder=shoes") == ["shoes/red.png", "shoes/summer/blue.jpg"]
    assert paths(server, "folder=shoes/summer") == ["shoes/summer/blue.jpg"]
    assert paths(server, "folder=sho") == []
    assert paths(server, "text=GREEN") == ["hats/green.webp", "hats/twin-of-green.webp"]
    assert paths(server, "text=green&folder=shoes") == []
    assert paths(server, "text=%25") == []
    assert paths(server, "text=bad&state=failed") == ["bad.png"]
    for wrong in ("state=new", "limit=0", "limit=501", "limit=x", "text=%00"):
        answer = server.get(f"/images?{wrong}")
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["column"] == wrong.partition("=")[0]


def test_the_page_of_the_gallery_loads_thumbnails_late_and_with_their_size(server: Server) -> None:
    shown = server.get("/images?folder=shoes", headers=HTML).text
    images = re.findall(r"<img src=\"/files/[^>]*>", shown)
    assert len(images) == 2
    for tag in images:
        assert 'loading="lazy"' in tag
        assert re.search(r'width="\d+" height="\d+"', tag)
    assert ">summer/</a>" in shown
    assert "All folders" in shown
    first = server.get("/images?limit=1", headers=HTML).text
    assert 'id="more"' in first
    assert "No original matches." in server.get("/images?text=zebra", headers=HTML).text


def test_one_image_tells_its_sizes_its_verdict_and_its_history(server: Server) -> None:
    told = server.get("/images/shoes/red.png").json()
    file = server.project.input / "shoes/red.png"
    assert told["path"] == "shoes/red.png"
    assert told["state"] == "ok"
    assert told["size_bytes"] == file.stat().st_size
    assert [item["recipe"] for item in told["renditions"]] == ["half", "thumb"]
    half = told["renditions"][0]
    assert (half["width_px"], half["height_px"], half["state"]) == (30, 20, "ok")
    assert server.get(half["url"]).status_code == 200
    command = server.project.cli("explain", "shoes/red.png", "--json").json
    assert told["explain"] == command
    assert [item["what"] for item in told["history"]] == [
        "found in the input folder",
        "half: first rendered",
        "thumb: first rendered",
    ]
    shown = server.get("/images/shoes/red.png", headers=HTML).text
    assert "30 × 20 px" in shown
    assert "Take down" in shown
    assert server.get("/images/nothing.png").status_code == 404
    bad = server.get("/images/bad.png", headers=HTML).text
    assert "not an image" in bad
    assert ">Retry</button>" in bad


def test_one_image_has_the_text_for_srcset(project: Project) -> None:
    project.recipes("[hero]\nwidths = [9, 20, 40, 80]\n[half]\nscale = 0.5\n")
    project.add("a b,c.jpg", size=(60, 40))
    with serving(project) as server:
        server.until_counted(originals=1, renditions=5, pending=0)
        told = server.get("/images/a%20b%2Cc.jpg").json()
        words = ", ".join(
            f"{server.url}/files/hero/a%20b%2Cc.jpg%40{name}.jpg {width}w"
            for name, width in ((9, 9), (20, 20), (40, 40), (80, 60))
        )
        assert told["srcset"] == {"hero": words}
        address = told["srcset"]["hero"].split(", ")[-1].split(" ")[0]
        assert server.get(address).status_code == 200


def test_what_failed_is_grouped_and_tried_again(project: Project) -> None:
    for name in ("a.png", "b.png", "c/d.png"):
        file = project.input / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"no picture")
    with serving(project) as server:
        server.until_rested()
        told = server.get("/failed").json()
        assert told["failed"] == 6
        assert [group["count"] for group in told["reasons"]] == [6]
        assert told["reasons"][0]["paths"] == ["a.png", "b.png", "c/d.png"]
        project.add("a.png")
        assert server.post("/retries", json={"paths": ["b.png"]}).json() == {"retried": 2}
        # The run that this starts finds the new bytes of the other one by itself.
        server.until(lambda: server.get("/files/half/a.png").status_code == 200)
        answer = server.post("/retries", data={}, headers=HTML)
        assert (answer.status_code, answer.headers["location"]) == (303, "/failed")
        assert "4 failures are retried" in server.get("/failed", headers=HTML).text
        assert "are retried" not in server.get("/failed", headers=HTML).text
        server.until(lambda: server.get("/status").json()["now"]["state"] == "resting")
        assert server.post("/retries", json={"paths": ["nothing.png"]}).status_code == 404
        assert server.post("/retries", json={"paths": ["../x"]}).status_code == 404
        assert server.post("/retries", json={"paths": "a.png"}).status_code == 422
        assert server.post("/retries", json={"path": "a.png"}).status_code == 422
        assert server.post("/retries", content=b"{").status_code == 422
        xml = {"content-type": "text/xml"}
        assert server.post("/retries", content=b"<x/>", headers=xml).status_code == 415


def test_recipes_tell_what_a_change_would_do(project: Project) -> None:
    project.add("a.png")
    project.run()
    with serving(project, "--no-watch") as server:
        told = server.get("/recipes").json()
        assert [item["recipe"] for item in told["recipes"]] == ["half", "thumb"]
        assert told["recipes"][1]["spec"]["fit"] == [40, 40]
        assert (told["added"], told["changed"], told["removed"]) == ([], [], [])
        assert told["preview"] is None
        project.recipes("[half]\nscale = 0.25\n[new]\nwidth = 20\n")
        told = server.get("/recipes").json()
        assert (told["added"], told["changed"], told["removed"]) == (["new"], ["half"], ["thumb"])
        assert told["preview"]["renditions"]["rendered"] == 2
        assert told["preview"]["renditions"]["deleted"] == 1
        assert "render 2 and delete 1" in server.get("/recipes", headers=HTML).text
        options = "function = 'watermark'\noptions = { text = 'a' }\n"
        project.recipes(f"[half]\nscale = 0.5\n{options}[new]\nfrom = 'half'\nscale = 1\n")
        project.run()
        half, new = server.get("/recipes").json()["recipes"]
        assert half["spec"]["function"] == "watermark"
        assert new["spec"]["from"] == "half"
        project.recipes("[half]\nscail = 0.25\n")
        assert "scail" in server.get("/recipes").json()["fault"]
        shown = server.get("/recipes", headers=HTML)
        assert shown.status_code == 200
        assert "scail" in shown.text


def test_a_new_project_is_shown_and_put_in_step_from_the_page(project: Project) -> None:
    with serving(project) as server:
        status = server.get("/status").json()
        assert status["runs"] == []
        shown = server.get("/images", headers=HTML).text
        assert "No originals yet" in shown
        project.add("a.png")
        server.post("/retries", json={})
        server.until(lambda: server.get("/files/thumb/a.png.webp").status_code == 200)
        server.until_counted(originals=1, renditions=2)
        assert "All in step" in server.get("/", headers=HTML).text


def test_a_run_that_is_stopped_says_why(project: Project) -> None:
    project.add("a.png")
    project.recipes("[half]\nscale = 99\n")
    with serving(project) as server:
        status = server.until_rested()
        assert "recipes.toml" in status["last_error"]
        assert status["runs"][0]["stopped_by"] == status["last_error"]
        assert "The last run was stopped" in server.get("/", headers=HTML).text


def test_health_and_metrics_are_for_machines(server: Server) -> None:
    assert server.get("/healthz").json() == {"status": "ok"}
    text = server.get("/metrics").text
    for line in (
        "lockstep_originals 6.0",
        'lockstep_renditions{recipe="half",state="ok"} 5.0',
        'lockstep_renditions{recipe="half",state="failed"} 1.0',
        "lockstep_failed 2.0",
        "lockstep_pending 0.0",
        "lockstep_run_seconds_count 1.0",
        "lockstep_render_seconds_count 8.0",
        'lockstep_render_seconds_bucket{le="10.0"} 8.0',
        'lockstep_renditions_done_total{what="rendered"} 8.0',
        'lockstep_renditions_done_total{what="reused"} 2.0',
        'lockstep_renditions_done_total{what="failed"} 2.0',
        'lockstep_jobs{state="completed"} 0.0',
        'lockstep_lane_left{lane="originals"} 0.0',
        "lockstep_in_step 0.0",
        "lockstep_stopped 0.0",
        "lockstep_queue 0.0",
        'lockstep_fetches{state="failed"} 0.0',
    ):
        assert line in text.splitlines(), text


def test_home_weighs_little(server: Server) -> None:
    packed = {"accept-encoding": "gzip", **HTML}
    page = server.get("/", headers=packed)
    parts = re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text)
    assert len(parts) >= 4
    weight = len(_on_the_wire(server, "/", packed))
    for part in set(parts) - {part for part in parts if "template" in part}:
        answer = server.get(part, headers=packed)
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        weight += len(_on_the_wire(server, part, packed))
    assert weight <= 60_000, weight


def _on_the_wire(server: Server, path: str, headers: dict[str, str]) -> bytes:
    with server.client.stream("GET", path, headers=headers) as answer:
        return b"".join(answer.iter_raw())


def test_files_of_the_page_are_kept_until_they_change(server: Server) -> None:
    page = server.get("/", headers=HTML).text
    style = re.search(r'href="(/static/lockstep.css\?[^"]+)"', page)
    assert style is not None
    answer = server.get(style.group(1))
    assert answer.headers["content-type"] == "text/css; charset=utf-8"
    tag = {"if-none-match": answer.headers["etag"]}
    assert server.get(style.group(1), headers=tag).status_code == 304
    assert "immutable" not in server.get("/static/lockstep.css").headers["cache-control"]
    assert server.get("/static/nothing.css").status_code == 404
    assert server.get("/static/..%2fserver.py").status_code == 404


def test_the_reference_names_every_route(server: Server) -> None:
    document = server.get("/openapi.json").json()
    shown = server.get("/docs", headers=HTML).text
    for path in document["paths"]:
        assert f"<code>{path}</code>" in shown
    assert {"/jobs", "/jobs/{reference}", "/images", "/status", "/takedowns", "/retries"} <= set(
        document["paths"]
    )


def test_a_page_hears_that_something_moved(project: Project) -> None:
    with (
        serving(project, "--no-watch") as server,
        server.client.stream("GET", "/events", timeout=60) as events,
    ):
        assert events.headers["content-type"].startswith("text/event-stream")
        lines = events.iter_lines()
        assert next(line for line in lines if line.startswith("event:")) == "event: moved"
        # A run of another process tells the page as well.
        project.add("a.png")
        assert project.process("run").code == 0
        assert next(line for line in lines if line.startswith("event:")) == "event: moved"


def test_sigterm_ends_the_service_and_its_workers(project: Project) -> None:
    for number in range(30):
        project.add(f"{number}.png", size=(400, 400))
    with serving(project) as server:
        server.until(lambda: server.get("/status").json()["now"]["state"] == "running")
        with server.client.stream("GET", "/events", timeout=60) as events:
            assert next(events.iter_lines())
            assert server.stop() == 0
        assert [name for name in project.outputs() if "/.lockstep-" in name] == []
    report = project.run()
    assert report["renditions"]["in_step"] == 60
