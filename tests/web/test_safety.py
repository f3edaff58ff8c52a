"""Who may ask, from where, for what, and how much: refused before a page is reached."""

import re
import sqlite3
from html.parser import HTMLParser
from urllib.parse import quote

import httpx
import pytest
from a_project import Project
from a_server import HTML, NASTY, Server, serving

from pipeline.web.security.hosts import Hosts, comes_from_us
from pipeline.web.security.sessions import SESSION_S, Sessions

TOKEN = "correct-horse-battery"
PAGES = (
    "/",
    "/jobs",
    "/images",
    "/failed",
    "/review",
    "/takedowns",
    "/recipes",
    "/docs",
    "/nowhere",
)


def test_an_address_that_others_can_reach_needs_a_token(project: Project) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "shop.example"):
        answer = project.cli("serve", "--host", host, "--port", "0")
        assert answer.code == 2
        assert "PIPELINE_TOKEN" in answer.stderr
        assert "--insecure" in answer.stderr
    project.env["PIPELINE_TOKEN"] = "short"
    answer = project.cli("serve", "--host", "0.0.0.0")
    assert answer.code == 2
    assert "at least 16" in answer.stderr
    assert "short" not in answer.stderr


def test_a_port_that_is_taken_is_a_clear_error(server: Server, project: Project) -> None:
    port = str(httpx.URL(server.url).port)
    answer = project.process("serve", "--port", port)
    assert answer.code == 2
    assert "--port" in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("127.0.0.1:99", 200),
        ("[::1]:8000", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("user@localhost", 421),
        ("localhost/..", 421),
        ("localhost:port", 421),
        ("localhost:65536", 421),
        ("localhost.", 200),
        ("localhost..", 421),
        (".localhost", 421),
        ("[0:0::0:1]:8000", 200),
        ("[::1].evil.com", 421),
        ("[::1]evil.com", 421),
        ("[::1]:80.evil.com", 421),
        ("evil.com[::1]", 421),
        ("[localhost]", 421),
        ("[::1", 421),
        ("::1", 421),
        ("[::1%25eth0]", 421),
        ("localhost,evil.com", 421),
        ("localhost?", 421),
        ("localhost#", 421),
        ("", 421),
        ("192.0.2.1", 421),
    ],
)
def test_a_name_that_is_not_ours_is_refused(server: Server, host: str, status: int) -> None:
    assert server.get("/status", headers={"host": host}).status_code == status


def test_a_server_for_others_answers_to_numbers_and_to_the_names_it_was_given() -> None:
    hosts = Hosts("0.0.0.0", ["images.example.com"])
    assert hosts.knows("images.example.com:8000")
    assert hosts.knows("IMAGES.example.com")
    assert hosts.knows("192.0.2.7:8000")
    assert hosts.knows("[2001:db8::1]")
    assert not hosts.knows("[2001:db8::1].evil.com")
    assert not hosts.knows("192.0.2.7.evil.com")
    assert not hosts.knows("evil.example")
    assert not hosts.knows(None)
    assert not hosts.knows("")
    assert Hosts("127.0.0.1", ["[2001:DB8:0::1]"]).knows("[2001:db8::1]:8000")
    assert not Hosts("127.0.0.1", ["[2001:DB8:0::1]"]).knows("[2001:db8::2]")


def test_two_names_in_one_request_are_refused(server: Server) -> None:
    answer = _raw(server, "/status", "Host: evil.example\r\n")
    assert b" 421 " in answer or b" 400 " in answer


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 202),
        ({"sec-fetch-site": "same-origin"}, 202),
        ({"sec-fetch-site": "none"}, 202),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
        ({"origin": "http://[::1"}, 403),
    ],
)
def test_a_page_of_another_site_changes_nothing(
    server: Server, headers: dict[str, str], status: int
) -> None:
    answer = server.post("/retries", json={"paths": []}, headers=headers)
    assert answer.status_code == status


def test_an_origin_must_be_the_very_host_that_was_asked() -> None:
    assert comes_from_us({"origin": "http://localhost:8000", "host": "localhost:8000"})
    assert not comes_from_us({"origin": "http://localhost:9000", "host": "localhost:8000"})
    assert not comes_from_us({"origin": "http://localhost:8000"})
    assert not comes_from_us({"origin": "ftp://localhost:8000", "host": "localhost:8000"})
    assert not comes_from_us({"origin": "http://localhost:8000/x", "host": "localhost:8000"})


