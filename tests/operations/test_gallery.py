"""The gallery finds what a look at every original would find, a page at a time, in bounded work."""

import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from a_postgresql import emptied
from a_project import Project

from pipeline.operations import gallery
from pipeline.operations.gallery import Filter
from pipeline.states import State

NAMES = ("a", "a.b", "a0", "ab", "b", "b/c", "b/c/d", "b0", "é", "Ä", "%", "_", "z" * 40)
STATES = (*State, None)


@pytest.fixture(params=["sqlite", "postgresql"])
def app(request: pytest.FixtureRequest, project: Project) -> Iterator[Any]:
    """The application of a project whose tables were written by hand, in random states."""
    if request.param == "postgresql":
        project.env["PIPELINE_DB"] = emptied(request.getfixturevalue("postgres"))
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
        for number in range(120):
            path = f"{dice.choice(NAMES)}/{dice.choice(NAMES)}-{number}.jpg"
            state = dice.choice(STATES)
            states[path] = state.value if state else "pending"
            con.execute(
                sa.insert(originals).values(
                    **ours, path=path, size_bytes=number, mtime_ns=0, ctime_ns=0, inode=0
                )
            )
            con.execute(sa.insert(metas[0]).values(**ours, path=path, create_ts=2.0, update_ts=2.0))
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


def everything(app: Any, wanted: Filter, limit: int) -> list[str]:
    found: list[str] = []
    after = ""
    for _ in range(500):
        page = gallery.page(app.render.pending, wanted, after, limit)
        assert len(page.images) <= limit
        found += [image["path"] for image in page.images]
        if page.next is None:
            return found
        assert page.next > after
        after = page.next
    raise AssertionError("the pages never end")


@pytest.mark.parametrize("looked_through", [3, 50, 20_000])
def test_pages_hold_each_original_once_in_the_order_of_names(
    app: Any, looked_through: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "LOOKED_THROUGH", looked_through)
    monkeypatch.setattr(gallery, "CHECKED", looked_through)
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


def test_no_page_looks_at_all_rows(app: Any) -> None:
    """Every statement of a page enters by an index: none scans a table, none sorts one."""
    pending = app.render.pending
    if app.database.engine.dialect.name != "sqlite":
        pytest.skip("SQLite's plan is the one that is read here")
    plans: list[str] = []

    def note(con: Any, cursor: Any, statement: str, parameters: Any, *rest: Any) -> None:
        if statement.startswith("SELECT"):
            raw = con.connection.driver_connection
            rows = raw.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.extend(row[3] for row in rows)

    sa.event.listen(app.database.engine, "before_cursor_execute", note)
    try:
        for wanted in (Filter(), Filter(folder="b"), Filter(state="failed"), Filter(text="x")):
            gallery.page(pending, wanted, "a", 10)
            gallery.folders(pending, wanted.folder)
    finally:
        sa.event.remove(app.database.engine, "before_cursor_execute", note)
    assert plans
    # The table of recipes has a handful of rows, and what a subquery gave is a page at most.
    scans = [plan for plan in plans if plan.startswith("SCAN") and "_meta" in plan]
    assert [plan for plan in scans if "recipes" not in plan] == []
    whole = ("SCAN originals", "SCAN renditions")
    assert [plan for plan in plans if plan.startswith(whole)] == []
