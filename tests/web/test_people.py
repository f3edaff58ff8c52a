"""People: their tokens, their roles, and those whom a proxy names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from a_project import Project
from a_server import HTML, Server, serving
from fastapi.routing import APIRoute

from pipeline.settings.load import load_settings
from pipeline.states import Role
from pipeline.users import User, hash_of
from pipeline.web.security import access as access_module
from pipeline.web.security.access import WAITING, Access
from pipeline.web.security.attempts import OF_ALL, TokenCheck
from pipeline.web.security.roles import Person, roles_of
from pipeline.web.security.sessions import COOKIE
from pipeline.web.server import PAGES

ROUTES: list[APIRoute] = [route for module in PAGES for route in module.router.routes]
TOKEN = "correct-horse-battery"
BY_PROXY = {
    "PIPELINE_USER_HEADER": "X-User",
    "PIPELINE_ROLES_HEADER": "X-Roles",
    "PIPELINE_PROXY_ADDRESSES": "127.0.0.1,10.0.0.0/8",
}


def add(project: Project, name: str, role: str) -> str:
    answer = project.cli("user", "add", name, "--role", role)
    assert answer.code == 0, answer
    return answer.stdout.strip()


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@pytest.fixture(scope="module")
def staffed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a person of each role, and their tokens in ``tokens``."""
    project = Project(tmp_path_factory.mktemp("staffed") / "shop")
    project.add("red.png")
    (project.input / "bad.png").write_bytes(b"no picture")
    project.run(code=1)
    project.tokens = {role.value: add(project, f"a {role.value}", role.value) for role in Role}
    with serving(project, "--no-watch") as server:
        server.until(lambda: server.get("/healthz").status_code == 200)
        yield server


def test_each_route_serves_whoever_has_its_role_and_nobody_else(staffed: Server) -> None:
    values = {"path": "nowhere.png", "reference": "1", "number": "1", "name": "nothing"}
    values["token"] = "0"
    for route in ROUTES:
        (needed,) = roles_of(route)
        path = route.path_format.format(**values)
        for method in sorted(route.methods - {"HEAD"}):
            if needed is None or path == "/logout":
                continue
            json = {"accept": "application/json"}
            # Of a form that is empty, nothing is done: it is refused later.
            body = {} if method == "GET" else {"data": {"unknown": "1"}}
            assert staffed.client.request(method, path, headers=json, **body).status_code == 401
            for role in Role:
                headers = bearer(staffed.project.tokens[role.value]) | json
                answer = staffed.client.request(method, path, headers=headers, **body)
                case = (method, path, role.value, answer.status_code)
                assert (answer.status_code == 403) == (not role.includes(needed)), case
                if answer.status_code == 403:
                    assert f"needs the role {needed.value}" in answer.json()["error"]


def test_a_page_shows_only_what_its_reader_may_do(staffed: Server) -> None:
    def page(path: str, role: str) -> str:
        return staffed.get(path, headers=HTML | bearer(staffed.project.tokens[role])).text

    for path, role, act in (
        ("/", "uploader", 'action="/jobs" enctype'),
        ("/jobs", "uploader", 'action="/jobs" enctype'),
        ("/failed", "uploader", 'action="/retries"'),
        ("/images/bad.png", "uploader", 'action="/retries"'),
        ("/images/red.png", "moderator", 'action="/takedowns"'),
        ("/images/red.png", "admin", 'name="purge"'),
    ):
        for each in Role:
            assert (act in page(path, each.value)) == each.includes(Role(role)), (path, each)
    assert "a viewer (viewer)" in page("/", "viewer")
    headers = HTML | bearer(staffed.project.tokens["viewer"])
    refused = staffed.post("/retries", data={"x": "1"}, headers=headers)
    assert refused.status_code == 403
    assert "this needs the role uploader; a viewer has the role viewer" in refused.text


def test_the_audit_names_who_it_was_and_nobody_else(staffed: Server) -> None:
    moderator = bearer(staffed.project.tokens["moderator"])
    wanted = {"sha256": "0" * 64, "reason": "flagged"}
    answer = staffed.post("/takedowns", json=wanted | {"who": "somebody"}, headers=moderator)
    assert answer.status_code == 422
    answer = staffed.post("/takedowns", json=wanted | {"purge": True}, headers=moderator)
    assert answer.status_code == 403
    assert "deleting originals for good needs the role admin" in answer.json()["error"]
    number = staffed.post("/takedowns", json=wanted, headers=moderator).json()["id"]
    answer = staffed.post(
        f"/takedowns/{number}/lift", headers=bearer(staffed.project.tokens["admin"])
    )
    assert answer.status_code == 200
    act = staffed.get("/takedowns", headers=moderator).json()["takedowns"][0]
    assert (act["who"], act["lifted_by"]) == ("a moderator", "a admin")