def test_whoever_has_no_token_sees_the_log_in_page_and_nothing_else(project: Project) -> None:
    project.add("a.png")
    project.env["PIPELINE_TOKEN"] = TOKEN
    with serving(project, "--no-watch") as server:
        for path in (*PAGES, "/files/half/a.png", "/openapi.json", "/metrics", "/events"):
            assert server.get(path).status_code == 401
            shown = server.get(path, headers=HTML)
            assert shown.status_code == 303
            assert shown.headers["location"] == f"/login?next={quote(path, safe='')}"
        assert server.get("/healthz").status_code == 200
        assert server.get("/login", headers=HTML).status_code == 200
        assert server.post("/retries", json={}).status_code == 401

        bearer = {"authorization": f"Bearer {TOKEN}"}
        assert server.get("/status", headers=bearer).status_code == 200
        assert server.post("/retries", json={}, headers=bearer).status_code == 202
        for wrong in (f"Bearer {TOKEN}x", "Bearer", "Basic eDp5", TOKEN):
            assert server.get("/status", headers={"authorization": wrong}).status_code == 401

        form = {"token": "wrong", "next": "/images"}
        assert server.post("/login", data=form, headers=HTML).status_code == 401
        answer = server.post("/login", data=form | {"token": TOKEN}, headers=HTML)
        assert (answer.status_code, answer.headers["location"]) == (303, "/images")
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert TOKEN not in cookie
        assert "Secure" not in cookie
        behind_tls = HTML | {"x-forwarded-proto": "https"}
        answer = server.post("/login", data=form | {"token": TOKEN}, headers=behind_tls)
        assert "Secure" in answer.headers["set-cookie"]
        server.client.cookies.clear()
        answer = server.post("/login", data=form | {"token": TOKEN}, headers=HTML)
        assert server.get("/status").status_code == 200  # the client sends the cookie
        for away in ("https://evil.example", "//evil.example", "/\\evil.example", "x"):
            answer = server.post("/login", data={"token": TOKEN, "next": away}, headers=HTML)
            assert answer.headers["location"] == "/"
        server.client.cookies.clear()
        assert server.get("/status", headers={"cookie": "lockstep_session=1.2"}).status_code == 401
    assert TOKEN not in "".join(server.log)


def test_a_session_ends_and_cannot_be_made_up() -> None:
    sessions = Sessions({"admin": TOKEN.encode(), "ada": b"another"}.get)
    value = sessions.begin("admin", 1000)
    assert sessions.account(value, 1000 + SESSION_S - 1) == "admin"
    assert sessions.account(value, 1000 + SESSION_S) is None
    account, ends, signature = value.split(".")
    for other in (f"{account}.{int(ends) + 1}", f"ada.{ends}", f"nobody.{ends}"):
        assert sessions.account(f"{other}.{signature}", 1000) is None
    for keys in ({"admin": b"new"}, {}):
        assert Sessions(keys.get).account(value, 1000) is None
    ends = f"{account}.{ends}"
    made_up = ("", ".", "..", "x", "admin", f"{ends}.", f"{ends}.é", f".{signature}")
    for each in (*made_up, f"admin.９.{signature}", f"admin..{signature}"):
        assert sessions.account(each, 1000) is None


