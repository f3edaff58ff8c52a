"""A moderator at work, in a Chromium over the real server: by keys, by forms, and two at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from a_project import Project
from a_review import BEHIND_A_PROXY, by, hold, waiting
from a_server import Server, serving
from a_takedown import audit
from test_browser import CHROMIUM, SIZES, browser, visit

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH")
if CHROMIUM is not None:
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import Browser, Page, expect

__all__ = ["browser", "visit"]

HELD = [f"held/{number}.png" for number in range(7)]


@pytest.fixture
def desk(project: Project) -> Iterator[Server]:
    """Seven originals that are held, one of them near to what was taken down; one more is not."""
    for path in (*HELD, "shop/red.png", "blocked.png"):
        project.add(path)
    project.add("held/twin.png", seed=HELD[0])
    project.run()
    project.cli("takedown", "blocked.png", "--reason", "stolen")
    hold(project, *HELD, near_source="takedown 1")
    project.env |= BEHIND_A_PROXY | {"PIPELINE_REASONS": "copyright, not for sale"}
    with serving(project, "--no-watch") as server:
        server.client.headers.update(by("Cleo"))
        yield server


def page_of(visit: Any, desk: Server, name: str, size: str = "desk", theme: str = "light") -> Page:
    """A page of somebody who is logged in."""
    page: Page = visit(desk, size, theme).page
    page.context.set_extra_http_headers(by(name))
    return page


def shown(page: Page) -> str:
    return page.locator(".review:visible h2").inner_text()


def all_loaded(page: Page, where: str = "#queue") -> bool:
    script = "all => all.every(image => image.complete && image.naturalWidth > 0)"
    return bool(page.locator(f"{where} img").evaluate_all(script))


def take_down_without_a_wait(page: Page, desk: Server) -> None:
    """After a decision the next picture is there, and only the decision itself is asked for."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(f"{request.method} {request.url}"))
    page.keyboard.press("t")
    assert shown(page) == HELD[1]
    assert all_loaded(page, ".review:visible")
    expect(page.get_by_text(f"Taken down: {HELD[0]}")).to_be_visible()
    desk.until(lambda: desk.get("/takedowns").json()["takedowns"][0]["target"] != "blocked.png")
    assert [each for each in asked if "POST" in each] == [f"POST {desk.url}/review"]
    assert not any("/review/2/" in each for each in asked)


def test_what_was_reported_and_held_is_reviewed_by_keys_alone(visit, desk: Server) -> None:
    named = {"path": "shop/red.png", "reason": "this is mine", "who": "Cleo"}
    assert desk.post("/reports", json=named).status_code == 202
    page = page_of(visit, desk, "Ada")
    page.goto("/")
    expect(page.get_by_role("heading", name="8 pictures are waiting")).to_be_visible()
    page.get_by_role("link", name="Review 8 waiting").click()
    assert shown(page) == HELD[0]
    expect(page.get_by_text("2 originals have this content").first).to_be_visible()
    expect(page.get_by_role("img", name="Blocked before")).to_be_visible()
    blur = "image => getComputedStyle(image).filter"
    assert "blur" in page.locator(".review:visible img").first.evaluate(blur)
    page.keyboard.press("s")
    page.keyboard.press("2")
    page.wait_for_function("document.querySelectorAll('#queue .review').length >= 4")
    desk.until(lambda: all_loaded(page))

    take_down_without_a_wait(page, desk)
    page.keyboard.press("p")
    page.keyboard.press("j")
    page.keyboard.press("k")
    assert shown(page) == HELD[2]
    page.keyboard.press("u")
    expect(page.locator("#toast-text")).to_have_text("Undone")
    assert shown(page) == HELD[1]
    page.keyboard.press("x")
    page.keyboard.press("j")
    page.keyboard.press("x")
    expect(page.get_by_text("2 selected")).to_be_visible()
    page.keyboard.press("t")
    expect(page.locator("#toast-text")).to_have_text("Taken down: 2 pictures")
    assert shown(page) == HELD[3]
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    for name in (*HELD[4:], "shop/red.png"):
        page.keyboard.press("p")
        expect(page.locator(".review:visible h2")).to_have_text(name)
    expect(page.get_by_text("this is mine")).to_be_visible()
    page.keyboard.press("t")
    expect(page.get_by_text("That was the last one here.")).to_be_visible()
    desk.until(lambda: not waiting(desk.project))
    page.keyboard.press("u")
    expect(page.locator("#toast-text")).to_have_text("Undone")
    assert [each["path"] for each in waiting(desk.project)] == ["shop/red.png"]

    acts = audit(desk.project)
    assert {(act["who"], act["reason"]) for act in acts[:-1]} == {("Ada", "not for sale")}
    # Two decisions may be carried out side by side: which takedown is the last one is not certain.
    assert sorted(act["lifted_by"] or "" for act in acts) == ["", "", "", "", "Ada"]
    # The settings are remembered.
    page.goto("/review")
    expect(page.get_by_label("Category")).to_have_value("not for sale")
    assert page.locator(".review:visible img").first.evaluate(blur) == "none"


