"""The gallery finds what a look at every original would find, a page at a time, in bounded work."""

import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from a_project import Project

from pipeline.operations import gallery, listing
from pipeline.operations.listing import Filter, Place, Sort, Start
from pipeline.states import State

NAMES = ("a", "a.b", "a0", "ab", "b", "b/c", "b/c/d", "b0", "é", "Ä", "%", "_", "z" * 40)
STATES = (*State, None)


@pytest.fixture
def app(database_url: str, project: Project) -> Iterator[Any]:
    """The application of a project whose tables were written by hand, in random states."""
    project.env["PIPELINE_DB"] = database_url
    assert project.cli("db", "create-all").code == 0
    with project._as_if_started_here():
        import app as module

        fill(module.app, random.Random(1))
        yield module.app


def fill(app: Any, dice: random.Random) -> dict[str, str]:
    """Originals below folders of many kinds of names, each with a state of its own."""
    states: dict[str, str] = {}
    pending = app.render.pending
    originals, made = pending.original_table, pending.table
    ours = {"source": "input"}
    metas = (pending.originals.meta.sql_table, pending.recipes.meta.sql_table)
    with app.database.writing() as con:
        for recipe in ("half", "thumb"):
            con.execute(
                sa.insert(pending.recipe_table).values(
                    **ours, recipe=recipe, fingerprint="", spec="{}"
                )
            )
            con.execute(
                sa.insert(metas[1]).values(**ours, recipe=recipe, create_ts=1.0, update_ts=1.0)
            )
        for number in range(66):
            suffix = dice.choice((".jpg", ".JPEG", ".png"))
            path = f"{dice.choice(NAMES)}/{dice.choice(NAMES)}-{number}{suffix}"
            state = dice.choice(STATES)
            states[path] = state.value if state else "pending"
            con.execute(
                sa.insert(originals).values(
                    **ours, path=path, size_bytes=number % 11, mtime_ns=0, ctime_ns=0, inode=0
                )
            )
            found = {"create_ts": number % 7 + 0.1, "update_ts": 2.0}
            con.execute(sa.insert(metas[0]).values(**ours, path=path, **found))
            if state is None:
                continue
            for recipe, of in (("half", state), ("thumb", State.OK)):
                row = {
                    **ours,
                    "path": path,
                    "recipe": recipe,
                    "state": of.value,
                    "since": time.time(),
                }
                con.execute(sa.insert(made).values(row | {"fingerprint": "", "renderer": 1}))
                con.execute(
                    sa.insert(pending.meta.sql_table).values(
                        **ours, path=path, recipe=recipe, process_ts=3.0, is_success=True
                    )
                )
    app.states_for_test = states
    return states


def everything(
    app: Any, wanted: Filter, limit: int, sort: Sort = Sort.NAME, is_back: bool = False
) -> list[str]:
    found: list[str] = []
    start = Start(is_back=is_back)
    for _ in range(500):
        page = gallery.page(app.render.pending, wanted, start, limit, sort)
        assert len(page.images) <= limit
        paths = [image["path"] for image in page.images]
        found = paths + found if is_back else found + paths
        if page.next is None:
            return found
        place = Place.read(page.next, sort)
        assert place is not None
        assert place != start.place
        start = Start(place, is_back)
    raise AssertionError("the pages never end")


@pytest.mark.parametrize("looked_through", [3, 20_000])
def test_pages_hold_each_original_once_in_the_order_of_names(
    app: Any, looked_through: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "LOOKED_THROUGH", looked_through)
    monkeypatch.setattr(listing, "CHECKED", looked_through)
    states: dict[str, str] = app.states_for_test
    for state in ("", *gallery.states()):
        for folder in ("", "b", "b/c", "a", "%", "nothing"):
            for text in ("", "A-1", "%", "7"):
                want = sorted(
                    path
                    for path, of in states.items()
                    if (not state or of == state)
                    and (not folder or path.startswith(folder + "/"))
                    and text.lower() in path.lower()
                )
                for limit in (4, 500):
                    found = everything(app, Filter(state, folder, text), limit)
                    assert found == want, (state, folder, text, limit)


# What the originals of `fill` are sorted by, from their numbers.
VALUES = {
    Sort.NAME: lambda number: 0,
    Sort.NEWEST: lambda number: number % 7,
    Sort.OLDEST: lambda number: number % 7,
    Sort.LARGEST: lambda number: number % 11,
    Sort.SMALLEST: lambda number: number % 11,
}


def in_order(paths: list[str], sort: Sort) -> list[str]:
    def value(path: str) -> tuple[int, str]:
        return VALUES[sort](number_of(path)), path

    return sorted(paths, key=value, reverse=sort.is_descending)


