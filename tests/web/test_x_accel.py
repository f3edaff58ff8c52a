"""Behind nginx, files may be sent by it, while who may have which file is still decided here."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from a_project import Project
from a_server import Server, serving

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
TOKEN = "a-token-that-nobody-guesses"
RED = "/files/half/shoes/r%C3%A9d%20%231.png"
DOCS = Path(__file__).parents[2] / "docs" / "service.md"


@pytest.fixture
def served(project: Project) -> Iterator[Server]:
    project.add("shoes/r\u00e9d #1.png")
    project.run()
    project.env |= {"PIPELINE_TOKEN": TOKEN, "PIPELINE_X_ACCEL": "/renditions"}
    with serving(project, "--no-watch") as server:
        yield server


def documented(output: Path) -> str:
    """The location that the docs tell people to add."""
    (block,) = re.findall(r"    location /renditions/ \{.*?\n    \}\n", DOCS.read_text(), re.S)
    return block.replace("/srv/lockstep/output/", f"{output}/")


@pytest.fixture
def nginx(served: Server, tmp_path: Path) -> Iterator[httpx.Client]:
    if NGINX is None:
        pytest.skip("no nginx on the PATH: install one (apt-get install nginx-light)")
    folder = tmp_path / "nginx"
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    (folder / "nginx.conf").write_text(
        f"pid {folder}/pid; error_log {folder}/log; daemon off; master_process off;\n"
        f"events {{}} http {{ access_log off; sendfile on; {temporary}\n"
        f"server {{ listen 127.0.0.1:{port};\n{documented(served.project.output)}\n"
        f"location / {{ proxy_pass {served.url}; proxy_set_header Host 127.0.0.1; }} }} }}\n"
    )
    process = subprocess.Popen([NGINX, "-e", f"{folder}/log", "-c", f"{folder}/nginx.conf"])
    try:
        headers = {"authorization": f"Bearer {TOKEN}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers) as client:
            for _ in range(200):
                try:
                    client.get("/healthz")
                    break
                except httpx.ConnectError:
                    time.sleep(0.05)
            yield client
    finally:
        process.terminate()
        process.wait(30)


def test_nginx_sends_what_is_permitted(served: Server, nginx: httpx.Client) -> None:
    file = served.project.output / "half/shoes/r\u00e9d #1.png"
    for _ in range(2):  # looked up, and remembered
        answer = nginx.get(RED)
        assert (answer.status_code, answer.content) == (200, file.read_bytes())
        assert answer.headers["content-type"] == "image/png"
        assert answer.headers["cache-control"] == "private, no-cache"
        assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
        assert "x-accel-redirect" not in answer.headers
    head = nginx.head(RED)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(file.stat().st_size)
    part = nginx.get(RED, headers={"range": "bytes=2-5"})
    assert (part.status_code, part.content) == (206, file.read_bytes()[2:6])
    same = nginx.get(RED, headers={"if-none-match": answer.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")


def test_what_is_not_permitted_is_sent_by_nobody(served: Server, nginx: httpx.Client) -> None:
    nobody = {"authorization": "Bearer no-token-of-ours"}
    assert nginx.get(RED).status_code == 200
    assert nginx.get(RED, headers=nobody).status_code == 401
    assert nginx.get(RED.replace("/files/", "/renditions/")).status_code == 404
    (served.project.output / "half/secret.txt").write_text("not a rendition")
    assert nginx.get("/files/half/secret.txt").status_code == 404
    taken_down = {"path": "shoes/r\u00e9d #1.png", "reason": "withdrawn"}
    assert nginx.post("/takedowns", json=taken_down).status_code == 201
    assert nginx.get(RED).status_code == 410


def test_a_session_gets_the_same_without_the_application(served: Server) -> None:
    login = served.post("/login", data={"token": TOKEN}, headers={"origin": served.url})
    assert login.status_code == 303, login.text
    served.get(RED)
    at_once = served.get(RED)
    assert next(iter(at_once.headers)) != "date"  # not uvicorn's
    assert (at_once.status_code, at_once.content) == (200, b"")
    assert at_once.headers["x-accel-redirect"] == RED.replace("/files/", "/renditions/")
    assert "etag" not in at_once.headers
