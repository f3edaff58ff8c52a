"""Guessing the token, and sessions that were logged out."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from a_project import Project
from a_server import HTML, Server, serving

from pipeline.web.security import sessions as sessions_module
from pipeline.web.security.attempts import OF_ALL, REMEMBERED, TokenAttempts, TokenCheck, address_of
from pipeline.web.security.sessions import COOKIE, SESSION_S, Sessions

TOKEN = "correct-horse-battery"
KEYS = {"admin": TOKEN.encode()}


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Guesses:
    """Attempts at one token."""

    def __init__(self, clock: Clock) -> None:
        self.counted = TokenAttempts(clock)

    def check(self, token: str, address: str) -> TokenCheck:
        if not self.counted.may_try(address):
            return TokenCheck.NOT_CHECKED
        self.counted.note(address, was_right=token == TOKEN)
        return TokenCheck.RIGHT if token == TOKEN else TokenCheck.WRONG


class Values:
    """A table of named texts, and the services that stand on it."""

    def __init__(self) -> None:
        self.stored: dict[str, str | None] = {}

    def fresh(self, name: str) -> str | None:
        return self.stored.get(name)

    def set(self, name: str, value: str | None) -> None:
        self.stored[name] = value


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def attempts(clock: Clock) -> Guesses:
    return Guesses(clock)


@pytest.fixture
def locked(project: Project) -> Iterator[Server]:
    project.env["PIPELINE_TOKEN"] = TOKEN
    with serving(project, "--no-watch") as server:
        yield server


def test_an_address_tries_one_wrong_token_a_second(attempts: Guesses, clock: Clock) -> None:
    assert attempts.check("x", "192.0.2.1") is TokenCheck.WRONG
    # Not even the right one, or a guesser who asks for many at once would find it among them.
    for token in ("y", TOKEN):
        assert attempts.check(token, "192.0.2.1") is TokenCheck.NOT_CHECKED
    assert attempts.check(TOKEN, "192.0.2.2") is TokenCheck.RIGHT
    clock.now += 0.99
    assert attempts.check(TOKEN, "192.0.2.1") is TokenCheck.NOT_CHECKED
    clock.now += 0.02
    assert attempts.check(TOKEN, "192.0.2.1") is TokenCheck.RIGHT


def test_all_together_try_ten_wrong_tokens_a_second(attempts: Guesses, clock: Clock) -> None:
    for second in range(3):
        checks = [attempts.check("x", f"192.0.2.{n}") for n in range(200)]
        assert checks.count(TokenCheck.WRONG) == OF_ALL == 10, second
        assert checks.count(TokenCheck.NOT_CHECKED) == 190
        clock.now += 1


def test_an_address_that_had_the_token_is_not_locked_out(attempts: Guesses, clock: Clock) -> None:
    assert attempts.check(TOKEN, "192.0.2.1") is TokenCheck.RIGHT
    # An old token in one program of an office, or behind the same proxy.
    for _ in range(5):
        assert attempts.check("old", "192.0.2.1") is TokenCheck.WRONG
        assert attempts.check(TOKEN, "192.0.2.1") is TokenCheck.RIGHT
    clock.now += 1
    for n in range(100):
        attempts.check("x", f"198.51.100.{n}")
    assert attempts.check(TOKEN, "192.0.2.1") is TokenCheck.RIGHT
    # One who tries in earnest has what all others have.
    assert attempts.check("x", "192.0.2.1") is TokenCheck.WRONG
    assert attempts.check(TOKEN, "192.0.2.1") is TokenCheck.NOT_CHECKED
    clock.now += 1
    assert [attempts.check("x", "192.0.2.1") for _ in range(200)].count(TokenCheck.WRONG) == OF_ALL


def test_attempts_are_remembered_in_constant_memory(attempts: Guesses, clock: Clock) -> None:
    for n in range(5 * REMEMBERED):
        clock.now += 0.01
        attempts.check("x", f"2001:db8:{n:x}::")
        attempts.check(TOKEN, f"2001:db8:0:{n:x}::")
    assert len(attempts.counted._wrong) <= OF_ALL
    assert len(attempts.counted._known) <= REMEMBERED


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::"),
        ("2001:db8:1:9::1", "2001:db8:1::"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("shop", "shop"),
    ],
)
def test_the_addresses_of_one_machine_count_as_one(host: str, address: str) -> None:
    assert address_of({"client": (host, 1)}) == address
    assert address_of({"client": None}) == ""


# For this server the second in which a wrong token counts does not end.
ENDLESS = """
from pipeline.web.routes import entry
from pipeline.web.security import attempts

