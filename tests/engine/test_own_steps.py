"""Steps of datapipe's own beside ours: every addition, change, deletion and takedown arrives."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest
from a_project import HALF_AND_THUMB, Project
from databases import rows_of as rows_on
from killing import apart, kill_at
from own_steps import BY_RECIPE, PLACEHOLDER, PLACEHOLDERS, declare, paths, rows

ALL = (
    "SELECT path, recipe, text FROM placeholders",
    "SELECT path, n FROM counted",
    "SELECT path, recipe, bytes FROM sized",
    "SELECT total FROM summary",
)

CHAINED = f"""{PLACEHOLDERS}
catalog.add_datatable("counted", Table(TableStoreDB(
    database, "counted", [Column("path", String, primary_key=True), Column("n", Integer)]
)))
catalog.add_datatable("sized", Table(TableStoreDB(
    database, "sized", [{BY_RECIPE}, Column("bytes", Integer)]
)))
catalog.add_datatable("cards", Table(TableStoreFiledir(
    "cards/{{source}}--{{path}}--{{recipe}}.json", JSONFile(), enable_rm=True
)))
catalog.add_datatable("summary", Table(TableStoreDB(
    database, "summary", [Column("id", Integer, primary_key=True), Column("total", Integer)]
)))


def count(placeholders):
    return placeholders.groupby("path", as_index=False).size().rename(columns={{"size": "n"}})


def size(originals, renditions):
    both = originals[["source", "path", "size_bytes"]].merge(
        renditions[renditions["state"] == "ok"], on=["source", "path"]
    )
    return both[["source", "path", "recipe"]].assign(bytes=both["size_bytes_x"])


def card(placeholders):
    return placeholders[["source", "path", "recipe", "text"]]


def summarize(ds, input_dts, output_dts, run_config=None, kwargs=None):
    total = len(input_dts[0].get_data())
    output_dts[0].store_chunk(pd.DataFrame([{{"id": 1, "total": total}}]))
"""
CHAIN = (
    PLACEHOLDER,
    'BatchTransform(count, inputs=["placeholders"], outputs=["counted"])',
    'BatchTransform(size, inputs=["originals", "renditions"], outputs=["sized"],'
    ' transform_keys=["source", "path", "recipe"])',
    'BatchTransform(card, inputs=["placeholders"], outputs=["cards"])',
    'DatatableTransform(summarize, inputs=["placeholders"], outputs=["summary"])',
)


def state_of(project: Project) -> dict[str, object]:
    """All that the steps of the user's have made."""
    made: dict[str, object] = {sql: rows(project, sql) for sql in ALL}
    folder = project.root / "cards"
    made["cards"] = sorted(f"{f.name} {f.read_text()}" for f in folder.glob("*.json"))
    return made


def expected(project: Project) -> dict[str, object]:
    """What they had made if these originals and recipes had been there from the start."""
    root = project.root.with_name(project.root.name + "-fresh")
    shutil.rmtree(root, ignore_errors=True)
    fresh = Project(root, (project.root / "recipes.toml").read_text("utf-8"))
    shutil.rmtree(fresh.input)
    shutil.copytree(project.input, fresh.input)
    shutil.copy(project.root / "app.py", root)
    fresh.env["PYTHONPATH"] = str(root)
    fresh.run()
    return state_of(fresh)


@pytest.fixture
def chained(project: Project) -> Project:
    declare(project, CHAINED, *CHAIN)
    for name in ("a.png", "b.png", "c.png"):
        project.add(name)
    return project


def test_what_is_added_changed_and_removed_arrives_in_every_step(chained: Project) -> None:
    chained.run()
    assert len(state_of(chained)["cards"]) == 6  # type: ignore[arg-type]
    assert state_of(chained) == expected(chained)
    chained.add("d.png")
    chained.add("a.png", seed=2, size=(80, 60))
    (chained.input / "b.png").unlink()
    chained.recipes(HALF_AND_THUMB.replace("thumb", "small"))
    chained.run()
    assert state_of(chained) == expected(chained)
    before = chained.query("SELECT path, process_ts FROM sized_meta")
    assert chained.run()["steps"] == {}
    assert chained.query("SELECT path, process_ts FROM sized_meta") == before


def test_the_last_original_goes_as_well(chained: Project) -> None:
    chained.run()
    shutil.rmtree(chained.input)
    chained.input.mkdir()
    chained.run("--allow-removed")
    assert state_of(chained) == {sql: [] for sql in ALL[:3]} | {ALL[3]: [(0,)], "cards": []}