def test_of_two_in_two_browsers_the_second_is_told_who_did_what(visit, desk: Server) -> None:
    pages = {name: page_of(visit, desk, name) for name in ("Ada", "Ben")}
    for page in pages.values():
        page.goto("/review")
    pages["Ada"].keyboard.press("t")
    expect(pages["Ada"].locator("#toast-text")).to_have_text(f"Taken down: {HELD[0]}")
    desk.until(lambda: len(audit(desk.project)) == 2)
    pages["Ben"].keyboard.press("p")
    expect(pages["Ben"].locator("#toast-text")).to_contain_text("already taken down by Ada")
    assert shown(pages["Ben"]) == HELD[1]
    pages["Ada"].get_by_role("button", name="Undo", exact=True).click()
    expect(pages["Ada"].locator("#toast-text")).to_have_text("Undone")
    assert len(waiting(desk.project)) == 7


def test_a_review_works_without_script(browser: Browser, desk: Server) -> None:
    context = browser.new_context(
        java_script_enabled=False, base_url=desk.url, extra_http_headers=by("Ada")
    )
    page = context.new_page()
    page.goto("/review")
    page.get_by_role("link", name="Decide later").click()
    assert shown(page) == HELD[1]
    page.get_by_label("Category").select_option("copyright")
    page.get_by_role("button", name="Take down").click()
    expect(page.get_by_text(f"Taken down: {HELD[1]}")).to_be_visible()
    assert shown(page) == HELD[2]
    page.get_by_role("link", name="Grid").click()
    page.get_by_role("checkbox", name="0.png").check()
    page.get_by_role("checkbox", name="3.png").check()
    page.get_by_role("button", name="Publish").click()
    expect(page.get_by_text("Published: 2")).to_be_visible()
    page.get_by_role("button", name=f"Undo: {HELD[1]}").click()
    expect(page.get_by_text(f"Open again: {HELD[1]}")).to_be_visible()
    assert [each["path"] for each in waiting(desk.project)] == [HELD[1], HELD[2], *HELD[4:]]
    context.close()


@pytest.mark.parametrize(("size", "theme"), [("desk", "light"), ("phone", "dark")])
def test_the_page_of_reviews_is_usable_by_everybody(
    visit, desk: Server, size: str, theme: str
) -> None:
    page = page_of(visit, desk, "Ada", size, theme)
    for path in ("/review", "/review?view=grid", "/review?kind=reported", "/"):
        page.goto(path, wait_until="load")
        found = Axe().run(page).response["violations"]
        assert [(item["id"], [node["html"] for node in item["nodes"]]) for item in found] == [], (
            path
        )
        assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0], path
    page.goto("/review?view=grid")
    page.keyboard.press("j")
    page.keyboard.press("x")
    expect(page.get_by_text("1 selected")).to_be_visible()
    page.keyboard.press("p")
    expect(page.locator("#toast-text")).to_have_text(f"Published: {HELD[1]}")
    expect(page.locator(".review")).to_have_count(6)
