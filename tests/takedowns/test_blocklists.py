"""Lists of hashes: what they block goes at once, and comes back when no list blocks it."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from a_blocklist import block, listed
from a_project import HALF_AND_THUMB, Project
from a_shop import Shop
from a_takedown import audit, originals, sha256, take_down
from fetch_fixtures import server
from loopback import Server
from own_steps import PLACEHOLDER, PLACEHOLDERS, declare, rows
from PIL import Image

from pipeline.imaging.pdq import pdq

# A fixture that these tests share with those of the fetch.
__all__ = ["server"]

FEATURES = f"{HALF_AND_THUMB}\n[features.size]\nfunction = 'size'\n"


def md5(file: Path) -> str:
    return hashlib.md5(file.read_bytes()).hexdigest()


def states(project: Project) -> dict[str, set[tuple[str, str | None]]]:
    found: dict[str, set[tuple[str, str | None]]] = {}
    for path, state, reason in project.query("SELECT path, state, reason FROM renditions"):
        found.setdefault(path, set()).add((state, reason))
    return found


def names(project: Project) -> list[str]:
    return sorted(project.outputs())


@pytest.fixture
def shop(project: Project) -> Project:
    """Two originals with the same bytes, and one of its own."""
    project.recipes("[half]\nscale = 0.5\n")
    project.add("red.png", seed=1)
    project.add("folder/twin.png", seed=1)
    project.add("blue.png", seed=2)
    project.run()
    return project


@pytest.mark.parametrize("hash_of", [sha256, md5], ids=["sha256", "md5"])
def test_what_is_listed_goes_at_once_and_comes_back_without_the_list(
    project: Project, hash_of: Callable[[Path], str]
) -> None:
    project.recipes(FEATURES)
    declare(project, PLACEHOLDERS, PLACEHOLDER)
    red, blue = project.add("red.png", seed=1), project.add("blue.png", seed=2)
    project.run()
    want = project.outputs()
    done = block(project, "--source", "partner", of=f"kind,hash\n{hash_of.__name__},{hash_of(red)}")
    assert (done["sources"], done["added"], done["known"]) == (["partner"], 1, 0)
    assert (done["renditions"], done["values"]) == (2, 1)
    assert names(project) == ["half/blue.png", "thumb/blue.png.webp"]
    assert project.query(
        "SELECT state, value FROM features WHERE path = 'red.png' AND name = 'size'"
    ) == [("taken_down", None)]
    assert states(project)["red.png"] == {("taken_down", "taken down (list partner)")}
    # The original stays: a list may be wrong, and a takedown is a person's decision.
    assert originals(project) == ["blue.png", "red.png"]

    report = project.run()["renditions"]
    assert (report["rendered"], report["taken_down"]) == (0, 0)
    assert rows(project, "SELECT path FROM placeholders") == [("blue.png",), ("blue.png",)]
    red.touch()
    project.add("copy.png", seed=1)
    assert project.cli("run", "--dry-run", "--json").json["renditions"]["taken_down"] == 2
    assert project.run()["renditions"]["taken_down"] == 2
    assert len(project.outputs()) == 2
    assert "list partner" in project.cli("explain", "copy.png").stdout
    (project.input / "copy.png").unlink()

    gone = project.cli("blocklist", "remove", "partner", "--json").json
    assert (gone["removed"], gone["released"]) == (1, 5 + 1)
    project.run()
    assert project.outputs() == want
    assert blue.exists()


def test_content_is_blocked_as_long_as_any_source_blocks_it(shop: Project) -> None:
    red = shop.input / "red.png"
    block(shop, "--source", "a", of=md5(red))
    block(shop, "--source", "b", "--kind", "sha256", of=sha256(red))
    take_down(shop, "blue.png")
    block(shop, "--source", "c", "--kind", "sha256", of=sha256(shop.root / "quarantine/blue.png"))
    assert names(shop) == []
    assert shop.cli("blocklist", "remove", "a").code == 0
    shop.run()
    assert states(shop)["red.png"] == {("taken_down", "taken down (list b)")}
    assert shop.cli("takedown", "reinstate", "1").code == 0
    shop.run()
    assert names(shop) == []
    assert states(shop)["blue.png"] == {("taken_down", "taken down (list c)")}
    for source in "bc":
        assert shop.cli("blocklist", "remove", source).code == 0
    shop.run()
    assert len(shop.outputs()) == 3
    assert shop.cli("blocklist", "remove", "a").code == 2


def test_importing_a_list_again_adds_what_is_new(shop: Project) -> None:
    some = "\n".join(hashlib.md5(bytes([n])).hexdigest() for n in range(9))
    assert block(shop, of=some)["added"] == 9
    before = shop.query("SELECT * FROM blocked_hashes")
    again = block(shop, of=some.upper() + "\r\n" + "0" * 32 + "\r\n")
    assert (again["added"], again["known"]) == (1, 9)
    assert set(before) < set(shop.query("SELECT * FROM blocked_hashes"))
    block(shop, "--reason", "reported", of=some)
    assert shop.query("SELECT count(*) FROM blocked_hashes WHERE reason = 'reported'") == [(9,)]
    (known,) = shop.cli("blocklist", "list", "--json").json
    assert (known["source"], known["md5"], known["complete"]) == ("list", 10, True)


def test_originals_that_were_never_hashed_by_md5_are_read_by_the_import(shop: Project) -> None:
    """As after an upgrade."""
    shop.query("DELETE FROM digests")
    (shop.input / "folder/twin.png").unlink()  # since the last run; the other has its content
    done = block(shop, of=md5(shop.input / "red.png"))
    assert (done["hashed"], done["renditions"], done["unread"]) == (3, 2, [])
    assert names(shop) == ["half/blue.png"]
    assert shop.query("SELECT count(*) FROM digests") == [(2,)]


def test_an_original_that_cannot_be_read_for_its_md5_is_named_until_it_is(shop: Project) -> None:
    shop.query("DELETE FROM digests")
    red, away = shop.input / "red.png", shop.root / "away.png"
    (shop.input / "folder/twin.png").unlink()
    digest = md5(red)
    red.rename(away)  # as where a disk below the folder is not mounted
    answer = listed(shop, of=digest)
    assert answer.code == 0
    assert "folder/twin.png and 1 more: changed, gone or unreadable" in answer.stderr
    away.rename(red)
    shop.run()
    assert names(shop) == ["half/blue.png"]
    assert "warning" not in shop.cli("run").stderr


def test_images_of_jobs_are_blocked_like_originals(tmp_path: Path, server: Server) -> None:
    shop = Shop(tmp_path / "jobs", server)
    shop.csv({"1": shop.urls("/pic/1"), "2": shop.urls("/pic/2")}, "input/feed.csv")
    shop.run()
    ((digest, by_md5),) = shop.query(
        "SELECT r.sha256, md5 FROM renditions r JOIN digests USING (sha256)"
        " WHERE path LIKE '%SKU1%'"
    )
    assert digest != by_md5
    done = block(shop, "--source", "partner", of=by_md5)
    assert done["renditions"] == 1
    shop.run()
    assert [row[-1] for row in shop.answer()[1:]] == ["withdrawn", ""]
    assert shop.cli("blocklist", "remove", "partner").code == 0
    shop.run()
    assert [row[-1] for row in shop.answer()[1:]] == ["", ""]


def test_standard_input_needs_a_name_for_the_list(project: Project) -> None:
    answer = project.cli("blocklist", "import", "-")
    assert answer.code == 2
    assert "--source" in answer.stderr


MD5 = hashlib.md5(b"1").hexdigest()


def random_md5s(count: int) -> list[str]:
    draw = random.Random(count)
    return [f"{draw.getrandbits(128):032x}" for _ in range(count)]


def test_a_long_list_takes_few_statements_and_little_memory(project: Project) -> None:
    import tracemalloc

    counted: dict[str, int] = {}

    def count(con: object, cursor: object, statement: str, values: Any, *rest: object) -> None:
        verb = statement.split()[0]
        counted[verb] = counted.get(verb, 0) + 1
        if verb == "INSERT" and isinstance(values, list):
            assert len(values) <= 10_000

    block(project, of=MD5, name="small.txt")
    sa.event.listen(sa.Engine, "before_cursor_execute", count)
    tracemalloc.start()
    try:
        assert block(project, of="\n".join(random_md5s(40_000)))["added"] == 40_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        sa.event.remove(sa.Engine, "before_cursor_execute", count)
    assert sum(counted.values()) < 120
    # Ten thousand rows at a time: all 40,000 take four times as much.
    assert peak < 25_000_000


def killed_in_chunk(number: int) -> Callable[[], None]:
    def prepare() -> None:
        left = number

        def count(con: object, cursor: object, statement: str, *rest: object) -> None:
            nonlocal left
            if statement.startswith("INSERT INTO blocked_hashes"):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sa.event.listen(sa.Engine, "before_cursor_execute", count)

    return prepare


def test_an_import_that_is_killed_is_named_by_each_run_and_completed_by_the_same_again(
    shop: Project,
) -> None:
    hashes = [md5(shop.input / "red.png"), *random_md5s(25_000)]
    text = "\n".join(sorted(hashes))
    (shop.root / "list.txt").write_text(text, "utf-8")
    code = shop.in_child(killed_in_chunk(3), "blocklist", "import", "list.txt")
    assert code == -signal.SIGKILL
    (known,) = shop.cli("blocklist", "list", "--json").json
    assert (known["md5"], known["complete"]) == (20_000, False)
    assert "the import of the blocklist list was interrupted" in shop.cli("run").stderr
    done = block(shop, of=text)
    assert (done["added"], done["known"]) == (5_001, 20_000)
    assert names(shop) == ["half/blue.png"]
    assert "warning" not in shop.cli("run").stderr
    (known,) = shop.cli("blocklist", "list", "--json").json
    assert known["complete"]


IMPORT_IN_A_RUN = """
def own():
    import subprocess, sys
    from pathlib import Path

    datapipe = Path(sys.executable).with_name("datapipe")
    subprocess.run([datapipe, "blocklist", "import", "list.txt"], check=True)