def test_what_is_taken_down_is_gone_from_every_step_after_the_next_run(chained: Project) -> None:
    chained.run()
    assert chained.cli("takedown", "b.png", "--reason", "flagged").code == 0
    chained.run()
    assert paths(chained) == paths(chained, "sized") == ["a.png", "c.png"]
    assert state_of(chained) == expected(chained)
    assert chained.cli("takedown", "lift", "1").code == 0
    chained.run()
    assert state_of(chained) == expected(chained)
    assert paths(chained) == ["a.png", "b.png", "c.png"]


def test_a_takedown_arrives_where_the_original_stays(chained: Project) -> None:
    # As with images of jobs: nothing but the state of the renditions changes.
    chained.run()
    chained.query("DELETE FROM lockstep_state WHERE name = 'none'")
    before = chained.query("SELECT max(update_ts) FROM renditions_meta")
    assert chained.cli("takedown", "b.png", "--reason", "flagged").code == 0
    assert chained.query("SELECT max(update_ts) FROM renditions_meta") > before
    assert chained.cli("step", "--name=placeholder", "run").code == 0
    assert paths(chained) == ["a.png", "c.png"]


def test_deleted_rows_are_remembered_until_every_step_has_passed_them(chained: Project) -> None:
    tombstones = "SELECT count(*) FROM {} WHERE delete_ts IS NOT NULL"
    tables = ("originals_meta", "renditions_meta", "placeholders_meta", "counted_meta")
    chained.run()
    (chained.input / "b.png").unlink()
    # A run of our own steps alone.
    for step in ("scan", "render"):
        assert chained.cli("step", f"--name={step}", "run").code == 0
    assert chained.query(tombstones.format("renditions_meta")) == [(2,)]
    assert chained.cli("step", "--name=placeholder", "run").code == 0
    assert chained.query(tombstones.format("renditions_meta")) == [(2,)]
    chained.run()
    assert [chained.query(tombstones.format(table)) for table in tables] == [[(0,)]] * 4
    for table in ("placeholder_meta", "render_meta"):
        assert chained.query(f"SELECT count(*) FROM {table} WHERE path = 'b.png'") == [(0,)]
    assert state_of(chained) == expected(chained)


def test_a_step_that_is_added_later_sees_all_that_is_there(project: Project) -> None:
    for name in ("a.png", "b.png"):
        project.add(name)
    project.run()
    (project.input / "a.png").unlink()
    project.run()
    declare(project, PLACEHOLDERS, PLACEHOLDER)
    assert project.run()["steps"]["placeholder"]["done"] == 2
    assert paths(project) == ["b.png"]


def test_the_rows_of_csvs_arrive_and_go_with_their_job(project: Project) -> None:
    declare(
        project,
        """
catalog.add_datatable("products", Table(TableStoreDB(database, "products", [
    Column("number", String, primary_key=True), Column("reference", String, primary_key=True),
    Column("name", String),
])))


def product(csv_rows):
    return csv_rows[["number", "reference", "name"]]
""",
        'BatchTransform(product, inputs=["csv_rows"], outputs=["products"])',
    )
    csv = project.input / "products.csv"
    csv.write_text("S. No.,Product Name,Input Image Urls\n1,Shoe,http://127.0.0.1:9/a.jpg\n")
    assert project.cli("run").code == 1  # its image cannot be fetched
    assert rows(project, "SELECT number, name FROM products") == [("1", "Shoe")]
    csv.unlink()
    project.run("--allow-removed")
    assert rows(project, "SELECT number, name FROM products") == []


def test_a_table_of_few_rows_joins_one_of_many(project: Project) -> None:
    """One with several inputs of different keys, of which one is required."""
    declare(
        project,
        f"""
catalog.add_datatable("joined", Table(TableStoreDB(
    database, "joined", [{BY_RECIPE}, Column("text", String)]
)))


def join(renditions, recipes):
    both = renditions[renditions["state"] == "ok"].merge(recipes, on=["source", "recipe"])
    return both[["source", "path", "recipe"]].assign(text=both["spec"])
""",
        'BatchTransform(join, inputs=["renditions", Required("recipes")], outputs=["joined"],'
        ' transform_keys=["source", "path", "recipe"])',
    )
    project.add("a.png")
    project.run()
    before = rows(project, "SELECT recipe, text FROM joined")
    assert [recipe for recipe, _ in before] == ["half", "thumb"]
    project.recipes(HALF_AND_THUMB.replace("0.5", "0.25"))
    project.run()
    after = rows(project, "SELECT recipe, text FROM joined")
    assert [before[0] == after[0], before[1] == after[1]] == [False, True]


