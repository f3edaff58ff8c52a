"""What the page costs: the gallery at a million originals, files, uploads, takedowns, Home.

    python -m benchmarks.web [--count 1000000] [--asks 200] [--uploads 200]

The million is made of rows alone: the gallery reads no file. See README.md in this folder.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import http.client
import json
import os
import random
import re
import shutil
import sqlite3
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from urllib.parse import quote

from benchmarks import lockstep, table, tiny
from benchmarks.job import Recipe
from benchmarks.lockstep import Project, UnexpectedRun
from benchmarks.options import parsed
from benchmarks.table import Target

RECIPES = (
    Recipe("half", "jpeg", 85, scale=0.5),
    Recipe("thumb", "jpeg", 85, fit=(400, 400)),
)
FAILED_EVERY = 1_000
CHUNK = 10_000
REAL = 40
WRK_S = 5
GIVE_UP_S = 120.0
HTML = {"Accept": "text/html", "Accept-Encoding": "gzip"}


@dataclass
class Findings:
    """Milliseconds a page by kind, files a second, uploads, seconds a takedown, bytes of Home."""

    gallery_ms: dict[str, list[float]] = field(default_factory=dict)
    files_per_s: float | None = None
    nginx_files_per_s: float | None = None
    uploads: int = 0
    lost: int | None = None
    uploads_s: float | None = None
    takedown_s: list[float] = field(default_factory=list)
    home_bytes: int | None = None

    def targets(self) -> list[Target]:
        """What was promised."""
        times = None
        if self.files_per_s is not None and self.nginx_files_per_s:
            times = self.files_per_s / self.nginx_files_per_s
        home = None if self.home_bytes is None else self.home_bytes / 1000
        every = [one for kind in self.gallery_ms.values() for one in kind]
        return [
            Target("gallery, all kinds of page, p95", p95(every), 50.0, False, " ms"),
            Target("files, times nginx's rate", times, 0.5, True),
            Target("uploads lost", self.lost, 0, False),
            Target("takedown, click to 410, p95", p95(self.takedown_s), 1.0, False, " s"),
            Target("Home without images", home, 60.0, False, " kB"),
        ]


def p95(values: list[float]) -> float | None:
    """The value that 95 % of all do not pass; ``None`` of too few."""
    return statistics.quantiles(values, n=20)[-1] if len(values) > 1 else None


def main() -> None:
    options = _options()
    reason = lockstep.missing()
    if reason:
        raise SystemExit(reason)
    found = Findings()
    large = Project(options.scratch / "web-large", options.scratch / "web-none", RECIPES)
    if not (options.again and (large.folder / "db.sqlite").exists()):
        large.prepare()
        large.input.mkdir(parents=True, exist_ok=True)
        create_tables(large)
        print(f"writing the rows of {options.count:,} originals", file=sys.stderr)
        fill(large.folder / "db.sqlite", options.count)
    with serving(large) as port:
        print("gallery", file=sys.stderr)
        found.gallery_ms = gallery(port, options.count, options.asks)
    small = Project(options.scratch / "web-small", options.scratch / "web-few", RECIPES)
    shutil.rmtree(small.input, ignore_errors=True)
    tiny.make(small.input, REAL, only_jpeg=True)
    (small.input.parent / f"{small.input.name}.made").unlink()
    small.prepare()
    lockstep.check(small.run(), rendered=REAL * len(RECIPES))
    with serving(small) as port:
        found.home_bytes = home_bytes(port)
        print("files", file=sys.stderr)
        found.files_per_s, found.nginx_files_per_s = files(port, small, options.scratch)
        print(f"{options.uploads} uploads at a time", file=sys.stderr)
        found.uploads, found.lost, found.uploads_s = uploads(port, options.uploads)
        print("takedowns", file=sys.stderr)
        found.takedown_s = takedowns(port, small)
    show(found)
    if options.json:
        record = asdict(found) | {"targets": [target.record() for target in found.targets()]}
        options.json.write_text(json.dumps(record, indent=1), encoding="utf-8")


def show(found: Findings) -> None:
    print(table.render_targets(found.targets()))
    rows = [
        [kind, f"{statistics.median(times):.1f} ms", f"{p95(times):.1f} ms", f"{max(times):.1f} ms"]
        for kind, times in found.gallery_ms.items()
    ]
    print(table.render("Pages of the gallery", ["page", "median", "p95", "longest"], rows))
    if found.files_per_s:
        beside = f", nginx {found.nginx_files_per_s:,.0f}" if found.nginx_files_per_s else ""
        print(f"files a second: {found.files_per_s:,.0f}{beside}")
    if found.uploads_s:
        print(f"uploads: {found.uploads} in {found.uploads_s:.1f} s, {found.lost} lost")


@contextlib.contextmanager
def serving(project: Project) -> Iterator[int]:
    """The port of a `datapipe serve` of its own; it runs when it is asked to."""
    datapipe = lockstep.command()
    assert datapipe is not None
    state = {"PIPELINE_STATE": str(project.folder / "state")}
    process = subprocess.Popen(
        [os.fspath(datapipe), "serve", "--port", "0", "--no-watch"],
        cwd=lockstep.REPOSITORY,
        env={**os.environ, **project.env(), **state},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            said = re.search(r"at http://127.0.0.1:(\d+)", line)
            if said:
                break
        else:
            raise UnexpectedRun("the server ended by itself")
        # What it logs later must not fill the pipe.
        subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
        yield int(said.group(1))
    finally:
        process.terminate()
        process.wait()


def create_tables(project: Project) -> None:
    datapipe = lockstep.command()
    assert datapipe is not None
    subprocess.run(
        [datapipe, "db", "create-all"],
        cwd=lockstep.REPOSITORY,
        env={**os.environ, **project.env()},
        check=True,
    )


def fill(database: Path, count: int) -> None:
    """Rows as after a run over ``count`` originals, of which every thousandth failed."""
    con = sqlite3.connect(database)
    con.execute("PRAGMA synchronous = OFF")
    for recipe in RECIPES:
        con.execute(
            "INSERT INTO recipes (source, recipe, fingerprint, spec) "
            "VALUES ('input', ?, 'f', '{}')",
            (recipe.name,),
        )
        con.execute(
            "INSERT INTO recipes_meta (source, recipe, hash, create_ts, update_ts, process_ts) "
            "VALUES ('input', ?, 1, 1, 1, 1)",
            (recipe.name,),
        )
    names = enumerate(tiny.names(count))
    while chunk := list(islice(names, CHUNK)):
        paths = [path for _, path in chunk]
        con.executemany(
            "INSERT INTO originals (source, path, size_bytes, mtime_ns, ctime_ns, inode) "
            "VALUES ('input', ?, 1000, 1, 1, 1)",
            [(path,) for path in paths],
        )
        con.executemany(
            "INSERT INTO originals_meta (source, path, hash, create_ts, update_ts, process_ts) "
            "VALUES ('input', ?, 1, 1, 1, 1)",
            [(path,) for path in paths],
        )
        for recipe in RECIPES:
            con.executemany(
                "INSERT INTO renditions (source, path, recipe, file, width_px, height_px, "
                "size_bytes, file_sha256, sha256, original_bytes, state, reason, since, "
                "fingerprint, renderer)"
                " VALUES ('input', ?, ?, ?, 400, 300, 900, ?, ?, 1000, ?, ?, 1, 'f', 1)",
                [_rendition(path, recipe.name, number) for number, path in chunk],
            )
            for of in ("renditions_meta", "render_meta"):
                columns = (
                    "source, path, recipe, hash, create_ts, update_ts, process_ts"
                    if of == "renditions_meta"
                    else "source, path, recipe, process_ts, is_success, priority, error"
                )
                values = "1, 2, 2, 2" if of == "renditions_meta" else "2, 1, 0, NULL"
                con.executemany(
                    f"INSERT INTO {of} ({columns}) VALUES ('input', ?, ?, {values})",
                    [(path, recipe.name) for path in paths],
                )
        con.commit()
    con.close()


def _rendition(path: str, recipe: str, number: int) -> tuple[object, ...]:
    digest = f"{number:064x}"
    if number % FAILED_EVERY == 0:
        return (path, recipe, None, None, digest, "failed", f"broken in way {number % 7}")
    return (path, recipe, f"{recipe}/{path}", digest, digest, "ok", None)


def ask(port: int, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """The status and the bytes on the wire of one answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=GIVE_UP_S)
    try:
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def gallery(port: int, count: int, asks: int) -> dict[str, list[float]]:
    """Milliseconds of pages anywhere among the originals, by kind, for people and for programs."""
    dice = random.Random(1)
    folders = max(1, count // tiny.FILES_PER_FOLDER)

    def somewhere() -> str:
        number = dice.randrange(count)
        return quote(f"{number // tiny.FILES_PER_FOLDER:04d}/{number:07d}")

    kinds = {
        "first": lambda: "/images",
        "anywhere": lambda: f"/images?after={somewhere()}",
        "folder": lambda: f"/images?folder={dice.randrange(folders):04d}",
        "in step": lambda: f"/images?state=ok&after={somewhere()}",
        "failed": lambda: f"/images?state=failed&after={somewhere()}",
        "text, found": lambda: f"/images?text={dice.randrange(100):02d}.jp&after={somewhere()}",
        "text, not found": lambda: f"/images?text=zebra&after={somewhere()}",
    }
    deadline = time.monotonic() + GIVE_UP_S
    while json.loads(ask(port, "/status")[1])["counts"] is None:  # the first count, which is long
        if time.monotonic() > deadline:
            raise UnexpectedRun("nothing was counted")
        time.sleep(0.5)
    times: dict[str, list[float]] = {}
    for kind, make in kinds.items():
        for number in range(asks):
            headers = HTML if number % 2 else {"Accept": "application/json"}
            path = make()
            began = time.perf_counter()
            status, _ = ask(port, path, headers)
            if status != 200:
                raise UnexpectedRun(f"{path}: {status}")
            times.setdefault(kind, []).append((time.perf_counter() - began) * 1000)
    return times


def home_bytes(port: int) -> int:
    """Home and all that it loads, without images, as it goes over the wire."""
    status, body = ask(port, "/", HTML)
    assert status == 200
    page = gzip.decompress(body).decode()
    parts = set(re.findall(r'(?:src|href)="(/static/[^"]+\.(?:js|css)\?[^"]+)"', page))
    return len(body) + sum(len(ask(port, part, HTML)[1]) for part in parts)


def files(port: int, project: Project, scratch: Path) -> tuple[float | None, float | None]:
    """Files a second by wrk, and by nginx beside it; ``None`` for what is not installed."""
    if shutil.which("wrk") is None:
        print("wrk is not installed: files are left out", file=sys.stderr)
        return None, None
    name = next(path for path in sorted(project.output.rglob("*.jpg")))
    path = quote(name.relative_to(project.output).as_posix())
    ours = _wrk(f"http://127.0.0.1:{port}/files/{path}")
    nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if nginx is None:
        return ours, None
    folder = scratch / "nginx"
    folder.mkdir(exist_ok=True)
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    config.write_text(
        f"{user} worker_processes 1; pid {folder}/pid; error_log {folder}/log; daemon off;\n"
        f"events {{}}\nhttp {{ access_log off; sendfile on;\n{temporary}"
        f"server {{ listen 127.0.0.1:{port + 1}; location /files/ {{ alias {project.output}/; }} }}"
        "}\n",
        encoding="utf-8",
    )
    process = subprocess.Popen([nginx, "-c", os.fspath(config)])
    try:
        time.sleep(1)
        return ours, _wrk(f"http://127.0.0.1:{port + 1}/files/{path}")
    finally:
        process.terminate()
        process.wait()


def _wrk(url: str) -> float:
    command = ["wrk", "-t1", "-c8", f"-d{WRK_S}s", url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    if "Non-2xx" in done.stdout:
        raise UnexpectedRun(done.stdout)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    assert rate is not None
    return float(rate.group(1))


def uploads(port: int, count: int) -> tuple[int, int, float]:
    """Submit so many CSVs at the same time: how many, how many of them are lost, and seconds."""
    began = time.perf_counter()
    with ThreadPoolExecutor(count) as pool:
        references = list(pool.map(lambda number: _upload(port, number), range(count)))
    took = time.perf_counter() - began
    known = {reference for reference in references if reference is not None}
    there = sum(ask(port, f"/jobs/{reference}")[0] == 200 for reference in known)
    return count, count - there, took


def _upload(port: int, number: int) -> str | None:
    mark = uuid.uuid4().hex
    csv = f"S. No.,Product Name,Input Image Urls\n1,SKU{number},https://x.invalid/{number}.jpg\n"
    body = (
        f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="{number}.csv"\r\n'
        f"Content-Type: text/csv\r\n\r\n{csv}\r\n--{mark}--\r\n"
    )
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=GIVE_UP_S)
    try:
        kind = {"Content-Type": f"multipart/form-data; boundary={mark}"}
        connection.request("POST", "/jobs", body, kind)
        answer = connection.getresponse()
        told = json.loads(answer.read())
        reference: str | None = told.get("reference") if answer.status == 202 else None
        return reference
    except OSError:
        return None
    finally:
        connection.close()


def takedowns(port: int, project: Project) -> list[float]:
    """Seconds from asking until the file answers 410, for half of the originals."""
    times = []
    for original in sorted(project.input.rglob("*.jpg"))[: REAL // 2]:
        key = original.relative_to(project.input).as_posix()
        url = f"/files/half/{quote(key)}"
        if ask(port, url)[0] != 200:
            raise UnexpectedRun(f"{url} is not served")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=GIVE_UP_S)
        began = time.perf_counter()
        body = json.dumps({"path": key, "reason": "measured"})
        connection.request("POST", "/takedowns", body, {"Content-Type": "application/json"})
        if connection.getresponse().status != 201 or ask(port, url)[0] != 410:
            raise UnexpectedRun(f"{key} was not taken down")
        times.append(time.perf_counter() - began)
        connection.close()
    return times


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.web",
        description="What the page costs.",
        epilog="example: python -m benchmarks.web --count 100000 --asks 50",
    )
    add = parser.add_argument
    add("--count", type=int, default=1_000_000, help="originals (default: %(default)s)")
    add("--asks", type=int, default=200, help="of each kind of page (default: %(default)s)")
    add("--uploads", type=int, default=200, help="at a time (default: %(default)s)")
    add("--again", action="store_true", help="take the tables of the last time")
    return parsed(parser)


if __name__ == "__main__":
    try:
        main()
    except (UnexpectedRun, KeyboardInterrupt) as error:
        sys.exit(str(error) or 130)