"""


def test_what_is_listed_during_a_run_is_not_published_by_it(project: Project) -> None:
    project.recipes("[half]\nscale = 0.5\n")
    red = project.add("red.png", seed=1)
    project.add("blue.png", seed=2)
    (project.root / "list.txt").write_text(md5(red), "utf-8")
    project.own_step(IMPORT_IN_A_RUN)
    assert project.run()["renditions"]["taken_down"] == 1
    assert names(project) == ["half/blue.png"]


def killed_while_following() -> None:
    from pipeline.takedowns import listed

    listed.take_rendition = lambda *args: os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_import_did_not_take_away_the_next_run_does(shop: Project) -> None:
    (shop.root / "list.txt").write_text(md5(shop.input / "red.png"), "utf-8")
    code = shop.in_child(killed_while_following, "blocklist", "import", "list.txt")
    assert code == -signal.SIGKILL
    assert len(shop.outputs()) == 3
    shop.run()
    assert names(shop) == ["half/blue.png"]
    assert shop.cli("verify", "--deep").code == 0


def test_the_version_of_the_hashes_moves_with_each_change_and_not_without(shop: Project) -> None:
    def version() -> list[tuple[Any, ...]]:
        return shop.query("SELECT value FROM lockstep_state WHERE name = 'blocked_hashes'")

    assert version() == []
    block(shop, of=MD5)
    first = version()
    shop.run()
    shop.cli("blocklist", "export")
    assert version() == first != []
    shop.cli("blocklist", "remove", "list")
    assert version() != first


def test_lists_work_on_a_server(project: Project, server_url: str) -> None:
    project.env["PIPELINE_DB"] = server_url
    project.recipes(FEATURES)
    red = project.add("red.png", seed=1)
    project.add("blue.png", seed=2)
    project.run()
    done = block(project, "--source", "partner", of=md5(red))
    assert (done["added"], done["renditions"], done["values"]) == (1, 2, 1)
    assert block(project, "--source", "partner", "--reason", "x", of=md5(red))["known"] == 1
    block(project, "--source", "other", "--kind", "sha256", of=sha256(red))
    text = project.cli("blocklist", "export").stdout
    assert sorted(line.split(",")[2:] for line in text.splitlines()[1:]) == [
        ["other", ""],
        ["partner", "x"],
    ]
    assert project.run()["renditions"]["rendered"] == 0
    assert project.cli("blocklist", "remove", "partner").code == 0
    assert project.run()["renditions"]["rendered"] == 0
    assert project.cli("blocklist", "remove", "other", "--json").json["released"] == 3
    assert project.run()["renditions"]["rendered"] == 2
    assert json.loads(project.cli("blocklist", "list", "--json").stdout) == []
    assert audit(project) == []


def test_what_is_held_for_a_list_is_decided_anew_when_the_list_is_removed(
    project: Project,
) -> None:
    project.recipes("[half]\nscale = 0.5\n")
    file = project.add("red.png", seed=1, size=(160, 120))
    with Image.open(file) as image:
        hashed = pdq(image.convert("RGB"))["pdq"]
    block(project, "--source", "partner", of=f"pdq\n{hashed}\n")
    project.run()
    assert [state for state, _ in states(project)["red.png"]] == ["held"]
    assert names(project) == []
    assert project.cli("blocklist", "remove", "partner").code == 0
    project.run()
    assert names(project) == ["half/red.png"]
    assert project.query("SELECT count(*) FROM reviews") == [(0,)]
