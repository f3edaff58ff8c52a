"""A dry run: it counts what the following run then does, and writes nothing."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from a_project import HALF_AND_THUMB
from a_shop import Shop
from fetch_fixtures import authority, fetcher, server, tls_server, trusting
from loopback import Server

# Fixtures that these tests share with those of the fetch.
__all__ = ["authority", "fetcher", "server", "tls_server", "trusting"]


@pytest.fixture
def shop(tmp_path: Path, server: Server) -> Shop:
    """Five originals and a dropped CSV of three rows, all in step."""
    shop = Shop(tmp_path / "shop", server)
    for number in range(5):
        shop.add(f"{number}.png")
    shop.csv({str(n): shop.urls(f"/pic/{n}") for n in range(1, 4)}, "input/feed.csv")
    shop.run()
    return shop


def counts(report: dict[str, Any]) -> dict[str, int]:
    """What a run did, or would do, where that is not 0.

    Rendered, reused and failed are one: which of them it is, a run knows once it is done.
    """
    originals, renditions, jobs = report["originals"], report["renditions"], report["jobs"]
    images = jobs["renditions"]
    found = {
        **{name: originals[name] for name in ("new", "changed", "removed", "unchanged")},
        "made": renditions["rendered"] + renditions["reused"] + renditions["failed"],
        **{name: renditions[name] for name in ("deleted", "taken_down")},
        **{f"jobs {name}": jobs[name] for name in ("received", "rejected", "failed", "deleted")},
        "asked": jobs["images"]["asked"],
        "images made": images["rendered"] + images["reused"],
        "images deleted": images["deleted"],
        **report["ignored"],
    }
    return {name: count for name, count in found.items() if count}


def killed(shop: Shop) -> None:
    """A run that is killed when it is about to render."""

    def prepare() -> None:
        from pipeline.workers.local import Workers

        Workers.submit = lambda *task: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore

    assert shop.in_child(prepare, "run") == -signal.SIGKILL


@contextlib.contextmanager
def running(shop: Shop) -> Iterator[None]:
    """Another process holds the lock of runs."""
    code = (
        "import sys; from pipeline.database.locks import RUN_LOCK; from pipeline.tables import "
        "connect\nwith connect('sqlite:///db.sqlite').lock(RUN_LOCK): print(flush=True); input()"
    )
    command = [sys.executable, "-c", code]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=shop.root, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        assert shop.cli("run").code == 3
        yield
        process.communicate(b"\n")


def cut_off(shop: Shop) -> None:
    """A run that is killed after its scan, and more that changed since."""
    shop.add("0.png", seed=90)
    os.utime(shop.input / "1.png")
    shop.add("new.png")
    (shop.input / "4.png").unlink()
    killed(shop)
    shop.add("2.png", seed=91)
    (shop.input / "new.png").unlink()


def break_one(shop: Shop) -> None:
    (shop.input / "0.png").write_bytes(b"no image")


def fail_before(shop: Shop) -> None:
    """A failure that a run has recorded, touched, and one that is to be tried again."""
    break_one(shop)
    shop.add("1.png").write_bytes(b"none either")
    shop.run(code=1)
    os.utime(shop.input / "0.png")
    assert shop.cli("retry", "1.png").code == 0


def take_down(shop: Shop, name: str) -> bytes:
    data = (shop.input / name).read_bytes()
    assert shop.cli("takedown", "add", name, "--reason", "withdrawn").code == 0
    return data


def taken_down(shop: Shop) -> None:
    """The bytes that were taken down come again; those of a run before stay, and a recipe moves."""
    data = take_down(shop, "0.png")
    (shop.input / "again.png").write_bytes(data)
    shop.run()
    (shop.input / "once more.png").write_bytes(data)
    (shop.input / "1.png").write_bytes(data)
    shop.recipes(HALF_AND_THUMB.replace("0.5", "0.4"))


def renamed(shop: Shop) -> None:
    (shop.input / "0.png").rename(shop.input / "moved.png")


def touched(shop: Shop) -> None:
    os.utime(shop.input / "0.png")
    os.utime(shop.input / "feed.csv")


def recipe_put_back(shop: Shop) -> None:
    """A run is killed when it has stored a changed recipe, which is then as it was before."""
    shop.recipes(HALF_AND_THUMB.replace("0.5", "0.4"))
    killed(shop)
    shop.recipes(HALF_AND_THUMB)


def recipe_returns(shop: Shop) -> None:
    """A run is killed when it has removed a recipe, and none of its renditions; it is back."""
    shop.recipes("[half]\nscale = 0.5\n")

    def prepare() -> None:
        from pipeline.engine.publish import Publisher

        Publisher.delete = lambda *args: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore

    assert shop.in_child(prepare, "run") == -signal.SIGKILL
    shop.recipes(HALF_AND_THUMB)


def touched_and_retried(shop: Shop) -> None:
    break_one(shop)
    shop.run(code=1)
    shop.cli("retry")
    os.utime(shop.input / "0.png")
    os.utime(shop.input / "1.png")


def verified(shop: Shop) -> None:
    """A rendition that is missing, which `verify` has noted, of an original that was touched."""
    (shop.output / "half/0.png").unlink()
    os.utime(shop.input / "0.png")
    (shop.output / "thumb/1.png.webp").unlink()
    os.utime(shop.input / "1.png")


def submitted(shop: Shop) -> None:
    """Two CSVs with a URL in common, and one that is fetched already."""
    shop.submit(shop.csv({"1": shop.urls("/pic/1", "/pic/7"), "2": shop.urls("/pic/8")}))
    shop.submit(shop.csv({"1": shop.urls("/pic/8")}, "other.csv"))


def waiting(shop: Shop) -> None:
    """A run that is killed before it has fetched a single URL of a job."""
    shop.submit(shop.csv({"1": shop.urls("/pic/1", "/pic/7"), "2": shop.urls("/pic/8")}))

    def prepare() -> None:
        from pipeline.jobs import fetching

        fetching.Fetching._fetch = lambda *args: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore

    assert shop.in_child(prepare, "run") == -signal.SIGKILL


def unrendered(shop: Shop) -> None:
    """A run that is killed when the images of a job are fetched, and none is rendered."""
    shop.submit(shop.csv({"1": shop.urls("/pic/7"), "2": shop.urls("/pic/8")}))
    killed(shop)


def refetched(shop: Shop) -> None:
    assert shop.cli("job", "refresh", str(shop.job()["reference"])).code == 0


def deleted(shop: Shop) -> None:
    """A job that is deleted by a command while a run is in progress, which leaves it behind."""
    reference = shop.submit(shop.csv({"1": shop.urls("/pic/1", "/pic/7")}))
    shop.run()
    with running(shop):
        answer = shop.cli("job", "delete", reference, "--json")
    assert (answer.code, answer.json["removed"]) == (0, False), answer


def csv_changed(shop: Shop) -> None:
    """A row stays, one has another URL, one is gone, one is new."""
    rows = {"1": "/pic/1", "2": "/pic/20", "4": "/pic/4"}
    shop.csv({n: shop.urls(path) for n, path in rows.items()}, "input/feed.csv")


def csv_shortened(shop: Shop) -> None:
    shop.csv({"1": shop.urls("/pic/1")}, "input/feed.csv")


def csv_broken(shop: Shop) -> None:
    shop.csv([["1", "", "x"]], "input/feed.csv")
    shop.csv([["1", "", "x"]], "input/bad.csv")


def csv_gone(shop: Shop) -> None:
    (shop.input / "feed.csv").unlink()


def csvs_new(shop: Shop) -> None:
    shop.csv({str(n): shop.urls(f"/pic/{n}") for n in range(3, 7)}, "input/a/new.csv")
    shop.csv({str(n): shop.urls(f"/pic/{n}") for n in range(5, 9)}, "input/b/new.csv")


SITUATIONS: dict[str, Callable[[Shop], Any]] = {
    "nothing": lambda shop: None,
    "new": lambda shop: shop.add("new/5.png"),
    "a copy": lambda shop: shutil.copy(shop.input / "0.png", shop.input / "copy.png"),
    "changed": lambda shop: shop.add("0.png", seed=90),
    "touched": touched,
    "removed": lambda shop: (shop.input / "0.png").unlink(),
    "renamed": renamed,
    "broken": break_one,
    "ignored": lambda shop: (shop.input / "notes.txt").write_text("people's own"),
    "a recipe is new": lambda shop: shop.recipes(HALF_AND_THUMB + "[new]\nscale = 0.25\n"),
    "a recipe changed": lambda shop: shop.recipes(HALF_AND_THUMB.replace("0.5", "0.4")),
    "a recipe is gone": lambda shop: shop.recipes("[half]\nscale = 0.5\n"),
    "a recipe is renamed": lambda shop: shop.recipes(HALF_AND_THUMB.replace("thumb", "tiny")),
    "a changed recipe is put back": recipe_put_back,
    "a removed recipe returns": recipe_returns,
    "taken down": taken_down,
    "failed before": fail_before,
    "touched and retried": touched_and_retried,
    "a rendition is missing": verified,
    "cut off": cut_off,
    "csvs new": csvs_new,
    "csv changed": csv_changed,
    "csv shortened": csv_shortened,
    "csv broken": csv_broken,
    "csv gone": csv_gone,
    "submitted": submitted,
    "URLs wait": waiting,
    "images not rendered": unrendered,
    "refetched": refetched,
    "deleted": deleted,
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_run_does_what_a_dry_run_said(shop: Shop, situation: str) -> None:
    idle = counts(shop.run())
    SITUATIONS[situation](shop)
    said = counts(shop.run("--dry-run"))
    assert said == counts(shop.run(code=None))
    assert (said == idle) == (situation in ("nothing", "touched"))
    left = counts(shop.run("--dry-run"))
    assert left.keys() <= {"unchanged", *IGNORED}


IGNORED = {"other suffix (.txt)"}


def everything(shop: Shop) -> dict[str, tuple[int, int, bytes]]:
    """Every file of the project, but for what SQLite's readers note for one another."""
    return {
        str(file): (file.stat().st_ino, file.stat().st_mtime_ns, file.read_bytes())
        for file in sorted(shop.root.rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts and not file.match("*.sqlite-shm")
    }


def test_a_dry_run_and_explain_only_read_also_while_a_run_is_in_progress(shop: Shop) -> None:
    """With changes of every kind to ask each step about, and of a run that was cut off."""
    for situation in (cut_off, taken_down, csv_changed, csvs_new, submitted):
        situation(shop)
    (shop.input / "3.png").unlink()
    statements: set[str] = set()

    def note(con: object, cursor: object, statement: str, *rest: object) -> None:
        statements.add(statement.split()[0].upper())

    with running(shop):
        before = everything(shop)
        sa.event.listen(sa.Engine, "before_cursor_execute", note)
        try:
            said = counts(shop.run("--dry-run"))
            for path in ("2.png", "3.png", "again.png", "feed.csv", "a/new.csv"):
                assert shop.cli("explain", path).code == 0
        finally:
            sa.event.remove(sa.Engine, "before_cursor_execute", note)
        assert statements <= {"SELECT", "PRAGMA"}
        assert everything(shop) == before
    assert {"new", "changed", "removed", "taken_down", "jobs received", "asked"} <= said.keys()
    assert said == counts(shop.run(code=None))


def test_a_dry_run_leaves_the_users_own_steps_out(shop: Shop) -> None:
    shop.own_step("def own():\n    open('own', 'w').close()\n")
    shop.add("new.png")
    assert counts(shop.run("--dry-run"))["made"] == 2
    assert not (shop.root / "own").exists()
    assert shop.run()["renditions"]["rendered"] == 2
    assert (shop.root / "own").exists()
