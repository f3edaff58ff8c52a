"""The steps that docs/first-day.md describes for a browser are followed word by word."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from a_project import ROOT, Project
from a_reader import Shop
from a_server import Server, serving
from a_takedown import audit
from test_browser import CHROMIUM, browser, visit

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH")
if CHROMIUM is not None:
    from playwright.sync_api import Page, expect

__all__ = ["browser", "visit"]

STEP = re.compile(
    r"(?P<file>choose your file)|says \*\*(?P<said>.+?)\*\*|asks \*\*(?P<asked>.+?)\*\*"
    r"|press \*\*(?P<button>.+?)\*\*|\*\*(?P<role>\w+)\*\*\s+above `(?P<column>.+?)`",
    re.IGNORECASE,
)


def steps(heading: str) -> list[re.Match[str]]:
    text = (ROOT / "docs/first-day.md").read_text("utf-8")
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    found = list(STEP.finditer(section))
    assert sum(section.count(f"\n{number}. ") for number in range(1, 9)) >= 3
    # Each word in bold is a step that is followed.
    assert len(re.findall(r"\*\*(.+?)\*\*", section)) == len([s for s in found if not s["file"]])
    return found


def follow(page: Page, step: re.Match[str], file: Path | None = None) -> None:
    if step["file"]:
        assert file is not None
        page.set_input_files("#file", file)
    elif text := step["said"] or step["asked"]:
        expect(page.get_by_text(text).locator("visible=true").first).to_be_visible(timeout=30_000)
    elif step["column"]:
        page.get_by_label(f"Column {step['column']}").select_option(step["role"])
    elif page.get_by_label(step["button"], exact=True).count():
        page.get_by_label(step["button"], exact=True).first.click()
    else:
        controls = page.get_by_role("button", name=step["button"], exact=True)
        links = page.locator("main").get_by_role("link", name=step["button"], exact=True)
        controls.or_(links).locator("visible=true").first.click()


@pytest.fixture
def shop() -> Iterator[Shop]:
    running = Shop()
    yield running
    running.close()


def test_a_content_manager_uploads_a_list_and_downloads_the_result(
    visit: Any, project: Project, shop: Shop, tmp_path: Path
) -> None:
    file = tmp_path / "list.csv"
    file.write_text(f"Code,Item,Photo\nA,Mug,{shop.url}1.jpg\n")
    project.env |= {"PIPELINE_FETCH_ALLOW": "127.0.0.1", "PIPELINE_FETCH_PORTS": str(shop.port)}
    with serving(project) as server:
        page = visit(server).page
        page.goto("/")
        *before, last = steps("A content manager with a list of products")
        for step in before:
            follow(page, step, file)
        with page.expect_download() as download:
            follow(page, last)
        header, row = Path(download.value.path()).read_text("utf-8-sig").splitlines()
        assert header == "Code,Item,Photo,Output Image Urls,Errors,Error Codes"
        assert row.startswith(f"A,Mug,{shop.url}1.jpg,{server.url}/files/jobs/half/")


def test_a_moderator_takes_down_what_was_reported_and_undoes_it(
    visit: Any, project: Project
) -> None:
    project.add("red.png")
    project.run()
    with serving(project) as server:
        report(server)
        page = visit(server).page
        page.goto("/")
        *before, last = steps("A moderator with a reported picture")
        for step in before:
            follow(page, step)
        red = project.input / "red.png"
        server.until(lambda: audit(project) and not project.outputs() and not red.exists())
        follow(page, last)
        server.until(lambda: red.exists() and len(project.outputs()) == 2)


def report(server: Server) -> None:
    said = {"path": "red.png", "reason": "this is mine", "who": "a customer"}
    assert server.post("/reports", json=said).status_code == 202