attempts.WRONG_TOKEN_S = 3600
"""


def test_guesses_that_come_at_once_are_refused(project: Project) -> None:
    text = (project.root / "app.py").read_text("utf-8")
    (project.root / "app.py").write_text(text + ENDLESS, "utf-8")
    project.env |= {"PYTHONPATH": str(project.root), "PIPELINE_TOKEN": TOKEN}
    with serving(project, "--no-watch") as server:

        def guess(n: int, address: str = "192.0.2.1") -> httpx.Response:
            headers = {"x-forwarded-for": address}
            if n % 2:
                data = {"token": f"wrong {n}"}
                return httpx.post(f"{server.url}/login", data=data, headers=headers)
            headers["authorization"] = f"Bearer wrong {n}"
            return httpx.get(f"{server.url}/status", headers=headers)

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(guess, range(8)))
            assert sorted(answer.status_code for answer in answers) == [401] + [429] * 7
            refused = max(answers, key=lambda answer: answer.status_code)
            assert refused.headers["retry-after"] == "1"
            assert "too many wrong tokens" in refused.json()["error"]
            right = {"authorization": f"Bearer {TOKEN}", "x-forwarded-for": "192.0.2.2"}
            assert server.get("/status", headers=right).status_code == 200
            others = list(pool.map(lambda n: guess(n, f"198.51.100.{n}"), range(20)))
        assert [answer.status_code for answer in others].count(401) == OF_ALL - 1
        # What needs no token does not look at one, and who had the right one is not locked out.
        stale = {"authorization": "Bearer wrong"}
        assert server.get("/healthz", headers=stale).status_code == 200
        assert server.get("/healthz?verbose", headers=stale).status_code in (401, 429)
        assert server.get("/status", headers=right).status_code == 200


def test_a_person_who_mistypes_the_token_is_not_refused(locked: Server) -> None:
    # The answer comes when the next attempt is heard.
    form = {"token": "wrong", "next": "/images"}
    assert locked.post("/login", data=form, headers=HTML).status_code == 401
    assert locked.post("/login", data=form | {"token": TOKEN}, headers=HTML).status_code == 303


def test_a_session_that_is_logged_out_is_over_for_every_copy_of_its_cookie() -> None:
    values = Values()
    sessions = Sessions(KEYS.get, values)
    mine, theirs = sessions.begin("admin", 1000), sessions.begin("admin", 1000)
    assert mine != theirs
    sessions.end(mine, 1000)
    assert sessions.account(mine, 1000) is None
    assert sessions.account(theirs, 1000) == "admin"
    again = Sessions(KEYS.get, values)
    assert again.account(mine, 1000) is None
    assert again.account(theirs, 1000) == "admin"
    # Another service on the same database takes nothing back.
    sessions.end(theirs, 1000)
    again.end(again.begin("admin", 1000), 1000)
    assert Sessions(KEYS.get, values).account(theirs, 1000) is None
    for made_up in ("", ".", "x", f"{mine}x", mine.partition(".")[0]):
        sessions.end(made_up, 1000)


def test_what_is_kept_of_logged_out_sessions_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions_module, "MAX_ENDED", 10)
    values = Values()
    sessions = Sessions(KEYS.get, values)
    old, young = sessions.begin("admin", 1000), sessions.begin("admin", 1100)
    ended = [sessions.begin("admin", 1000 + n) for n in range(50)]
    for value in ended:
        sessions.end(value, 1060)
    again = Sessions(KEYS.get, values)
    assert not any(again.account(value, 1060) for value in ended)
    # Too many to be kept one by one: the older half is over, whoever had them.
    assert again.account(old, 1060) is None
    assert again.account(young, 1060) == "admin"
    assert len(values.stored["ended_sessions"] or "") < 10 * 60
    # When they would have ended anyway, they are forgotten.
    later = 1100 + SESSION_S
    again.end(again.begin("admin", later), later)
    assert len(again._ended) == 1


def test_logging_out_ends_the_session_everywhere_also_after_a_restart(
    project: Project, locked: Server
) -> None:
    def log_in() -> str:
        answer = httpx.post(f"{locked.url}/login", data={"token": TOKEN})
        return answer.cookies[COOKIE]

    def status(server: Server, cookie: str) -> int:
        return httpx.get(f"{server.url}/status", cookies={COOKIE: cookie}).status_code

    mine, theirs = log_in(), log_in()
    assert status(locked, mine) == status(locked, theirs) == 200
    with httpx.stream("GET", f"{locked.url}/events", cookies={COOKIE: mine}, timeout=60) as events:
        lines = events.iter_lines()
        assert next(lines)
        assert httpx.post(f"{locked.url}/logout", cookies={COOKIE: mine}).status_code == 303
        # What was open ends, and not with an error.
        assert all("data" in line or "event" in line or not line for line in lines)
    assert status(locked, mine) == 401
    assert status(locked, theirs) == 200
    locked.stop()
    with serving(project, "--no-watch") as server:
        assert status(server, mine) == 401
        assert status(server, theirs) == 200
    assert TOKEN not in str(project.query("SELECT * FROM lockstep_state"))
