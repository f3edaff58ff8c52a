"""Renditions that are sent without the application: the same responses, to the same people."""

from __future__ import annotations

import socket
import time
from urllib.parse import urlsplit

import httpx
import pytest
from a_project import Project
from a_server import Server, serving
from raw_requests import HEAD, connect, limited, until_closed

RED = "/files/half/shoes/red.png"
TOKEN = "a-token-that-nobody-guesses"


def test_what_is_sent_at_once_is_what_the_application_sends(server: Server) -> None:
    server.get(RED)
    at_once = server.get(RED)
    # Nobody needs a token here, and the application alone reads one.
    by_application = server.get(RED, headers={"authorization": "Bearer any"})
    assert at_once.content == by_application.content
    # uvicorn starts with the date, which shows who answered.
    assert next(iter(at_once.headers)) != "date"
    assert next(iter(by_application.headers)) == "date"

    def fields(answer: httpx.Response) -> dict[str, str]:
        return {k: v for k, v in answer.headers.items() if k not in ("date", "x-request-id")}

    assert fields(at_once) == fields(by_application)
    assert at_once.headers["x-request-id"] != server.get(RED).headers["x-request-id"]
    assert at_once.headers["date"].endswith("GMT")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "attacker.example"}, 421),
        ({"range": "bytes=0-3"}, 206),
        ({"if-none-match": "*"}, 304),
    ],
)
def test_what_is_not_a_plain_request_is_answered_as_before(
    server: Server, headers: dict[str, str], status: int
) -> None:
    server.get(RED)
    assert server.get(RED, headers=headers).status_code == status


def test_a_name_with_a_query_or_with_escapes_is_the_same_file(server: Server) -> None:
    body = server.get(RED).content
    for url in (f"{RED}?v=2", RED.replace("red", "%72ed")):
        assert server.get(url).content == body
    assert server.get(RED.replace("shoes", "sh%00oes")).status_code == 404
    assert server.get("/files/half/%2e%2e/half/shoes/red.png").status_code == 404


def test_only_who_is_logged_in_gets_a_file_and_nobody_after_a_takedown(project: Project) -> None:
    project.env["PIPELINE_TOKEN"] = TOKEN
    project.add("shoes/red.png")
    project.run()
    with serving(project, "--no-watch") as server:
        bearer = {"authorization": f"Bearer {TOKEN}"}
        body = server.get(RED, headers=bearer).content
        assert server.get(RED, headers={"accept": "application/json"}).status_code == 401
        login = server.post("/login", data={"token": TOKEN}, headers={"origin": server.url})
        assert login.status_code == 303
        for _ in range(2):
            assert server.get(RED).content == body
        assert server.get(RED, headers={"cookie": "lockstep=1.abc"}).content != body
        takedown = {"path": "shoes/red.png", "reason": "withdrawn"}
        assert server.post("/takedowns", json=takedown, headers=bearer).status_code == 201
        assert server.get(RED).status_code == 410


def test_http_1_0_and_a_client_that_wants_to_leave_are_told_that_the_connection_ends() -> None:
    def ready(url: bytes, headers: list[tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
        return b"HTTP/1.1 200 OK\r\ncontent-length: 2", b"ok"

    with limited(at_once=ready) as url:
        for request in (HEAD.replace(b"1.1", b"1.0"), HEAD + b"Connection: close\r\n"):
            with connect(url) as connection:
                connection.sendall(request + b"\r\n")
                received = until_closed(connection)
            assert received.endswith(b"\r\n\r\nok")
            assert b"\r\nconnection: close\r\n" in received
        with connect(url) as connection:
            for _ in range(3):
                connection.sendall(HEAD + b"\r\n")
                assert b"connection: close" not in connection.recv(65536)


def test_a_client_that_asks_for_a_thousand_files_and_reads_none_takes_no_memory() -> None:
    asked = []

    def ready(url: bytes, headers: list[tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
        asked.append(url)
        return b"HTTP/1.1 200 OK\r\ncontent-length: 262144", bytes(262_144)

    with limited(at_once=ready) as url:
        parts = urlsplit(url)
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            connection.connect((parts.hostname, parts.port))
            connection.sendall((HEAD + b"\r\n") * 1000)
            time.sleep(0.5)
        # The kernel's buffers hold some; the rest is refused, or waits.
        assert 0 < len(asked) < 100