def test_on_a_server_every_step_follows_as_well(server_url: str, chained: Project) -> None:
    chained.env["PIPELINE_DB"] = server_url
    app = chained.root / "app.py"
    # As in a database with another collation than that of our tables.
    app.write_text(
        app.read_text("utf-8").replace("String, prim", "String(collation='POSIX'), prim")
    )

    def recipes_of(table: str) -> list[tuple[str, str]]:
        found = rows_on(server_url, f"SELECT path, recipe FROM {table} ORDER BY 1, 2")
        return [(row[0], row[1]) for row in found]

    chained.run()
    assert len(recipes_of("sized")) == 6
    (chained.input / "b.png").unlink()
    chained.add("d.png")
    chained.run()
    both = [(path, recipe) for path in ("a.png", "c.png", "d.png") for recipe in ("half", "thumb")]
    assert recipes_of("placeholders") == recipes_of("sized") == both
    assert chained.cli("takedown", "c.png", "--reason", "flagged").code == 0
    chained.run()
    assert recipes_of("placeholders") == recipes_of("sized") == [*both[:2], *both[4:]]
    gone = "SELECT count(*) FROM renditions_meta WHERE delete_ts IS NOT NULL"
    assert rows_on(server_url, gone) == [(0,)]


def test_a_kill_before_any_write_loses_nothing(chained: Project, tmp_path: Path) -> None:
    chained.run()
    chained.add("d.png")
    chained.add("a.png", seed=2)
    (chained.input / "b.png").unlink()
    # The renditions are made: what is killed is the work of the user's steps.
    for step in ("scan", "render"):
        assert chained.cli("step", f"--name={step}", "run").code == 0
    want, moment, killed = expected(chained), 2, 0
    while True:
        copy = Project.__new__(Project)
        copy.__dict__.update(chained.__dict__)
        copy.root = tmp_path / f"at-{moment}" / "shop"
        shutil.copytree(chained.root, copy.root, copy_function=shutil.copy2)  # type: ignore[arg-type]
        copy.input, copy.output = copy.root / "input", copy.root / "output"
        copy.env = chained.env | {"PYTHONPATH": str(copy.root)}
        copy.query("DELETE FROM lockstep_state WHERE name = 'input'")
        code = copy.in_child(kill_at(moment), "run")
        if code != -signal.SIGKILL:
            assert code == 0
            break
        killed += 1
        copy.run()
        assert state_of(copy) == want, moment
        moment += apart(29)
    assert killed >= 2


def test_the_commands_show_a_users_step_like_ours(chained: Project) -> None:
    chained.run()
    listed = chained.process("step", "list", "--status").stdout
    assert "placeholder (BatchTransformStep)" in listed
    assert "  inputs: originals, renditions\n" in listed
    assert {"placeholders", "cards", "summary"} <= set(chained.cli("table", "list").stdout.split())
    chained.add("d.png")
    for step in ("scan", "render"):
        chained.cli("step", f"--name={step}", "run")
    status = chained.cli("status", "--json").json
    assert status["steps"]["placeholder"] == {"ok": 6, "failed": 0, "pending": 2}
    assert chained.cli("status", "--check").code == 1
    story = chained.cli("explain", "d.png", "--json").json
    assert [s["state"] for s in story["steps"] if s["step"] == "placeholder"] == ["pending"] * 2
    assert chained.cli("step", "--name=placeholder", "run").code == 0
    assert paths(chained) == ["a.png", "b.png", "c.png", "d.png"]
    assert chained.cli("status").stdout.count("placeholder: 8 ok, 0 failed, 0 pending") == 1
    assert "  placeholder half: ok\n" in chained.cli("explain", "d.png").stdout


def test_the_report_counts_records_by_the_names_of_steps(chained: Project) -> None:
    answer = chained.cli("run")
    assert "steps       placeholder: 6 done; " in answer.stdout
    (chained.input / "b.png").unlink()
    steps = chained.run()["steps"]
    assert steps["placeholder"] == {"done": 0, "removed": 2, "failed": 0, "failed_before": 0}
    assert json.dumps(steps).count('"done": 1') == 1  # the summary
