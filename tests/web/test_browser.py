"""What a person sees and does, in a Chromium over the real server.

Skipped only where there is no Chromium: `.ci/run` installs one where it can.
"""

from __future__ import annotations

import getpass
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from a_project import Project
from a_server import Server, serving
from a_shop import Shop, make_busy
from loopback import Server as Loopback

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on the PATH: install one (apt-get install chromium)"
)
if CHROMIUM is not None:
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import Browser, Page, expect, sync_playwright

SIZES = {"desk": (1280, 900), "phone": (390, 844)}
THEMES = ("light", "dark")
PATIENT_MS = 60_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # A container has neither a sandbox nor a large /dev/shm.
        arguments = ["--disable-dev-shm-usage"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            arguments.append("--no-sandbox")
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


class Visit:
    """One page of one visitor, and all that the browser complained about."""

    def __init__(self, browser: Browser, server: Server, size: str, theme: str) -> None:
        width, height = SIZES[size]
        self.context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=theme,  # type: ignore[arg-type]
            accept_downloads=True,
            base_url=server.url,
        )
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(PATIENT_MS)
        self.complaints: list[str] = []
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _note(self, message: object) -> None:
        if message.type in ("error", "warning") and "status of 4" not in message.text:  # type: ignore[attr-defined]
            self.complaints.append(message.text)  # type: ignore[attr-defined]


@pytest.fixture
def visit(browser: Browser) -> Iterator[object]:
    visits: list[Visit] = []

    def begin(server: Server, size: str = "desk", theme: str = "light") -> Visit:
        visits.append(Visit(browser, server, size, theme))
        return visits[-1]

    yield begin
    complaints = [complaint for visit in visits for complaint in visit.complaints]
    for visit in visits:
        visit.context.close()
    # Also what the content security policy would not let run.
    assert complaints == []


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, pictures: str) -> Iterator[Server]:
    project = Project(tmp_path_factory.mktemp("browser") / "shop")
    project.env["PIPELINE_FETCH_ALLOW"] = "127.0.0.1"
    project.env["PIPELINE_FETCH_PORTS"] = pictures.rpartition(":")[2]
    project.env["PIPELINE_FETCH_RETRIES"] = "0"
    for number in range(60):
        project.add(f"many/{number:02}.png", size=(48, 32))
    project.add("shoes/red.png")
    project.add("shoes/withdrawn.png")
    project.add("counterfeit.png")
    (project.input / "bad.png").write_bytes(b"no picture")
    project.run(code=1)
    project.cli("takedown", "counterfeit.png", "--reason", "counterfeit", "--who", "Ada")
    with serving(project, "--no-watch") as server:
        yield server


def csv(tmp_path: Path, rows: str) -> Path:
    file = tmp_path / "products.csv"
    file.write_text("S. No.,Product Name,Input Image Urls\n" + rows, "utf-8")
    return file


def test_a_csv_is_mended_handed_in_followed_and_taken_home(
    visit, shop: Server, pictures: str, tmp_path: Path
) -> None:
    page = visit(shop).page
    page.goto("/")
    page.set_input_files("#file", csv(tmp_path, "1,SKU1,no address\n2,,x\n"))
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("heading", name="products.csv has 3 problems")).to_be_visible()
    expect(page.get_by_role("row", name="no address is no")).to_contain_text("2")

    page.set_input_files("#file", csv(tmp_path, f'1,SKU1,"{pictures}/0.png,{pictures}/slow.png"\n'))
    page.get_by_role("button", name="Upload").click()
    expect(page.locator("#reference")).to_be_visible()
    reference = page.locator("#reference").inner_text()
    assert page.url.endswith(f"/jobs/{reference}")
    page.evaluate("window.stayed = true")
    expect(page.get_by_role("heading", name="Completed")).to_be_visible(timeout=PATIENT_MS)
    assert page.evaluate("window.stayed"), "the page was loaded again instead of moving"
    expect(page.locator("#aloud")).to_have_text("Completed")

    with page.expect_download() as download:
        page.get_by_role("link", name="Download the result CSV").click()
    sent = Path(download.value.path()).read_bytes().replace(f"{shop.url}/files/".encode(), b"")
    assert sent == (shop.project.output / f"{reference}.csv").read_bytes()

    page.goto("/")
    page.get_by_label("Reference number").fill(reference)
    page.get_by_role("button", name="Check status").click()
    expect(page.locator("#reference")).to_have_text(reference)

    page.get_by_text("Delete…").click()
    page.get_by_role("button", name=f"Delete job {reference}").click()
    expect(page.get_by_text(f"Job {reference} is deleted")).to_be_visible()