def test_a_token_is_shown_once_and_neither_stored_nor_logged(staffed: Server) -> None:
    token = staffed.project.tokens["viewer"]
    assert staffed.get("/status", headers=bearer(token)).status_code == 200
    answer = staffed.post("/login", data={"token": token}, headers=HTML)
    assert answer.status_code == 303
    assert token not in answer.headers["set-cookie"]
    secret = token.rpartition("_")[2]
    for file in staffed.project.root.rglob("*"):
        if file.is_file():
            assert secret.encode() not in file.read_bytes(), file
    assert secret not in "".join(staffed.log)
    shown = staffed.project.cli("user", "list", "--json")
    assert {each["name"]: each["role"] for each in shown.json} == {
        f"a {role.value}": role.value for role in Role
    }
    assert secret not in shown.stdout


def test_whoever_is_removed_has_no_access_any_more(project: Project) -> None:
    token, other = add(project, "Ada", "viewer"), add(project, "Bob", "viewer")
    with serving(project, "--no-watch") as server:

        def status(cookie: str) -> int:
            return httpx.get(f"{server.url}/status", cookies={COOKIE: cookie}).status_code

        cookies = [
            httpx.post(f"{server.url}/login", data={"token": each}).cookies[COOKIE]
            for each in (token, other)
        ]
        assert [status(cookie) for cookie in cookies] == [200, 200]
        assert server.get("/status", headers=bearer(token)).status_code == 200
        cookie = {COOKIE: cookies[0]}
        with httpx.stream("GET", f"{server.url}/events", cookies=cookie, timeout=60) as events:
            lines = events.iter_lines()
            assert next(lines)
            assert project.cli("user", "remove", "Ada").code == 0
            server.until(lambda: status(cookies[0]) == 401)
            # What is open ends with the next event.
            server.post("/logout", headers=bearer(other))
            assert all("data" in line or "event" in line or not line for line in lines)
        assert server.get("/status", headers=bearer(token)).status_code == 401
        assert status(cookies[1]) == 200
        # The name may be given again; what was somebody else's does not come back with it.
        add(project, "Ada", "admin")
        assert project.cli("user", "remove", "Bob").code == 0
        assert project.cli("user", "remove", "Ada").code == 0
        server.until(lambda: status(cookies[1]) == 401)
        # The last one is gone, and the door stays shut.
        assert server.get("/status").status_code == 401
        assert status(cookies[0]) == 401


def test_the_first_user_shuts_an_open_door(project: Project) -> None:
    with serving(project, "--no-watch") as server:
        assert server.get("/status").status_code == 200
        token = add(project, "Ada", "viewer")
        server.until(lambda: server.get("/status").status_code == 401)
        assert server.get("/status", headers=bearer(token)).status_code == 200
        answer = server.get("/", headers=HTML)
        assert answer.headers["location"].startswith("/login")


def test_other_machines_need_a_token_or_a_user(project: Project) -> None:
    refused = project.cli("serve", "--host", "0.0.0.0", "--port", "0")
    assert refused.code == 2
    assert "datapipe user add" in refused.stderr
    add(project, "Ada", "viewer")
    with serving(project, "--no-watch", "--host", "0.0.0.0") as server:
        url = server.url.replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(f"{url}/status").status_code == 401


def test_a_proxy_names_who_it_is_and_as_what(project: Project) -> None:
    project.env |= BY_PROXY
    with serving(project, "--no-watch") as server:

        def ask(name: str | None, roles: str | None, **more: str) -> httpx.Response:
            given = {"x-user": name, "x-roles": roles, "accept": "application/json"}
            headers = {k: v.encode() for k, v in (given | more).items() if v is not None}
            sent = {"sha256": "1" * 64, "reason": "flagged"}
            return server.post("/takedowns", json=sent, headers=headers)

        assert ask("Zoë", "staff, Moderator").status_code == 201
        assert (
            server.get("/takedowns", headers={"x-user": "a", "x-roles": "viewer"}).json()[
                "takedowns"
            ][0]["who"]
            == "Zoë"
        )
        refused = ask("Zoë", "viewer,uploader")
        assert (refused.status_code, refused.json()["error"]) == (
            403,
            "this needs the role moderator; Zoë has the role uploader",
        )
        for roles in (None, "staff"):
            assert "has none of the roles" in ask("Zoë", roles).json()["error"]
        assert ask("Zo\x7f", "admin").status_code == 400
        # Nobody is logged in, and there is nothing here to log in with.
        for headers in ({}, {"x-user": "", "x-roles": "admin"}, bearer("x"), HTML):
            assert server.get("/status", headers=headers).status_code == 401
        # What a browser was told by a page of another site is still refused.
        assert ask("Zoë", "admin", origin="http://evil.example").status_code == 403


