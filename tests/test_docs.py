"""What README.md and docs/ show is run: whoever copies an example gets what the page promises.

The examples of a page are run in their order, in one project folder. What cannot be run here says
why in a comment above it, `<!-- not run: needs systemd -->`, so that a new example is run unless
somebody decides otherwise. A block that is no example is labelled `text`.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from a_project import ROOT
from a_reader import FENCE, SECRET, Reader, Shop, examples
from datapipe.cli import cli

PAGES = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/*.md"))]


@pytest.fixture
def shop() -> Iterator[Shop]:
    running = Shop()
    yield running
    running.close()


@pytest.fixture
def reader(tmp_path: Path, shop: Shop) -> Iterator[Reader]:
    with contextlib.closing(Reader(tmp_path, shop)) as somebody:
        yield somebody


@pytest.mark.parametrize("page", PAGES)
def test_every_example_of_a_page_works_when_it_is_typed_in_order(page, reader):
    for example in examples(page):
        if example.reason_not_run is None:
            try:
                reader.follow(example)
            except Exception as error:
                raise AssertionError(f"{example.place}: {error}") from error
    is_genuine = reader.namespace.get("is_genuine")
    if is_genuine is not None:
        assert reader.shop.delivered
        for body, headers in reader.shop.delivered:
            assert is_genuine(body, headers, SECRET)
            assert not is_genuine(body, headers, "another secret")
            assert not is_genuine(body + b" ", headers, SECRET)
            # Recorded, and sent again ten minutes later: the time is signed.
            headers.replace_header(
                "webhook-timestamp", str(int(headers["webhook-timestamp"]) - 600)
            )
            assert not is_genuine(body, headers, SECRET)
            signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
            digest = hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()
            headers.replace_header("webhook-signature", f"v1,{base64.b64encode(digest).decode()}")
            assert not is_genuine(body, headers, SECRET)


def test_the_reference_of_commands_is_what_the_commands_say():
    reference = runpy.run_path(str(ROOT / "scripts/command_reference.py"))
    written = (ROOT / "docs/commands.md").read_text("utf-8")
    assert written == reference["page"](), "run `make docs`"


def test_the_reference_names_every_exit_code():
    from pipeline import errors

    def tree(error: type[errors.LockstepError]) -> Iterator[type[errors.LockstepError]]:
        yield error
        for below in error.__subclasses__():
            yield from tree(below)

    reference = runpy.run_path(str(ROOT / "scripts/command_reference.py"))
    assert {error.exit_code for error in tree(errors.LockstepError)} <= set(reference["EXIT_CODES"])


@pytest.mark.parametrize("page", PAGES)
def test_every_command_and_option_that_a_page_names_is_there(page):
    text = FENCE.sub("", (ROOT / page).read_text("utf-8"))
    for code in re.findall(r"`datapipe ([^`]*)`", text):
        command: click.Command = cli
        for word in code.replace("\\|", " ").split():
            known = command.commands if isinstance(command, click.Group) else {}
            if word in known:
                command = known[word]
            elif word.startswith("--"):
                options = {name for parameter in command.params for name in parameter.opts}
                assert word in options | {"--help", "--reason"}, f"{page}: datapipe {code}"
            elif command is cli:
                assert word == "…", f"{page}: datapipe {code}"


@pytest.mark.parametrize("page", [*PAGES, "benchmarks/README.md"])
def test_every_link_of_a_page_leads_somewhere(page):
    text = FENCE.sub("", (ROOT / page).read_text("utf-8"))
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), f"{page}: {link}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", FENCE.sub("", target.read_text("utf-8")), re.M)
            names = (re.sub(r"[^\w -]", "", heading.lower()) for heading in headings)
            anchors = {name.replace(" ", "-") for name in names}
            assert anchor in anchors, f"{page}: {link}"