def test_columns_that_are_not_known_are_chosen_and_remembered(
    visit, shop: Server, pictures: str, tmp_path: Path
) -> None:
    page = visit(shop).page
    file = tmp_path / "list.csv"
    file.write_text(f"Code;Was;Foto\nA;Mug;{pictures}/0.png\nB;Tile;\n", "utf-8")
    page.goto("/jobs")
    page.set_input_files("#file", file)
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("heading", name="Which column is which?")).to_be_visible()
    expect(page.get_by_label("Column Foto")).to_have_value("images")
    page.get_by_label("Column Code").select_option("number")
    page.get_by_label("Column Was").select_option("name")
    page.get_by_role("button", name="Show what this reads").click()
    expect(page.get_by_role("heading", name="2 products with 1 image")).to_be_visible()
    assert [item["id"] for item in Axe().run(page).response["violations"]] == []
    page.get_by_label("Remember these columns as…").fill("supplier")
    page.get_by_role("button", name="Create the job").click()
    expect(page.locator("#reference")).to_be_visible()

    page.goto("/jobs")
    page.set_input_files("#file", file)
    page.get_by_role("button", name="Upload").click()
    expect(page.locator("#reference")).to_be_visible()


def test_a_file_that_is_dropped_is_handed_in(visit, shop: Server, pictures: str) -> None:
    page = visit(shop).page
    page.goto("/jobs")
    transfer = page.evaluate_handle(
        """url => {
            const data = new DataTransfer();
            const text = `S. No.,Product Name,Input Image Urls\\n1,SKU1,${url}/1.png\\n`;
            data.items.add(new File([text], "dropped.csv", {type: "text/csv"}));
            return data;
        }""",
        pictures,
    )
    page.dispatch_event("[data-drop]", "drop", {"dataTransfer": transfer})
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_text("dropped.csv. Keep the number")).to_be_visible()
    expect(page.get_by_role("heading", name="Completed")).to_be_visible(timeout=PATIENT_MS)


def test_an_image_is_taken_down_and_lifted_from_its_page(visit, shop: Server) -> None:
    page = visit(shop).page
    page.goto("/images?folder=shoes")
    page.get_by_role("link", name="withdrawn.png").click()
    expect(page.get_by_role("heading", name="withdrawn.png")).to_be_visible()
    file = "/files/half/shoes/withdrawn.png"
    assert shop.get(file).status_code == 200
    page.get_by_text("Take down…").click()
    page.get_by_label("Why").fill("withdrawn by its owner")
    page.get_by_role("button", name="Take down").click()
    expect(page.get_by_text("2 renditions deleted").first).to_be_visible()
    assert shop.get(file).status_code == 410
    expect(page.get_by_role("heading", name="withdrawn by its owner")).to_be_visible()
    expect(page.locator("dd", has_text=getpass.getuser()).first).to_be_visible()
    # Another tab comes second, and is told.
    other = page.context.new_page()
    other.goto("/takedowns")
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("1 original is back")).to_be_visible()
    shop.until(lambda: shop.get(file).status_code == 200)
    other.get_by_text("Reinstate…").first.click()
    other.get_by_role("button", name="Reinstate takedown").first.click()
    expect(other.get_by_role("alert")).to_contain_text("It was already reinstated, by")
    expect(other.get_by_role("heading", name="Story")).to_be_visible()


def test_undo_is_offered_for_ten_seconds_and_the_picture_is_blurred(visit, shop: Server) -> None:
    page = visit(shop).page
    page.clock.install()
    page.goto("/takedowns/1")
    picture = page.get_by_role("img", name="What takedown 1 removed")
    assert "blur" in picture.evaluate("image => getComputedStyle(image).filter")
    page.get_by_text("Show", exact=True).click()
    assert picture.evaluate("image => getComputedStyle(image).filter") == "none"
    assert picture.evaluate("image => image.naturalWidth") > 0
    page.get_by_text("Reinstate…").click()
    page.get_by_role("button", name="Reinstate takedown").click()
    undo = page.get_by_role("button", name="Undo")
    expect(undo).to_be_visible()
    # Whoever has reached it by keyboard does not lose it.
    undo.focus()
    page.clock.run_for(15_000)
    expect(undo).to_be_visible()
    page.locator("main").focus()
    page.clock.run_for(2_000)
    expect(undo).to_have_count(0)


def test_the_gallery_goes_on_as_one_scrolls(visit, shop: Server) -> None:
    page = visit(shop).page
    page.goto("/images?folder=many")
    expect(page.locator("#tiles .tile")).to_have_count(48)
    page.locator("#more").scroll_into_view_if_needed()
    expect(page.locator("#tiles .tile")).to_have_count(60)
    expect(page.locator("#more")).to_have_count(0)


def test_home_moves_by_itself(visit, make_project) -> None:
    project = make_project("moving")
    with serving(project, "--no-watch") as server:
        page = visit(server).page
        page.goto("/")
        expect(page.get_by_role("heading", name="Ready for the first originals")).to_be_visible()
        project.add("a.png")
        project.run()
        expect(page.get_by_role("heading", name="All in step")).to_be_visible(timeout=PATIENT_MS)
        expect(page.locator("#past li")).to_have_count(1)