@pytest.mark.parametrize("looked_through", [3, 20_000])
def test_each_order_holds_each_original_once_forwards_and_back(
    app: Any, looked_through: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "LOOKED_THROUGH", looked_through)
    monkeypatch.setattr(listing, "CHECKED", looked_through)
    states: dict[str, str] = app.states_for_test
    filters = {
        Filter(): lambda path: True,
        Filter(folder="b"): lambda path: path.startswith("b/"),
        Filter("failed"): lambda path: states[path] == "failed",
        Filter("failed", "b"): lambda path: states[path] == "failed" and path.startswith("b/"),
        Filter("ok", text="A"): lambda path: states[path] == "ok" and "a" in path.lower(),
        Filter("pending"): lambda path: states[path] == "pending",
        Filter("failed", recipe="thumb"): lambda path: False,
        Filter(format="jpeg"): lambda path: path.endswith((".jpg", ".JPEG")),
        Filter(recipe="half"): lambda path: states[path] != "pending",
        Filter(since_ts=2.0, until_ts=5.0): lambda path: number_of(path) % 7 in (2, 3, 4),
    }
    for wanted, holds in filters.items():
        for sort in Sort:
            want = in_order([path for path in states if holds(path)], sort)
            assert everything(app, wanted, 7, sort) == want, (wanted, sort)
            assert everything(app, wanted, 7, sort, is_back=True) == want, (wanted, sort)


def number_of(path: str) -> int:
    return int(path.rpartition("-")[2].partition(".")[0])


@pytest.mark.parametrize("sort", Sort)
def test_a_page_begins_where_it_is_asked_to_and_knows_its_neighbours(app: Any, sort: Sort) -> None:
    pending, wanted = app.render.pending, Filter(folder="b")
    want = in_order([path for path in app.states_for_test if path.startswith("b/")], sort)
    middle = len(want) // 2
    with app.database.reading() as con:
        place = listing.place_of(con, pending, want[middle], sort)
        counted = listing.count(con, pending, wanted, sort, place)
    assert counted == (len(want), middle)
    page = gallery.page(pending, wanted, Start(place, is_at=True), 2, sort)
    assert [image["path"] for image in page.images] == want[middle : middle + 2]
    found = gallery.neighbours(pending, wanted, sort, want[middle])
    assert found == (want[middle - 1], want[middle + 1])
    assert gallery.neighbours(pending, wanted, sort, want[0])[0] is None
    assert gallery.neighbours(pending, wanted, sort, want[-1])[1] is None


def test_what_is_too_many_is_not_counted(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "COUNTED", 60)
    with app.database.reading() as con:
        assert listing.count(con, app.render.pending, Filter(), Sort.NAME, None) == (None, 0)
        few = listing.count(con, app.render.pending, Filter(folder="b"), Sort.NAME, None)
    assert few.total == sum(path.startswith("b/") for path in app.states_for_test)


def test_folders_are_those_that_there_are(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = list(app.states_for_test)
    for folder in ("", "b", "b/c", "nothing"):
        prefix = f"{folder}/" if folder else ""
        inside = [path[len(prefix) :] for path in paths if path.startswith(prefix)]
        want = sorted({rest.partition("/")[0] for rest in inside if "/" in rest})
        assert sorted(gallery.folders(app.render.pending, folder)) == want
    monkeypatch.setattr(gallery, "FOLDERS_SHOWN", 2)
    assert len(gallery.folders(app.render.pending)) == 2


def test_an_image_is_told_with_its_worst_state_and_all_its_renditions(app: Any) -> None:
    for path, state in app.states_for_test.items():
        image = gallery.describe(app.render.pending, path)
        assert image is not None
        assert image["state"] == state
        assert [item["recipe"] for item in image["renditions"]] == ["half", "thumb"]
    assert gallery.describe(app.render.pending, "nothing.jpg") is None


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_no_page_looks_at_all_rows(app: Any) -> None:
    """Every statement of a page enters by an index: none scans a table, none sorts one."""
    pending = app.render.pending
    plans: list[str] = []

    def note(con: Any, cursor: Any, statement: str, parameters: Any, *rest: Any) -> None:
        if statement.startswith("SELECT"):
            raw = con.connection.driver_connection
            rows = raw.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.extend(row[3] for row in rows)

    sa.event.listen(app.database.engine, "before_cursor_execute", note)
    try:
        for wanted in (Filter(), Filter(folder="b"), Filter(state="failed"), Filter(text="x")):
            gallery.page(pending, wanted, Start(Place("a")), 10)
            gallery.folders(pending, wanted.folder)
        searched = len(plans)
        for sort in Sort:
            for is_back in (False, True):
                gallery.page(pending, Filter(), Start(Place("a", 3), is_back), 10, sort)
    finally:
        sa.event.remove(app.database.engine, "before_cursor_execute", note)
    assert plans
    # The table of recipes has a handful of rows, and what a subquery gave is a page at most.
    scans = [plan for plan in plans if plan.startswith("SCAN") and "_meta" in plan]
    assert [plan for plan in scans if "recipes" not in plan] == []
    whole = ("SCAN originals", "SCAN renditions")
    assert [plan for plan in plans if plan.startswith(whole)] == []
    assert [plan for plan in plans[searched:] if "TEMP B-TREE" in plan] == []
