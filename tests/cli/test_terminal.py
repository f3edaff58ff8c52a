"""Names and words of strangers reach a terminal and a log as text: nothing in them is obeyed."""

from __future__ import annotations

import ast
import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from a_project import Answer, Project
from a_server import serving
from a_shop import Shop
from a_watcher import Watching
from fetch_fixtures import server
from loopback import Server

from pipeline.cli.terminal import OneLine

__all__ = ["server"]

# An escape sequence and its 8-bit form, a forged line, a right-to-left override, other line breaks.
HOSTILE = "\x1b[31m\x1b]0;owned\x07\x9b2J\nError: forged\r\u202egnp\x85\u2028\x7f"
SHOWN = r"\x1b[31m\x1b]0;owned\x07\x9b2J\nError: forged\r\u202egnp\x85\u2028\x7f"

# Has a folder that nobody may read, also where the tests are run by root.
CLOSED = """
import os

scandir = os.scandir


def refusing(folder="."):
    if isinstance(folder, (str, os.PathLike)) and "closed" in os.fspath(folder):
        raise PermissionError(13, "Permission denied")
    return scandir(folder)


os.scandir = refusing
"""


@pytest.fixture
def shop(tmp_path: Path, server: Server) -> Shop:
    return Shop(tmp_path / "shop", server)


@pytest.fixture
def hostile(shop: Shop) -> Shop:
    """A broken original, a good one, a rejected CSV and a failed fetch, all with such names."""
    (shop.input / f"bad{HOSTILE}.jpg").write_bytes(b"no picture")
    shop.add(f"good{HOSTILE}.png")
    # Other controls in a CSV make it a binary file.
    shop.csv([["\u202eno", "A", "ftp://x/\u202e"]], f"input/rejected{HOSTILE}.csv")
    product = [["1", "SKU\u202e", shop.urls("/not-found")]]
    shop.submit(shop.csv(product, f"failing{HOSTILE}.csv"))
    shop.run(code=1)
    return shop


def assert_plain(*texts: str) -> None:
    for text in texts:
        assert "\r" not in text
        for line in text.split("\n"):
            assert line.isprintable(), repr(line)
            assert not line.startswith("Error: forged"), repr(line)


def references(shop: Shop) -> list[str]:
    return [job["reference"] for job in shop.cli("job", "list", "--json").json]


def test_a_run_shows_hostile_names_as_text(hostile: Shop) -> None:
    hostile.cli("retry")
    answers = [hostile.cli("run"), hostile.cli("run", "--dry-run")]
    assert f"failed      bad{SHOWN}.jpg: not an image" in answers[0].stdout
    (hostile.input / f"rejected{HOSTILE}.csv").write_text("S. No.\n1\n")
    answers.append(hostile.cli("run"))
    assert f"(rejected{SHOWN}.csv) rejected: its CSV has" in answers[-1].stdout
    for answer in answers:
        assert_plain(answer.stdout, answer.stderr)


def test_the_commands_show_hostile_names_as_text(hostile: Shop) -> None:
    rejected, failed = references(hostile)
    (hostile.output / f"half/stray{HOSTILE}").write_bytes(b"stray")
    said: dict[str, Answer] = {}
    for command in (
        ("status",),
        ("errors",),
        ("explain", f"bad{HOSTILE}.jpg"),
        ("explain", f"good{HOSTILE}.png"),
        ("explain", f"rejected{HOSTILE}.csv"),
        ("explain", f"unknown{HOSTILE}.jpg"),
        ("verify",),
        ("job", "list"),
        *(("job", name, job) for name in ("status", "errors") for job in (rejected, failed)),
        ("job", "status", HOSTILE),
        ("job", "submit", f"{hostile.root}/missing{HOSTILE}.csv"),
        ("job", "submit", str(hostile.input / f"rejected{HOSTILE}.csv")),
        ("job", "submit", str(hostile.root / f"failing{HOSTILE}.csv"), "--webhook", HOSTILE),
        ("retry", HOSTILE),
        ("takedown", f"good{HOSTILE}.png", "--reason", HOSTILE, "--who", HOSTILE),
        ("takedown", "list"),
        ("takedown", "reinstate", "1"),
        ("takedown", HOSTILE, "--reason", "x"),
        (HOSTILE,),
        ("run", f"--no-such{HOSTILE}"),
    ):
        answer = said[" ".join(command[:2])] = hostile.cli(*command)
        assert_plain(answer.stdout, answer.stderr)
    assert f"bad{SHOWN}.jpg [half] not an image" in said["errors"].stdout
    assert f"stray  half/stray{SHOWN}" in said["verify"].stdout
    assert f"failing{SHOWN}.csv" in said["job list"].stdout


def test_json_has_the_very_names_and_no_controls(hostile: Shop) -> None:
    for command, name in {
        ("errors", "--json"): f"bad{HOSTILE}.jpg",
        ("job", "list", "--json"): f"failing{HOSTILE}.csv",
        ("explain", f"good{HOSTILE}.png", "--json"): f"half/good{HOSTILE}.png",
    }.items():
        answer = hostile.cli(*command)
        assert name in strings(answer.json)
        assert all(line.isprintable() for line in answer.stdout.split("\n"))


def strings(value: object) -> list[str]:
    """Every string in a JSON value."""
    if isinstance(value, dict):
        return [found for each in value.values() for found in strings(each)]
    if isinstance(value, list):
        return [found for each in value for found in strings(each)]
    return [value] if isinstance(value, str) else []