def test_a_name_from_anywhere_but_the_proxy_is_refused(project: Project) -> None:
    project.env |= BY_PROXY | {"PIPELINE_PROXY_ADDRESSES": "10.0.0.0/8", "PIPELINE_TOKEN": TOKEN}
    project.add("a.png")
    project.run()
    with serving(project, "--no-watch") as server:
        # Not even with the right token, nor with an address that is only claimed.
        for headers in ({}, bearer(TOKEN), {"x-forwarded-for": "10.0.0.1"}):
            for claim in ({"x-user": "Ada"}, {"x-roles": "admin"}, {"X-USER": ""}):
                for path in ("/status", "/files/half/a.png"):
                    answer = server.get(path, headers=headers | claim)
                    assert answer.status_code == 403
                    assert "believed only from PIPELINE_PROXY_ADDRESSES" in answer.json()["error"]
        assert server.get("/status", headers=bearer(TOKEN)).status_code == 200
        # What is served without the application is refused just the same.
        assert server.post("/login", data={"token": TOKEN}).status_code == 303
        for headers, status in (({}, 200), ({}, 200), ({"x-user": "Ada"}, 403)):
            assert server.get("/files/half/a.png", headers=headers).status_code == status


@pytest.mark.parametrize("left_out", BY_PROXY)
def test_the_settings_of_a_proxy_belong_together(project: Project, left_out: str) -> None:
    project.env |= BY_PROXY | {left_out: ""}
    answer = project.cli("status")
    assert answer.code == 2
    assert f"this works only with {left_out}" in answer.stderr


class Known:
    """The users of an `Access`, without a database."""

    def __init__(self, *users: User) -> None:
        self.users = list(users)

    def all(self) -> list[User]:
        return self.users


TOKEN_OF_ADA = "lockstep_0123456789abcdef_" + "a" * 43


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[list, int]]:
    """What an `Access` that knows Ada says of tokens that come at once, and how many it hashed."""
    ada = User("Ada", Role.VIEWER, "0123456789abcdef", hash_of(TOKEN_OF_ADA), 0.0)

    def check(*asked: tuple[str, str]) -> tuple[list, int]:
        hashed, slow = [], access_module.is_token
        monkeypatch.setattr(
            access_module, "is_token", lambda *args: hashed.append(1) or slow(*args)
        )
        access = Access(load_settings({}, tmp_path), Known(ada), None, False, lambda: 0.0)

        async def all_of_them() -> list:
            scopes = [(token, {"client": (address, 1)}) for token, address in asked]
            return await asyncio.gather(*(access.check(*each) for each in scopes))

        results = asyncio.run(all_of_them())
        assert all(
            (access.person(one.account) == Person("Ada", Role.VIEWER))
            == (one.result is TokenCheck.RIGHT)
            for one in results
        )
        return [one.result for one in results], len(hashed)

    return check


def test_strangers_cannot_make_the_service_hash(checked: Callable[..., tuple[list, int]]) -> None:
    unknown = TOKEN_OF_ADA.replace("0123", "ffff")
    guesses = [(unknown, "192.0.2.1"), ("x", "192.0.2.2"), (TOKEN_OF_ADA + "a", "192.0.2.3")]
    assert checked(*guesses) == ([TokenCheck.WRONG] * 3, 0)


def test_a_token_is_hashed_once_however_many_requests_bring_it(
    checked: Callable[..., tuple[list, int]],
) -> None:
    assert checked(*[(TOKEN_OF_ADA, "192.0.2.1")] * 8) == ([TokenCheck.RIGHT] * 8, 1)


def test_guesses_at_a_known_id_are_hashed_one_by_one_and_no_more_than_ten(
    checked: Callable[..., tuple[list, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_module, "is_token", lambda *args: False)
    guess = TOKEN_OF_ADA[:-1] + "b"
    results, hashed = checked(*[(guess, f"192.0.2.{n}") for n in range(3 * WAITING)])
    assert hashed == results.count(TokenCheck.WRONG) == OF_ALL
    assert results.count(TokenCheck.NOT_CHECKED) == 3 * WAITING - OF_ALL
