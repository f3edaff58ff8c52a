"""Images as a person goes through them: where one is, what is selected, and what is done with it.

Skipped only where there is no Chromium, as in `test_browser`.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from a_project import Project
from a_server import Server, serving
from a_takedown import originals
from test_browser import CHROMIUM, SIZES, browser, visit

if CHROMIUM is not None:
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import Browser, Page, expect

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on the PATH: install one (apt-get install chromium)"
)
__all__ = ["browser", "visit"]

MANY = 120
NAV = ("Home", "Jobs", "Images", "Failed", "Takedowns", "Recipes")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A folder of more pictures than fit on two pages, and a few that are none."""
    project = Project(tmp_path_factory.mktemp("images") / "shop", "[thumb]\nfit = [40, 40]\n")
    for number in range(MANY):
        project.add(f"many/{number:03}.png", size=(24, 16))
    project.add("shoes/summer/red.png", size=(80, 60))
    for number in range(3):
        (project.input / f"bad-{number}.png").write_bytes(b"no picture")
    project.run(code=1)
    with serving(project, "--no-watch") as server:
        yield server


def selected(page: Page) -> str:
    return page.locator("[data-selected]").inner_text()


def check_axe(page: Page) -> None:
    found = Axe().run(page).response["violations"]
    assert [(item["id"], [node["html"] for node in item["nodes"]]) for item in found] == []


def test_back_leads_to_where_one_was_and_the_arrows_to_the_neighbours(visit, shop: Server) -> None:
    page = visit(shop).page
    page.goto("/images?folder=many")
    expect(page.locator("#tiles .tile")).to_have_count(48)
    expect(page.locator("[data-where]")).to_contain_text(f"of {MANY}")
    for there in (96, MANY):
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        expect(page.locator("#tiles .tile")).to_have_count(there)
    page.get_by_role("link", name="100.png").click()
    expect(page.get_by_role("heading", name="100.png")).to_be_visible()
    expect(page.get_by_text("101 of 120")).to_be_visible()
    expect(page.locator("[data-px]")).to_contain_text("24 × 16 px")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("heading", name="101.png")).to_be_visible()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("heading", name="100.png")).to_be_visible()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("heading", name="099.png")).to_be_visible()
    page.get_by_role("link", name="Back to the list").click()
    # The list begins there now, and leads back to what comes before.
    expect(page.locator("#at")).to_be_in_viewport()
    expect(page.locator("#at")).to_contain_text("099.png")
    expect(page.locator("#at")).to_be_focused()
    page.get_by_role("link", name="Show earlier").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#tiles .tile")).to_have_count(48 + MANY - 99)
    expect(page.locator("#tiles li.cell").first.locator("a.tile")).to_be_focused()
    page.go_back()
    expect(page.get_by_role("heading", name="099.png")).to_be_visible()
    page.get_by_label("Place").get_by_role("link", name="many").click()
    expect(page.locator("#tiles .tile")).to_have_count(48)


def test_an_image_is_compared_and_zoomed_and_escape_closes_it(visit, shop: Server) -> None:
    page = visit(shop).page
    page.goto("/images/shoes/summer/red.png")
    page.get_by_role("button", name="Compare and zoom").click()
    viewer = page.get_by_role("dialog")
    expect(viewer).to_be_visible()
    viewer.get_by_role("slider").focus()
    page.keyboard.press("ArrowRight")
    cut = "getComputedStyle(document.querySelector('.over')).getPropertyValue('--cut')"
    assert page.evaluate(cut) == "51%"
    viewer.get_by_role("button", name="200 %").click()
    assert page.evaluate("document.querySelector('.over').clientWidth") == 160
    check_axe(page)
    page.keyboard.press("Escape")
    expect(viewer).not_to_be_visible()
    expect(page.get_by_role("button", name="Compare and zoom")).to_be_focused()
    page.get_by_text("Take down…").click()
    expect(page.get_by_label("Why")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_label("Why")).not_to_be_visible()


def test_the_size_of_the_pictures_is_remembered_and_times_are_the_readers(
    visit, browser: Browser, shop: Server
) -> None:
    page = visit(shop).page
    page.goto("/images")
    page.get_by_role("button", name="Large pictures").click()
    page.reload()
    expect(page.get_by_role("button", name="Large pictures")).to_have_attribute(
        "aria-pressed", "true"
    )
    assert page.evaluate("document.documentElement.dataset.density") == "large"
    context = browser.new_context(base_url=shop.url, timezone_id="Asia/Kolkata")
    page = context.new_page()
    page.goto("/images/shoes/summer/red.png")
    expect(page.locator("time").first).to_contain_text("UTC+05:30")
    context.close()


@pytest.mark.parametrize(("size", "theme"), [("desk", "light"), ("phone", "dark")])
def test_many_are_selected_and_taken_down(visit, shop: Server, size: str, theme: str) -> None:
    page = visit(shop, size, theme).page
    first = 0 if size == "desk" else 10
    page.goto(f"/images?text=/&at=many/{first:03}.png")
    for name in NAV:
        expect(page.get_by_role("link", name=name, exact=True)).to_be_in_viewport(ratio=1)
    boxes = page.locator("input[name=paths]")
    cell = page.locator(f'[data-path="many/{first:03}.png"]')
    cell.locator("a.tile").focus()
    page.keyboard.press("x")
    assert selected(page) == "1 selected"
    page.locator(f'[data-path="many/{first + 4:03}.png"] a.tile').click(modifiers=["Shift"])
    assert selected(page) == "5 selected"
    page.locator(f'[data-path="many/{first + 2:03}.png"] a.tile').click()
    assert selected(page) == "4 selected"
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Clear")).not_to_be_visible()
    cell.locator("a.tile").focus()
    page.keyboard.press("x")
    boxes.nth(
        [box.get_attribute("value") for box in boxes.all()].index(f"many/{first + 1:03}.png")
    ).check()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    names = zipfile.ZipFile(Path(download.value.path())).namelist()
    assert names == [f"many/{first:03}.png", f"many/{first + 1:03}.png"]
    page.get_by_text("Take down…").click()
    expect(page.get_by_label("Why")).to_be_focused()
    check_axe(page)
    page.get_by_label("Why").fill("withdrawn")
    page.get_by_role("button", name="Take down 2 originals").click()
    expect(page.get_by_role("heading", name="2 originals taken down: done")).to_be_visible()
    expect(page.locator("tbody tr")).to_have_count(2)
    check_axe(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]
    assert not {f"many/{first:03}.png", f"many/{first + 1:03}.png"} & set(originals(shop.project))
    page.goto("/takedowns")
    expect(page.get_by_role("link", name="bulk")).to_have_count(1 if size == "desk" else 2)
    check_axe(page)
    page.goto("/bulks")
    check_axe(page)


def test_a_whole_list_is_retried_from_failed_without_a_script(
    browser: Browser, shop: Server
) -> None:
    context = browser.new_context(java_script_enabled=False, base_url=shop.url)
    page = context.new_page()
    page.goto("/failed")
    page.get_by_label("All originals that failed (3)").check()
    page.get_by_role("button", name="Retry", exact=True).first.click()
    expect(page.get_by_role("heading", name="3 originals to be retried")).to_be_visible()
    page.goto("/images?folder=many")
    page.get_by_label("Select 050.png").or_(page.locator("input[name=paths]").first).check()
    expect(page.get_by_text("Take down…")).to_be_visible()
    context.close()