@pytest.mark.parametrize(("size", "theme"), [("desk", "light"), ("phone", "dark")])
def test_home_shows_a_bar_for_each_lane(visit, tmp_path: Path, size: str, theme: str) -> None:
    loopback = Loopback()
    shop = Shop(tmp_path / "busy", loopback)
    make_busy(shop)
    try:
        with serving(shop) as server:
            page = visit(server, size, theme).page
            page.goto("/")
            originals = page.get_by_role("progressbar", name="Progress of originals")
            expect(originals).to_be_visible()
            expect(page.get_by_role("progressbar", name="Progress of fetching")).to_be_visible()
            expect(page.get_by_text("of 2 images")).to_be_visible()
            expect(page.locator(".going")).to_contain_text(" left")
            assert [item["id"] for item in Axe().run(page).response["violations"]] == []
            assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]
            # One ends before the other, and then the other.
            expect(originals).to_have_count(0, timeout=PATIENT_MS)
            expect(page.get_by_role("heading", name="1 job unfinished")).to_be_visible()
            loopback.gate.set()  # type: ignore[attr-defined]
            expect(page.get_by_role("heading", name="All in step")).to_be_visible()
            expect(page.get_by_text("Idle")).to_be_visible()
    finally:
        loopback.gate.set()  # type: ignore[attr-defined]
        loopback.stop()


def test_a_page_for_which_there_is_no_stream_polls(visit, make_project) -> None:
    project = make_project("polling")
    text = (project.root / "app.py").read_text("utf-8")
    none_left = "\nfrom pipeline.web import listeners\n\nlisteners.STREAMS = 0\n"
    (project.root / "app.py").write_text(text + none_left, "utf-8")
    project.env["PYTHONPATH"] = str(project.root)
    with serving(project, "--no-watch") as server:
        page = visit(server).page
        page.clock.install()
        with page.expect_response("**/events.json") as polled:
            page.goto("/")
        moves = polled.value.json()["moves"]
        expect(page.get_by_role("heading", name="Ready for the first originals")).to_be_visible()
        project.add("a.png")
        project.run()
        server.until(lambda: server.get("/events.json").json()["moves"] > moves)
        page.clock.fast_forward(10_000)
        expect(page.get_by_role("heading", name="All in step")).to_be_visible(timeout=PATIENT_MS)


def test_pages_work_without_script(browser: Browser, shop: Server) -> None:
    context = browser.new_context(java_script_enabled=False, base_url=shop.url)
    page = context.new_page()
    page.goto("/images?folder=many")
    page.get_by_role("link", name="Show more").click()
    expect(page.locator("#tiles .tile")).to_have_count(12)
    page.goto("/failed")
    page.get_by_role("button", name="Retry all").click()
    expect(page.get_by_text("2 failures are retried")).to_be_visible()
    context.close()


PAGES = (
    "/",
    "/jobs",
    "/images",
    "/images/shoes/red.png",
    "/images/bad.png",
    "/images?text=zebra",
    "/failed",
    "/review",
    "/takedowns",
    "/takedowns?text=zebra",
    "/takedowns/1",
    "/recipes",
    "/docs",
    "/nowhere",
)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("size", SIZES)
def test_pages_are_usable_by_everybody_and_stand_still(
    visit, shop: Server, size: str, theme: str
) -> None:
    page = visit(shop, size, theme).page
    page.add_init_script(
        """window.shifted = 0;
        new PerformanceObserver(list => {
            for (const entry of list.getEntries()) window.shifted += entry.value;
        }).observe({type: "layout-shift", buffered: true});"""
    )
    backgrounds = set()
    for path in PAGES:
        page.goto(path, wait_until="networkidle" if path not in ("/", "/jobs") else "load")
        # Each theme once, each size once: two of the four would find nothing else.
        asked = (size, theme) in (("desk", "light"), ("phone", "dark"))
        found = Axe().run(page).response["violations"] if asked else []
        serious = [
            (item["id"], [node["html"] for node in item["nodes"]])
            for item in found
            if item["impact"] in ("serious", "critical", "moderate")
        ]
        assert serious == [], path
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= SIZES[size][0], path
        assert page.evaluate("window.shifted") < 0.01, path
        backgrounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(backgrounds) == 1
    dark = sum(int(part) for part in next(iter(backgrounds))[4:-1].split(",")) < 3 * 128
    assert dark == (theme == "dark")


def test_the_keyboard_reaches_the_content_first(visit, shop: Server) -> None:
    page = visit(shop).page
    page.goto("/images")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_a_token_is_asked_for_once(visit, make_project) -> None:
    project = make_project("locked")
    project.env["PIPELINE_TOKEN"] = "correct-horse-battery"
    with serving(project, "--no-watch") as server:
        page = visit(server).page
        page.goto("/images")
        page.get_by_label("Token").fill("wrong")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert")).to_have_text("That token is not known.")
        page.get_by_label("Token").fill("correct-horse-battery")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("heading", name="Images")).to_be_visible()
        assert page.evaluate("document.cookie") == ""
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_label("Token")).to_be_visible()
        page.goto("/images")
        expect(page.get_by_label("Token")).to_be_visible()