class _Inline(HTMLParser):
    """Notes whatever the content security policy would not let run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        names = dict(attributes)
        self.tags.append(tag)
        if tag == "style" or (tag == "script" and "src" not in names):
            self.found.append(tag)
        self.found += [name for name in names if name.startswith("on") or name == "style"]
        for name in ("src", "href", "action"):
            if (names.get(name) or "/").startswith(("http:", "https:", "//", "javascript:")):
                self.found.append(f"{name}={names[name]}")


@pytest.mark.parametrize("page", [*PAGES, f"/images/{quote(NASTY)}", "/images/shoes/red.png"])
def test_pages_have_no_inline_script_and_nothing_from_elsewhere(server: Server, page: str) -> None:
    answer = server.get(page, headers=HTML)
    assert answer.headers["content-type"].startswith("text/html")
    seen = _Inline()
    seen.feed(answer.text)
    assert seen.found == []
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    for name, value in {
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "referrer-policy": "same-origin",
        "cross-origin-opener-policy": "same-origin",
    }.items():
        assert answer.headers[name] == value
    assert re.fullmatch("[0-9a-f]{12}", answer.headers["x-request-id"])


def test_a_name_that_is_html_is_shown_as_text(server: Server) -> None:
    for page in ("/images", f"/images/{quote(NASTY)}", "/images?text=%3Cscript%3E"):
        text = server.get(page, headers=HTML).text
        assert "<img src=x" not in text
        assert "<script>" not in text
    assert "&lt;img src=x onerror=alert(1)&gt;" in server.get("/images", headers=HTML).text
    assert server.get(f"/files/half/{quote(NASTY)}").status_code == 200


def test_a_line_break_in_a_name_is_shown_and_not_obeyed(project: Project) -> None:
    project.add("a\nb\u202egpj.png")
    project.run()
    with serving(project, "--no-watch") as server:
        text = server.get("/images", headers=HTML).text
        assert r"a\nb\u202egpj.png" in text
        # Forms send the name itself.
        shown = re.sub(r' (?:value|data-path)="[^"]*"', "", text)
        assert "\u202e" not in shown.replace("%E2%80%AE", "")
        path = server.get("/images").json()["images"][0]["path"]
        assert server.get(f"/images/{quote(path)}", headers=HTML).status_code == 200
        url = server.get("/images").json()["images"][0]["renditions"][0]["url"]
        assert server.get(url).status_code == 200


TRAVERSALS = (
    "../recipes.toml",
    "..%2frecipes.toml",
    "%2e%2e/%2e%2e/recipes.toml",
    "half/..%2f..%2frecipes.toml",
    "half/%2e%2e%2f%2e%2e%2finput/bad.png",
    "%2fetc%2fpasswd",
    "//etc/passwd",
    "half/shoes/red.png%00.txt",
    "%00",
    "half",
    "half/",
    ".lockstep-1-1",
    "half/shoes/red.png/",
    "half/./shoes/red.png",
    "half//shoes/red.png",
    "half%5c..%5c..%5crecipes.toml",
    "%c0%ae%c0%ae/recipes.toml",
)


@pytest.mark.parametrize("path", TRAVERSALS)
@pytest.mark.parametrize("root", ["files", "originals", "images"])
def test_no_path_leads_out(server: Server, root: str, path: str) -> None:
    # httpx would tidy the dots away, so the request line is written by hand.
    answer = _raw(server, f"/{root}/{path}")
    assert answer.startswith(b"HTTP/1.1 404"), answer[:200]
    assert b"scale" not in answer


def _raw(server: Server, target: str, more: str = "") -> bytes:
    import socket

    url = httpx.URL(server.url)
    with socket.create_connection((url.host, url.port), 30) as connection:
        connection.sendall(
            f"GET {target} HTTP/1.1\r\nHost: localhost\r\n{more}Connection: close\r\n\r\n".encode()
        )
        pieces = []
        while piece := connection.recv(65536):
            pieces.append(piece)
    return b"".join(pieces)


def test_links_in_the_folders_are_not_followed_out_of_them(project: Project) -> None:
    project.add("a.png")
    project.add("b/c.png")
    project.run()
    secret = project.root / "secret.png"
    secret.write_bytes(b"secret")
    with serving(project, "--no-watch") as server:
        for file in (project.output / "half/a.png", project.input / "a.png"):
            file.unlink()
            file.symlink_to(secret)
        (project.output / "half/b").rename(project.output / "half/b-away")
        (project.output / "half/b").symlink_to(project.root)
        (project.root / "c.png").write_bytes(b"secret")
        for path in ("/files/half/a.png", "/originals/a.png", "/files/half/b/c.png"):
            answer = server.get(path)
            assert answer.status_code == 404
            assert b"secret" not in answer.content


def test_a_file_that_no_row_knows_is_not_served(server: Server) -> None:
    stray = server.project.output / "half" / "stray.png"
    stray.write_bytes(b"stray")
    page = server.project.output / "half" / "page.html"
    page.write_text("<script>alert(1)</script>")
    assert server.get("/files/half/stray.png").status_code == 404
    assert server.get("/files/half/page.html").status_code == 404
    stray.unlink()
    page.unlink()


def test_a_request_that_is_too_large_is_refused_also_without_a_length(project: Project) -> None:
    project.env["PIPELINE_JOB_MAX_BYTES"] = "1000"
    with serving(project, "--no-watch") as server:
        large = b"x" * (3 << 20)
        answer = server.post("/retries", content=large, headers={"content-type": "text/plain"})
        assert answer.status_code == 413
        answer = server.post("/jobs", files={"file": ("a.csv", large)})
        assert answer.status_code == 413
        assert "larger than the 1,000 bytes" in answer.json()["error"]

        def pieces():
            yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
            for _ in range(48):
                yield large[: 1 << 16]
            yield b"\r\n--x--\r\n"

        kind = {"content-type": "multipart/form-data; boundary=x"}
        answer = server.post("/jobs", content=pieces(), headers=kind)
        assert answer.status_code == 413
        assert server.get("/jobs").json()["jobs"] == []
        left = [path for path in (project.root / ".lockstep").rglob("*") if path.is_file()]
        assert left == []


def test_what_is_wrong_with_the_machine_is_told_to_the_log_alone(project: Project) -> None:
    project.add("a.png")
    project.run()
    with serving(project, "--no-watch") as server:
        connection = sqlite3.connect(project.root / "db.sqlite")
        connection.execute("ALTER TABLE renditions RENAME TO hidden")
        connection.commit()
        answer = server.get("/failed")
        connection.execute("ALTER TABLE hidden RENAME TO renditions")
        connection.close()
        assert answer.status_code == 503
        told = answer.json()
        assert told["error"] == "the database cannot be used right now; the log says why"
        assert told["request_id"] == answer.headers["x-request-id"]
        line = server.until(lambda: [line for line in server.log if told["request_id"] in line])
        assert "no such table" in line[0]
        shown = server.get("/nowhere", headers=HTML)
        assert shown.status_code == 404
        assert shown.headers["x-request-id"] in shown.text


def test_settings_of_the_page_that_cannot_work_are_refused(project: Project) -> None:
    project.env["PIPELINE_HOSTS"] = "https://images.example.com/"
    answer = project.cli("status")
    assert answer.code == 2
    assert "PIPELINE_HOSTS" in answer.stderr
    project.env["PIPELINE_HOSTS"] = "images.example.com, other.example.com"
    assert project.cli("status").code == 0