def test_a_folder_that_cannot_be_read_is_named_as_text(project: Project) -> None:
    project.own_step(CLOSED + "\n\ndef own():\n    pass\n")
    project.add("a.jpg")
    (project.input / f"closed{HOSTILE}").mkdir()
    answer = project.process("run")
    assert f"closed{SHOWN}: the folder cannot be read" in answer.stderr
    assert_plain(answer.stdout, answer.stderr)


def test_what_watch_says_shows_hostile_names_as_text(
    project: Project, watch: Callable[..., Watching]
) -> None:
    project.own_step(CLOSED + "\n\ndef own():\n    pass\n")
    (project.input / f"closed{HOSTILE}").mkdir()
    (project.input / f"bad{HOSTILE}.jpg").write_bytes(b"no picture")
    (project.input / f"rejected{HOSTILE}.csv").write_text("S. No.\n1\n")
    watching = watch()
    watching.wait_for_words(f"failed  bad{SHOWN}.jpg: not an image")
    watching.wait_for_words(f"closed{SHOWN}: the folder cannot be read")
    assert watching.stop() == 0
    assert_plain("".join(watching.said))


def test_the_log_of_the_service_shows_hostile_names_as_text(project: Project) -> None:
    project.own_step(
        f"{CLOSED}\n\ndef own():\n    raise RuntimeError({HOSTILE!r} + '\\n2026-01-01 forged')\n"
    )
    (project.input / f"closed{HOSTILE}").mkdir()
    (project.input / f"bad{HOSTILE}.jpg").write_bytes(b"no picture")
    with serving(project) as service:
        service.until(lambda: "Traceback" in "".join(service.log))
        service.until(lambda: any("unexpected error" in line for line in service.log))
    log = "".join(service.log)
    assert_plain(log)
    # The lines of a traceback cannot be taken for lines of the log.
    assert "\n  2026-01-01 forged" in log
    assert "\n2026-01-01 forged" not in log


def test_the_log_of_the_service_names_a_closed_folder_as_text(project: Project) -> None:
    project.own_step(CLOSED + "\n\ndef own():\n    pass\n")
    (project.input / f"closed{HOSTILE}").mkdir()
    with serving(project) as service:
        service.until(lambda: any("the folder cannot be read" in line for line in service.log))
    (line,) = [line for line in service.log if "the folder cannot be read" in line]
    assert f"closed{SHOWN}" in line
    assert_plain("".join(service.log))


def test_the_traceback_of_a_command_shows_its_message_as_text(project: Project) -> None:
    project.own_step(f"def own():\n    raise RuntimeError({HOSTILE!r})\n")
    answer = project.script("run")
    assert answer.code == 1
    assert "RuntimeError: " in answer.stderr
    assert_plain(answer.stderr)


def test_a_name_that_is_not_utf_8_is_shown_as_text(project: Project) -> None:
    if sys.platform == "darwin":
        return  # there are no such names
    with open(os.fsencode(project.input) + b"/caf\xe9\x1b[2J.jpg", "wb") as file:
        file.write(b"no picture")
    answer = project.cli("run")
    assert answer.code == 1
    assert_plain(answer.stdout, answer.stderr)
    assert_plain(project.cli("errors").stdout)


def test_several_problems_of_the_recipes_are_a_line_each(project: Project) -> None:
    project.recipes('[half]\nscale = -1\n\n["x\\u001b[31m\\nError: forged"]\nscale = 1\n')
    answer = project.cli("run")
    assert_plain(answer.stderr)
    first, *problems = answer.stderr.splitlines()
    assert first.startswith("Error: ")
    assert first.endswith("has 2 problems:")
    assert [problem[:4] for problem in problems] == ["  [h", "  [x"]


def test_a_record_of_the_log_is_one_line() -> None:
    record = logging.LogRecord("x", logging.WARNING, __file__, 1, "%s came", (f"a{HOSTILE}",), None)
    assert OneLine("%(levelname)s %(message)s").format(record) == f"WARNING a{SHOWN} came"


def test_nothing_else_writes_to_the_terminal() -> None:
    """Of the rooms that a command's words come from, one module alone prints."""
    folder = Path(__file__).parents[2] / "pipeline"
    printing = set()
    for file in [*folder.glob("cli/*.py"), *folder.glob("live/*.py"), *folder.glob("jobs/*.py")]:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {
                *("print", "click.echo", "click.secho", "sys.stdout.write", "sys.stderr.write"),
                *("logging.StreamHandler", "logging.Formatter"),
            }:
                printing.add(file.relative_to(folder).as_posix())
    assert printing == {"cli/terminal.py"}


def test_json_is_read_back_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    from pipeline.cli.terminal import say_json

    value = {"name": HOSTILE + "Größe 👟\udcff\U000e0001", "list": [1, None]}
    say_json(value, indent=2)
    text = capsys.readouterr().out
    assert json.loads(text) == value
    assert "Größe 👟" in text
    assert all(line.isprintable() for line in text.split("\n"))


def test_a_word_of_a_state_is_printed_as_it_is_stored() -> None:
    from pipeline import states

    words = [kind for kind in vars(states).values() if isinstance(kind, type)]
    members = [each for kind in words if issubclass(kind, states.Word) for each in kind]
    assert len(members) > 50
    assert [each for each in members if f"{each}" != each.value or str(each) != each.value] == []
