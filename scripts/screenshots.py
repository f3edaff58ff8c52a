"""Make the pictures of docs/web.md: `python scripts/screenshots.py`.

Serves the samples of `input/` from a folder of its own, asks for each page as a person sees it, and
writes small WebP files to `docs/pictures/`. Needs a Chromium and the development dependencies.
"""

from __future__ import annotations

import functools
import http.server
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from PIL import Image
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "pictures"
DESK, PHONE = (1280, 900), (390, 844)
WIDTH_PX = {DESK: 1000, PHONE: 390}
QUALITY = 80
GIVE_UP_S = 60


def main() -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no Chromium on the PATH: install one (apt-get install chromium)")
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, originals() as port:
        project = Path(folder)
        for name in ("app.py", "recipes.toml"):
            shutil.copy(ROOT / name, project)
        shutil.copytree(ROOT / "input", project / "input")
        (project / "input/shop/broken.jpg").write_text("not a picture at all", "utf-8")
        with serving(project, port) as url:
            reference = a_job(url, port)
            wait_until(lambda: httpx.get(f"{url}/files/thumb/dusk.jpg.webp").status_code == 200)
            answer = httpx.post(
                f"{url}/takedowns",
                json={"path": "moon.gif", "reason": "withdrawn by its owner"},
            )
            answer.raise_for_status()
            with sync_playwright() as playwright:
                arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
                browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
                for name, path, size, theme in (
                    ("home", "/", DESK, "light"),
                    ("home-dark", "/", PHONE, "dark"),
                    ("images", "/images", DESK, "dark"),
                    ("image", "/images/travel/lighthouse.jpg", DESK, "light"),
                    ("job", f"/jobs/{reference}", DESK, "light"),
                    ("job-phone", f"/jobs/{reference}", PHONE, "light"),
                    ("failed", "/failed", DESK, "light"),
                    ("takedowns", "/takedowns", DESK, "dark"),
                ):
                    context = browser.new_context(
                        viewport={"width": size[0], "height": size[1]},
                        color_scheme=theme,
                    )
                    page = context.new_page()
                    page.goto(url + path)
                    page.wait_for_timeout(1000)
                    save(page, name, WIDTH_PX[size])
                    context.close()
                browser.close()
    total = sum(file.stat().st_size for file in PICTURES.iterdir())
    print(f"{total / 1000:,.0f} kB in {PICTURES}")


def save(page: Page, name: str, width_px: int) -> None:
    """The whole page, as wide as the docs show it."""
    image = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    height_px = round(image.height * width_px / image.width)
    image = image.resize((width_px, height_px), Image.Resampling.LANCZOS)
    image.save(PICTURES / f"{name}.webp", quality=QUALITY, method=6)


def a_job(url: str, port: int) -> str:
    """A job with three images, one of which is not there; its reference."""
    address = f"http://127.0.0.1:{port}"
    csv = (
        "S. No.,Product Name,Input Image Urls\n"
        f'1,Mug,"{address}/shop/mug.png,{address}/shop/mug-blue.webp"\n'
        f"2,Teapot,{address}/shop/teapot.png\n"
    )
    answer = httpx.post(f"{url}/jobs", files={"file": ("kitchen.csv", csv)})
    answer.raise_for_status()
    reference: str = answer.json()["reference"]
    ended = ("completed", "completed_with_errors")
    wait_until(lambda: httpx.get(f"{url}/jobs/{reference}").json()["state"] in ended)
    return reference


def wait_until(ready: object) -> None:
    deadline = time.monotonic() + GIVE_UP_S
    while not ready():  # type: ignore[operator]
        if time.monotonic() > deadline:
            sys.exit("the service did not get ready")
        time.sleep(0.2)


@contextmanager
def originals() -> Iterator[int]:
    """The port of a server of the samples."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(ROOT / "input"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()


@contextmanager
def serving(project: Path, port: int) -> Iterator[str]:
    """The address of a service over ``project``, which may fetch from ``port``."""
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("datapipe")), "serve", "--port", "0"],
        cwd=project,
        env={
            **os.environ,
            "PIPELINE_FETCH_ALLOW": "127.0.0.1",
            "PIPELINE_FETCH_PORTS": str(port),
            "PIPELINE_FETCH_RETRIES": "0",
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        for line in process.stderr:
            said = re.search(r"at (http://\S+)", line)
            if said:
                break
        else:
            sys.exit("the service ended by itself")
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield said.group(1)
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
